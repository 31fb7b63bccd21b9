import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { UserError } from '../../src/base/index.js'
import type { DocumentValue, InfluenceValue, Log } from '../../src/log/index.js'
import { explain, openExplainer, type Explanation } from '../../src/pipeline/explain.js'
import { homePaths } from '../../src/pipeline/home.js'
import { readRun } from '../../src/pipeline/runs.js'
import { sum } from '../../src/pipeline/sum.js'
import { pipelineContext } from '../../src/pipeline/context.js'
import { globalSettings, resolveSettings } from '../../src/settings/index.js'
import { servePage } from '../../src/cli/page.js'
import { mainPath } from '../cli/tributary.js'
import { append, documentOf, driveFit, driveScore, homeWith, influenceOf, temporary, textOf } from './drive.js'
import { tinyCheckpoint } from './tiny-checkpoint.js'

const folder = temporary()
const documents = [
  ...Array.from({ length: 20 }, (_, i) => documentOf(i)),
  documentOf(20, { id: 'unicode', text: 'the water: 🌊 is süß\n\tand "那" — end' }),
  documentOf(21, { id: 'ids', text: null, tokens: [17, 30, 200, 5, 60] }),
  documentOf(22, { id: 'twice', source: 'one' }),
  documentOf(23, { id: 'twice', source: 'two' }),
]
let model = ''
let other = ''
let fitted = ''

before(async () => {
  model = await tinyCheckpoint(join(folder, 'model'))
  other = await tinyCheckpoint(join(folder, 'other'), { seed: 2 })
  const { home, log } = await homeWith(documents)
  await driveFit(log, home, model)
  fitted = home
})

const scored = async (given: Readonly<Record<string, unknown>> = {}, of: readonly DocumentValue[] = documents): Promise<{ home: string; log: Log }> => {
  const made = await homeWith(of)
  cpSync(homePaths(fitted).factors, homePaths(made.home).factors, { recursive: true })
  await driveScore(made.log, made.home, model, given)
  return made
}

const settingsOf = (home: string, given: Readonly<Record<string, unknown>>) =>
  resolveSettings('explain', { flags: { home, threads: 1, run: 'r', query: 'water', ...given }, env: {} })

/** The terms sum to the score that was recorded, and the layers' to the same. */
const assertSums = (found: Explanation, recorded: number): void => {
  const magnitude = found.tokens.reduce((sum, { term }) => sum + Math.abs(term), 0)
  const near = (value: number, what: string): void => assert.ok(Math.abs(value - recorded) <= 2e-5 * magnitude, `${found.document} on ${found.query}: ${what} ${value}, recorded ${recorded}`)
  near(found.score, 'score')
  near(found.tokens.reduce((sum, { term }) => sum + term, 0), 'tokens')
  near(found.layers.reduce((sum, { term }) => sum + term, 0), 'layers')
  assert.ok(Math.abs(found.layers.reduce((sum, { share }) => sum + (share ?? NaN), 0) - 1) < 1e-9)
}

const rejects = (work: Promise<unknown>, message: RegExp, fix: RegExp): Promise<void> =>
  assert.rejects(work, (error: unknown) => {
    assert.ok(error instanceof UserError, String(error))
    assert.match(error.message, message)
    assert.match(error.fix ?? '', fix)
    return true
  })

describe('explain', () => {
  for (const joined of ['dense', 'low-rank', 'shared'] as const)
    test(`with the ${joined} join the terms of every document and query sum to its recorded score`, { timeout: 120_000 }, async () => {
      const { home, log } = await scored({ join: joined, rank: 2, sharedRank: 4 })
      const run = await readRun(log, 'r')
      assert.equal(run.join, joined)
      const texts = new Map(documents.map(({ id, text }) => [id, text]))
      await using explainer = await openExplainer(log, run, settingsOf(home, { document: 'any' }))
      const wanted = (await influenceOf(log)).filter(({ document }) => ['d0', 'd7', 'unicode', 'ids'].includes(document))
      assert.equal(wanted.length, 4)
      for (const [q, query] of run.queries.entries()) {
        // All at once: they wait for one another.
        const all = await Promise.all(wanted.map((value) => explainer.explain({ query: query.id, ...value })))
        for (const [i, found] of all.entries()) {
          assertSums(found, wanted[i].influence[q])
          assert.deepEqual([found.query, found.document, found.join, found.tokens.length], [query.id, wanted[i].document, joined, wanted[i].tokens])
          assert.ok(Math.abs(found.loss - wanted[i].loss) <= 1e-5 * found.loss)
          const text = texts.get(found.document)
          if (text !== null) assert.equal(found.tokens.map((token) => token.text).join(''), text)
        }
      }
    })

  test('a document is found by its id, in the tables and outside of them; one id in several sources has to be told apart', { timeout: 120_000 }, async () => {
    const { home, log } = await scored({ k: 1 })
    const influence = await influenceOf(log)
    const recorded = (id: string, source?: string): InfluenceValue =>
      influence.find((value) => value.document === id && (source === undefined || value.source === source)) ?? assert.fail()
    const run = await readRun(log, 'r')
    const q = run.queries.findIndex(({ id }) => id === 'stone')
    for (const { document, source } of influence.filter(({ document }) => document !== 'twice'))
      if (['d1', 'd2', 'd3', 'd4', 'd5'].includes(document)) assertSums(await explain(log, settingsOf(home, { query: 'stone', document, ...(document === 'd3' ? { source } : {}) })), recorded(document).influence[q])
    assertSums(await explain(log, settingsOf(home, { query: 'stone', document: 'twice', source: 'two' })), recorded('twice', 'two').influence[q])
    await rejects(explain(log, settingsOf(home, { document: 'nobody' })), /has not scored a document "nobody"/, /dead-letters/)
    await rejects(explain(log, settingsOf(home, { document: 'd1', source: 'elsewhere' })), /"d1" of source "elsewhere"/, /dead-letters/)
    await rejects(explain(log, settingsOf(home, { document: 'd1', query: 'fire' })), /has no query "fire"/, /water/)
    await rejects(explain(log, settingsOf(home, { document: 'd1', run: 'none' })), /no run "none"/, /r/)
    await rejects(explain(log, settingsOf(home, { document: 'd1', model: other })), /checkpoint .* has changed/, /--model/)
  })

  test('one id of two sources outside of the tables is asked back', { timeout: 120_000 }, async () => {
    const two = [documentOf(0, { id: 'same', source: 'one', text: 'a a' }), documentOf(1, { id: 'same', source: 'two', text: 'a of' }), ...documents.slice(0, 6)]
    const { home, log } = await scored({ k: 1 }, two)
    const tables = (await log.latest('tables')).flatMap(({ value }) => (value === undefined ? [] : [...value.top, ...value.bottom, ...value.topNormed, ...value.bottomNormed]))
    const sources = new Set(tables.filter(({ document }) => document === 'same').map(({ source }) => source))
    const asked = explain(log, settingsOf(home, { document: 'same' }))
    if (sources.size === 1) assert.ok(sources.has((await asked).source))
    else await rejects(asked, /documents "same" of 2 sources: (one, two|two, one)/, /--source/)
  })

  test('pieces of a document that was split are explained one by one', { timeout: 120_000 }, async () => {
    const text = textOf(3).repeat(5)
    const { home, log } = await scored({ long: 'split', context: 20 }, [documentOf(0), documentOf(1, { id: 'long', text })])
    const influence = (await influenceOf(log)).filter(({ document }) => document === 'long')
    assert.ok(influence.length > 2)
    await rejects(explain(log, settingsOf(home, { document: 'long' })), new RegExp(`scored in ${influence.length} pieces`), /--piece 0/)
    await rejects(explain(log, settingsOf(home, { document: 'long', piece: '99' })), /has no piece 99/, /--piece/)
    const q = (await readRun(log, 'r')).queries.findIndex(({ id }) => id === 'water')
    let whole = ''
    for (const value of [...influence].sort((a, b) => a.piece - b.piece)) {
      const found = await explain(log, settingsOf(home, { document: 'long', piece: String(value.piece) }))
      assertSums(found, value.influence[q])
      whole += found.tokens.map((token) => token.text).join('')
    }
    assert.equal(whole, text)
  })

  test('of a sum of runs the terms are the weighted sums', { timeout: 120_000 }, async () => {
    const { home, log } = await scored({ run: 'a', join: 'dense' })
    await driveScore(log, home, model, { run: 'b', join: 'low-rank', rank: 1 })
    await sum(resolveSettings('sum', { flags: { home, run: 's', of: ['a=2', 'b=0.5'] }, env: {} }), pipelineContext(log))
    const run = await readRun(log, 's')
    const recorded = (await influenceOf(log, 's')).find(({ document }) => document === 'd5') ?? assert.fail()
    const found = await explain(log, settingsOf(home, { run: 's', document: 'd5' }))
    assertSums(found, recorded.influence[run.queries.findIndex(({ id }) => id === 'water')])
    assert.equal(found.run, 's')
  })

  test('on the command line: text without colours in a pipe, with them if forced, and JSON', { timeout: 120_000 }, async () => {
    const { home, log } = await scored()
    const recorded = (await influenceOf(log)).find(({ document }) => document === 'unicode') ?? assert.fail()
    const q = (await readRun(log, 'r')).queries.findIndex(({ id }) => id === 'water')
    const run = (args: readonly string[], env: Record<string, string> = {}) => {
      const { stdout, stderr, status } = spawnSync(process.execPath, [mainPath, 'explain', '--home', home, '--threads', '1', '--run', 'r', '--query', 'water', ...args], {
        encoding: 'utf8', env: { ...process.env, NO_COLOR: '', FORCE_COLOR: undefined, ...env },
      })
      return { stdout, stderr, status }
    }
    const json = run(['--document', 'unicode', '--json'])
    assert.equal(json.status, 0, json.stderr)
    assertSums(JSON.parse(json.stdout) as Explanation, recorded.influence[q])
    const text = run(['--document', 'unicode'], { FORCE_COLOR: '1' })
    assert.equal(text.status, 0, text.stderr)
    assert.match(text.stdout, /\x1b\[48;5;/)
    assert.match(text.stdout, /model\.layers\.1\.mlp\.down_proj/)
    const missing = run(['--document', 'nobody'])
    assert.deepEqual([missing.status, missing.stdout], [1, ''])
    assert.match(missing.stderr, /error: run "r" has not scored a document "nobody"\nfix: /)
  })

  test('the live page explains on demand, and says why it cannot', { timeout: 120_000 }, async () => {
    const { home, log } = await scored()
    const run = await readRun(log, 'r')
    const recorded = (await influenceOf(log)).find(({ document }) => document === 'd7') ?? assert.fail()
    await using page = await servePage(globalSettings({ home, threads: 1 }), { address: { host: '127.0.0.1', port: 0 } })
    const ask = (offset: number, piece = 0): Promise<Response> =>
      fetch(`${page.url.replace(/\/$/, '')}/api/runs/r/explain?query=stone&partition=${recorded.partition}&offset=${offset}&piece=${piece}`)
    const found = (await (await ask(recorded.offset)).json()) as Explanation
    const magnitude = found.tokens.reduce((sum, { term }) => sum + Math.abs(term), 0)
    assert.ok(Math.abs(found.score - recorded.influence[run.queries.findIndex(({ id }) => id === 'stone')]) <= 2e-5 * magnitude)
    assert.equal(found.tokens.map(({ text }) => text).join(''), textOf(7))
    const refused = await ask(recorded.offset, 3)
    assert.deepEqual([refused.status, /has no piece 3/.test(await refused.text())], [409, true])
  })

  test('documents that come later are explained too', { timeout: 120_000 }, async () => {
    const { home, log } = await scored({}, documents.slice(0, 4))
    await append(log, [documentOf(9)])
    await rejects(explain(log, settingsOf(home, { document: 'd9' })), /has not scored/, /./)
    await driveScore(log, home, model)
    assert.equal((await explain(log, settingsOf(home, { document: 'd9' }))).document, 'd9')
  })
})
