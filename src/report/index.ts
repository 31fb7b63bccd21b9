/**
 * @file What a run shows, for people: figures as words, tables and charts; the HTML report; their data as files. Knows
 * nothing of logs or terminals. Law: nothing of the corpus reaches a page unescaped, and a page needs no network or script.
 */
export { heatmap, magnitudeChart, slopeChart, sourceChart, standalone, type Chart } from './charts.js'
export { excerptWithMarks, placesOfPhrases, type Stretch } from './excerpt.js'
export { allFigures, figuresOf, type Column, type DataTable, type Figure } from './figures.js'
export { csvOf, dataNames, writeData } from './files.js'
export { formatCell, formatNumber, formatP, type Cell, type Format } from './format.js'
export { escapeHtml, html, type Html } from './html.js'
export { chartsOf, reportPage, type QueryLists, type ReportInput } from './page.js'
export { darkColours, lightColours } from './style.js'
