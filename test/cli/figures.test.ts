/** @file `analyses`, `report` and `export` as processes: what they print and write, and what they say where it is not to be had. One by one: they share a home. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { analysisOf } from '../../src/cli/analyses.js'
import type { Log } from '../../src/log/index.js'
import { openLog } from '../../src/pipeline/home.js'
import { resolveSettings } from '../../src/settings/index.js'
import { freePorts } from '../free-ports.js'
import { withPart } from '../log/with-part.js'
import { makeRun } from '../pipeline/made-run.js'
import { temporaryFolder, tributaryIn, type Ended } from './tributary.js'

interface Analyses {
  readonly run: string
  readonly documents: number
  readonly lag: number
  readonly offsets: readonly { readonly partition: number; readonly from: number; readonly end: number }[]
  readonly findings: readonly { readonly number: number; readonly kind: string; readonly verdict: string }[]
  readonly figures: readonly { readonly name: string; readonly by: string; readonly shows: string; readonly reading: string; readonly remarks: readonly string[]; readonly tables: readonly { readonly id: string; readonly rows: readonly object[] }[] }[]
}

const refused = ({ code, stdout, stderr }: Ended, expected: number, message: RegExp): void => {
  assert.deepEqual([code, stdout], [expected, ''], stderr)
  assert.match(stderr, message)
  assert.doesNotMatch(stderr, /\n {4}at |This is a bug/)
}

describe('the figures of a run', () => {
  const folder = temporaryFolder()
  const home = join(folder, '.tributary')
  const tributary = tributaryIn(folder)
  before(async () => {
    await using log = await openLog({ home }, { partitions: 2 })
    await makeRun(log, 'empty', { documents: 0, queries: 1 })
    await makeRun(log, 'made', { documents: 200, queries: 3 })
  })

  test('analyses prints every figure in words and numbers, and says that the run goes on', async () => {
    const { code, stdout, stderr } = await tributary('analyses --run made')
    assert.equal(code, 0, stderr)
    assert.match(stdout, /^run made: 220 pieces scored, 200 documents not yet: figures move until the run has caught up\n\n/)
    for (const name of ['correlation', 'overlap', 'magnitude', 'power-law', 'answers', 'labels', 'sources', 'spurious', 'baselines', 'self-checks'])
      for (const kind of ['raw', 'normed']) assert.ok(stdout.includes(`(${name}, by ${kind} influence)\n====`), `${name} ${kind}`)
    assert.equal(stdout.match(/How to read it: /g)?.length, 20)
    assert.match(stdout, /What the paper found, and what this run shows\n=+\n1\. /)
    assert.match(stderr, /220 records in /)
  })

  test('analyses --json is one document with every table whole; names choose figures', async () => {
    const all = JSON.parse((await tributary('analyses --run made --json --quiet')).stdout) as Analyses
    assert.deepEqual([all.run, all.documents, all.lag, all.figures.length, all.findings.length], ['made', 220, 200, 20, 10])
    assert.deepEqual(all.offsets.map(({ partition, from }) => [partition, from]), [[0, 0], [1, 0]])
    assert.equal(all.offsets.reduce((sum, { end }) => sum + end, 0), 220)
    assert.ok(all.figures.every(({ shows, reading, remarks }) => shows.length > 20 && reading.length > 20 && remarks.length > 0))
    const sources = all.figures.find(({ name, by }) => name === 'sources' && by === 'raw')?.tables.find(({ id }) => id === 'sources-corpus-raw')
    assert.deepEqual(sources?.rows, [{ source: 'even', documents: 120, share: 120 / 220 }, { source: 'odd', documents: 100, share: 100 / 220 }])
    const some = JSON.parse((await tributary('analyses --run made --json sources findings')).stdout) as Analyses
    assert.deepEqual(some.figures.map(({ name, by }) => `${name} ${by}`), ['sources raw', 'sources normed'])
    assert.deepEqual(some.findings, all.findings)
    assert.deepEqual(some.figures[0], all.figures.find(({ name, by }) => name === 'sources' && by === 'raw'))
  })

  test('both say for machines what they are at, and where their metrics are', async () => {
    for (const [pipeline, line] of [['analyses', 'analyses --run made'], ['report', 'report --run made --out watched.html']] as const) {
      const { code, stderr } = await tributary(`${line} --json --listen 0 --log-format json --log-level debug`)
      assert.equal(code, 0, stderr)
      const lines = stderr.trimEnd().split('\n').map((text) => JSON.parse(text) as { pipeline: string; run: string; msg: string })
      assert.ok(lines.every((told) => told.pipeline === pipeline && told.run === 'made'))
      assert.match(lines[0].msg, /^metrics and health: http:\/\/127\.0\.0\.1:\d+\/metrics/)
      assert.ok(['ready', 'progress'].every((wanted) => lines.some(({ msg }) => msg === wanted)), stderr)
    }
  })

  test('whoever scrapes the analyses while they go on finds them healthy, and how many documents are in', async () => {
    const own = { home: join(temporaryFolder(), '.tributary') }
    await using log = await openLog(own, { partitions: 2 })
    await makeRun(log, 'made', { documents: 200, queries: 1 })
    const [port] = await freePorts(1)
    const scraped: { readonly status: number; readonly text: string }[] = []
    /** When the second partition is read the first is in. */
    const read: Log['read'] = async (topic, partition, ...more) => {
      if (topic === 'influence' && partition === 1 && scraped.length === 0)
        for (const path of ['healthz', 'readyz', 'metrics']) {
          const answer = await fetch(`http://127.0.0.1:${port}/${path}`)
          scraped.push({ status: answer.status, text: await answer.text() })
        }
      return log.read(topic, partition, ...more)
    }
    const settings = resolveSettings('analyses', { flags: { ...own, run: 'made', listen: String(port), quiet: true }, env: {} })
    const analysed = await analysisOf(withPart(log, { read }), settings, 'analyses')
    assert.equal(analysed?.analyses.documents, 220)
    assert.deepEqual(scraped.map(({ status }) => status), [200, 200, 200])
    const counted = (name: string): number => Number(new RegExp(`^tributary_${name}\\{.*pipeline="analyses".*partition="0".*\\} (\\d+)$`, 'm').exec(scraped[2].text)?.[1])
    const [{ ends }] = (await log.describe()).filter(({ topic }) => topic === 'documents')
    assert.equal(counted('documents_total'), ends[0])
    assert.ok(counted('pieces_total') > ends[0])
    await assert.rejects(fetch(`http://127.0.0.1:${port}/healthz`), 'it is over with the work')
  })

  test('a state in the home that is damaged is made anew, to the same figures', async () => {
    const figures = async (): Promise<string> => {
      const { code, stdout, stderr } = await tributary(['analyses', '--run', 'made', '--json', '--quiet', '--depth', '600'])
      assert.deepEqual([code, stderr], [0, ''])
      return stdout
    }
    const states = join(home, 'analyses', 'made')
    const expected = await figures()
    for (const name of readdirSync(states)) writeFileSync(join(states, name), readFileSync(join(states, name)).subarray(0, 50))
    writeFileSync(join(states, 'concentrations.json'), '{"of": "nobody", "pairs": [1]}')
    assert.equal(await figures(), expected)
  })

  test('a report and its data are written once, unless told to overwrite; a run that goes on is said to', async () => {
    const written = await tributary('report --run made --out report.html --data data')
    assert.equal(written.code, 0, written.stderr)
    assert.match(written.stdout, /^report\.html: 220 pieces, 3 queries\ndata: \d+ files\n$/)
    assert.match(written.stderr, /the run goes on: 200 documents are not in yet/)
    const page = readFileSync(join(folder, 'report.html'), 'utf8')
    assert.match(page, /The run goes on: 200 documents are not in yet/)
    assert.match(page, /^<!doctype html>[^]*<\/html>\n$/)
    const files = readdirSync(join(folder, 'data'))
    assert.equal(files.length, Number(/data: (\d+) files/.exec(written.stdout)?.[1]))
    for (const name of ['heatmap-raw.svg', 'sources-normed.csv', 'sources-normed.parquet']) assert.ok(files.includes(name), name)

    refused(await tributary('report --run made --out report.html --quiet'), 1, /"report\.html" is there already\nfix: another --out, or --force/)
    const again = await tributary('report --run made --out report.html --data data --force --json --quiet')
    assert.equal(again.code, 0, again.stderr)
    const told = JSON.parse(again.stdout) as { out: string; data: string; files: string[]; lag: number; findings: unknown[] }
    assert.deepEqual([told.out, told.data, told.lag, told.findings.length, [...told.files].sort()], ['report.html', 'data', 200, 10, files.sort()])
  })

  test('a place that cannot be written is said before the work, and nothing is left there', async () => {
    mkdirSync(join(folder, 'others'))
    writeFileSync(join(folder, 'others', 'mine.txt'), 'mine')
    writeFileSync(join(folder, 'a file'), 'mine')
    refused(await tributary('report --run made --out nowhere/report.html'), 1, /^error: there is no folder "\S+nowhere"\nfix: mkdir -p/)
    refused(await tributary('report --run made --out others'), 1, /^error: "others" is a folder\nfix: /)
    refused(await tributary('report --run made --out new.html --data others --quiet'), 1, /^error: the folder "others" holds other things \(mine\.txt\)\nfix: /)
    assert.ok(!existsSync(join(folder, 'new.html')), 'the report and its data, or none')
    refused(await tributary('export --run made --format ruis-demo --out others --quiet'), 1, /holds other things \(mine\.txt\)/)
    refused(await tributary(['export', '--run', 'made', '--format', 'ruis-demo', '--out', 'a file', '--quiet']), 1, /"a file" is a file\nfix: /)
    assert.deepEqual([readdirSync(join(folder, 'others')), readFileSync(join(folder, 'a file'), 'utf8')], [['mine.txt'], 'mine'])
    assert.deepEqual(readdirSync(folder).filter((name) => /^\.(new\.html|others|a file)/.test(name)), [])
  })

  test("export writes the form of the paper's demo, and says how much", async () => {
    const { code, stdout, stderr } = await tributary('export --run made --format ruis-demo --out demo -k 5')
    assert.equal(code, 0, stderr)
    const documents = Number(/^demo: (\d+) pieces of 220, 3 queries\n$/.exec(stdout)?.[1])
    assert.deepEqual(readdirSync(join(folder, 'demo')).sort(), [
      'completions.json', 'influences_cos.npy', 'influences_dot.npy', 'meta.json', 'prompts.json', 'ranks.npy', 'ranks_normed.npy', 'test_ids.json', 'training_ids.json', 'training_sequences.json', 'training_sources.json',
    ])
    const read = (name: string): unknown[] => JSON.parse(readFileSync(join(folder, 'demo', `${name}.json`), 'utf8')) as unknown[]
    assert.deepEqual([read('training_ids').length, read('training_sources').length, read('test_ids')], [documents, documents, ['q0', 'q1', 'q2']])
    assert.deepEqual(JSON.parse((await tributary('export --run made --format ruis-demo --out demo -k 5 --force --json --quiet')).stdout), { run: 'made', format: 'ruis-demo', out: 'demo', documents, queries: 3, scored: 220 })
  })

  test('a run, a home or a checkpoint that is not there is said, with what there is', async () => {
    for (const line of ['analyses', 'report --out x.html', 'export --format ruis-demo --out x']) {
      refused(await tributary(`${line} --run mad --quiet`), 1, /^error: there is no run "mad"\nfix: runs: empty, made\n$/)
      refused(await tributary(`${line} --run made --home elsewhere`), 1, /^error: [^]*elsewhere[^]*\nfix: /)
    }
    refused(await tributary('analyses --run made --quiet spurious'), 1, /^error: [^]*\nfix: /)
    assert.ok(!existsSync(join(folder, 'x')) && !existsSync(join(folder, 'x.html')) && !existsSync(join(folder, 'elsewhere')))
  })

  test('a figure or a form that does not exist is wrong usage', async () => {
    refused(await tributary('analyses --run made corelation'), 2, /corelation/)
    refused(await tributary('export --run made --format excel --out x'), 2, /--format/)
    refused(await tributary('report --run made --rows many'), 2, /--rows/)
    refused(await tributary('analyses --run made --depth 3'), 2, /--depth/)
  })

  test('a run without a document has figures that say so, and a report', async () => {
    const { code, stdout } = await tributary('report --run empty --out empty.html --json --quiet')
    assert.deepEqual([code, (JSON.parse(stdout) as Analyses).documents], [0, 0])
    assert.ok((JSON.parse(stdout) as Analyses).findings.every(({ verdict }) => verdict === 'not measured'))
  })
})
