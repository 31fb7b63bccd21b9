/** @file Small charts in SVG and on a canvas. Colours come from the style sheet, so they follow light and dark. */
import { h, s } from './dom.js'
import { count } from './format.js'

const axis = { width: 640, height: 220, left: 56, right: 12, top: 10, bottom: 30 }

/** @param {number} value @param {readonly [number, number]} from @param {readonly [number, number]} to */
const scaled = (value, [a, b], [c, d]) => (a === b ? (c + d) / 2 : c + ((value - a) / (b - a)) * (d - c))

/** Round steps that cover [0, most] in about n. @param {number} most @param {number} n */
const ticks = (most, n) => {
  const raw = most / n
  const power = 10 ** Math.floor(Math.log10(raw))
  const step = [1, 2, 5, 10].map((f) => f * power).find((one) => one >= raw) ?? raw
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, i) => i * step)
}

/** @param {number} ms @param {number} spanMs */
const clock = (ms, spanMs) => {
  const at = new Date(ms)
  const two = (/** @type {number} */ n) => String(n).padStart(2, '0')
  return spanMs > 2 * 86_400_000 ? `${two(at.getMonth() + 1)}-${two(at.getDate())}` : `${two(at.getHours())}:${two(at.getMinutes())}${spanMs < 600_000 ? `:${two(at.getSeconds())}` : ''}`
}

/**
 * Documents a second over time.
 * @param {import('./api.js').Progress['activity']['history']} history
 */
export const throughputChart = ({ widthMs, fromMs, documents }) => {
  const { width, height, left, right, top, bottom } = axis
  if (documents.length === 0) return h('p', { class: 'muted' }, 'Nothing scored yet.')
  const perSecond = documents.map((n) => (n * 1000) / widthMs)
  const most = Math.max(...perSecond, 1)
  const x = (/** @type {number} */ i) => scaled(i, [0, documents.length], [left, width - right])
  const y = (/** @type {number} */ v) => scaled(v, [0, most], [height - bottom, top])
  const line = perSecond.map((v, i) => `${i === 0 ? 'M' : 'L'}${x(i).toFixed(1)},${y(v).toFixed(1)}H${x(i + 1).toFixed(1)}`).join('')
  const span = documents.length * widthMs
  const labels = documents.length < 4 ? [0] : [0, 1, 2, 3].map((part) => Math.round((part / 3) * documents.length))
  return s('svg', { class: 'chart', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `documents per second, at most ${count(Math.round(most))}, over ${count(Math.round(span / 1000))} seconds` },
    ticks(most, 4).map((v) => [
      s('line', { class: 'grid', x1: left, x2: width - right, y1: y(v), y2: y(v) }),
      s('text', { x: left - 8, y: y(v) + 4, 'text-anchor': 'end' }, count(v)),
    ]),
    s('path', { class: 'area', d: `${line}V${y(0)}H${x(0)}Z` }), s('path', { class: 'line', d: line }),
    labels.map((i, at) => s('text', { x: x(i), y: height - 8, 'text-anchor': at === 0 ? 'start' : at === labels.length - 1 ? 'end' : 'middle' }, clock(fromMs + i * widthMs, span))))
}

/**
 * Scores against rank, both logarithmic.
 * @param {readonly { name: string, kind: number, ranks: readonly number[], values: readonly (number | null)[] }[]} curves
 * @param {string} label of the vertical axis
 */
export const rankChart = (curves, label) => {
  const { width, left, right, top, bottom } = axis
  const height = 320
  const points = curves.map((curve) => ({ ...curve, points: curve.ranks.flatMap((rank, i) => {
    const value = Math.abs(curve.values[i] ?? 0)
    return value > 0 ? [/** @type {const} */ ([Math.log10(rank + 1), Math.log10(value)])] : []
  }) }))
  const all = points.flatMap((curve) => curve.points)
  if (all.length === 0) return h('p', { class: 'muted' }, 'Nothing to draw yet.')
  /** @type {[number, number]} */
  const xs = [0, Math.max(1, ...all.map(([x]) => x))]
  /** @type {[number, number]} */
  const ys = [Math.floor(Math.min(...all.map(([, y]) => y)) * 2) / 2, Math.ceil(Math.max(...all.map(([, y]) => y)) * 2) / 2]
  const x = (/** @type {number} */ v) => scaled(v, xs, [left, width - right])
  const y = (/** @type {number} */ v) => scaled(v, ys, [height - bottom, top])
  const decades = (/** @type {readonly [number, number]} */ [from, to]) => {
    const whole = Array.from({ length: Math.floor(to) - Math.ceil(from) + 1 }, (_, i) => Math.ceil(from) + i)
    return whole.length >= 2 ? whole : [from, to]
  }
  const power = (/** @type {number} */ v) => (v >= 0 && v <= 5 ? count(Math.round(10 ** v)) : Number.isInteger(v) ? `1e${v}`.replace('-', '−') : (10 ** v).toExponential(0).replace('e+', 'e').replace('-', '−'))
  return s('svg', { class: 'chart', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${label} against rank, both logarithmic, ${curves.length} queries` },
    decades(ys).map((v) => [s('line', { class: 'grid', x1: left, x2: width - right, y1: y(v), y2: y(v) }), s('text', { x: left - 8, y: y(v) + 4, 'text-anchor': 'end' }, power(v))]),
    decades(xs).map((v) => [s('line', { class: 'grid', x1: x(v), x2: x(v), y1: top, y2: height - bottom }), s('text', { x: x(v), y: height - 10, 'text-anchor': v === xs[1] ? 'end' : 'middle' }, power(v))]),
    s('text', { x: x(0.5), y: height - 10, 'text-anchor': 'middle', class: 'axis-name' }, 'rank + 1'),
    s('text', { x: left + 6, y: top + 12, class: 'axis-name' }, label),
    points.filter((curve) => curve.points.length > 0).map((curve) =>
      s('path', { class: `curve kind-${curve.kind % 6}`, d: curve.points.map(([px, py], i) => `${i === 0 ? 'M' : 'L'}${x(px).toFixed(1)},${y(py).toFixed(1)}`).join('') }, s('title', {}, curve.name))))
}

/** The parts of an `rgb(...)` colour of the style sheet. @param {string} name @returns {readonly number[]} */
const colour = (name) => {
  const probe = h('i', { '--probe': `var(${name})`, class: 'probe' })
  document.body.append(probe)
  const parts = (getComputedStyle(probe).color.match(/[\d.]+/g) ?? ['0', '0', '0']).slice(0, 3).map(Number)
  probe.remove()
  return parts
}

/**
 * Correlations as coloured cells, with a cursor that mouse and arrow keys move.
 * @param {readonly string[]} names
 * @param {readonly (readonly (number | null)[])[]} values  [Q, Q], each within [−1, 1]
 * @param {readonly { name: string, from: number, to: number }[]} bands  neighbours that belong together
 */
export const heatmap = (names, values, bands) => {
  const size = names.length
  const cell = Math.max(4, Math.floor(1280 / Math.max(1, size))) // twice as many pixels as are shown
  const canvas = h('canvas', { width: size * cell, height: size * cell, tabindex: 0, role: 'img', 'aria-label': `correlation of ${size} queries; arrow keys read the cells`, class: 'heatmap' })
  const readout = h('p', { class: 'readout', role: 'status' }, 'Point at a cell, or focus the map and use the arrow keys.')
  let [row, column] = [0, 0]
  const draw = (isFocused = false) => {
    const context = canvas.getContext('2d')
    if (context === null) return
    const [paper, positive, negative, ink] = ['--panel', '--positive', '--negative', '--ink'].map(colour)
    for (let i = 0; i < size; i++)
      for (let j = 0; j < size; j++) {
        const value = values[i][j]
        const [to, part] = [(value ?? 0) >= 0 ? positive : negative, value === null ? 0 : Math.min(1, Math.abs(value))]
        context.fillStyle = `rgb(${paper.map((from, c) => Math.round(from + (to[c] - from) * part)).join(',')})`
        context.fillRect(j * cell, i * cell, cell, cell)
      }
    context.fillStyle = `rgba(${ink.join(',')},.45)`
    for (const { from } of bands) {
      if (from === 0) continue
      context.fillRect(0, from * cell - 1, size * cell, 2)
      context.fillRect(from * cell - 1, 0, 2, size * cell)
    }
    if (!isFocused) return
    context.strokeStyle = `rgb(${ink.join(',')})`
    context.lineWidth = 4
    context.strokeRect(column * cell, row * cell, cell, cell)
  }
  const read = () => {
    const value = values[row]?.[column]
    readout.textContent = `${names[row]} × ${names[column]}: ${value === null || value === undefined ? 'no correlation' : `r = ${value.toFixed(3).replace('-', '−')}`}`
  }
  const within = (/** @type {number} */ at) => Math.max(0, Math.min(size - 1, at))
  canvas.addEventListener('pointermove', (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect()
    row = within(Math.floor(((event.clientY - top) / height) * size))
    column = within(Math.floor(((event.clientX - left) / width) * size))
    draw(true)
    read()
  })
  canvas.addEventListener('keydown', (event) => {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key]
    if (by === undefined) return
    event.preventDefault()
    row = within(row + by[0])
    column = within(column + by[1])
    draw(true)
    read()
  })
  canvas.addEventListener('focus', () => (draw(true), read()))
  canvas.addEventListener('blur', () => draw())
  canvas.addEventListener('pointerleave', () => draw(document.activeElement === canvas))
  // The colours of light and dark are other ones.
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => draw())
  requestAnimationFrame(() => draw())
  return h('figure', { class: 'heat' }, canvas, readout,
    h('figcaption', {}, h('span', { class: 'scale', 'aria-hidden': 'true' }), h('span', { class: 'scale-ends' }, h('span', {}, 'r = −1'), h('span', {}, '0'), h('span', {}, '1')),
      h('ol', { class: 'bands' }, bands.map(({ name, from, to }) => h('li', {}, name, h('span', { class: 'muted' }, ` ${from + 1}–${to}`))))))
}
