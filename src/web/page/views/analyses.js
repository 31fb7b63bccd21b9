/** @file The papers' figures of a run: in words, with this run's numbers and what the paper found beside. */
import { get } from '../api.js'
import { choice, fill, h, problemBox } from '../dom.js'
import { count, score } from '../format.js'
import { address, replace } from '../route.js'

/** @typedef {import('../api.js').Analyses} Analyses */
/** @typedef {Analyses['figures'][number]['tables'][number]} DataTable */

/** Rows of a table that are shown before the rest is asked for; how often a result that is behind is asked for again, ms. */
const rowsShown = 12
const againMs = 15_000

/** @param {import('../main.js').Scene} scene @returns {import('../main.js').View} */
export const analysesView = ({ root, run, place, canAnalyse }) => {
  let { options } = place
  const by = () => (options.by === 'raw' ? 'raw' : 'normed')
  const controls = h('div', { class: 'controls' })
  const remark = h('p', { class: 'muted small', role: 'status' })
  const body = h('div')
  fill(root, h('div', { class: 'content prose' }, h('h1', {}, 'Analyses'),
    h('p', {}, 'The figures of Ruis et al. 2024 for this run: what each shows, how to read it, and what the paper found.'), controls, remark, body))
  /** @type {Analyses | undefined} */
  let known
  const asking = new AbortController()
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer
  const cellOf = (/** @type {string | number | null} */ cell) => (typeof cell !== 'number' ? (cell ?? '–') : Number.isInteger(cell) ? count(cell).replace('-', '−') : score(cell))

  const tableOf = (/** @type {DataTable} */ { id, title, rows }) => {
    const names = Object.keys(rows[0] ?? {})
    const isNumber = new Set(names.filter((name) => rows.every((row) => typeof row[name] !== 'string')))
    const lines = (/** @type {readonly DataTable['rows'][number][]} */ some) => some.map((row) => h('tr', {}, names.map((name) => h('td', { class: isNumber.has(name) ? 'number' : undefined }, cellOf(row[name])))))
    const tbody = h('tbody', {}, lines(rows.slice(0, rowsShown)))
    const more = h('button', { type: 'button', onclick: () => (tbody.append(...lines(rows.slice(rowsShown))), more.remove()) }, `All ${count(rows.length)} rows`)
    return h('div', { class: 'data' }, h('div', { class: 'scroll-x', tabindex: 0, role: 'region', 'aria-label': title },
      h('table', { class: 'plain', id }, h('caption', {}, title), h('thead', {}, h('tr', {}, names.map((name) => h('th', { scope: 'col', class: isNumber.has(name) ? 'number' : undefined }, name)))), tbody)),
    rows.length > rowsShown && more)
  }
  const draw = () => {
    fill(controls, choice('by', 'Scores', [['normed', 'Normed'], ['raw', 'Raw']], by(), (value) => replace(address(run, 'analyses', [], { by: value }))))
    if (known === undefined) return
    remark.textContent = `over ${count(known.documents)} ${known.ranked}${known.lag > 0 ? `, ${count(known.lag)} documents not scored then` : ''}${known.isCurrent ? '' : '; newer figures are being computed'}`
    const findings = known.findings.filter(({ kind }) => kind === by())
    fill(body,
      findings.length > 0 && h('section', {}, h('h2', {}, 'What the paper found, and what this run shows'), h('ol', { class: 'findings' }, findings.map((finding) =>
        h('li', {}, h('p', {}, `${finding.number}. ${finding.hypothesis} `, h('b', { class: 'verdict' }, finding.verdict)), finding.numbers.map((line) => h('p', { class: 'muted small' }, line)),
          h('details', {}, h('summary', {}, 'Rule and paper'), h('p', {}, finding.rule), finding.paper.map((line) => h('p', {}, line))))))),
      known.figures.filter((figure) => figure.by === by()).map(({ name, title, shows, reading, remarks, paper, tables }) =>
        h('section', { id: `figure-${name}` }, h('h2', {}, title), h('p', {}, shows), h('p', { class: 'muted' }, reading), remarks.map((line) => h('p', {}, line)), tables.map(tableOf),
          paper.length > 0 && h('details', {}, h('summary', {}, 'In the paper'), paper.map((line) => h('p', {}, line))))))
  }
  const load = async () => {
    clearTimeout(timer)
    if (known === undefined) remark.textContent = 'Computing; the first time reads all scores of the run.'
    try {
      const hadFocus = body.contains(document.activeElement)
      /** @type {Analyses} */
      const found = await get(['runs', run, 'analyses'], {}, asking.signal)
      const isNew = known === undefined || found.documents !== known.documents
      known = found
      if (isNew && !hadFocus) draw()
      if (!found.isCurrent) timer = setTimeout(() => void load(), againMs)
    } catch (error) {
      if (!asking.signal.aborted) fill(remark, problemBox(error))
    }
  }
  draw()
  if (canAnalyse) void load()
  else fill(remark, 'This server computes none. On a terminal: ', h('code', {}, `tributary analyses --run ${run}`))
  return {
    // What was of then is no more: asked for again, but not at every event.
    onEvent: ({ changed }) => {
      if (known?.isCurrent !== true || !changed.moments) return
      known = { ...known, isCurrent: false }
      clearTimeout(timer)
      timer = setTimeout(() => void load(), againMs)
    },
    onPlace: (next) => {
      ;({ options } = next)
      draw()
      return true
    },
    close: () => {
      clearTimeout(timer)
      asking.abort()
    },
  }
}
