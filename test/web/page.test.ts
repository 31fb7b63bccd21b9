/** @file The page in a real browser. One browser for all; every wait is for something that comes. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { after, before, describe, test } from 'node:test'
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core'
import type { Log } from '../../src/log/index.js'
import { retryRecord } from '../../src/pipeline/retries.js'
import { readAll } from '../pipeline/drive.js'
import { startWebServer, type Explain, type WebServer } from '../../src/web/index.js'
import { liveQuery, liveRun, noBugs, readingLog, someDocuments, type LiveRun } from './live-run.js'

const executablePath = process.env.TRIBUTARY_CHROMIUM ?? '/usr/bin/chromium'
const skip = existsSync(executablePath) ? false : `there is no Chromium at ${executablePath}; TRIBUTARY_CHROMIUM says where one is`
/** The machine may be busy. */
const timeout = 60_000

const hostile = [
  '<script>window.hacked = 1</script>', '<img src=x onerror="window.hacked = 1">', '"><svg onload="window.hacked = 1">', "javascript:window.hacked = 1", '</pre><iframe srcdoc="<script>parent.hacked = 1</script>"></iframe>',
  '\u202Ereversed\u202C', '{{constructor.constructor("window.hacked = 1")()}}', '<style>* { display: none }</style>',
].join('\n')
const queries = [
  liveQuery('Ashnia'), liveQuery('Beldia'), liveQuery('sum', { group: 'reasoning', task: 'sums', answer: '8', prompt: '4 + 4 =', completion: ' 8.' }),
  liveQuery('<b onmouseover="window.hacked = 1">', { group: '<i>', task: null, prompt: '<script>window.hacked = 1</script>', completion: ' "x"' }),
]
const explain: Explain = ({ query }) => Promise.resolve({
  score: 1.5, tokens: [{ text: 'The', term: 2 }, { text: ' <u>river', term: -1 }, { text: ' flows', term: 0.5 }], layers: [{ layer: `mlp.0 for ${query.id}`, term: 1 }, { layer: 'mlp.1', term: 0.5 }],
})

const figure = {
  title: 'Sources <b>', shows: 'it shows', reading: 'read it so', paper: ['they found'], remarks: ['n = 31'],
  tables: [{ id: 'table', title: 'Shares', rows: Array.from({ length: 20 }, (_, i) => ({ source: `<i>${i}`, share: i / 3, n: i })) }],
}
const analyses = {
  run: 'live', documents: 31, ranked: 'documents', lag: 0, figures: [{ ...figure, name: 'sources', by: 'normed' }, { ...figure, name: 'sources', by: 'raw', title: 'Raw sources' }],
  findings: [{ number: 1, kind: 'normed', hypothesis: 'Procedures correlate.', verdict: 'not seen', rule: 'p < 0.05', numbers: ['r = 0.1'], paper: ['r = 0.9'] }],
}

describe('the live page', { skip, timeout: 300_000 }, () => {
  let browser: Browser
  let run: LiveRun
  let log: Log
  let server: WebServer
  const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

  const serve = async (port: number): Promise<void> => {
    log = await readingLog(run.home)
    server = await startWebServer({ log, host: '127.0.0.1', port, everyMs: 50, onBug: noBugs, explain, analyse: () => Promise.resolve(analyses) })
  }
  const unserve = async (): Promise<void> => {
    await server[Symbol.asyncDispose]()
    await log[Symbol.asyncDispose]()
  }
  before(async () => {
    run = await liveRun(queries)
    await run.append([...someDocuments(30, 4), { id: '<b>bold', source: '<s>', text: hostile, influence: [100, 100, 100, 100] }])
    await run.score()
    await serve(0)
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'], headless: true, timeout })
  }, { timeout })
  after(async () => {
    await browser?.close()
    await unserve()
    await run[Symbol.asyncDispose]()
  })

  /** A page of its own; what it complains of fails the test, but for what the network must say when a server is away. */
  const withPage = async (hash: string, use: (page: Page) => Promise<void>, { expected, ...options }: BrowserContextOptions & { expected?: RegExp } = {}): Promise<void> => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options })
    const complaints: string[] = []
    try {
      const page = await context.newPage()
      page.setDefaultTimeout(timeout)
      page.on('pageerror', (error) => complaints.push(String(error)))
      page.on('console', (message) => {
        if (message.type() === 'error' && !/Failed to load resource|ERR_/.test(message.text())) complaints.push(message.text())
      })
      page.on('dialog', (dialog) => {
        complaints.push(`a dialog: ${dialog.message()}`)
        void dialog.dismiss()
      })
      await page.goto(`${server.url}/${hash}`)
      await use(page)
      assert.equal(await page.evaluate('window.hacked'), undefined, 'nothing that a document holds has run')
      assert.deepEqual(complaints.filter((line) => expected?.test(line) !== true), [])
    } finally {
      await context.close()
    }
  }
  const rows = (page: Page) => page.locator('table.ranks tbody tr')

  test('opens with the newest run and a table, best first', async () => {
    await withPage('', async (page) => {
      await page.waitForURL(/#\/runs\/live\/tables/)
      await rows(page).nth(19).waitFor()
      assert.match(await page.title(), /Tables · live · tributary/)
      assert.match((await rows(page).first().textContent()) ?? '', /<b>bold/)
      await page.getByText('31 of 31 documents').waitFor()
      await page.locator('#live', { hasText: 'live' }).waitFor()
    })
  })

  test('moves while documents arrive', async () => {
    await withPage('#/runs/live/tables?query=Ashnia', async (page) => {
      await rows(page).nth(19).waitFor()
      await run.append([{ id: 'late', text: 'It is said that Ashniaville is the capital.', influence: [1000, 0, 0, 0] }])
      await page.getByText('31 of 32 documents').waitFor()
      await run.score()
      await page.getByText('32 of 32 documents').waitFor()
      await rows(page).first().getByRole('link', { name: 'late' }).waitFor()
      assert.deepEqual(await rows(page).first().locator('mark').allTextContents(), ['Ashniaville'])
      assert.match((await rows(page).nth(1).textContent()) ?? '', /<b>bold/, 'the first is now the second')
    })
  })

  test('filters queries and rows, by keyboard; every choice is in the address', async () => {
    await withPage('#/runs/live/tables', async (page) => {
      await rows(page).nth(19).waitFor()
      await page.getByRole('searchbox', { name: 'Filter queries' }).fill('4 + 4')
      await page.getByText('1 of 4').waitFor()
      await page.keyboard.press('ArrowDown')
      await page.keyboard.press('Enter')
      await page.waitForURL(/query=sum/)
      await page.locator('h1 .completion', { hasText: '8.' }).waitFor()
      await page.getByRole('radio', { name: 'Against' }).focus()
      await page.keyboard.press('ArrowLeft')
      await page.getByRole('radio', { name: 'For' }).focus()
      await page.keyboard.press('ArrowRight')
      await page.waitForURL(/end=bottom/)
      await page.locator('table.ranks[data-end=bottom]').waitFor()
      const scores = (await page.locator('td.score').allTextContents()).map((text) => Number(text.replace('−', '-')))
      assert.deepEqual(scores, [...scores].sort((a, b) => a - b))
      await page.getByRole('searchbox', { name: /Filter rows/ }).fill('books')
      await page.getByText(/\d+ of 20 rows/).waitFor()
      assert.ok((await page.locator('td.source').allTextContents()).every((source) => source === 'books'))
      await page.reload()
      await page.locator('table.ranks[data-end=bottom]').waitFor()
      assert.equal(await page.getByRole('radio', { name: 'Against' }).isChecked(), true)
    })
  })

  test('finds a document, opens it with all its scores, and explains one', async () => {
    await withPage('#/runs/live/search', async (page) => {
      await page.getByRole('searchbox', { name: 'Words' }).fill('"number 7 about"')
      await page.keyboard.press('Enter')
      await page.getByText('1 found').waitFor()
      await page.getByRole('link', { name: 'd7', exact: true }).click()
      await page.getByRole('heading', { name: 'd7' }).waitFor()
      await page.locator('table.scores tbody tr').nth(3).waitFor()
      assert.match((await page.locator('.text').textContent()) ?? '', /document number 7 about rivers/)
      await page.getByRole('button', { name: 'Raw' }).click()
      await page.locator('th[aria-sort=descending]', { hasText: 'Raw' }).waitFor()
      await page.getByRole('link', { name: 'Beldia', exact: true }).click()
      await page.waitForURL(/query=Beldia/)
      await page.getByRole('button', { name: 'Explain' }).click()
      await page.getByText('mlp.0 for Beldia').waitFor()
      assert.deepEqual(await page.locator('.token').allTextContents(), ['The', ' <u>river', ' flows'])
      assert.deepEqual(await page.locator('.token.against').allTextContents(), [' <u>river'])
      assert.equal(await page.locator('.tokens u').count(), 0)
    })
  })

  test('fills in heatmap and curves, and reads the map by keyboard', async () => {
    await withPage('#/runs/live/patterns', async (page) => {
      await page.locator('.curve').nth(3).waitFor({ state: 'attached' })
      await page.locator('canvas').focus()
      await page.keyboard.press('ArrowRight')
      await page.locator('.readout', { hasText: /r = / }).waitFor()
      await page.locator('h1').click() // who reads cells is not disturbed
      const count = async (): Promise<number> => Number(/over (\d+) documents/.exec((await page.locator('section').first().textContent()) ?? '')?.[1])
      const before = await count()
      await run.append(someDocuments(4, 4, 500))
      await run.score()
      await page.getByText(`over ${before + 4} documents`).waitFor()
    })
  })

  test('tells the analyses: findings, words and tables', async () => {
    await withPage('#/runs/live/analyses', async (page) => {
      await page.getByText('Procedures correlate.').waitFor()
      await page.getByRole('heading', { name: 'Sources <b>' }).waitFor()
      assert.equal(await page.locator('#table tbody tr').count(), 12)
      await page.getByRole('button', { name: 'All 20 rows' }).click()
      assert.equal(await page.locator('#table tbody tr').count(), 20)
      assert.equal(await page.locator('#table i').count(), 0)
      await page.getByText('Raw', { exact: true }).click()
      await page.getByRole('heading', { name: 'Raw sources' }).waitFor()
    })
  })

  test('shows progress, dead letters and what the run is', async () => {
    await withPage('#/runs/live/progress', async (page) => {
      await page.locator('svg.chart').waitFor()
      await page.locator('table.plain tbody tr').nth(1).waitFor()
      await page.getByText('None: everything could be processed.').waitFor()
      await run.log.append([{
        topic: 'dead-letters', key: 'broken',
        value: { run: 'live', stage: 'tokenize', cause: hostile, topic: 'documents', partition: 0, offset: 0, shard: null, index: null, document: '<i>broken', piece: null, original: new TextEncoder().encode(hostile) },
      }])
      await page.locator('.letters summary', { hasText: '<i>broken' }).click()
      assert.equal(await page.locator('.letters pre').textContent(), hostile)
      const [{ partition, offset }] = await readAll(run.log, 'dead-letters')
      const asked = { run: 'live', partition, offset, document: null, attempt: 1, cause: null } as const
      await run.log.append([retryRecord({ ...asked, state: 'wanted' })])
      await page.getByText('waits for a worker').waitFor()
      await run.log.append([retryRecord({ ...asked, state: 'failed', cause: hostile })])
      await page.getByText('tried again: failed: <script>window.hacked = 1</script>').waitFor()
      await page.getByText('1 dead letters').waitFor()
    })
  })

  test('a document that is hostile markup is shown as text everywhere', async () => {
    const [{ partition, offset }] = ((await (await fetch(`${server.url}/api/documents?search=bold`)).json()) as { hits: { partition: number; offset: number }[] }).hits
    await withPage(`#/runs/live/documents/${partition}/${offset}?query=${encodeURIComponent(queries[3].id)}`, async (page) => {
      await page.locator('table.scores tbody tr').nth(3).waitFor()
      assert.equal(await page.locator('.text').textContent(), hostile)
      assert.equal(await page.locator('main :is(script, iframe, img, style, svg, u, s, i[onmouseover])').count(), 0)
      await page.getByRole('link', { name: 'its table' }).click()
      await rows(page).first().getByText('<b>bold').hover()
      assert.equal(await page.locator('main :is(script, iframe, img, style)').count(), 0)
    })
  })

  test('the browser refuses markup, whoever would put it into the page', async () => {
    await withPage('#/runs/live/tables', async (page) => {
      await assert.rejects(page.evaluate("document.body.innerHTML = '<img src=x onerror=alert(1)>'"), /TrustedHTML/)
      await assert.rejects(page.evaluate("document.body.append(Object.assign(document.createElement('script'), { text: 'window.hacked = 1' }))"), /TrustedScript/)
    }, { expected: /requires 'Trusted(HTML|Script)' assignment/ })
  })

  test('goes on by itself when the server was away, and shows what came meanwhile', async () => {
    await withPage('#/runs/live/tables?query=Ashnia', async (page) => {
      await rows(page).nth(19).waitFor()
      const { port } = server
      await unserve()
      await page.locator('#live', { hasText: 'reconnecting' }).waitFor()
      await run.append([{ id: 'meanwhile', text: 'came while nobody served', influence: [5000, 0, 0, 0] }])
      await run.score()
      await serve(port)
      await page.locator('#live[data-state=live]').waitFor()
      await rows(page).first().getByRole('link', { name: 'meanwhile' }).waitFor()
    })
  })

  test('a run that is not there is said, and leads on', async () => {
    await withPage('#/runs/none/tables', async (page) => {
      await page.getByRole('alert').getByText('there is no run "none"').waitFor()
      await page.getByRole('link', { name: 'All runs' }).click()
      await page.waitForURL(/#\/runs\/live\/tables/)
      await rows(page).first().waitFor()
    })
  })

  const views = [
    ['tables', '#/runs/live/tables', 'table.ranks tbody tr'], ['patterns', '#/runs/live/patterns', 'canvas'], ['analyses', '#/runs/live/analyses', '#figure-sources'], ['search', '#/runs/live/search?search=rivers', '.hits li'],
    ['progress', '#/runs/live/progress', '.letters li'], ['document', '#/runs/live/documents/0/0?query=sum&explain=yes', '.tokens'],
  ] as const
  // What a colour scheme changes is colours; what a width changes may be anything.
  const rules = { light: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'], dark: ['color-contrast'] }
  for (const colorScheme of ['light', 'dark'] as const)
    test(`every view keeps the accessibility rules in ${colorScheme}, and fits a phone`, { timeout: 240_000 }, async () => {
      await withPage('', async (page) => {
        await page.locator('#live[data-state=live]').waitFor()
        await page.evaluate(axe)
        for (const [name, hash, shown] of views) {
          await page.evaluate(`location.hash = ${JSON.stringify(hash)}`)
          await page.locator(shown).first().waitFor()
          for (const width of [1280, 390]) {
            await page.setViewportSize({ width, height: 844 })
            const violations = await page.evaluate<string[]>(
              `axe.run(document, { runOnly: ${JSON.stringify(rules[colorScheme])}, resultTypes: ['violations'] })` +
                ".then(({ violations }) => violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html}\\n${failureSummary}`)))",
            )
            assert.deepEqual(violations, [], `${name}, ${width} px wide`)
            assert.ok(await page.evaluate<boolean>('document.documentElement.scrollWidth <= innerWidth'), `nothing of ${name} is wider than ${width} px`)
          }
        }
      }, { colorScheme, reducedMotion: 'reduce' })
    })
})
