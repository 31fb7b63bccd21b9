/**
 * @file Prepare: queries → what a join needs of them (docs/method.md §4), through the query cache.
 *
 *     queries ──gradients──▶ ā, δ of their tokens ──precondition, layer by layer──▶ dense | low-rank | shared
 */
import { DeadLetterError, UserError } from '../base/index.js'
import {
  compileInStages, dampingOf, inputName, inputWidth, lowRankOf, preconditioner, queryGradient, queryProgram, runsTogether, sharedWidths,
  type Damping, type FactorSet, type JoinKind, type LaterFactors, type LayerPreconditioner, type QueryGradient, type QueryLayerGradient, type TokenizedQuery,
} from '../influence/index.js'
import type { QueryValue } from '../log/index.js'
import type { LinearLayer } from '../model/index.js'
import type { Engine, TensorData } from '../tensor/index.js'
import type { OpenCheckpoint } from './checkpoint.js'
import type { Progress } from './context.js'
import { silentObserver, type Observer } from './observer.js'
import type { CachedTensors, CacheKey, QueryCache } from './query-cache.js'
import type { Pipeline } from './steps.js'

export const steps: Pipeline = {
  name: 'prepare',
  about: 'queries → preconditioned query gradients, cached by content',
  steps: [
    { name: 'tokenize', in: 'topic queries', out: 'query', note: 'prompt with specials, completion without, joined as ids' },
    { name: 'gradients', in: 'query', out: 'ā, δ', note: 'forward and backward; labels masked over the prompt, δ not' },
    { name: 'precondition', in: ['ā, δ', 'artifact factors'], out: 'artifact query cache', note: 'in the eigenbasis; truncated in the metric of the gradients' },
  ],
}

/** What scoring needs of the queries. */
export interface PreparedQueries {
  readonly kind: JoinKind
  /** For `joins[kind].inputs`. */
  readonly tensors: Readonly<Record<string, TensorData>>
}

export interface PrepareParts {
  readonly engine: Engine
  readonly cache: QueryCache
  readonly checkpoint: OpenCheckpoint
  readonly factors: FactorSet
  readonly damping: Damping
  /** The segments of the training that came after that of `factors`, the last one last; absent: none. */
  readonly later?: readonly LaterSet[]
  readonly seed: number
  readonly progress: Progress
  /** Aborted: gives up between two queries. */
  readonly signal: AbortSignal
  readonly observer?: Observer
}

/** The factors of a later segment, and the sum of its learning rates. */
export interface LaterSet {
  readonly factors: FactorSet
  readonly time: number
}

/** A query that was tokenized; `value` is as it was added. */
export interface RunQueryTokens extends TokenizedQuery {
  readonly value: QueryValue
}

/** @throws UserError that names the query which cannot be tokenized or is longer than the checkpoint's positions */
export const tokenizeQueries = (queries: readonly QueryValue[], { tokenizer, model }: OpenCheckpoint): readonly RunQueryTokens[] =>
  queries.map((value) => {
    const fix = `tributary queries remove ${value.id}, or mend it and add it again`
    let encoded: { readonly ids: readonly number[]; readonly promptLength: number }
    try {
      encoded = tokenizer.encodeQuery(value)
    } catch (error) {
      if (error instanceof DeadLetterError) throw new UserError(`query "${value.id}" cannot be tokenized: ${error.message}`, { fix, cause: error })
      throw error
    }
    const { ids, promptLength } = encoded
    if (ids.length > model.positionsMax) throw new UserError(`query "${value.id}" has ${ids.length} tokens, the model knows ${model.positionsMax} positions`, { fix })
    if (ids.length - Math.max(promptLength, 1) < 1) throw new UserError(`query "${value.id}" has no completion token to predict`, { fix })
    return { value, tokens: ids, promptTokens: promptLength }
  })

/** The forward and backward passes that the cache has not; resolves to −f of every query, nats. */
export const prepareGradients = async (queries: readonly RunQueryTokens[], parts: PrepareParts): Promise<readonly number[]> => {
  const { engine, cache, checkpoint, factors, progress, signal, observer = silentObserver } = parts
  const nats: number[] = []
  progress.start(queries.length, 'queries (gradients)')
  const missing = []
  for (const query of queries) if ((await cache.find('gradients', gradientKey(query, parts))) === undefined) missing.push(query)
  observer.cache({ kind: 'gradients', hits: queries.length - missing.length, misses: missing.length })
  if (missing.length > 0) {
    const compiled = observer.time('compile')
    const tokensMax = Math.max(...missing.map(({ tokens }) => tokens.length))
    await using program = await compileInStages(engine, checkpoint, factors.layers, (tracked, stage) => queryProgram(checkpoint.model, checkpoint.tensors, tracked, { tokensMax, stage }))
    compiled()
    const own = 4 * tokensMax * factors.layers.reduce((sum, layer) => sum + layer.outputs + inputWidth(layer), 0) // bytes of a query
    const together = Math.max(1, Math.min(runsTogether(checkpoint, tokensMax), Math.floor(groupBytesMax / own)))
    let group: readonly Promise<QueryGradient>[] = []
    for (const [at, query] of missing.entries()) {
      signal.throwIfAborted()
      const prepared = observer.time('prepare')
      if (at % together === 0) {
        group = missing.slice(at, at + together).map((one) => queryGradient(program, factors.layers, one))
        await Promise.all(group)
      }
      const { informationNats, layers } = await group[at % together]
      const tensors: Record<string, Float32Array> = { information: Float32Array.of(informationNats) }
      for (const layer of factors.layers) {
        const { tokens, delta, input } = layers.get(layer.name) ?? unreachable(layer)
        if (!(Number.isFinite(informationNats) && delta.every(Number.isFinite) && input.every(Number.isFinite))) {
          throw new UserError(`the gradient of query "${query.value.id}" is not finite in ${layer.name}`, { fix: `tributary queries remove ${query.value.id}` })
        }
        tensors.tokens = Float32Array.of(tokens)
        tensors[`D/${layer.name}`] = delta
        tensors[`A/${inputName(layer)}`] = input
      }
      await cache.write('gradients', gradientKey(query, parts), tensors)
      prepared()
      progress.update(queries.length - missing.length + at + 1)
    }
  }
  for (const query of queries) nats.push((await (await gradientsOf(query, parts)).read('information', 1))[0])
  return nats
}

/** λ of every layer. */
export const dampings = async ({ factors, damping }: Pick<PrepareParts, 'factors' | 'damping'>): Promise<Readonly<Record<string, number>>> => {
  const all: Record<string, number> = {}
  for (const layer of factors.layers) all[layer.name] = dampingOf(factors.manifest.settings.strategy, (await factors.load(layer)).eigenvalues, damping)
  return all
}

/**
 * The queries in the form that a join needs. `prepareGradients` comes first.
 * @param options.keep write new entries to the cache (default); a dense query takes 4 bytes a tracked parameter
 */
export const prepareQueries = async (
  queries: readonly RunQueryTokens[], join: { readonly kind: JoinKind; readonly rank: number }, parts: PrepareParts, { keep = true } = {},
): Promise<PreparedQueries> => {
  parts.progress.start(queries.length, `queries (${join.kind})`)
  if (join.kind === 'shared') return { kind: 'shared', tensors: await sharedTensors(queries, join.rank, parts) }
  return { kind: join.kind, tensors: await ownTensors(queries, { kind: join.kind, rank: join.rank }, parts, keep) }
}

const gradientKey = ({ tokens, promptTokens }: TokenizedQuery, { checkpoint, factors }: PrepareParts): CacheKey => [
  checkpoint.hash, factors.layers.map(({ name }) => name), tokens, promptTokens,
]
const queryKey = (query: TokenizedQuery, { kind, rank }: { readonly kind: string; readonly rank: number }, parts: PrepareParts): CacheKey => [
  ...gradientKey(query, parts), parts.factors.hash, parts.damping, ...(kind === 'dense' ? [] : [rank, parts.seed]),
  ...(parts.later ?? []).map(({ factors: { hash }, time }) => ({ later: hash, time })),
]

const gradientsOf = async (query: RunQueryTokens, parts: PrepareParts): Promise<CachedTensors> =>
  (await parts.cache.find('gradients', gradientKey(query, parts))) ?? missingFile(query)

const missingFile = ({ value }: RunQueryTokens): never => {
  throw new UserError(`the cached gradients of query "${value.id}" are gone`, { fix: 'start again' })
}
const unreachable = ({ name }: LinearLayer): never => {
  throw new Error(`layer ${name} was not computed`)
}

/** The gradients of some queries in one layer, from the cache. */
const layerGradients = (files: readonly CachedTensors[], layer: LinearLayer): Promise<readonly QueryLayerGradient[]> =>
  Promise.all(
    files.map(async (file) => {
      const [tokens] = await file.read('tokens', 1)
      return { tokens, delta: await file.read(`D/${layer.name}`, tokens * layer.outputs), input: await file.read(`A/${inputName(layer)}`, tokens * inputWidth(layer)) }
    }),
  )

/** Bytes that the new cache entries of a group of queries may take before they are written. */
const groupBytesMax = 1 << 30

/** dense and low-rank: a cache entry for each query, then the tensors of all. */
const ownTensors = async (
  queries: readonly RunQueryTokens[], join: { readonly kind: 'dense' | 'low-rank'; readonly rank: number }, parts: PrepareParts, keep: boolean,
): Promise<Readonly<Record<string, TensorData>>> => {
  const { cache, factors, progress, observer = silentObserver } = parts
  const missing: RunQueryTokens[] = []
  for (const query of queries) if ((await cache.find(join.kind, queryKey(query, join, parts))) === undefined) missing.push(query)
  observer.cache({ kind: join.kind, hits: queries.length - missing.length, misses: missing.length })
  const rankOf = (layer: LinearLayer): number => lowRankOf(layer, join.rank)
  const bytes = factors.layers.reduce(
    (sum, layer) => sum + 4 * (join.kind === 'dense' ? layer.outputs * inputWidth(layer) : rankOf(layer) * (layer.outputs + inputWidth(layer))), 0,
  )
  const groupMax = Math.max(1, Math.floor(groupBytesMax / bytes))
  const made = new Map<RunQueryTokens, CachedTensors>()
  let done = queries.length - missing.length
  progress.update(done)
  for (let from = 0; from < missing.length; from += groupMax) {
    const group = missing.slice(from, from + groupMax)
    const entries: Record<string, Float32Array>[] = group.map(() => ({}))
    const files = await Promise.all(group.map((query) => gradientsOf(query, parts)))
    await eachLayer(parts, async ({ layer, preconditioned }) => {
      const prepared = observer.time('prepare')
      const gradients = await layerGradients(files, layer)
      if (join.kind === 'dense') {
        const dense = await preconditioned.dense(gradients)
        dense.forEach((query, q) => (entries[q][`Q/${layer.name}`] = query))
      } else {
        const lowRank = await preconditioned.lowRank(gradients, { rank: join.rank, seed: parts.seed })
        lowRank.forEach(({ u, v }, q) => Object.assign(entries[q], { [`U/${layer.name}`]: u, [`V/${layer.name}`]: v }))
      }
      prepared()
    })
    for (const [q, query] of group.entries()) {
      if (keep) await cache.write(join.kind, queryKey(query, join, parts), entries[q])
      else made.set(query, inMemory(entries[q]))
    }
    progress.update((done += group.length))
  }
  const files: CachedTensors[] = []
  for (const query of queries) files.push(made.get(query) ?? (await cache.find(join.kind, queryKey(query, join, parts))) ?? missingFile(query))
  const tensors: Record<string, TensorData> = {}
  for (const layer of factors.layers) {
    const [O, I] = [layer.outputs, inputWidth(layer)]
    if (join.kind === 'dense') {
      const all = new Float32Array(queries.length * O * I)
      for (const [q, file] of files.entries()) all.set(await file.read(`Q/${layer.name}`, O * I), q * O * I)
      tensors[`Q/${layer.name}`] = { type: 'float32', shape: [queries.length, O * I], data: all }
    } else {
      const R = rankOf(layer)
      for (const [name, rows] of [['U', O], ['V', I]] as const) {
        const all = new Float32Array(rows * queries.length * R)
        for (const [q, file] of files.entries()) {
          const own = await file.read(`${name}/${layer.name}`, rows * R)
          for (let i = 0; i < rows; i++) all.set(own.subarray(i * R, (i + 1) * R), (i * queries.length + q) * R)
        }
        tensors[`${name}/${layer.name}`] = { type: 'float32', shape: [rows, queries.length * R], data: all }
      }
    }
  }
  return tensors
}

const inMemory = (entry: Readonly<Record<string, Float32Array>>): CachedTensors => ({
  has: (name) => name in entry,
  read: (name) => Promise.resolve(entry[name]),
})

/** shared: one cache entry for the whole set. */
const sharedTensors = async (queries: readonly RunQueryTokens[], k: number, parts: PrepareParts): Promise<Readonly<Record<string, TensorData>>> => {
  const { cache, factors, progress, observer = silentObserver } = parts
  const key = [queries.map((query) => queryKey(query, { kind: 'shared', rank: k }, parts))]
  const isCached = (await cache.find('shared', key)) !== undefined
  observer.cache({ kind: 'shared', hits: Number(isCached), misses: Number(!isCached) })
  if (!isCached) {
    const files = await Promise.all(queries.map((query) => gradientsOf(query, parts)))
    const entry: Record<string, Float32Array> = {}
    let done = 0
    await eachLayer(parts, async ({ layer, preconditioned }) => {
      const prepared = observer.time('prepare')
      const { p, r, c } = await preconditioned.shared(await layerGradients(files, layer), { width: k, seed: parts.seed })
      Object.assign(entry, { [`P/${layer.name}`]: p, [`R/${layer.name}`]: r, [`C/${layer.name}`]: c })
      prepared()
      progress.update(Math.floor((queries.length * ++done) / factors.layers.length), `layer ${done} of ${factors.layers.length}`)
    })
    await cache.write('shared', key, entry)
  }
  const file = (await cache.find('shared', key)) ?? missingFile(queries[0])
  const tensors: Record<string, TensorData> = {}
  for (const layer of factors.layers) {
    const [kO, kI] = sharedWidths(layer, k)
    const shapes = { P: [layer.outputs, kO], R: [inputWidth(layer), kI], C: [queries.length, kO * kI] }
    for (const [name, shape] of Object.entries(shapes)) {
      tensors[`${name}/${layer.name}`] = { type: 'float32', shape, data: await file.read(`${name}/${layer.name}`, shape[0] * shape[1]) }
    }
  }
  return tensors
}

/** Every layer with its preconditioner. The next one's factors are read, and its work begun, while one is worked on. */
const eachLayer = async (
  { engine, factors, damping, later = [], signal }: PrepareParts,
  work: (one: { readonly layer: LinearLayer; readonly preconditioned: LayerPreconditioner }) => Promise<void>,
): Promise<void> => {
  await using precondition = preconditioner(engine, factors.manifest.settings.strategy, damping)
  const load = async (layer: LinearLayer): Promise<LayerPreconditioner> => {
    const own = await factors.load(layer)
    const after: LaterFactors[] = []
    for (const segment of later) after.push({ factors: await segment.factors.load(layer), time: segment.time })
    return precondition.layer(own, after)
  }
  const started = <V>(promise: Promise<V>): Promise<V> => {
    promise.catch(() => undefined) // is awaited below, or another failed first
    return promise
  }
  let ahead = started(load(factors.layers[0]))
  let [before, current]: readonly Promise<void>[] = [Promise.resolve(), Promise.resolve()]
  try {
    for (const [at, layer] of factors.layers.entries()) {
      signal.throwIfAborted()
      const preconditioned = await ahead
      const next = factors.layers[at + 1]
      if (next !== undefined) ahead = started(load(next))
      before = current
      current = started(work({ layer, preconditioned }))
      await before
    }
    await current
  } finally {
    await Promise.allSettled([ahead, before, current]) // nothing goes on behind the caller's back
  }
}
