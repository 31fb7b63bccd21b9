/**
 * @file The charts, drawn by Observable Plot into SVG without a browser (linkedom's document). Colours are CSS variables,
 * so that one drawing serves light and dark; `standalone` puts the light ones in, for files.
 */
import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'
import type { Correlations, Magnitudes, PowerLaws, ScoreKind, Sources } from '../analysis/index.js'
import { colourOf, darkColours, lightColours } from './style.js'

export interface Chart {
  /** Its file's name, without an ending. */
  readonly id: string
  readonly svg: string
}

/** linkedom's document does for Plot what a browser's does. */
const newDocument = (): ReturnType<typeof parseHTML>['document'] => parseHTML('<!doctype html><html><body></body></html>').document

/** What is used of the element that Plot makes; the types of browsers are not among this project's. */
interface Drawn {
  readonly outerHTML: string
  setAttribute(name: string, value: string): void
  querySelectorAll(selector: string): Iterable<{ remove(): void; removeAttribute(name: string): void }>
}

const drawn = (id: string, label: string, options: Plot.PlotOptions): Chart => {
  const svg = Plot.plot({ ...options, document: newDocument(), className: 'chart', style: { fontFamily: 'inherit' } }) as unknown as Drawn
  svg.setAttribute('role', 'img')
  svg.setAttribute('aria-label', label)
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg')
  // Inner names would be read one by one; the figure's table says them better.
  for (const inner of [...svg.querySelectorAll('[aria-label]')]) inner.removeAttribute('aria-label')
  // Plot's own rules are of the page's style sheet; and one file holds many charts.
  for (const style of [...svg.querySelectorAll('style')]) style.remove()
  return { id, svg: svg.outerHTML }
}

/** A chart as a file of its own: the light colours, on white. */
export const standalone = ({ svg }: Chart): string => {
  const colours = new Map(Object.entries(lightColours))
  const fixed = svg.replace(/var\(--([\w-]+)\)/g, (_, name: string) => colours.get(name) ?? '#000')
  return `<?xml version="1.0" encoding="UTF-8"?>\n${fixed.replace(/^<svg /, `<svg style="background:#fff;color:${lightColours.text};font-family:system-ui,sans-serif" `)}\n`
}

/** Steps of r at which the heatmap's colour changes. */
const steps = [-0.5, -0.2, -0.1, -0.05, 0.05, 0.1, 0.2, 0.5]
export const heatSteps = steps

/** Q × Q squares, ordered by cell; lines between cells. */
export const heatmap = ({ order, matrix, kind, blocks }: Correlations, ids: readonly string[], cellNames: readonly string[]): Chart => {
  const squares = order.flatMap((i, y) => order.map((j, x) => ({ x, y, r: matrix[i][j], title: `${ids[i]} and ${ids[j]}: r = ${Number.isNaN(matrix[i][j]) ? 'none' : matrix[i][j].toFixed(3)}` })))
  const runs: { name: string; from: number; to: number }[] = []
  order.forEach((q, at) => {
    const last = runs[runs.length - 1]
    if (last?.name === cellNames[q]) last.to = at + 1
    else runs.push({ name: cellNames[q], from: at, to: at + 1 })
  })
  const edges = runs.slice(1).map(({ from }) => from)
  const side = 560
  return drawn(`heatmap-${kind}`, `Heatmap of the correlation of ${ids.length} queries by ${kind} influence, ordered by group and task; ${blocks.length} blocks, their means are in the table below.`, {
    width: side + 130, height: side + 16, marginLeft: 130, marginBottom: 16, marginTop: 0, marginRight: 0,
    x: { domain: [0, order.length], axis: null }, y: { domain: [order.length, 0], axis: null, reverse: false },
    color: { type: 'threshold', domain: steps, range: steps.concat(0).map((_, at) => `var(--heat-${at})`), unknown: 'var(--heat-none)' },
    marks: [
      // Beyond some hundred queries a title for each square would be most of the file.
      Plot.rect(squares, { x1: 'x', x2: (d: { x: number }) => d.x + 1, y1: 'y', y2: (d: { y: number }) => d.y + 1, fill: 'r', inset: 0, ...(order.length <= 120 ? { title: 'title' } : {}) }),
      Plot.ruleX(edges, { stroke: 'var(--surface)', strokeWidth: 2 }), Plot.ruleY(edges, { stroke: 'var(--surface)', strokeWidth: 2 }),
      Plot.text(runs, { x: 0, y: (d: { from: number; to: number }) => (d.from + d.to) / 2, text: 'name', textAnchor: 'end', dx: -8, fontSize: 12, fill: 'currentColor' }),
    ],
  })
}

const groupScale = (groups: readonly string[]): Plot.ScaleOptions => ({ type: 'categorical', domain: [...groups], range: groups.map((group) => `var(--${colourOf(group, groups)})`) })

/** Sums of influence per nat: a line and a band a group. */
export const magnitudeChart = ({ curves, kind }: Magnitudes, by: 'share' | 'documents'): Chart => {
  const groups = [...new Set(curves.map(({ group }) => group))]
  const points = curves.filter((curve) => curve.by === by && curve.sign === 'positive').flatMap(({ group, points: of }) =>
    of.filter(({ mean }) => mean > 0).map((point) => ({ group, at: by === 'share' ? 100 * point.at : point.at, mean: point.mean, low: Math.max(point.low, 1e-300), high: point.high })))
  return drawn(`magnitude-${by}-${kind}`, `Sum of positive ${kind} influence per nat against ${by === 'share' ? 'the share of positive documents' : 'the number of documents'}, a line for each of ${groups.join(', ')}; the numbers are in the table below.`, {
    width: 560, height: 320, marginLeft: 62, marginBottom: 42, marginRight: 16, grid: true,
    x: { type: 'log', label: by === 'share' ? 'first share of the positive documents, %' : 'first documents', tickFormat: plain, ticks: 5 },
    y: { type: 'log', label: 'sum of influence per nat', tickFormat: plain, ticks: 5 },
    color: groupScale(groups),
    marks: [
      Plot.areaY(points, { x: 'at', y1: 'low', y2: 'high', fill: 'group', fillOpacity: 0.2 }),
      Plot.lineY(points, { x: 'at', y: 'mean', stroke: 'group', strokeWidth: 2 }),
    ],
  })
}

/** Powers of ten short, other numbers as they are. */
const plain = (value: number): string => (value >= 1e4 || value < 1e-2 ? value.toExponential(0).replace('e+', 'e') : String(Number(value.toPrecision(3))))

/** One dot a query, a bar at the mean of its group. */
export const slopeChart = ({ queries, groups, kind }: PowerLaws): Chart => {
  const names = groups.map(({ group }) => group)
  const dots = queries.filter(({ slope }) => !Number.isNaN(slope))
  return drawn(`power-law-${kind}`, `Slopes of log influence against log rank by ${kind} influence, a dot for each of ${dots.length} queries in ${names.length} groups; the numbers are in the table below.`, {
    width: 560, height: 60 + 48 * Math.max(1, names.length), marginLeft: 100, marginBottom: 42, marginRight: 16,
    x: { label: 'slope', grid: true, ticks: 6, ...(dots.length === 0 ? { domain: [-1, 0] } : {}) }, y: { type: 'band', domain: names, label: null }, color: groupScale(names),
    marks: [
      Plot.dot(dots, { x: 'slope', y: 'group', fill: 'group', fillOpacity: 0.55, r: 4, title: (d: { query: string; slope: number }) => `${d.query}: ${d.slope.toFixed(3)}` }),
      Plot.tickX(groups, { x: 'mean', y: 'group', stroke: 'currentColor', strokeWidth: 2.5 }),
    ],
  })
}

/** Multipliers of one group, rows of bars for each k, log scale about 1 from 1/20 on; whiskers are intervals. */
export const sourceChart = ({ shares, kind, ks, corpus }: Sources, group: string, end: 'top' | 'bottom'): Chart | null => {
  const sources = [...corpus].sort((a, b) => b.documents - a.documents).slice(0, 12).map(({ source }) => source)
  const labels = new Map(sources.map((source) => [source, source.length > 22 ? `${source.slice(0, 21)}…` : source]))
  const own = shares.filter((share) => share.group === group && share.end === end && labels.has(share.source))
  if (own.length === 0) return null
  const floor = 0.05
  const word = end === 'top' ? 'first' : 'last'
  const bars = own.map((share) => ({
    k: `${word} ${share.k.toLocaleString('en-US')}`, source: share.source, multiplier: Math.max(share.multiplier, floor), low: Math.max(share.interval[0], floor),
    high: Math.max(Math.min(share.interval[1], 20 * Math.max(share.multiplier, 1)), floor), shown: `× ${share.multiplier < 0.01 ? '0' : share.multiplier.toPrecision(2)}`,
    isClear: share.pCorrected < 0.05, title: `${share.source}, k = ${share.k}: × ${share.multiplier.toPrecision(3)}`,
  }))
  const most = Math.max(2, ...bars.map(({ high }) => high))
  return drawn(`sources-${group}-${end}-${kind}`.replace(/[^\w-]+/g, '_'), `Sources among the ${end === 'top' ? 'first' : 'last'} documents of ${group} queries by ${kind} influence: share of the list over share of the corpus; the numbers are in the table below.`, {
    width: 560, height: 64 + ks.length * (22 + 22 * sources.length), marginLeft: 150, marginRight: 56, marginBottom: 42, marginTop: 24,
    x: { type: 'log', domain: [floor, most], label: 'times its share of the corpus', tickFormat: plain, ticks: 5, grid: true },
    y: { domain: sources, label: null, tickFormat: (source: string) => labels.get(source) ?? source, tickSize: 0 },
    fy: { domain: [...new Set(bars.map(({ k }) => k))], label: null, axis: null, padding: 0.12 },
    marks: [
      Plot.text(ks.map((k) => ({ k: `${word} ${k.toLocaleString('en-US')}` })), { fy: 'k', text: 'k', frameAnchor: 'top-left', dx: -142, dy: -13, fontWeight: 'bold', fill: 'currentColor' }),
      Plot.barX(bars, { x1: 1, x2: 'multiplier', y: 'source', fy: 'k', fill: (d: { isClear: boolean }) => (d.isClear ? 'var(--bar)' : 'var(--bar-weak)'), title: 'title', insetTop: 3, insetBottom: 3 }),
      Plot.ruleY(bars, { x1: 'low', x2: 'high', y: 'source', fy: 'k', stroke: 'currentColor' }),
      Plot.text(bars, { y: 'source', fy: 'k', text: 'shown', frameAnchor: 'right', textAnchor: 'start', dx: 10, fill: 'currentColor' }),
      Plot.ruleX([1], { stroke: 'currentColor', strokeDasharray: '3,3' }),
    ],
  })
}

/** Queries with a hit, against what chance gives, by the number of documents looked at. */
export const answersChart = (hits: readonly { readonly group: string; readonly by: string; readonly only: string; readonly n: number; readonly queries: number; readonly hits: number; readonly byChance: number }[], kind: ScoreKind): Chart | null => {
  const own = hits.filter(({ only, by, group }) => only === 'all' && !(by === 'answer' && group === 'reasoning'))
  if (own.length === 0) return null
  const groups = [...new Set(own.map(({ group }) => group))]
  const points = own.map((hit) => ({ ...hit, series: `${hit.group} ${hit.by}`, share: (100 * hit.hits) / hit.queries, chance: (100 * hit.byChance) / hit.queries }))
  return drawn(`answers-${kind}`, `Share of queries with a hit in their first documents by ${kind} influence (lines), and by chance (dashed), for ${groups.join(', ')}; the numbers are in the table below.`, {
    width: 560, height: 300, marginLeft: 48, marginBottom: 42, marginRight: 16, grid: true,
    x: { type: 'log', label: 'first documents', tickFormat: plain, ticks: 4 }, y: { label: 'queries with a hit, %', domain: [0, 100] }, color: groupScale(groups),
    marks: [
      Plot.lineY(points, { x: 'n', y: 'chance', z: 'series', stroke: 'group', strokeDasharray: '4,4' }),
      Plot.lineY(points, { x: 'n', y: 'share', z: 'series', stroke: 'group', strokeWidth: 2 }),
      Plot.dot(points, { x: 'n', y: 'share', fill: 'group', r: 3.5, title: (d: { series: string; hits: number; queries: number; n: number }) => `${d.series}: ${d.hits} of ${d.queries} in the first ${d.n}` }),
    ],
  })
}

export { darkColours, lightColours }
