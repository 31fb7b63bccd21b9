/** @file `tributary explain --run NAME --query ID --document ID`: where a score comes from, token by token and layer by layer. */
import { Command } from 'commander'
import type { Explanation } from '../pipeline/explain.js'
import { commandFields, resolveSettings } from '../settings/index.js'
import { plain, shade, wantsColours, type Shade } from './colours.js'
import { addOptions } from './options.js'
import { formatScore, tableOf, visible } from './output.js'
import { exitCodes, givenTo, interruptible, outputFor, progressFor } from './shell.js'

/** Tokens that are listed with their numbers. */
const listedMax = 20
/** Characters of the text around a listed token, on each side. */
const aroundMax = 24
/** Layers that are listed; the rest stand in one line. */
const layersMax = 40
/** Cells of a bar. */
const barWidth = 24

/** Text of others with its lines, made safe for a terminal: other controls are shown, nothing is an escape sequence. */
const withLines = (text: string): string => text.split(/\r\n|\r|\n/).map((line) => line.split('\t').map(inLine).join('\t')).join('\n')
/** Like `visible`, with all its spaces. */
const inLine = (text: string): string => text.split(' ').map((part) => (part === '' ? '' : visible(part))).join(' ')

const barOf = (value: number): string => (value < 0 ? '-' : '+').repeat(Math.round(Math.abs(value) * barWidth))

export const explanationText = (explanation: Explanation, shaded: Shade | undefined): string => {
  const { run, query, document, source, piece, pieces, join, score, loss, tokens, layers } = explanation
  const greatest = Math.max(...tokens.map(({ term }) => Math.abs(term))) || 1
  const head = [
    `document ${visible(document)} (${visible(source)})${pieces > 1 ? `, piece ${piece} of ${pieces}` : ''} on query ${visible(query)}, run ${run}`,
    `score ${formatScore(score)}, raw influence by the run's ${join} join; loss ${formatScore(loss)} nats, ${tokens.length} tokens`,
  ]
  const text = tokens.map(({ text, term }) => (shaded ?? plain)(withLines(text), term / greatest)).join('')
  const legend = shaded === undefined ? '' : `${shaded(' against ', -1)}${shaded(' ', -0.4)} ${shaded(' ', 0.4)}${shaded(' for ', 1)} the completion; the strongest token has ${formatScore(greatest)}\n`
  return `${head.join('\n')}\n\n${text}\n\n${legend}${tokensText(explanation, greatest)}\n${layersText(score, layers)}`
}

const tokensText = ({ tokens, score }: Explanation, greatest: number): string => {
  const strongest = tokens.map((token, at) => ({ ...token, at })).sort((a, b) => Math.abs(b.term) - Math.abs(a.term) || a.at - b.at).slice(0, listedMax)
  const around = (at: number): string => {
    const before = tokens.slice(Math.max(0, at - aroundMax), at).map(({ text }) => text).join('').slice(-aroundMax)
    const after = tokens.slice(at + 1, at + 1 + aroundMax).map(({ text }) => text).join('').slice(0, aroundMax)
    return `${before}[${tokens[at].text}]${after}`
  }
  const rest = score - strongest.reduce((sum, { term }) => sum + term, 0)
  const rows = strongest.map(({ at, term }) => [at, formatScore(term), barOf(term / greatest), around(at)])
  if (tokens.length > strongest.length) rows.push(['', formatScore(rest), '', `(the other ${tokens.length - strongest.length} tokens together)`])
  return tableOf(['TOKEN', 'TERM', '', 'TEXT'], rows, { right: ['TOKEN', 'TERM'] })
}

const layersText = (score: number, layers: Explanation['layers']): string => {
  const greatest = Math.max(...layers.map(({ term }) => Math.abs(term))) || 1
  const shown = new Set([...layers].sort((a, b) => Math.abs(b.term) - Math.abs(a.term)).slice(0, layersMax))
  const shareOf = (share: number | null): string => (share === null ? '' : `${(100 * share).toFixed(1)} %`)
  const rows = layers.filter((layer) => shown.has(layer)).map(({ layer, term, share }) => [layer, formatScore(term), shareOf(share), barOf(term / greatest)])
  const rest = layers.filter((layer) => !shown.has(layer))
  if (rest.length > 0) {
    const term = rest.reduce((sum, layer) => sum + layer.term, 0)
    rows.push([`(${rest.length} others)`, formatScore(term), shareOf(score === 0 ? null : term / score), ''])
  }
  return tableOf(['LAYER', 'TERM', 'SHARE', ''], rows, { right: ['TERM', 'SHARE'] })
}

export const explainCommand = (): Command =>
  addOptions(new Command('explain').description("print where a document's score on a query comes from: by token and by layer"), commandFields.explain)
    .addHelpText('after', `
Terms of tokens sum to the score, and so do those of layers. A token's term stands where the model, having read up to
this token, predicts the next one; what later tokens take from this place through attention counts here too. Positive:
learning at this place makes the completion more likely. Computed anew with the run's checkpoint, factors and join;
NO_COLOR leaves out the colours.`)
    .action(async (_options: unknown, command: Command) => {
      const settings = resolveSettings('explain', givenTo(command))
      const output = outputFor(settings)
      const progress = progressFor(settings)
      const { openLogForReading } = await import('../pipeline/home.js')
      const { explain } = await import('../pipeline/explain.js')
      using interruption = interruptible((line) => progress.log(line))
      await using log = await openLogForReading(settings)
      let explanation: Explanation
      try {
        explanation = await explain(log, settings, { progress, signal: interruption.signal })
      } catch (error) {
        if (!interruption.signal.aborted) throw error
        process.exitCode = interruption.exitCode ?? exitCodes.failed
        return
      } finally {
        progress.stop()
      }
      if (settings.json) await output.json(explanation)
      else await output.write(explanationText(explanation, wantsColours(process.stdout, process.env) ? shade : undefined))
    })
