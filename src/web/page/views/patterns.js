/** @file What the queries have in common: their correlation over all documents, and how scores fall with rank. */
import { get } from '../api.js'
import { heatmap, rankChart } from '../charts.js'
import { choice, fill, h, problemBox } from '../dom.js'
import { count } from '../format.js'
import { address, replace } from '../route.js'
import { ordered } from './queries.js'

/** Queries of the heatmap, of a set of curves; how often they are asked for anew while the run goes on, ms. */
const correlatedMax = 120
const curvesMax = 60
const everyMs = 4000

/** @param {import('../main.js').Scene} scene @returns {import('../main.js').View} */
export const patternsView = ({ root, run, queries, place }) => {
  let { options } = place
  const by = () => (options.by === 'normed' ? 'normed' : 'raw')
  const end = () => (options.end === 'bottom' ? 'bottom' : 'top')
  const inOrder = ordered(queries)
  const kindOf = (/** @type {{ group: string | null, task: string | null }} */ { group, task }) => [group, task].filter((part) => part !== null).join(' › ') || 'queries'
  const groups = [...new Set(inOrder.map(({ group }) => group ?? 'no group'))]
  const controls = h('div', { class: 'controls' })
  const heat = h('div')
  const curves = h('div')
  const heatNote = h('p', { class: 'muted small' })
  fill(root, h('div', { class: 'content wide' }, h('h1', {}, 'Patterns'), controls,
    h('div', { class: 'two' },
      h('section', {}, h('h2', {}, 'Do queries draw on the same documents?'),
        h('p', {}, "Pearson's correlation of two queries' influence over all documents scored so far. Blue: what speaks for the one speaks for the other. " +
          'Queries that are answered by the same procedure tend to correlate; facts that stand in different documents do not.'), heatNote, heat),
      h('section', {}, h('h2', {}, 'Is influence spread or concentrated?'),
        h('p', {}, 'Influence per nat against rank, as far as the tables reach. A steep curve: few documents carry the answer. A flat and low one: each of many does little.'), curves))))
  const draw = () =>
    fill(controls,
      choice('by', 'Scores', [['raw', 'Raw'], ['normed', 'Normed']], by(), (value) => replace(address(run, 'patterns', [], { ...options, by: value }))),
      choice('end', 'Which end', [['top', 'For'], ['bottom', 'Against']], end(), (value) => replace(address(run, 'patterns', [], { ...options, end: value }))))

  /** Evenly many of each group where there are too many. */
  const curved = () => groups.flatMap((group) => inOrder.filter((query) => (query.group ?? 'no group') === group).slice(0, Math.max(1, Math.floor(curvesMax / groups.length)))).slice(0, curvesMax)
  const correlated = inOrder.slice(0, correlatedMax)
  const bands = correlated.reduce((/** @type {{ name: string, from: number, to: number }[]} */ all, query, at) => {
    const last = all.at(-1)
    if (last?.name === kindOf(query)) last.to = at + 1
    else all.push({ name: kindOf(query), from: at, to: at + 1 })
    return all
  }, [])
  const hasFocus = () => heat.contains(document.activeElement) || heat.matches(':hover')

  /** @type {AbortController | undefined} */
  let asking
  let [askedMs, isDue, isFirst] = [0, false, true]
  const load = async () => {
    asking?.abort()
    const mine = (asking = new AbortController())
    askedMs = Date.now()
    isDue = false
    try {
      /** @type {import('../api.js').Curves} */
      const fallen = await get(['runs', run, 'curves'], { query: curved().map(({ id }) => id), by: by(), end: end() }, mine.signal)
      fill(curves, rankChart(fallen.curves.map(({ query, ranks, perNat }) => {
        const group = queries.find(({ id }) => id === query)?.group ?? 'no group'
        return { name: query, kind: groups.indexOf(group), ranks, values: perNat }
      }), `influence per nat, ${end() === 'top' ? 'for' : 'against'}`),
        h('ul', { class: 'legend' }, groups.map((group, kind) => h('li', {}, h('span', { class: `swatch kind-${kind % 6}`, 'aria-hidden': 'true' }), group))))
      /** @type {import('../api.js').Correlation} */
      const together = await get(['runs', run, 'correlation'], { query: correlated.map(({ id }) => id), by: by() }, mine.signal)
      // Who reads cells is not disturbed.
      if (!isFirst && hasFocus()) return
      isFirst = false
      heatNote.textContent = `over ${count(together.count)} ${together.ranked}${queries.length > correlatedMax ? `, the first ${correlatedMax} of ${queries.length} queries` : ''}`
      fill(heat, together.count === 0 ? h('p', { class: 'muted' }, 'Nothing scored yet.') : heatmap(together.queries, together.pearson, bands))
    } catch (error) {
      if (!mine.signal.aborted) fill(heat, problemBox(error))
    } finally {
      if (asking === mine) asking = undefined
    }
  }
  const timer = setInterval(() => {
    if (isDue && asking === undefined && Date.now() - askedMs >= everyMs) void load()
  }, 500)
  draw()
  void load()
  return {
    onEvent: ({ changed }) => void (isDue ||= changed.moments || changed.queries === null || changed.queries.length > 0),
    onPlace: (next) => {
      ;({ options } = next)
      isFirst = true
      draw()
      void load()
      return true
    },
    close: () => {
      clearInterval(timer)
      asking?.abort()
    },
  }
}
