/** @file Where one is, in the address: #/runs/NAME/VIEW/...?options. Everything shown follows from it, so it can be kept and sent. */

/** @typedef {{ run: string | undefined, view: string, rest: readonly string[], options: Readonly<Record<string, string>> }} Place */

/** @returns {Place} */
export const here = () => {
  const [path, search = ''] = location.hash.replace(/^#\/?/, '').split('?')
  const [kind, run, view = 'tables', ...rest] = path.split('/').map((part) => {
    try {
      return decodeURIComponent(part)
    } catch {
      return part
    }
  })
  return { run: kind === 'runs' && run !== '' ? run : undefined, view, rest, options: Object.fromEntries(new URLSearchParams(search)) }
}

/**
 * @param {string} run
 * @param {string} view
 * @param {readonly (string | number)[]} [rest]
 * @param {Readonly<Record<string, string | number | undefined>>} [options]
 */
export const address = (run, view, rest = [], options = {}) => {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(options)) if (value !== undefined && value !== '') search.set(name, String(value))
  const text = search.toString()
  return `#/runs/${[run, view, ...rest].map((part) => encodeURIComponent(part)).join('/')}${text === '' ? '' : `?${text}`}`
}

/** Goes to an address without a new entry in the browser's history: for options of one view. @param {string} to */
export const replace = (to) => {
  history.replaceState(null, '', to)
  dispatchEvent(new HashChangeEvent('hashchange'))
}
