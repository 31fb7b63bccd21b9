/** @file The query picker: all queries of a run by group and task, with a filter. */
import { fill, h } from '../dom.js'
import { address } from '../route.js'

/** @typedef {import('../api.js').Query} Query */

/** Queries in the order of their groups and tasks. @param {readonly Query[]} queries */
export const ordered = (queries) =>
  [...queries].sort((a, b) => order(a.group, b.group) || order(a.task, b.task))

/** Names in order, those without one last. @param {string | null} a @param {string | null} b */
const order = (a, b) => (a === b ? 0 : a === null ? 1 : b === null ? -1 : a < b ? -1 : 1)

/** @param {Query} query */
const wordsOf = ({ id, prompt, completion, group, task }) => `${id} ${prompt} ${completion} ${group ?? ''} ${task ?? ''}`.toLowerCase()

/**
 * @param {{ run: string, queries: readonly Query[], chosen: () => string, options: () => Readonly<Record<string, string>> }} parts
 * @returns {{ element: HTMLElement, update: () => void }}
 */
export const queryPicker = ({ run, queries, chosen, options }) => {
  const list = h('div', { class: 'query-list' })
  const filter = h('input', { type: 'search', placeholder: 'Filter queries', 'aria-label': 'Filter queries', autocomplete: 'off', spellcheck: 'false' })
  const groups = [...new Set(queries.map(({ group }) => group))].sort(order)
  const groupSelect = h('select', { 'aria-label': 'Group of queries' }, h('option', { value: '*' }, 'all groups'),
    groups.map((group) => h('option', { value: group ?? '' }, group ?? 'no group')))
  const found = h('p', { class: 'muted small', role: 'status' })
  const narrow = matchMedia('(max-width: 800px)')
  const summary = h('summary', {}, 'Query')
  const details = h('details', { class: 'queries', open: !narrow.matches }, summary,
    h('div', { class: 'query-filter' }, filter, groups.length > 1 && groupSelect), found, list)
  narrow.addEventListener('change', () => (details.open = !narrow.matches))
  const update = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter((word) => word !== '')
    const shown = ordered(queries).filter((query) =>
      (groupSelect.value === '*' || (query.group ?? '') === groupSelect.value) && words.every((word) => wordsOf(query).includes(word)))
    found.textContent = shown.length === queries.length ? '' : `${shown.length} of ${queries.length}`
    const sections = new Map()
    for (const query of shown) {
      const name = [query.group, query.task].filter((part) => part !== null).join(' › ') || 'queries'
      sections.set(name, [...(sections.get(name) ?? []), query])
    }
    fill(list, [...sections].map(([name, members]) =>
      h('section', { 'aria-label': name }, h('h3', {}, name),
        h('ul', {}, members.map((/** @type {Query} */ query) =>
          h('li', {}, h('a', { href: address(run, 'tables', [], { ...options(), query: query.id }), 'aria-current': query.id === chosen() ? 'true' : undefined },
            h('span', { class: 'query-prompt' }, query.prompt.trim()), ' ', h('span', { class: 'query-completion' }, query.completion.trim()))))))))
    if (shown.length === 0) fill(list, h('p', { class: 'muted' }, 'No query has these words.'))
  }
  filter.addEventListener('input', update)
  groupSelect.addEventListener('change', update)
  // Up and down go from query to query, from the filter into the list.
  details.addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return
    if (event.target === groupSelect) return
    const links = [...list.querySelectorAll('a')]
    const at = links.indexOf(/** @type {HTMLAnchorElement} */ (document.activeElement))
    const next = links[at + (event.key === 'ArrowDown' ? 1 : -1)]
    if (at < 0 && event.key === 'ArrowUp') return
    event.preventDefault()
    if (next === undefined && event.key === 'ArrowUp') filter.focus()
    else next?.focus()
  })
  list.addEventListener('click', () => {
    if (narrow.matches) details.open = false
  })
  update()
  return { element: details, update }
}
