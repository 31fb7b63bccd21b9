import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet'
import { chromium, type Browser } from 'playwright-core'
import { placeOf } from '../../src/analysis/index.js'
import { writeReport } from '../../src/cli/report.js'
import { keyOf, type Log } from '../../src/log/index.js'
import { analyseRun, type RunAnalyses } from '../../src/pipeline/analyse.js'
import { openLog } from '../../src/pipeline/home.js'
import type { TopKTable } from '../../src/pipeline/top-k.js'
import { csvOf, darkColours, escapeHtml, excerptWithMarks, figuresOf, formatCell, html, lightColours, placesOfPhrases, reportPage } from '../../src/report/index.js'
import type { RunQuery, RunRecord } from '../../src/settings/index.js'
import { influenceOf, normOf, runQuery, runRecord } from '../pipeline/made-run.js'

/** Texts that a page must not obey. */
const hostile = [
  '<script>globalThis.owned = 1</script>', '</td></table><img src=x onerror="globalThis.owned = 1">', '"><svg onload=globalThis.owned=1>', '</style><script>globalThis.owned=1</script>',
  '<!-- --><iframe src="javascript:parent.owned=1"></iframe>', '&lt;b&gt; &amp; \u202egnp.exe\u0000\ud800', "' onfocus=globalThis.owned=1 autofocus '", '<meta http-equiv="refresh" content="0;url=https://example.invalid/">',
]

const folder = mkdtempSync(join(tmpdir(), 'tributary-report-'))
let log: Log
let analysed: RunAnalyses
const page = join(folder, 'report.html')
const data = join(folder, 'data')

/** A run of which every name and text is hostile. */
const hostileRun = async (): Promise<RunRecord> => {
  const groups = [['factual', 'facts'], ['reasoning', 'slope'], ['reasoning', 'sum'], ['control', 'slope'], [hostile[0], hostile[1]]]
  const queries = Array.from({ length: 10 }, (_, q): RunQuery => {
    const [group, task] = groups[q % groups.length]
    return { ...runQuery(`${hostile[q % hostile.length]} ${q}`, q + 1), prompt: hostile[q % hostile.length], completion: ` ${hostile[(q + 1) % hostile.length]}`, group, task, answer: q % 2 === 0 ? hostile[0] : '42', steps: ['1 + 1 = 2', hostile[2]] }
  })
  const run = { ...runRecord('hostile', queries), model: hostile[3], joinReason: hostile[1], versions: { [hostile[0]]: hostile[2] } }
  const documents = Array.from({ length: 300 }, (_, i) => ({
    id: `${hostile[i % hostile.length]}${i}`, idGiven: true, source: hostile[i % 3], text: `${hostile[i % hostile.length]} and 42, 1+1 = 2`, tokens: null, shard: 's', index: i, extra: JSON.stringify({ teaches: [hostile[0]] }),
  }))
  await log.append(documents.map((value) => ({ topic: 'documents' as const, key: keyOf(value.source, value.id), partition: 0, value })), { unique: true })
  await log.append(documents.map(({ id, source }, i) => ({
    topic: 'influence' as const, key: keyOf('hostile', source, id), partition: 0,
    value: { run: 'hostile', document: id, source, partition: 0, offset: i, piece: 0, pieces: 1, tokens: 3, tokensTotal: 3, loss: 1, gradientNorm: normOf(i), influence: queries.map((_, q) => influenceOf(i, q)) },
  })))
  await log.append(queries.map(({ id }, q) => {
    const rows = documents.slice(0, 6).map((document, i) => ({ document: document.id, source: document.source, piece: 0, partition: 0, offset: i, score: 6 - i }))
    return { topic: 'tables' as const, key: keyOf('hostile', id, 0), partition: 0, value: { run: 'hostile', query: id, partition: 0, k: 6, top: rows, bottom: rows.map((row) => ({ ...row, score: -row.score })), topNormed: rows, bottomNormed: q === 0 ? [] : rows } }
  }))
  return run
}

before(async () => {
  log = await openLog({ home: join(folder, 'home') }, { partitions: 1 })
  analysed = await analyseRun(log, await hostileRun(), { home: null })
  await writeReport(log, analysed, { out: page, data, rows: 5, force: false })
})
after(async () => {
  await log[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true, force: true })
})

test('text is escaped, and what a template is given twice is not escaped twice', () => {
  assert.equal(escapeHtml(`<a b='"'>&`), '&lt;a b=&#39;&quot;&#39;&gt;&amp;')
  assert.equal(escapeHtml('a\u0000\u202eb\ud800'), 'a\ufffd\ufffdb\ufffd')
  assert.equal(html`<b>${['<', html`<i>${'&'}</i>`]}</b>`.source, '<b>&lt;<i>&amp;</i></b>')
})

test('answers are marked whole, wherever an excerpt is cut', () => {
  const marked = (text: string, phrases: readonly string[], lengthMax = 300): string => excerptWithMarks(text, phrases, lengthMax).map(({ text: part, isMarked }) => (isMarked ? `[${part}]` : part)).join('')
  assert.equal(marked('so 4, not 42 or 1.4; x = 4.', ['4']), 'so [4], not 42 or 1.4; x = [4].')
  assert.equal(marked('1 + 1\n= 2', ['1 + 1 = 2']), '[1 + 1\n= 2]')
  assert.equal(marked('a Rome b', ['rome', 'Rome b']), 'a [Rome b]')
  assert.match(marked(`${'x '.repeat(500)}Rome${' y'.repeat(500)}`, ['Rome'], 60), /^… .*\[Rome\].* …$/)
  assert.deepEqual(placesOfPhrases('(.*) x', ['(.*)', ' ']), [[0, 4]])
})

test('numbers are shown as people read them', () => {
  assert.deepEqual([[0.01234, 'number'], [123456, 'number'], [null, 'number'], [0.5, 'percent'], [1e-30, 'p'], [0.0499, 'p'], [12345, 'count']].map(([cell, format]) => formatCell(cell as number, format as 'p')),
    ['0.0123', '1.2e5', '–', '50 %', '< 1e-10', '0.050', '12,345'])
})

test('CSV is quoted, and no cell is a formula to a spreadsheet', () => {
  assert.equal(csvOf({ columns: [{ name: 'a,b', format: 'text' }, { name: 'n', format: 'number' }], rows: [['=1+1', 0.5], ['x"y\n', null], ['-', NaN]] }), '"a,b",n\r\n\'=1+1,0.5\r\n"x""y\n",\r\n\'-,\r\n')
})

test('every figure is there as SVG, every table as CSV and Parquet with the same rows', async () => {
  const svg = readFileSync(join(data, 'heatmap-raw.svg'), 'utf8')
  assert.match(svg, /^<\?xml/)
  assert.doesNotMatch(svg, /var\(--|<script/)
  const csv = readFileSync(join(data, 'sources-raw.csv'), 'utf8')
  const rows = await parquetReadObjects({ file: await asyncBufferFromFile(join(data, 'sources-raw.parquet')) })
  assert.equal(rows.length, analysed.analyses.sources.raw.shares.length)
  assert.equal(csv.split('\r\n').length - 2, rows.length)
  assert.equal(rows[0].multiplier, analysed.analyses.sources.raw.shares[0].multiplier)
})

test('the page says where it comes from: checkpoint, factors, settings, versions, offsets; and every figure and finding stands in it', () => {
  const text = readFileSync(page, 'utf8')
  const provenance = text.slice(text.indexOf('<h2 id="provenance">'))
  const { run, offsets } = analysed
  for (const part of [`(${run.checkpoint})`, `${run.factors} (${run.factorsHash})`, new Date(run.createdMs).toISOString(), escapeHtml(JSON.stringify({ k: 100 })), `0: [${offsets[0].from}, ${offsets[0].end})`])
    assert.ok(provenance.includes(part), part)
  assert.equal(offsets[0].end, 300)
  for (const { name } of figuresOf(analysed.analyses, 'raw')) assert.ok(text.includes(`<h2 id="${name}">`) && text.includes(`<a href="#${name}">`), name)
  for (const number of [1, 2, 3, 4, 5]) assert.ok(text.includes(`<h3>${number}. `), `finding ${number}`)
})

test('a document whose score hangs on one token keeps its place, and is marked with the token', () => {
  const { run, state } = analysed
  const [query] = run.queries
  const rows = Array.from({ length: 5 }, (_, i) => ({ rank: i, score: 5 - i, scorePerNat: null, rescored: false, document: `d${i}`, source: 's', partition: 0, offset: i, piece: 0, text: `text ${i}` }))
  const list: TopKTable = { query, scored: 300, isRescoreStale: false, rows }
  const row = { query: query.id, place: placeOf(0, 2), piece: 0, document: 'd2', source: 's', tokens: 4, concentration: 0.9, token: '<b>', tokenAt: 1, tokenShare: 0.9, rank: 2, score: 3 }
  const spurious = { ...analysed.analyses.spurious, raw: { ...analysed.analyses.spurious.raw, judged: 1, flagged: [row] } }
  const text = reportPage({ analysed: { ...analysed, state, analyses: { ...analysed.analyses, spurious } }, lists: [{ kind: 'raw', top: [list], bottom: [] }], nowMs: 0, version: '0' })
  const tables = text.slice(text.indexOf('<h2 id="tables">'))
  assert.deepEqual([...tables.matchAll(/<td class="id">(d\d)/g)].map(([, id]) => id), ['d0', 'd1', 'd2', 'd3', 'd4'])
  assert.deepEqual([...tables.matchAll(/<td class="id">(d\d)<br><span class="flag">hangs on one token: <code>(.*?)<\/code>/g)].map(([, id, token]) => [id, token]), [['d2', '&quot;&lt;b&gt;&quot;']])
})

test('colours of text have WCAG AA contrast, light and dark', () => {
  const luminance = (hex: string): number => {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const contrast = (a: string, b: string): number => (Math.max(luminance(a), luminance(b)) + 0.05) / (Math.min(luminance(a), luminance(b)) + 0.05)
  for (const colours of [lightColours, darkColours]) {
    for (const ground of [colours.page, colours.surface])
      for (const name of ['text', 'muted', 'accent', 'good', 'bad', 'open'] as const) assert.ok(contrast(colours[name], ground) >= 4.5, `${name} ${colours[name]} on ${ground}`)
    for (const name of ['group-factual', 'group-reasoning', 'group-control', 'group-other-0', 'group-other-1', 'group-other-2', 'bar'] as const)
      assert.ok(contrast(colours[name], colours.surface) >= 3, `${name} ${colours[name]}`)
    assert.ok(contrast(colours.mark, colours['mark-text']) >= 4.5)
  }
})

const browserPath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path))

test('in a browser: nothing of the corpus is obeyed, nothing is fetched, axe finds nothing, phones need no scrolling aside', { skip: browserPath === undefined ? 'no Chromium is installed (apt-get install chromium)' : false, timeout: 300_000 }, async () => {
  const browser: Browser = await chromium.launch({ executablePath: browserPath, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] })
  try {
    const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
    for (const [width, colorScheme] of [[1280, 'light'], [1280, 'dark'], [390, 'light']] as const) {
      const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, bypassCSP: false })
      const tab = await context.newPage()
      const requests: string[] = []
      const said: string[] = []
      tab.on('request', (request) => requests.push(request.url()))
      tab.on('console', (message) => said.push(message.text()))
      tab.on('dialog', (dialog) => void dialog.dismiss())
      await tab.goto(pathToFileURL(page).href)
      await tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")
      assert.deepEqual(requests, [pathToFileURL(page).href])
      assert.deepEqual(said, [])
      assert.equal(await tab.evaluate('globalThis.owned'), undefined)
      assert.equal(await tab.evaluate("document.querySelectorAll('script, iframe, img, object, embed, link, [onerror], [onload], [onfocus]').length"), 0)
      assert.ok((await tab.evaluate('document.body.textContent') as string).includes(hostile[0]))
      assert.ok((await tab.evaluate('document.documentElement.scrollWidth') as number) <= width, `wider than ${width}`)
      // axe runs in the page's own world by the debugger, not by a script of the page.
      await tab.evaluate(axe)
      const problems = (await tab.evaluate("axe.run(document, { runOnly: " + JSON.stringify(colorScheme === 'dark' ? ['color-contrast'] : ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']) + ", resultTypes: ['violations'] }).then((r) => r.violations.map((v) => v.id + ': ' + v.nodes.length + ' ' + v.nodes[0].html.slice(0, 200)))")) as string[]
      assert.deepEqual(problems, [])
      await context.close()
    }
  } finally {
    await browser.close()
  }
})
