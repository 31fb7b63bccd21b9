/** @file The tables: one query's documents, moving while the run goes on. */
import { get } from '../api.js'
import { choice, fill, h, marked, problemBox } from '../dom.js'
import { count, score } from '../format.js'
import { address, replace } from '../route.js'
import { ordered, queryPicker } from './queries.js'

/** @typedef {import('../api.js').Table} Table */
/** @typedef {Table['rows'][number]} Row */

/** @param {import('../main.js').Scene} scene @returns {import('../main.js').View} */
export const tablesView = ({ root, run, queries, place }) => {
  let { options } = place
  const chosen = () => queries.find(({ id }) => id === options.query) ?? ordered(queries)[0]
  const settings = () => ({ end: options.end === 'bottom' ? 'bottom' : 'top', by: options.by === 'normed' ? 'normed' : 'raw', k: /^(20|50|100|200)$/.test(options.k ?? '') ? options.k : '20' })
  const go = (/** @type {Record<string, string>} */ changes) => replace(address(run, 'tables', [], { ...options, query: chosen()?.id, ...changes }))

  const picker = queryPicker({ run, queries, chosen: () => chosen()?.id ?? '', options: () => options })
  const head = h('div', { class: 'query-head' })
  const controls = h('div', { class: 'controls' })
  const filter = h('input', { type: 'search', placeholder: 'Filter rows', 'aria-label': 'Filter rows by source, document or excerpt', autocomplete: 'off' })
  const remark = h('p', { class: 'muted small', role: 'status' })
  const body = h('tbody')
  const table = h('table', { class: 'ranks' },
    h('thead', {}, h('tr', {}, h('th', { scope: 'col', class: 'number' }, 'Rank'), h('th', { scope: 'col', class: 'number' }, 'Score'),
      h('th', { scope: 'col', class: 'number' }, 'Per nat'), h('th', { scope: 'col' }, 'Source'), h('th', { scope: 'col' }, 'Document'))), body)
  const content = h('div', { class: 'content' }, head, controls, remark, table)
  fill(root, h('div', { class: 'split' }, picker.element, content))

  /** @type {Table | undefined} */
  let latest
  /** Rank of each row when the table was shown last. @type {Map<string, number>} */
  let before = new Map()
  /** @type {AbortController | undefined} */
  let asking
  let isStale = false

  const drawHead = () => {
    const query = chosen()
    if (query === undefined) return fill(head, h('h1', {}, 'This run has no queries'))
    fill(head,
      h('h1', {}, h('span', { class: 'prompt' }, query.prompt), h('span', { class: 'completion' }, query.completion)),
      h('ul', { class: 'facts' },
        h('li', {}, h('code', {}, query.id)), query.group !== null && h('li', {}, [query.group, query.task].filter(Boolean).join(' › ')),
        query.answer !== null && h('li', {}, 'answer ', h('mark', {}, query.answer)),
        h('li', { title: '−log p of the completion: influence per nat is influence over this' }, `${query.informationNats.toPrecision(3)} nats`),
        h('li', {}, `${query.tokens - query.promptTokens} of ${query.tokens} tokens are the completion`)))
  }
  const drawControls = () => {
    const { end, by, k } = settings()
    fill(controls,
      choice('end', 'Which end', [['top', 'For'], ['bottom', 'Against']], end, (value) => go({ end: value })),
      choice('by', 'Ranked by', [['raw', 'Raw'], ['normed', 'Normed']], by, (value) => go({ by: value })),
      h('label', { class: 'inline' }, 'Rows ', h('select', { onchange: (/** @type {Event} */ event) => go({ k: /** @type {HTMLSelectElement} */ (event.target).value }) },
        ['20', '50', '100', '200'].map((n) => h('option', { value: n, selected: n === k }, n)))),
      filter)
  }
  const keyOf = (/** @type {Row} */ { partition, offset, piece }) => `${partition}.${offset}.${piece}`

  const rowOf = (/** @type {Row} */ row, /** @type {number} */ most, /** @type {boolean} */ isNew, /** @type {number} */ rose) =>
    h('tr', { 'data-key': keyOf(row), class: isNew ? 'new' : undefined },
      h('td', { class: 'number rank' }, count(row.rank), rose !== 0 && h('span', { class: rose > 0 ? 'rose' : 'fell', title: `was at rank ${row.rank + rose}` }, rose > 0 ? '▲' : '▼')),
      h('td', { class: 'number score' }, score(row.score), row.rescored && h('span', { class: 'final', title: 'scored again with the full-rank query' }, '✓'),
        h('span', { class: 'bar', 'aria-hidden': 'true', '--size': most === 0 ? 0 : Math.min(1, Math.abs(row.score ?? 0) / most) })),
      h('td', { class: 'number pernat' }, score(row.scorePerNat)),
      h('td', { class: 'source' }, row.source),
      h('td', { class: 'document' },
        h('a', { href: address(run, 'documents', [row.partition, row.offset], { query: chosen()?.id, piece: row.piece === 0 ? undefined : row.piece }) }, row.document),
        row.piece > 0 && h('span', { class: 'muted' }, ` piece ${row.piece}`),
        h('p', { class: 'excerpt' }, row.excerpt === null ? h('i', {}, 'its text is no longer kept') : marked(row.excerpt))))

  const drawRows = ({ isMove = false } = {}) => {
    if (latest === undefined) return
    const { rows, scored, ranked, isRescoreStale, end } = latest
    const words = filter.value.toLowerCase().split(/\s+/).filter((word) => word !== '')
    const shown = rows.filter(({ source, document, excerpt }) => words.every((word) => `${source} ${document} ${excerpt?.text ?? ''}`.toLowerCase().includes(word)))
    const most = Math.max(0, ...rows.map((row) => Math.abs(row.score ?? 0)))
    table.dataset.end = end
    const places = new Map([...body.children].map((row) => [/** @type {HTMLElement} */ (row).dataset.key, row.getBoundingClientRect().top]))
    const focused = document.activeElement?.closest('tr')?.dataset.key
    fill(body, shown.map((row) => {
      const was = before.get(keyOf(row))
      return rowOf(row, most, isMove && was === undefined, isMove && was !== undefined ? was - row.rank : 0)
    }))
    if (focused !== undefined) /** @type {HTMLElement | null} */ (body.querySelector(`tr[data-key="${CSS.escape(focused)}"] a`))?.focus({ preventScroll: true })
    if (isMove) move(body, places)
    const withAnswer = rows.filter(({ hasAnswer }) => hasAnswer).length
    fill(remark, [
      `${count(scored)} ${ranked} scored`, shown.length < rows.length ? `${shown.length} of ${rows.length} rows` : `${rows.length} rows`,
      chosen()?.answer !== null && rows.length > 0 ? `the answer stands in ${withAnswer} of ${rows.length}` : '',
      isRescoreStale ? 'more documents came since rows were scored again' : '',
    ].filter(Boolean).join(' · '))
    if (rows.length === 0) fill(body, h('tr', {}, h('td', { colspan: 5, class: 'muted' }, 'Nothing scored yet; rows come as documents do.')))
  }

  const load = async ({ isMove = false } = {}) => {
    const query = chosen()
    if (query === undefined) return
    asking?.abort()
    const mine = (asking = new AbortController())
    isStale = false
    try {
      const loaded = await get(['runs', run, 'table'], { query: query.id, ...settings() }, mine.signal)
      if (mine.signal.aborted) return
      if (isMove && latest !== undefined) before = new Map(latest.rows.map((row) => [keyOf(row), row.rank]))
      latest = loaded
      drawRows({ isMove })
      if (isStale) queueMicrotask(() => void load({ isMove: true }))
    } catch (error) {
      if (mine.signal.aborted) return
      isStale = true
      fill(remark, problemBox(error))
    } finally {
      if (asking === mine) asking = undefined
    }
  }
  const draw = () => {
    drawHead()
    drawControls()
    picker.update()
    void load()
  }
  filter.addEventListener('input', () => drawRows())
  draw()
  return {
    onEvent: ({ changed }) => {
      const id = chosen()?.id
      // A request under way is let come to its end, else a fast run would never show anything.
      if (asking !== undefined) isStale ||= changed.queries === null || changed.queries.includes(id ?? '')
      else if (isStale || changed.queries === null || changed.queries.includes(id ?? '')) void load({ isMove: latest !== undefined })
    },
    onPlace: (next) => {
      ;({ options } = next)
      before = new Map()
      latest = undefined
      draw()
      return true
    },
    close: () => asking?.abort(),
  }
}

/** Rows glide from where they were. @param {Element} body @param {ReadonlyMap<string | undefined, number>} places */
const move = (body, places) => {
  if (matchMedia('(prefers-reduced-motion: reduce)').matches) return
  for (const row of body.children) {
    const was = places.get(/** @type {HTMLElement} */ (row).dataset.key)
    const by = was === undefined ? 0 : was - row.getBoundingClientRect().top
    if (by !== 0) row.animate([{ transform: `translateY(${by}px)` }, { transform: 'none' }], { duration: 350, easing: 'ease-out' })
  }
}
