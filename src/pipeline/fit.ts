/**
 * @file Fit: a sample of `documents` → a factor set (docs/method.md §3), in two passes over the sample with the
 * eigendecompositions between them.
 *
 *     documents ──toPieces──▶ batches ──covariances──▶ A, S ──eigenbases──▶ Q_A, Q_S
 *                                └───────────────────corrected eigenvalues──▶ Λ
 *
 * The sums are saved now and then with how far they are (`fit-progress.ts`); what was interrupted, or killed, goes on from there
 * and ends in the same factors, since the sample and its batches are functions of the settings alone.
 */
import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { seedOf, uniformAt, UserError } from '../base/index.js'
import {
  batchTensors, blockBounds, boundBases, compileInStages, completed, covarianceOf, covarianceProgram, covarianceShapes, eigenvalueProgram, inputFile, inputName,
  inputWidth, layerFile, readBasis, readManifest, runsTogether, strategyParts, trackedLayers, writeBasis, writeEigenvalues, writeManifest,
  type Bases, type Basis, type CovarianceShape, type FactorManifest, type Sequence,
} from '../influence/index.js'
import { removeUnfinished, type LinearLayer } from '../model/index.js'
import { engineIdentity, flagsOfEngine, type FitSettings } from '../settings/index.js'
import { eighAll, NotFiniteError, type Engine, type Program } from '../tensor/index.js'
import { contextOf, openCheckpoint, type OpenCheckpoint } from './checkpoint.js'
import type { PipelineContext, WorkResult } from './context.js'
import { deadLetter } from './dead-letter.js'
import { chooseEngine } from './engine.js'
import { asWritten, readSums, saveSums, type Cursor } from './fit-progress.js'
import { homePaths } from './home.js'
import { observedBatch } from './observed-scorer.js'
import { silentObserver } from './observer.js'
import { batchesByTokens } from './operators/batch-by-tokens.js'
import { isPiece, piecesOf, type Piece, type Rejected } from './operators/to-pieces.js'
import { readPlaces, samplePlaces, type Place } from './sample.js'
import { sequencesMaxOf } from './score-batches.js'
import type { Pipeline } from './steps.js'
import { documentsIn } from './tally.js'

export const steps: Pipeline = {
  name: 'fit',
  about: 'a sample of `documents` → a factor set',
  steps: [
    { name: 'samplePlaces', in: 'topic documents', out: 'record', note: 'documents spread evenly over the topic, by seed' },
    { name: 'toPieces', in: 'record', out: 'piece', note: 'decodes and tokenizes; what is longer than the context is split or truncated' },
    { name: 'batchByTokens', in: 'piece', out: 'batch', note: 'sorts a chunk by length and cuts it into batches of about equal tokens' },
    { name: 'covariances', in: 'batch', out: 'sums', note: 'Σ ā āᵀ and Σ δ̂ δ̂ᵀ over tokens, labels sampled from the model' },
    { name: 'eigenbases', in: 'sums', out: 'artifact factors', note: 'float64 eigendecompositions on worker threads' },
    { name: 'eigenvalues', in: ['batch', 'artifact factors'], out: 'artifact factors', note: 'Σ (Q_Sᵀ Ĝ Q_A)² over documents' },
  ],
}

/** Documents of the sample that are tokenized and sorted together. */
const chunkDocuments = 512
/** Sums are saved when that costs less than this share of the time since they were last saved. */
const savingShareMax = 0.05

/** @throws UserError for a checkpoint, a topic or a factor set that the fit cannot work with */
export const fit = async (given: FitSettings, context: PipelineContext): Promise<WorkResult> => {
  const { log, progress, signal, now } = context
  const startedMs = now()
  using _lease = log.lease(`factors:${given.factors}`, `tributary fit --factors ${given.factors}`)
  const { device, note, open } = await chooseEngine(given)
  const settings: FitSettings = { ...given, device }
  const checkpoint = await openCheckpoint(settings.model, settings)
  const tracked = trackedLayers(checkpoint.model, settings.track)
  const checkpoints = [checkpoint]
  for (const further of settings.average) checkpoints.push(await openAlike(further, settings, tracked))
  const folder = join(homePaths(settings.home).factors, settings.factors)
  const { manifest: begun, places } = await begin(folder, settings, checkpoints, tracked, context)
  let manifest = begun
  const result = (finished: boolean, done: Tally, left: number, notes: readonly string[] = []): WorkResult => ({
    ...done, documentsLeft: left, finished, seconds: (now() - startedMs) / 1000, notes,
  })
  const total: Tally = { documents: 0, pieces: 0, tokens: 0, deadLetters: 0 }
  for (const part of ['.', 'inputs', 'layers']) await removeUnfinished(join(folder, part), { olderThanMs: 0 })
  if (manifest.stage === 'complete') return result(true, total, 0, [`factors "${settings.factors}" are complete: ${describe(manifest)}`])

  if (note !== undefined) progress.log(note)
  await using engine = open()
  const parts = strategyParts[settings.strategy]
  const passes = Number(parts.bases) + Number(parts.eigenvalues)
  const pass: Pass = async (stage, inputs, compile, use) => {
    const label = passes === 2 ? `${stage}, pass ${stage === 'covariances' ? 1 : 2} of 2` : stage
    const done: Tally = { documents: 0, pieces: 0, tokens: 0, deadLetters: 0 }
    for (const [part, own] of checkpoints.entries()) {
      const isLast = part + 1 === checkpoints.length
      await using program = await compile(own)
      const of = checkpoints.length === 1 ? label : `${label}, checkpoint ${part + 1} of ${checkpoints.length}`
      const result = await accumulate(program, inputs, { stage, folder, places, settings, checkpoint: own, part, manifest, context, label: of })
      done.documents += result.documents
      done.pieces += result.pieces
      done.tokens += result.tokens
      done.deadLetters += result.deadLetters
      if (result.finished && isLast) await use?.(program, result)
      if (!result.finished || isLast) return { ...result, ...done }
    }
    throw new Error('there is no checkpoint')
  }
  const labels = settings.empirical ? ('labels' as const) : ('uniforms' as const)

  if (manifest.stage === 'covariances') {
    if (parts.bases) {
      context.observer?.quiet('compile')
      const bounds = { empirical: settings.empirical, context: manifest.settings.context }
      const done = await pass('covariances', ['real', labels], (own) =>
        compileInStages(engine, own, tracked, (layers, stage) => covarianceProgram(own.model, own.tensors, layers, { ...bounds, stage })))
      add(total, done)
      if (!done.finished) return result(false, total, done.left)
      manifest = { ...manifest, stage: 'eigenbases', sequences: done.cursor.sequences, tokens: done.cursor.tokens, unusable: done.cursor.unusable }
    } else manifest = { ...manifest, stage: parts.eigenvalues ? 'eigenvalues' : 'complete' }
    await writeManifest(folder, manifest)
  }
  if (manifest.stage === 'eigenbases') {
    const finished = await eigenbases(folder, manifest, tracked, settings, context)
    if (!finished) return result(false, total, places.length)
    manifest = { ...manifest, stage: parts.eigenvalues ? 'eigenvalues' : 'complete' }
    await writeManifest(folder, manifest)
    await rm(sumsPath(folder, 'covariances'), { force: true })
  }
  if (manifest.stage === 'eigenvalues') {
    const done = await eigenvalues(engine, folder, manifest, tracked, settings, (compile, use) => pass('eigenvalues', [labels], compile, use))
    add(total, done)
    if (!done.finished) return result(false, total, done.left)
    manifest = { ...manifest, sequences: done.cursor.sequences, tokens: done.cursor.tokens, unusable: done.cursor.unusable }
  }
  manifest = await completed(folder, manifest)
  await writeManifest(folder, manifest)
  for (const stage of ['covariances', 'eigenvalues'] as const) await rm(sumsPath(folder, stage), { force: true })
  progress.stop()
  return result(!signal.aborted || manifest.stage === 'complete', total, 0, [`factors "${settings.factors}": ${describe(manifest)}`])
}

interface Tally {
  documents: number
  pieces: number
  tokens: number
  deadLetters: number
}

/** Two passes over the same documents count them once. */
const add = (total: Tally, { documents, pieces, tokens, deadLetters }: Tally): void => {
  total.documents = Math.max(total.documents, documents)
  total.pieces = Math.max(total.pieces, pieces)
  total.tokens = Math.max(total.tokens, tokens)
  total.deadLetters += deadLetters
}

const describe = ({ settings, layers, sequences, tokens, unusable }: FactorManifest): string =>
  `${settings.strategy}${settings.strategy === 'identity' ? '' : settings.empirical ? ', empirical Fisher' : ', labels sampled'}, ${layers.length} layers, ` +
  `${sequences.toLocaleString('en-US')} sequences, ${tokens.toLocaleString('en-US')} tokens${unusable > 0 ? `, ${unusable} documents could not be used` : ''}`

/** The manifest to go on with, or a new one, and the places of the sample. */
const begin = async (
  folder: string, settings: FitSettings, [checkpoint, ...further]: readonly OpenCheckpoint[], tracked: readonly LinearLayer[], { log }: PipelineContext,
): Promise<{ readonly manifest: FactorManifest; readonly places: readonly Place[] }> => {
  const topic = (await log.describe()).find((info) => info.topic === 'documents')
  const own: FactorManifest['settings'] = {
    strategy: settings.strategy, empirical: settings.empirical, blocks: settings.blocks, track: settings.track, seed: settings.seed,
    context: contextOf(checkpoint, settings.context), batchTokens: settings.batchTokens, long: settings.long, documents: settings.documents,
    engine: engineIdentity(settings.engine, settings.device), checkpoint: checkpoint.hash,
    ...(further.length === 0 ? {} : { checkpoints: further.map(({ hash }) => hash) }),
  }
  const known = await readManifest(folder)
  if (known !== undefined) {
    const keys = [...new Set([...Object.keys(own), ...Object.keys(known.settings)])] as (keyof typeof own)[]
    const differing = keys.filter((key) => String(known.settings[key]) !== String(own[key]))
    if (differing.length > 0) {
      const lines = differing.map((key) => `  ${key}: ${String(known.settings[key])} then, ${String(own[key])} now`).join('\n')
      throw new UserError(`factors "${settings.factors}" were begun under other settings:\n${lines}`, { fix: `give the same settings${flagsOfEngine(known.settings.engine, own.engine)} to go on, or another --factors name` })
    }
    return { manifest: known, places: samplePlaces(topic?.starts ?? [], known.ends, { count: settings.documents, seed: settings.seed }) }
  }
  const ends = topic?.ends ?? []
  const places = samplePlaces(topic?.starts ?? [], ends, { count: settings.documents, seed: settings.seed })
  if (places.length === 0 && settings.strategy !== 'identity') throw new UserError('there are no documents to fit on', { fix: 'tributary ingest PATH...' })
  const manifest: FactorManifest = {
    format: 1, settings: own, model: checkpoint.folder, ends: [...ends], stage: 'covariances', sequences: 0, tokens: 0, unusable: 0, seals: null, hash: null,
    layers: tracked.map((layer) => ({ name: layer.name, outputs: layer.outputs, inputs: layer.inputs, bias: layer.bias, input: inputName(layer) })),
  }
  await mkdir(folder, { recursive: true })
  await writeManifest(folder, manifest)
  return { manifest, places }
}

/** Another checkpoint of the same training. @throws UserError if its tracked layers are not the same */
const openAlike = async (folder: string, settings: FitSettings, tracked: readonly LinearLayer[]): Promise<OpenCheckpoint> => {
  const checkpoint = await openCheckpoint(folder, settings)
  const shapes = (layers: readonly LinearLayer[]): string => layers.map(({ name, outputs, inputs, bias }) => `${name} ${outputs}×${inputs}${bias ? '+1' : ''}`).join()
  if (shapes(trackedLayers(checkpoint.model, settings.track)) === shapes(tracked)) return checkpoint
  throw new UserError(`checkpoint "${folder}" of --average has other layers than "${settings.model}"`, { fix: 'give checkpoints of one training' })
}

const sumsPath = (folder: string, stage: 'covariances' | 'eigenvalues'): string => join(folder, `${stage}.partial.safetensors`)

interface PassResult extends Tally {
  readonly finished: boolean
  readonly cursor: Cursor
  readonly left: number
}

/** A pass over the sample with each checkpoint in turn, whose sums are one; `use` gets them when they are whole. */
type Pass = (
  stage: 'covariances' | 'eigenvalues', inputs: readonly ('real' | 'labels' | 'uniforms')[],
  compile: (checkpoint: OpenCheckpoint) => Promise<Program>, use?: (program: Program, done: PassResult) => Promise<void>,
) => Promise<PassResult>

interface PassParts {
  readonly stage: 'covariances' | 'eigenvalues'
  readonly label: string
  readonly folder: string
  readonly places: readonly Place[]
  readonly settings: FitSettings
  readonly checkpoint: OpenCheckpoint
  /** How many checkpoints came before this one. */
  readonly part: number
  readonly manifest: FactorManifest
  readonly context: PipelineContext
}

/** One pass over the sample: the program's sums, from where they were saved to the end or to the signal. */
const accumulate = async (
  program: Program, inputs: readonly ('real' | 'labels' | 'uniforms')[], { stage, label, folder, places, settings, checkpoint, part, manifest, context }: PassParts,
): Promise<PassResult> => {
  const { log, progress, signal, now, observer = silentObserver } = context
  observer.ready()
  const path = sumsPath(folder, stage)
  let cursor = (await readSums(path, program.sums)) ?? { chunk: 0, batches: 0, sequences: 0, tokens: 0, unusable: 0 }
  // Chunks are counted on from one checkpoint to the next.
  const chunks = Math.ceil(places.length / chunkDocuments)
  const [first, end] = [part * chunks, (part + 1) * chunks]
  const doneOf = (): number => Math.min(places.length, Math.max(0, cursor.chunk - first) * chunkDocuments)
  let savedMs = now()
  let savingMs = 0
  const save = async (): Promise<void> => {
    const beganMs = now()
    const saved = observer.time('save')
    await saveSums(path, program.sums, cursor)
    saved()
    savedMs = now()
    savingMs = savedMs - beganMs
  }
  const tally: Tally = { documents: 0, pieces: 0, tokens: 0, deadLetters: 0 }
  const outcome = (finished: boolean): PassResult => ({
    ...tally, finished, cursor, left: places.length - doneOf(),
  })
  if (cursor.chunk >= end && cursor.tokens > 0) return outcome(true)
  progress.start(places.length, `documents (${label})`)
  const prepare = async (chunk: number) => {
    const wasRead = observer.time('read')
    const records = await readPlaces(log, places.slice((chunk - first) * chunkDocuments, (chunk - first + 1) * chunkDocuments))
    wasRead()
    const tokenized = observer.time('tokenize')
    const options = { context: manifest.settings.context, long: settings.long, vocabulary: checkpoint.model.vocabulary }
    const items = records.flatMap((record) => piecesOf(record, checkpoint.tokenizer, options))
    tokenized()
    const rejected = items.filter((item): item is Rejected => !isPiece(item))
    const bounds = { tokensMax: settings.batchTokens, sequencesMax: sequencesMaxOf(trackedLayers(checkpoint.model, settings.track)), lengthMax: checkpoint.model.positionsMax }
    return { rejected, batches: batchesByTokens(items.filter(isPiece), bounds), documents: records.length }
  }
  /** Dead letters, each once however often the pass comes by it. */
  const bury = async (rejected: readonly Rejected[]): Promise<void> => {
    if (rejected.length === 0) return
    observer.deadLetters(rejected)
    const { appended } = await log.append(rejected.map((item) => deadLetter(`factors ${settings.factors}`, item)), { unique: true })
    tally.deadLetters += appended
  }
  /** Adds a batch to the sums; if something in it is not finite, its pieces one by one. Resolves to those that were added. */
  const addBatch = async (batch: readonly Piece[]): Promise<readonly Piece[]> => {
    try {
      const tensors = batchTensors(batch.map((piece) => sequenceOf(piece, settings)))
      const { tokens, rows } = tensors
      const computed = observer.batch(observedBatch(batch))
      await program.run({ tokens, rows, ...Object.fromEntries(inputs.map((name) => [name, tensors[name]])) })
      computed()
      return batch
    } catch (error) {
      if (!(error instanceof NotFiniteError)) throw error
      if (batch.length === 1) return []
      const added = []
      for (const piece of batch) added.push(...(await addBatch([piece])))
      return added
    }
  }
  // Of a model in stages: batches that go through each stage while it is loaded.
  const together = runsTogether(checkpoint, Math.max(settings.batchTokens, manifest.settings.context))
  let ahead = cursor.chunk < end ? prepare(cursor.chunk) : undefined
  while (cursor.chunk < end && ahead !== undefined) {
    const { rejected, batches, documents } = await ahead
    // Read and tokenized while this chunk is computed.
    ahead = cursor.chunk + 1 < end ? prepare(cursor.chunk + 1) : undefined
    ahead?.catch(() => undefined)
    if (cursor.batches === 0) await bury(rejected)
    for (const group of inGroups(batches.slice(cursor.batches), together)) {
      const added = await Promise.all(group.map(addBatch))
      for (const [at, used] of added.entries()) {
        const unused = group[at].filter((piece) => !used.includes(piece))
        await bury(unused.map(({ record }) => ({ record, stage: 'fit', cause: 'its gradient is not finite' })))
        const done = { documents: documentsIn(used), pieces: used.length, tokens: used.reduce((sum, piece) => sum + piece.tokens.length, 0) }
        cursor = {
          ...cursor, batches: cursor.batches + 1, sequences: cursor.sequences + done.pieces, unusable: cursor.unusable + unused.length,
          tokens: cursor.tokens + done.tokens,
        }
        tally.documents += done.documents
        tally.pieces += done.pieces
        tally.tokens += done.tokens
        observer.documents(done)
      }
      const share = cursor.batches / batches.length
      progress.update(doneOf() + Math.floor(share * documents), `${cursor.tokens.toLocaleString('en-US')} tokens`)
      if (signal.aborted) {
        await save()
        return outcome(false)
      }
      if (now() - savedMs > Math.max(settings.commitEveryMs, savingMs / savingShareMax)) await save()
    }
    cursor = { ...cursor, chunk: cursor.chunk + 1, batches: 0, unusable: cursor.unusable + new Set(rejected.map(({ record }) => record.key)).size }
  }
  await save()
  if (cursor.tokens === 0) throw new UserError(`none of the ${places.length} sampled documents can be used`, { fix: 'tributary status shows why, under dead letters' })
  progress.update(places.length)
  return outcome(true)
}

const inGroups = <V>(values: readonly V[], size: number): readonly (readonly V[])[] =>
  Array.from({ length: Math.ceil(values.length / size) }, (_, g) => values.slice(g * size, (g + 1) * size))

/** A document's sampled labels depend on the seed and on the document, not on its batch. */
const sequenceOf = ({ tokens, key, piece }: Piece, { seed, empirical }: FitSettings): Sequence => {
  if (empirical) return { tokens }
  const own = seedOf(`${seed}\u001f${key}`)
  return { tokens, uniforms: Array.from({ length: tokens.length - 1 }, (_, t) => uniformAt(own, piece, t)) }
}

/** Decomposes every covariance that has no file yet. False if the signal came first. */
const eigenbases = async (
  folder: string, manifest: FactorManifest, tracked: readonly LinearLayer[], settings: FitSettings, { progress, signal, observer = silentObserver }: PipelineContext,
): Promise<boolean> => {
  const sums: Record<string, Float64Array> = {}
  await readSums(sumsPath(folder, 'covariances'), sums)
  const fileOf = ({ name }: CovarianceShape): string =>
    name.startsWith('A/') ? inputFile(folder, manifest, name.slice(2)) : layerFile(folder, manifest, name.slice(2), 'basis')
  const missing: CovarianceShape[] = []
  const shapes = covarianceShapes(tracked)
  for (const shape of shapes) if (!(await exists(fileOf(shape)))) missing.push(shape)
  progress.start(shapes.length, 'matrices (eigenbases)')
  let done = shapes.length - missing.length
  progress.update(done)
  const jobs = function* (): Generator<{ readonly matrix: Float64Array; readonly n: number }> {
    for (const shape of missing) {
      const whole = covarianceOf(sums, shape, manifest.tokens)
      for (const { from, size } of blockBounds(shape.width, settings.blocks)) yield { matrix: blockOf(whole, shape.width, from, size), n: size }
    }
  }
  const results = eighAll(jobs(), { threads: settings.threads ?? undefined })
  try {
    for (const shape of missing) {
      observer.quiet('decompose')
      const decomposed = observer.time('decompose')
      const basis = await nextBasis(shape, settings.blocks, results)
      decomposed()
      await writeBasis(fileOf(shape), basis)
      progress.update(++done)
      if (signal.aborted && done < shapes.length) return false
    }
  } finally {
    await results.return()
  }
  return true
}

const nextBasis = async ({ width }: CovarianceShape, count: number, results: ReturnType<typeof eighAll>): Promise<Basis> => {
  const values = new Float64Array(width)
  const blocks = []
  for (const { from, size } of blockBounds(width, count)) {
    const next = await results.next()
    if (next.done === true) throw new Error('fewer eigendecompositions than matrices')
    // A covariance has no negative eigenvalue; what falls below zero is rounding.
    values.set(next.value.values.map((value) => Math.max(value, 0)), from)
    blocks.push({ from, size, vectors: Float32Array.from(next.value.vectors) })
  }
  return { width, values, blocks }
}

const blockOf = (matrix: Float64Array, width: number, from: number, size: number): Float64Array => {
  if (size === width) return matrix
  const block = new Float64Array(size * size)
  for (let r = 0; r < size; r++) block.set(matrix.subarray((from + r) * width + from, (from + r) * width + from + size), r * size)
  return block
}

/** The second pass, in the bases on disk; writes Λ of every layer when it is complete. */
const eigenvalues = async (
  engine: Engine, folder: string, manifest: FactorManifest, tracked: readonly LinearLayer[], settings: FitSettings,
  pass: (compile: (checkpoint: OpenCheckpoint) => Promise<Program>, use: (program: Program, done: PassResult) => Promise<void>) => Promise<PassResult>,
): Promise<PassResult> => {
  const inputs = new Map<string, Basis>()
  const outputs = new Map<string, Basis>()
  if (strategyParts[settings.strategy].bases) {
    for (const layer of tracked) {
      const input = inputName(layer)
      if (!inputs.has(input)) inputs.set(input, await readBasis(await asWritten(inputFile(folder, manifest, input)), { width: inputWidth(layer), blocks: settings.blocks }))
      outputs.set(layer.name, await readBasis(await asWritten(layerFile(folder, manifest, layer.name, 'basis')), { width: layer.outputs, blocks: settings.blocks }))
    }
  }
  const bases: Bases = { inputs, outputs }
  const bounds = { empirical: settings.empirical, context: manifest.settings.context }
  const compile = async (own: OpenCheckpoint): Promise<Program> => {
    const program = await compileInStages(engine, own, tracked, (layers, stage) =>
      eigenvalueProgram(own.model, own.tensors, layers, basesOf(bases, layers), { ...bounds, stage }))
    await program.bind(boundBases(bases))
    return program
  }
  return pass(compile, async (program, { cursor }) => {
    for (const layer of tracked) {
      const mean = Float32Array.from(program.sums[`L/${layer.name}`], (sum) => sum / cursor.sequences)
      await writeEigenvalues(layerFile(folder, manifest, layer.name, 'eigenvalues'), mean, [layer.outputs, inputWidth(layer)])
    }
  })
}

/** Those of some layers. */
const basesOf = ({ inputs, outputs }: Bases, layers: readonly LinearLayer[]): Bases => {
  const [read, named] = [new Set(layers.map(inputName)), new Set(layers.map(({ name }) => name))]
  return { inputs: new Map([...inputs].filter(([name]) => read.has(name))), outputs: new Map([...outputs].filter(([name]) => named.has(name))) }
}

const exists = (path: string): Promise<boolean> => stat(path).then(() => true, () => false)
