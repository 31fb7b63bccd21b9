/** @file Numbers and times as they are read. */

const counts = new Intl.NumberFormat('en-US')
/** @param {number} n */
export const count = (n) => counts.format(n)

/** Four digits that count, exponents for what is very large or small. @param {number | null} value */
export const score = (value) => {
  if (value === null) return '–'
  const size = Math.abs(value)
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(2).replace('-', '−').replace('e+', 'e').replace('e-', 'e−')
  return (size >= 1000 ? counts.format(Math.round(value)) : value.toPrecision(4)).replace('-', '−')
}

/** @param {number | null} value @param {number} [digits] */
export const fixed = (value, digits = 2) => (value === null ? '–' : value.toFixed(digits).replace('-', '−'))

/** @param {number} ms since the epoch */
export const time = (ms) => {
  const iso = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString()
  return `${iso.slice(0, 10)} ${iso.slice(11, 19)}`
}

/** @param {number} ms */
export const duration = (ms) => {
  const seconds = Math.round(ms / 1000)
  if (seconds < 90) return `${seconds} s`
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`
  return seconds < 36 * 3600 ? `${(seconds / 3600).toFixed(1)} h` : `${(seconds / 86_400).toFixed(1)} d`
}

/** @param {number} perSecond */
export const rate = (perSecond) => (perSecond === 0 ? '0' : perSecond >= 100 ? count(Math.round(perSecond)) : perSecond >= 10 ? perSecond.toFixed(0) : perSecond.toFixed(1))
