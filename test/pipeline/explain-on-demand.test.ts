import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Log } from '../../src/log/index.js'
import { explainOnDemand } from '../../src/pipeline/explain-on-demand.js'
import type { Explanation, openExplainer } from '../../src/pipeline/explain.js'
import type { RunRecord } from '../../src/settings/index.js'
import { runRecord } from './made-run.js'

const log = {} as Log
const settings = { home: 'nowhere', threads: 1, model: null, queryModel: null }
const request = (run: RunRecord, query: string, signal = new AbortController().signal) => ({ run, query: { id: query }, partition: 0, offset: 1, piece: 0, signal })

/** An opener that notes what is open, and fails where it is told to. */
const noted = () => {
  const notes: string[] = []
  const open: typeof openExplainer = async (_log, { run }) => {
    notes.push(`open ${run}`)
    return {
      explain: async ({ query }) => {
        notes.push(`explain ${run} ${query}`)
        if (query === 'bad') throw new Error('bad query')
        await new Promise((resolve) => setTimeout(resolve, 5))
        notes.push(`explained ${run} ${query}`)
        return { query } as Explanation
      },
      piecesAt: async () => [],
      [Symbol.asyncDispose]: async () => void notes.push(`close ${run}`),
    }
  }
  return { notes, open }
}

test('one explainer at a time, kept for the run asked for last, one explanation after the other', async () => {
  const { notes, open } = noted()
  const desk = explainOnDemand(log, settings, { open })
  const [a, b] = [runRecord('a', []), runRecord('b', [])]
  const answers = await Promise.all([desk.explain(request(a, 'q1')), desk.explain(request(a, 'q2')), desk.explain(request(b, 'q1'))])
  assert.deepEqual(answers.map(({ query }) => query), ['q1', 'q2', 'q1'])
  await desk.explain(request({ ...b, createdMs: b.createdMs + 1 }, 'q3'))
  await desk[Symbol.asyncDispose]()
  assert.deepEqual(notes, [
    'open a', 'explain a q1', 'explained a q1', 'explain a q2', 'explained a q2', 'close a',
    'open b', 'explain b q1', 'explained b q1', 'close b', 'open b', 'explain b q3', 'explained b q3', 'close b',
  ])
})

test('an explanation that fails does not stop the next; one that nobody waits for is not begun', async () => {
  const { notes, open } = noted()
  const desk = explainOnDemand(log, settings, { open })
  const gone = new AbortController()
  const [bad, left, good] = [desk.explain(request(runRecord('a', []), 'bad')), desk.explain(request(runRecord('a', []), 'left', gone.signal)), desk.explain(request(runRecord('a', []), 'good'))]
  gone.abort()
  await assert.rejects(bad, /bad query/)
  await assert.rejects(left, { name: 'AbortError' })
  assert.equal((await good).query, 'good')
  await desk[Symbol.asyncDispose]()
  assert.deepEqual(notes, ['open a', 'explain a bad', 'explain a good', 'explained a good', 'close a'])
})

test('what nobody asks for is given back, and opened again when it is', async () => {
  const { notes, open } = noted()
  const desk = explainOnDemand(log, settings, { open, idleMs: 1 })
  await desk.explain(request(runRecord('a', []), 'q'))
  while (!notes.includes('close a')) await new Promise((resolve) => setTimeout(resolve, 5))
  await desk.explain(request(runRecord('a', []), 'q'))
  await desk[Symbol.asyncDispose]()
  assert.deepEqual(notes.filter((note) => note.startsWith('open') || note.startsWith('close')), ['open a', 'close a', 'open a', 'close a'])
})
