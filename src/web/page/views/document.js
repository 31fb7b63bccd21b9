/** @file A document: its text, its scores on every query, and where a score comes from. */
import { get } from '../api.js'
import { fill, h, problemBox } from '../dom.js'
import { count, fixed, score, time } from '../format.js'
import { address, replace } from '../route.js'
import { ordered } from './queries.js'

/** @typedef {import('../api.js').DocumentScores['pieces'][number]['scores'][number]} Score */
/** @typedef {'raw' | 'perNat' | 'normed' | 'z'} Column */

/** @type {readonly (readonly [Column, string, string])[]} */
const columns = [
  ['raw', 'Raw', 'influence'], ['perNat', 'Per nat', "influence over the completion's information"], ['normed', 'Normed', "influence over the norm of the document's gradient"],
  ['z', 'z', "standard deviations above the mean of the query's raw scores over all documents"],
]

/** Above this, ‖a‖₂ / ‖a‖₁ of the tokens' terms a says that a score hangs on one token (docs/analyses.md). */
const concentrationMax = 2 / 3

/** @param {import('../main.js').Scene} scene @returns {import('../main.js').View} */
export const documentView = ({ root, run, queries, place, canExplain }) => {
  const [partition, offset] = place.rest
  let { options } = place
  let [sortedBy, isDescending] = /** @type {[Column, boolean]} */ (['z', true])
  const [title, text, scores, explained] = [h('div'), h('div'), h('div'), h('div')]
  fill(root, h('div', { class: 'content wide' }, title, h('div', { class: 'two' },
    h('div', {}, h('section', {}, h('h2', {}, 'Text'), text), explained),
    h('section', {}, h('h2', {}, 'Scores'), scores))))
  /** @type {import('../api.js').DocumentScores | undefined} */
  let known
  const asking = new AbortController()
  const pieceAt = () => known?.pieces.find(({ piece }) => piece === Number(options.piece ?? 0)) ?? known?.pieces[0]

  const loadDocument = async () => {
    try {
      /** @type {import('../api.js').DocumentDetail} */
      const found = await get(['documents', partition, offset], {}, asking.signal)
      document.title = `${found.document} · ${run} · tributary`
      fill(title, h('h1', { class: 'document-id' }, found.document), h('ul', { class: 'facts' },
        h('li', {}, h('span', { class: 'chip' }, found.source)), h('li', {}, `${found.shard} #${found.index}`), h('li', {}, `partition ${found.partition}, offset ${found.offset}`),
        h('li', {}, `appended ${time(found.appendedMs)}`), h('li', {}, `${count(found.characters)} characters`)))
      fill(text, found.text === null ? h('p', { class: 'muted' }, `It came as ${count(found.tokens ?? 0)} tokens, without text.`)
        : h('div', { class: 'text', tabindex: 0, role: 'region', 'aria-label': 'Text of the document' }, found.text, found.isCut && h('p', { class: 'muted' }, '… the rest is cut')),
      found.extra !== null && h('details', {}, h('summary', {}, 'Other fields'), h('pre', { class: 'original', tabindex: 0 }, found.extra)))
    } catch (error) {
      if (!asking.signal.aborted) fill(text, problemBox(error))
    }
  }

  const drawScores = () => {
    const piece = pieceAt()
    if (known === undefined) return
    if (piece === undefined)
      return fill(scores, h('p', { class: 'muted', role: 'status' }, known.isRead ? 'The run has not scored this document yet.' : 'This server is still reading what was scored; the scores come when it has.'))
    const byQuery = new Map(piece.scores.map((one) => [one.query, one]))
    const valueOf = (/** @type {string} */ id) => byQuery.get(id)?.[sortedBy] ?? -Infinity
    const rows = ordered(queries).sort((a, b) => (isDescending ? -1 : 1) * (valueOf(a.id) - valueOf(b.id) || 0))
    const most = Math.max(0, ...piece.scores.map((one) => Math.abs(one[sortedBy] ?? 0)))
    fill(scores,
      h('p', { class: 'muted small' }, `${count(piece.tokens)} of ${count(piece.tokensTotal)} tokens, loss ${piece.loss.toFixed(2)} nats, gradient norm ${score(piece.gradientNorm)}`),
      known.pieces.length > 1 && h('ul', { class: 'pieces' }, known.pieces.map(({ piece: at }) =>
        h('li', {}, h('a', { href: address(run, 'documents', [partition, offset], { ...options, piece: at }), 'aria-current': at === piece.piece ? 'true' : undefined }, `piece ${at}`)))),
      h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Scores on every query' }, h('table', { class: 'scores' },
        h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Query'), columns.map(([name, label, about]) =>
          h('th', { scope: 'col', class: 'number', 'aria-sort': sortedBy === name ? (isDescending ? 'descending' : 'ascending') : undefined },
            h('button', { type: 'button', title: about, onclick: () => {
              ;[sortedBy, isDescending] = [name, sortedBy === name ? !isDescending : true]
              drawScores()
              scores.querySelector('th[aria-sort]')?.querySelector('button')?.focus()
            } }, label))))),
        h('tbody', {}, rows.map((query) => {
          const one = byQuery.get(query.id)
          const value = one?.[sortedBy] ?? 0
          return h('tr', { class: query.id === options.query ? 'chosen' : undefined },
            h('th', { scope: 'row' }, h('a', { href: address(run, 'documents', [partition, offset], { ...options, query: query.id }), title: `${query.prompt}${query.completion}` }, query.id),
              h('span', { class: value < 0 ? 'bar against' : 'bar', 'aria-hidden': 'true', '--size': most === 0 ? 0 : Math.abs(value) / most })),
            columns.map(([name]) => h('td', { class: 'number' }, name === 'z' ? fixed(one?.z ?? null) : score(one?.[name] ?? null))))
        })))))
  }
  const loadScores = async () => {
    try {
      known = await get(['runs', run, 'documents', partition, offset], {}, asking.signal)
      drawScores()
    } catch (error) {
      if (!asking.signal.aborted) fill(scores, problemBox(error))
    }
  }

  const drawExplain = () => {
    const query = queries.find(({ id }) => id === options.query)
    const select = h('select', { 'aria-label': 'Query', onchange: (/** @type {Event} */ event) =>
      replace(address(run, 'documents', [partition, offset], { ...options, query: /** @type {HTMLSelectElement} */ (event.target).value })) },
    query === undefined && h('option', { value: '' }, 'choose a query'), ordered(queries).map(({ id }) => h('option', { value: id, selected: id === query?.id }, id)))
    const result = h('div', { 'aria-live': 'polite' })
    fill(explained, h('section', {}, h('h2', {}, 'Where a score comes from'),
      h('div', { class: 'controls' }, select, query !== undefined && h('a', { href: address(run, 'tables', [], { query: query.id }) }, 'its table'),
        canExplain && query !== undefined && h('button', { type: 'button', onclick: () => void explain(query.id, result) }, 'Explain')),
      query !== undefined && h('p', { class: 'ask' }, h('span', { class: 'prompt' }, query.prompt), h('span', { class: 'completion' }, query.completion)),
      !canExplain && h('p', { class: 'muted small' }, 'This server computes nothing. On a terminal: ', h('code', {}, `tributary explain --run ${run}${query === undefined ? '' : ` --query ${query.id}`}`)),
      result))
    if (canExplain && query !== undefined && options.explain === 'yes') void explain(query.id, result)
  }
  const explain = async (/** @type {string} */ id, /** @type {HTMLElement} */ result) => {
    fill(result, h('p', { class: 'muted' }, 'Computing…'))
    try {
      /** @type {import('../api.js').Explanation} */
      const { score: total, tokens, layers } = await get(['runs', run, 'explain'], { query: id, partition, offset, piece: options.piece }, asking.signal)
      const most = Math.max(0, ...tokens.map(({ term }) => Math.abs(term)))
      const mostLayer = Math.max(0, ...layers.map(({ term }) => Math.abs(term)))
      const [sum, squares] = tokens.reduce(([one, two], { term }) => [one + Math.abs(term), two + term * term], [0, 0])
      const concentration = sum === 0 ? 0 : Math.sqrt(squares) / sum
      const strongest = tokens.map((token, at) => ({ ...token, at })).sort((a, b) => Math.abs(b.term) - Math.abs(a.term)).slice(0, 8)
      fill(result,
        h('p', {}, 'Score ', h('b', {}, score(total)), h('span', { class: 'muted' }, ', the sum of the tokens’ terms and of the layers’. Blue speaks for the completion, orange against it.')),
        concentration > concentrationMax && h('p', { class: 'problem' }, h('b', {}, 'It hangs on one token'), ` (‖a‖₂ / ‖a‖₁ = ${concentration.toFixed(2)}, above 2/3). Read whether it bears on the query, or only this token does.`),
        h('p', { class: 'tokens' }, tokens.map(({ text: token, term }) =>
          h('span', { class: term < 0 ? 'token against' : 'token', '--size': most === 0 ? 0 : (Math.abs(term) / most).toFixed(3), title: score(term) }, token))),
        h('h3', {}, 'Strongest tokens'),
        h('ol', { class: 'strongest' }, strongest.map(({ text: token, term, at }) => h('li', {}, h('code', {}, token.trim() === '' ? JSON.stringify(token) : token), ` ${score(term)} `, h('span', { class: 'muted' }, `token ${at}`)))),
        h('h3', {}, 'Layers'),
        h('table', { class: 'plain' }, h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Layer'), h('th', { scope: 'col', class: 'number' }, 'Term'), h('th', { scope: 'col', class: 'number' }, 'Share'))),
          h('tbody', {}, layers.map(({ layer, term }) => h('tr', {}, h('th', { scope: 'row' }, layer, h('span', { class: term < 0 ? 'bar against' : 'bar', 'aria-hidden': 'true', '--size': mostLayer === 0 ? 0 : Math.abs(term) / mostLayer })),
            h('td', { class: 'number' }, score(term)), h('td', { class: 'number' }, total === 0 ? '–' : `${fixed((100 * term) / total, 1)} %`))))))
    } catch (error) {
      if (!asking.signal.aborted) fill(result, problemBox(error))
    }
  }
  void loadDocument()
  void loadScores()
  drawExplain()
  return {
    onEvent: () => {
      if (known === undefined || known.pieces.length === 0) void loadScores()
    },
    onPlace: (next) => {
      if (next.rest[0] !== partition || next.rest[1] !== offset) return false
      ;({ options } = next)
      drawScores()
      drawExplain()
      return true
    },
    close: () => asking.abort(),
  }
}
