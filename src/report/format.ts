/** @file Numbers as people read them. Pure. */

/** What a column of numbers holds; decides how they are shown. */
export type Format = 'text' | 'count' | 'number' | 'percent' | 'p'

/** A cell: text, a number, or nothing. */
export type Cell = string | number | null

/** Three significant digits; powers of ten where the number is very large or small. */
export const formatNumber = (value: number): string =>
  value === 0 ? '0' : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(1).replace('e+', 'e') : String(Number(value.toPrecision(3)))

/** A p-value: what is below 1e-10 is told as that. */
export const formatP = (p: number): string => (p < 1e-10 ? '< 1e-10' : p < 0.001 ? p.toExponential(1) : p.toFixed(3))

export const formatCell = (cell: Cell, format: Format): string => {
  if (cell === null || (typeof cell === 'number' && Number.isNaN(cell))) return '–'
  if (typeof cell === 'string') return cell
  switch (format) {
    case 'text':
      return String(cell)
    case 'count':
      return cell.toLocaleString('en-US', { maximumFractionDigits: 1 })
    case 'number':
      return formatNumber(cell)
    case 'percent':
      return `${formatNumber(100 * cell)} %`
    case 'p':
      return formatP(cell)
    default:
      return format satisfies never
  }
}
