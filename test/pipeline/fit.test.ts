import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { UserError } from '../../src/base/index.js'
import { deadLettersOf, documentOf, driveFit, homeWith, temporary, textOf, type Given } from './drive.js'
import { tinyCheckpoint } from './tiny-checkpoint.js'

const folder = temporary()
let model = ''
const documents = Array.from({ length: 24 }, (_, i) => documentOf(i))

before(async () => {
  model = await tinyCheckpoint(join(folder, 'model'), { overflowing: '~' })
})

/** Every file of a factor set, hashed; the manifest as it is. */
const factorsIn = (home: string, name = 'f'): Readonly<Record<string, string>> => {
  const root = join(home, 'factors', name)
  const found: Record<string, string> = {}
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    found[path.slice(root.length)] = entry.name.endsWith('.json') ? readFileSync(path, 'utf8') : createHash('sha256').update(readFileSync(path)).digest('hex')
  }
  return found
}
const manifestIn = (home: string): { readonly stage: string; readonly sequences: number; readonly tokens: number; readonly unusable: number } =>
  JSON.parse(factorsIn(home)['/manifest.json']) as never

const rejectsWith = (work: Promise<unknown>, message: RegExp): Promise<void> =>
  assert.rejects(work, (error: unknown) => error instanceof UserError && message.test(error.message))

describe('fit', () => {
  test('takes all documents where there are fewer than asked for, and is complete once', async () => {
    const { home, log } = await homeWith(documents)
    const result = await driveFit(log, home, model)
    assert.deepEqual([result.finished, result.deadLetters, result.documentsLeft], [true, 0, 0])
    const { stage, sequences, unusable } = manifestIn(home)
    assert.deepEqual([stage, sequences, unusable], ['complete', 24, 0])
    const whole = factorsIn(home)
    assert.deepEqual(Object.keys(whole).filter((name) => /partial|tmp/.test(name)), [])
    const again = await driveFit(log, home, model)
    assert.deepEqual([again.documents, again.tokens], [0, 0])
    assert.match(again.notes.join(), /are complete/)
    assert.deepEqual(factorsIn(home), whole)
  })

  const given: readonly (readonly [string, Given])[] = [
    ['ekfac', { commitEveryMs: 0 }],
    ['ekfac with three blocks, the true labels', { empirical: true, blocks: 3, commitEveryMs: 0 }],
    ['diagonal', { strategy: 'diagonal' }],
    ['kfac', { strategy: 'kfac' }],
  ]
  for (const [name, settings] of given)
    test(`${name}: interrupted after every batch and every matrix, it ends in the bits of an undisturbed fit`, async () => {
      const long = [...documents, documentOf(30, { text: textOf(1).repeat(3) }), documentOf(31, { text: 'a ~ b' }), documentOf(32, { text: 'x' })]
      const own = { context: 20, long: 'split', batchTokens: 96, ...settings }
      const whole = await homeWith(long)
      let steps = 0
      const told = await driveFit(whole.log, whole.home, model, own, { progress: { update: () => void steps++ } })
      assert.deepEqual([told.documents, told.pieces], [documents.length + 1, manifestIn(whole.home).sequences])
      assert.ok(told.pieces > told.documents)
      const { home, log } = await homeWith(long)
      let starts = 0
      for (let finished = false; !finished; starts++) {
        assert.ok(starts < 10 * steps, `no end after ${starts} starts`)
        const controller = new AbortController()
        // Aborted at the first, second or third step that this start takes.
        let seen = 0
        const result = await driveFit(log, home, model, own, {
          signal: controller.signal,
          progress: { update: (done) => void (done > 0 && ++seen > starts % 3 && controller.abort()) },
        })
        finished = result.finished
      }
      assert.ok(starts > 3, `${starts} starts`)
      assert.deepEqual(factorsIn(home), factorsIn(whole.home))
      for (const made of [log, whole.log]) assert.equal((await deadLettersOf(made, 'factors f')).length, 2)
    })

  test('documents that cannot be used are counted and dead-lettered once, and are in no sum', async () => {
    const bad = [
      documentOf(100, { text: 'a ~ b' }), documentOf(101, { text: '' }), documentOf(102, { text: 'x' }), documentOf(103, { text: null, tokens: [1, 5000] }), documentOf(104, { text: null }),
    ]
    const clean = await homeWith(documents)
    await driveFit(clean.log, clean.home, model)
    const { home, log } = await homeWith([...documents, ...bad])
    const result = await driveFit(log, home, model)
    assert.equal(result.deadLetters, 5)
    const { sequences, unusable, tokens } = manifestIn(home)
    assert.deepEqual([sequences, unusable, tokens], [24, 5, manifestIn(clean.home).tokens])
    const letters = (await deadLettersOf(log, 'factors f')).map(({ document, stage }) => `${document} ${stage}`).sort()
    assert.deepEqual(letters, ['d100 fit', 'd101 tokenize', 'd102 tokenize', 'd103 tokenize', 'd104 decode'])
    await driveFit(log, home, model)
    assert.equal((await deadLettersOf(log, 'factors f')).length, 5)
  })

  test('without a document that can be used it says so', async () => {
    const none = await homeWith([])
    await rejectsWith(driveFit(none.log, none.home, model), /no documents to fit on/)
    assert.equal((await driveFit(none.log, none.home, model, { strategy: 'identity' })).finished, true)
    const bad = await homeWith([documentOf(0, { text: '' }), documentOf(1, { text: 'x' }), documentOf(2, { text: '~~~' })])
    await rejectsWith(driveFit(bad.log, bad.home, model), /none of the 3 sampled documents can be used/)
    await rejectsWith(driveFit(bad.log, bad.home, model, { factors: 'd', strategy: 'diagonal' }), /none of the 3 sampled documents can be used/)
  })

  test('other settings under the same name are refused, documents that came later change nothing', async () => {
    const { home, log } = await homeWith(documents)
    await driveFit(log, home, model, { documents: 10 })
    const whole = factorsIn(home)
    await rejectsWith(driveFit(log, home, model, { documents: 10, seed: 7, blocks: 2 }), /begun under other settings:\n {2}blocks: 1 then, 2 now\n {2}seed: 0 then, 7 now/)
    const other = await tinyCheckpoint(join(folder, 'other'), { seed: 2 })
    await rejectsWith(driveFit(log, home, other, { documents: 10 }), /checkpoint: /)
    assert.deepEqual(factorsIn(home), whole)
  })

  test('documents that come while a fit is interrupted do not change its sample', async () => {
    const { home, log } = await homeWith(documents)
    const whole = await homeWith(documents)
    await driveFit(whole.log, whole.home, model, { documents: 10 })
    const controller = new AbortController()
    const first = await driveFit(log, home, model, { documents: 10 }, { signal: controller.signal, progress: { update: () => controller.abort() } })
    assert.equal(first.finished, false)
    await log.append([{ topic: 'documents', key: 'late', value: documentOf(99) }])
    await driveFit(log, home, model, { documents: 10 })
    assert.deepEqual(factorsIn(home), factorsIn(whole.home))
  })

  test('two fits of one name at a time are refused; what a killed one left is removed', async () => {
    const { home, log } = await homeWith(documents)
    const left = join(home, 'factors', 'f', 'inputs')
    mkdirSync(left, { recursive: true })
    writeFileSync(join(left, '.0.safetensors.0b0e.tmp'), 'half')
    const first = driveFit(log, home, model)
    await rejectsWith(driveFit(log, home, model), new RegExp(`${process.pid}`))
    await first
    assert.equal(existsSync(join(left, '.0.safetensors.0b0e.tmp')), false)
  })
})
