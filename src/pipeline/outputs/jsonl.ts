/** @file Scores as JSON lines, one per (query, document). */
import type { RunRecord } from '../../settings/index.js'
import type { ScoreRow } from './scores.js'

/** A row's lines, in the order of the run's queries. A score that is no number is null. */
export const linesOf = (row: ScoreRow, run: RunRecord): string => {
  const { influence, influencePerNat, influenceNormed, document, source, run: _run, ...about } = row
  // The part that all lines of a row share is made once: there may be a thousand queries.
  const shared = JSON.stringify({ document, source, ...about }).slice(1, -1)
  let lines = ''
  for (let q = 0; q < run.queries.length; q++) {
    const id = JSON.stringify(run.queries[q].id)
    lines +=
      `{"query":${id},"influence":${numeral(influence[q])},"influencePerNat":${numeral(influencePerNat[q])},` +
      `"influenceNormed":${numeral(influenceNormed[q])},${shared}}\n`
  }
  return lines
}

const numeral = (value: number): string => (Number.isFinite(value) ? String(value) : 'null')
