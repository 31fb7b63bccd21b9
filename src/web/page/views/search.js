/** @file Search within the documents. */
import { get } from '../api.js'
import { fill, h, marked, problemBox } from '../dom.js'
import { count } from '../format.js'
import { address, replace } from '../route.js'

const hitsMax = 20

/** @param {import('../main.js').Scene} scene @returns {import('../main.js').View} */
export const searchView = ({ root, run, place }) => {
  let { options } = place
  const words = h('input', { type: 'search', name: 'search', 'aria-label': 'Words', placeholder: 'words, or "a phrase"', value: options.search ?? '', maxlength: 1000, autocomplete: 'off' })
  const source = h('input', { type: 'search', name: 'source', 'aria-label': 'Source', placeholder: 'any source', value: options.source ?? '', autocomplete: 'off' })
  const remark = h('p', { class: 'muted small', role: 'status' })
  const list = h('ol', { class: 'hits' })
  const more = h('button', { type: 'button', hidden: true }, 'Look further')
  const form = h('form', { class: 'controls', role: 'search' }, words, source, h('button', { type: 'submit' }, 'Search'))
  fill(root, h('div', { class: 'content' }, h('h1', {}, 'Documents'), form,
    h('p', { class: 'muted small' }, 'All words must stand in a document’s text or id, in any case. Documents are looked through as they lie in the log.'), remark, list, more))
  /** @type {AbortController | undefined} */
  let asking
  let [found, searched] = [0, 0]

  /** Looks on until there are so many more, or nothing is left. @param {string | undefined} cursor */
  const look = async (cursor) => {
    asking?.abort()
    const mine = (asking = new AbortController())
    more.hidden = true
    const until = found + hitsMax
    try {
      for (let at = cursor; ; ) {
        /** @type {{ hits: import('../api.js').Hit[], searched: number, left: number, cursor: string | null }} */
        const part = await get(['documents'], { search: options.search, source: options.source, limit: until - found, cursor: at }, mine.signal)
        found += part.hits.length
        searched += part.searched
        list.append(...part.hits.map(hitOf))
        remark.textContent = `${count(found)} found in ${count(searched)} documents${part.left > 0 ? `, ${count(part.left)} not looked at yet` : ''}`
        if (part.cursor === null) return
        at = part.cursor
        if (found < until) continue
        more.hidden = false
        more.onclick = () => void look(at)
        return
      }
    } catch (error) {
      if (!mine.signal.aborted) fill(remark, problemBox(error))
    }
  }
  const hitOf = (/** @type {import('../api.js').Hit} */ { partition, offset, document, source: of, characters, excerpt }) =>
    h('li', {}, h('a', { href: address(run, 'documents', [partition, offset]) }, document), ' ', h('span', { class: 'chip' }, of),
      h('span', { class: 'muted small' }, ` ${count(characters)} characters`), h('p', { class: 'excerpt' }, marked(excerpt)))

  const start = () => {
    fill(list)
    ;[found, searched] = [0, 0]
    void look(undefined)
  }
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    replace(address(run, 'search', [], { search: words.value.trim(), source: source.value.trim() }))
  })
  start()
  return {
    onPlace: (next) => {
      ;({ options } = next)
      words.value = options.search ?? ''
      source.value = options.source ?? ''
      start()
      return true
    },
    close: () => asking?.abort(),
  }
}
