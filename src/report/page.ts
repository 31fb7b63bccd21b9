/**
 * @file The report: one HTML file that needs nothing beside it. No script, nothing fetched (its content security policy
 * forbids both), every text of the corpus escaped.
 */
import { cellOf, placeOf, type Finding, type ScoreKind } from '../analysis/index.js'
import type { RunAnalyses } from '../pipeline/analyse.js'
import type { TopKTable } from '../pipeline/top-k.js'
import { rankedOf } from '../settings/index.js'
import { answersChart, heatmap, heatSteps, magnitudeChart, slopeChart, sourceChart, type Chart } from './charts.js'
import { excerptWithMarks } from './excerpt.js'
import { figuresOf, kindWords, type DataTable, type Figure } from './figures.js'
import { formatCell, formatNumber } from './format.js'
import { drawing, html, type Html } from './html.js'
import { colourOf, styleSheet } from './style.js'

/** The tables of all queries at both ends, by one kind of score. */
export interface QueryLists {
  readonly kind: ScoreKind
  readonly top: readonly TopKTable[]
  readonly bottom: readonly TopKTable[]
}

export interface ReportInput {
  readonly analysed: RunAnalyses
  readonly lists: readonly QueryLists[]
  /** When it was made, milliseconds since the epoch. */
  readonly nowMs: number
  /** Of the program that made it. */
  readonly version: string
}

/** Characters of a document that are shown. */
const EXCERPT_LENGTH = 360
const n = (value: number): string => value.toLocaleString('en-US')
const both: readonly ScoreKind[] = ['raw', 'normed']

/** The charts of one figure. */
export const chartsOf = ({ analyses, queries }: RunAnalyses, { name, kind }: Figure): Chart[] => {
  const groups = [...new Set(queries.map(({ group }) => group))]
  switch (name) {
    case 'correlation':
      return queries.length < 2 ? [] : [heatmap(analyses.correlations[kind], queries.map(({ id }) => id), queries.map(cellOf))]
    case 'magnitude':
      return analyses.documents === 0 ? [] : [magnitudeChart(analyses.magnitudes[kind], 'share'), magnitudeChart(analyses.magnitudes[kind], 'documents')]
    case 'power-law':
      return analyses.powerLaws[kind].groups.length === 0 ? [] : [slopeChart(analyses.powerLaws[kind])]
    case 'answers':
      return [answersChart(analyses.answers[kind].hits, kind)].flatMap((chart) => chart ?? [])
    case 'sources':
      return groups.flatMap((group) => (['top', 'bottom'] as const).flatMap((end) => sourceChart(analyses.sources[kind], group, end) ?? []))
    case 'overlap':
    case 'labels':
    case 'spurious':
    case 'baselines':
    case 'self-checks':
      return []
    default:
      return name satisfies never
  }
}

/** The whole file. */
export const reportPage = (input: ReportInput): string => {
  const { analysed, version, nowMs } = input
  const { run, analyses, lag } = analysed
  const page = html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'">
<meta name="referrer" content="no-referrer"><meta name="generator" content="tributary ${version}">
<title>Run ${run.run}: influence of documents</title><style>${drawing(styleSheet)}</style></head><body>
<header><h1>Run ${run.run}</h1>
<p class="muted">Which documents made the model say what it says: influence of ${n(analyses.documents)} ${rankedOf(run)} on ${n(run.queries.length)} queries, as of ${new Date(nowMs).toISOString().slice(0, 16).replace('T', ' ')} UTC.${lag > 0 ? ` The run goes on: ${n(lag)} documents are not in yet, and every figure may still move.` : ''}</p>
<dl class="facts"><div><dt>${rankedOf(run)} scored</dt><dd>${n(analyses.documents)}</dd></div><div><dt>queries</dt><dd>${n(run.queries.length)}</dd></div>
<div><dt>sources</dt><dd>${n(analyses.sources.raw.corpus.length)}</dd></div><div><dt>join</dt><dd>${run.join}</dd></div>${run.accuracy === undefined ? '' : html`<div><dt>r with full rank</dt><dd>${run.accuracy.pearsonMean.toFixed(4)}</dd></div>`}</dl></header>
<nav aria-label="Contents"><ul>${[['findings', 'Findings'], ['correlation', 'Correlation'], ['overlap', 'Overlap'], ['magnitude', 'Magnitude'], ['power-law', 'Power law'], ['answers', 'Answers'], ['labels', 'Labels'], ['sources', 'Sources'], ['spurious', 'One token'], ['baselines', 'Baselines'], ['self-checks', 'Self-checks'], ['tables', 'Tables'], ['provenance', 'Provenance']].map(([id, name]) => html`<li><a href="#${id}">${name}</a></li>`)}</ul></nav>
<main>${findingsPart(analyses.findings)}${figureParts(analysed)}${tablesPart(input)}${provenancePart(analysed)}</main>
<footer>Made by tributary ${version}. Positive influence: training on the document a little more would make the completion likelier. Per nat: divided by the completion's information. Normed: divided by the norm of the document's gradient. docs/analyses.md has every formula. Paper: Ruis et al. 2024, arXiv 2411.12580.</footer></body></html>
`
  return page.source
}

const list = (lines: readonly (string | Html)[]): Html | '' => (lines.length === 0 ? '' : html`<ul class="plain">${lines.map((line) => html`<li>${line}</li>`)}</ul>`)

const findingsPart = (findings: readonly Finding[]): Html => {
  const numbers = [...new Set(findings.map(({ number }) => number))]
  return html`<section aria-labelledby="findings"><h2 id="findings">What the paper found, and what this run shows</h2>
<p>The findings of Ruis et al. 2024 as hypotheses. A verdict follows the rule that stands with it, at p &lt; 0.05. It says what one run on one corpus shows, not what holds elsewhere; <em>undecided</em> means that nothing significant was seen either way.</p>
${numbers.map((number) => {
    const own = findings.filter((finding) => finding.number === number)
    const [first] = own
    return html`<article class="card"><h3>${number}. ${first.hypothesis}</h3><div class="verdicts">${own.map(({ kind, verdict }) => html`<span>by ${kind} influence: <span class="verdict ${verdict.replace(' ', '-')}">${verdict}</span></span>`)}</div>
${own.map(({ kind, numbers: lines }) => html`<p class="small muted">by ${kind} influence</p>${list(lines)}`)}
<p class="small muted">Rule. ${first.rule}.</p><details><summary>What the paper reports</summary>${list(first.paper)}</details></article>`
  })}</section>`
}

const figureParts = (analysed: RunAnalyses): Html[] => {
  const byKind = both.map((kind) => figuresOf(analysed.analyses, kind))
  return byKind[0].map((first, at) => html`<section aria-labelledby="${first.name}"><h2 id="${first.name}">${first.text.title}</h2>
<p>${first.text.shows}</p><p><b>How to read it.</b> ${first.text.reading}</p>${keyOf(analysed, first)}
${both.map((kind, k) => figurePart(analysed, byKind[k][at], kind))}
${first.text.paper.length === 0 ? '' : html`<details><summary>The paper's own figures</summary>${list(first.text.paper)}</details>`}</section>`)
}

const figurePart = (analysed: RunAnalyses, figure: Figure, kind: ScoreKind): Html => {
  const charts = chartsOf(analysed, figure)
  return html`<div class="card"><h3>By ${kindWords[kind]}</h3>${list(figure.remarks)}
${charts.length === 0 ? '' : html`<div class="${figure.name === 'correlation' ? 'heat' : 'pair'}">${charts.map((chart) => html`<figure>${captionOf(chart)}${drawing(chart.svg)}</figure>`)}</div>`}
${figure.tables.map((table) => tablePart(table, `${figure.name} by ${kind} influence`))}</div>`
}

const captionOf = ({ id }: Chart): Html | '' => {
  const [what, ...rest] = id.split('-')
  if (what === 'sources') return html`<figcaption>${rest.slice(0, -2).join('-')}, ${rest[rest.length - 2] === 'top' ? 'the first documents' : 'the last (most negative) documents'}</figcaption>`
  return ''
}

const keyOf = ({ queries }: RunAnalyses, { name }: Figure): Html | '' => {
  const groups = [...new Set(queries.map(({ group }) => group))]
  const item = (colour: string, text: string): Html => html`<li><i style="background:var(--${colour})"></i>${text}</li>`
  if (name === 'correlation') {
    const names = [`below ${heatSteps[0]}`, ...heatSteps.slice(1).map((step, at) => `${heatSteps[at]} to ${step}`), `above ${heatSteps[heatSteps.length - 1]}`]
    return html`<ul class="key" aria-label="Colours: Pearson's r">${names.map((text, at) => item(`heat-${at}`, text))}</ul>`
  }
  if (name === 'sources') return html`<ul class="key" aria-label="Colours">${item('bar', 'significant (corrected p < 0.05)')}${item('bar-weak', 'not significant')}</ul>`
  if (name === 'magnitude' || name === 'power-law') return html`<ul class="key" aria-label="Colours">${groups.map((group) => item(colourOf(group, groups), group))}</ul>`
  if (name === 'answers') return html`<ul class="key" aria-label="Colours">${groups.map((group) => item(colourOf(group, groups), group))}<li>dashed: by chance; reasoning is by steps</li></ul>`
  return ''
}

const tablePart = ({ title, columns, rows, isLong }: DataTable, of: string): Html => {
  if (rows.length === 0) return html``
  const table = html`<div class="scroll" tabindex="0" role="region" aria-label="${title}, ${of}"><table><caption>${title}</caption><thead><tr>${columns.map(({ name, format }) => html`<th scope="col"${format === 'text' ? '' : html` class="n"`}>${name}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map((cell, at) => html`<td${columns[at].format === 'text' ? '' : html` class="n"`}>${formatCell(cell, columns[at].format)}</td>`)}</tr>`)}</tbody></table></div>`
  return isLong ? html`<details><summary>${title} (${n(rows.length)} rows)</summary>${table}</details>` : table
}

const tablesPart = ({ analysed, lists }: ReportInput): Html => html`<section aria-labelledby="tables"><h2 id="tables">The tables of every query</h2>
<p>The first documents speak most for the completion, the last most against it. Ranks count from 0 over all ${rankedOf(analysed.run)} scored. Marked: the answer, and the answers of steps. “Full rank”: scored again with full-rank queries, and final. “Hangs on one token”: <a href="#spurious">a rule</a> that flags texts which teach, too; nothing is left out for it.</p>
${analysed.queries.map((query, q) => html`<details class="query"><summary><b>${query.id}</b> <span class="muted">${cellOf(query)}${query.correct === null ? '' : query.correct ? ', answered right' : ', answered wrong'}</span></summary>
<p class="asks">${query.prompt}<mark>${query.completion}</mark></p>
<p class="small muted">${query.informationNats.toFixed(3)} nats${query.answer === null ? '' : html`; answer: ${query.answer}`}${query.steps.length > 1 ? html`; steps: ${query.steps.join(' · ')}` : ''}</p>
${lists.flatMap(({ kind, top, bottom }) => [
    listPart(top[q], { flagged: flaggedOf(analysed, kind, query.id), title: `First documents by ${kindWords[kind]}`, phrases: [...(query.answer === null ? [] : [query.answer]), ...query.steps], isFolded: false }),
    listPart(bottom[q], { title: `Last documents by ${kindWords[kind]}`, phrases: [...(query.answer === null ? [] : [query.answer]), ...query.steps], isFolded: true }),
  ])}</details>`)}</section>`

/** By `place/piece`, the token that the score of a document hangs on, of one query. */
const flaggedOf = ({ analyses }: RunAnalyses, kind: ScoreKind, query: string): ReadonlyMap<string, string> =>
  new Map(analyses.spurious[kind].flagged.filter((row) => row.query === query).map(({ place, piece, token }) => [`${place}/${piece}`, token]))

interface ListOptions {
  readonly title: string
  readonly phrases: readonly string[]
  readonly isFolded: boolean
  /** Documents that are marked, each with its token. They keep their place: the rule flags texts that teach, too. */
  readonly flagged?: ReadonlyMap<string, string>
}

const hangsOn = (token: string): Html => html`<br><span class="flag">hangs on one token: <code>${JSON.stringify(token)}</code></span>`

const listPart = (table: TopKTable | undefined, { title, phrases, isFolded, flagged = new Map() }: ListOptions): Html => {
  if (table === undefined || table.rows.length === 0) return html``
  const flagOf = ({ partition, offset, piece }: TopKTable['rows'][number]): string | undefined => flagged.get(`${placeOf(partition, offset)}/${piece}`)
  const hasFinal = table.rows.some(({ rescored }) => rescored)
  const body = html`<div class="scroll" tabindex="0" role="region" aria-label="${title} of ${table.query.id}"><table class="documents">${isFolded ? '' : html`<caption>${title}</caption>`}<thead><tr><th scope="col" class="n">rank</th><th scope="col" class="n">score</th><th scope="col" class="n">per nat</th><th scope="col">source</th><th scope="col">document</th><th scope="col">text</th></tr></thead>
<tbody>${table.rows.map((row) => ({ row, token: flagOf(row) })).map(({ row, token }) => html`<tr><td class="n">${row.rank}${hasFinal && row.rescored ? html`<br><span class="muted">full rank</span>` : ''}</td><td class="n">${formatNumber(row.score)}</td><td class="n">${row.scorePerNat === null ? '–' : formatNumber(row.scorePerNat)}</td><td>${row.source}</td><td class="id">${row.document}${row.piece > 0 ? html` <span class="muted">piece ${row.piece}</span>` : ''}${token === undefined ? '' : hangsOn(token)}</td><td class="text">${row.text === null ? html`<span class="muted">(no text kept)</span>` : excerptWithMarks(row.text, phrases, EXCERPT_LENGTH).map(({ text, isMarked }) => (isMarked ? html`<mark>${text}</mark>` : text))}</td></tr>`)}</tbody></table></div>`
  return isFolded ? html`<details><summary>${title}</summary>${body}</details>` : body
}

const provenancePart = ({ run, offsets, analyses }: RunAnalyses): Html => {
  const row = (name: string, value: string | Html): Html => html`<tr><th scope="row">${name}</th><td class="id"><code>${value}</code></td></tr>`
  const lambdas = Object.values(run.damping)
  const { queries: _queries, ...settings } = run.settings
  return html`<section aria-labelledby="provenance"><h2 id="provenance">Where this comes from</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Provenance"><table><caption>The run</caption><tbody>
${row('run', run.run)}${row('began', new Date(run.createdMs).toISOString())}${row('checkpoint', `${run.model} (${run.checkpoint})`)}
${row("queries' checkpoint", run.queryCheckpoint === run.checkpoint ? 'the same' : `${run.queryModel} (${run.queryCheckpoint})`)}${row('factors', `${run.factors} (${run.factorsHash})`)}
${row('join', `${run.join}: ${run.joinReason}`)}${run.accuracy === undefined ? '' : row('against full rank', `Pearson ${run.accuracy.pearsonMean.toFixed(4)} in the mean, ${run.accuracy.pearsonMin.toFixed(4)} at least, relative error ${run.accuracy.relativeError.toFixed(3)}, ${run.accuracy.documents} documents × ${run.accuracy.queries} queries`)}
${lambdas.length === 0 ? '' : row('damping', `${formatNumber(Math.min(...lambdas))} to ${formatNumber(Math.max(...lambdas))} over ${lambdas.length} layers`)}
${row('versions', Object.entries(run.versions).map(([name, version]) => `${name} ${version}`).join(', '))}${row('settings', JSON.stringify(settings))}
${row(rankedOf(run), n(analyses.documents))}${row('offsets of influence', offsets.map(({ partition, from, end }) => `${partition}: [${from}, ${end})`).join('  '))}
</tbody></table></div></section>`
}
