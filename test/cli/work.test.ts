import assert from 'node:assert/strict'
import { test } from 'node:test'
import { printWork } from '../../src/cli/work.js'
import type { WorkResult } from '../../src/pipeline/context.js'
import { resolveGlobalSettings } from '../../src/settings/index.js'

/** What is printed at the end of a scoring. */
const printed = async (part: Partial<WorkResult>): Promise<string> => {
  let text = ''
  const output = { write: (more: string | Uint8Array) => Promise.resolve(void (text += String(more))), json: () => Promise.resolve(), note: () => {}, warn: () => {} }
  const result: WorkResult = { documents: 3, pieces: 3, tokens: 1200, deadLetters: 0, documentsLeft: 0, finished: true, seconds: 2, notes: [], ...part }
  await printWork(output, resolveGlobalSettings({ flags: {}, env: {} }), result, { what: 'run "r"', again: 'tributary score' })
  return text
}

test('pieces are told beside documents where there are more of them', async () => {
  assert.equal(await printed({}), 'run "r": 3 documents and 1,200 tokens in 2 s\n')
  assert.equal(await printed({ pieces: 1041 }), 'run "r": 3 documents, 1,041 pieces and 1,200 tokens in 2 s\n')
  assert.equal(await printed({ documents: 0, pieces: 1 }), 'run "r": 0 documents, 1 piece and 1,200 tokens in 2 s\n')
})

test('what became a dead letter, and what is left, is said with the command that helps', async () => {
  assert.match(await printed({ deadLetters: 1, finished: false, documentsLeft: 2 }), /\n1 dead letter, see tributary dead-letters list\nstopped with 2 documents left; the same "tributary score" goes on from there\n$/)
})
