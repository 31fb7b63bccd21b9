/** @file Elements without HTML: text goes in as text nodes only, so that nothing a document holds becomes markup. */

/** @typedef {Node | string | number | null | undefined | false | readonly unknown[]} Child  a list holds children too */

/**
 * Sets attributes; `on...` are listeners, `--name` are custom properties, booleans are there or not.
 * @param {HTMLElement | SVGElement} element
 * @param {Readonly<Record<string, unknown>>} attributes
 */
const setAll = (element, attributes) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue
    if (name.startsWith('on') && typeof value === 'function') element.addEventListener(name.slice(2), /** @type {EventListener} */ (value))
    else if (name.startsWith('--')) element.style.setProperty(name, String(value))
    else element.setAttribute(name, value === true ? '' : String(value))
  }
}

/** @param {Node} parent @param {readonly Child[]} children */
const add = (parent, children) => {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue
    if (Array.isArray(child)) add(parent, /** @type {readonly Child[]} */ (child))
    else parent.appendChild(child instanceof Node ? child : document.createTextNode(String(child)))
  }
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Readonly<Record<string, unknown>>} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export const h = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag)
  setAll(element, attributes)
  add(element, children)
  return element
}

/**
 * @param {string} tag
 * @param {Readonly<Record<string, unknown>>} [attributes]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export const s = (tag, attributes = {}, ...children) => {
  const element = /** @type {SVGElement} */ (document.createElementNS('http://www.w3.org/2000/svg', tag))
  setAll(element, attributes)
  add(element, children)
  return element
}

/** Puts children in place of what was there. @param {Element} parent @param {...Child} children */
export const fill = (parent, ...children) => {
  parent.replaceChildren()
  add(parent, children)
}

/** @param {string} id @returns {HTMLElement} */
export const byId = (id) => {
  const element = document.getElementById(id)
  if (element === null) throw new Error(`the page has no #${id}`)
  return element
}

/**
 * An excerpt with what was looked for marked.
 * @param {{ text: string, marks: readonly (readonly [number, number])[], cutBefore: boolean, cutAfter: boolean }} excerpt
 * @returns {Child[]}
 */
export const marked = ({ text, marks, cutBefore, cutAfter }) => {
  /** @type {Child[]} */
  const parts = [cutBefore && '… ']
  let at = 0
  for (const [from, to] of marks) {
    parts.push(text.slice(at, from), h('mark', {}, text.slice(from, to)))
    at = to
  }
  parts.push(text.slice(at), cutAfter && ' …')
  return parts
}

/**
 * A choice of one of a few, as radio buttons side by side.
 * @param {string} name
 * @param {string} legend
 * @param {readonly (readonly [value: string, label: string])[]} options
 * @param {string} chosen
 * @param {(value: string) => void} onChoose
 */
export const choice = (name, legend, options, chosen, onChoose) =>
  h('fieldset', { class: 'choice' }, h('legend', { class: 'visually-hidden' }, legend),
    options.map(([value, label]) =>
      h('label', {}, h('input', { type: 'radio', name, value, checked: value === chosen, onchange: () => onChoose(value) }), h('span', {}, label))))

/** @param {unknown} error */
export const problemBox = (error) =>
  h('div', { class: 'problem', role: 'alert' }, h('p', {}, error instanceof Error ? error.message : String(error)),
    error instanceof Error && 'fix' in error && typeof error.fix === 'string' && h('p', { class: 'muted' }, error.fix))
