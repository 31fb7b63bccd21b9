/**
 * @file A program over a model that is computed in stages, behind the same face as one that is compiled whole: a run gives
 * what the whole would. Only one stage's session is there at a time, made and ended in turn, so runs are computed together:
 * all that are asked for while earlier ones are computed go through every stage in one wave, and each stage is loaded twice
 * a wave, for the forward pass and for the backward one (the last only for the latter).
 *
 * Of a wave is kept in memory the stream at every stage's entry, [B, T, D] of each run: a wave has as many runs as fit in
 * `activationBytesMax`, one at least. What is bound is kept here and handed over in copies, a stage's when it is there.
 */
import type { LinearLayer, Model, Span } from '../model/index.js'
import { NotFiniteError, type Engine, type Program, type ProgramSpec, type StoredTensor, type TensorData } from '../tensor/index.js'
import { forwardProgram, layersIn, stageOf, type Stage } from './stages.js'

/** A model and how it is to be run. */
export interface StagedModel {
  readonly model: Model
  readonly tensors: ReadonlyMap<string, StoredTensor>
  /** Absent, or one: the model is computed whole. */
  readonly stages?: Stages
}

export interface Stages {
  readonly spans: readonly Span[]
  /** Bytes of streams between stages that may wait in memory. */
  readonly activationBytesMax: number
}

type Tensors = Readonly<Record<string, TensorData>>

/** The program of the layers of a stage; absent: of the whole model. */
export type BuildProgram = (tracked: readonly LinearLayer[], stage?: Stage) => ProgramSpec

/** `build`'s program of the whole model, or one that does the same in stages. */
export const compileInStages = async (
  engine: Engine, { model, tensors, stages }: StagedModel, tracked: readonly LinearLayer[], build: BuildProgram,
): Promise<Program> =>
  stages === undefined || stages.spans.length === 1
    ? engine.compile(build(tracked))
    : stagedProgram(engine, { model, tensors, stages }, tracked, build)

/** Runs of sequences of so many tokens that a wave has; 1 where there are no stages. Handed over together they are computed together. */
export const runsTogether = ({ model, stages }: Omit<StagedModel, 'tensors'>, tokens: number): number =>
  stages === undefined || stages.spans.length === 1 ? 1 : Math.max(1, Math.floor(stages.activationBytesMax / streamBytes(stages.spans.length, tokens, model.width)))

/** Of the streams at all entries and one cotangent. */
const streamBytes = (stages: number, tokens: number, width: number): number => stages * tokens * width * 4

interface Job {
  readonly inputs: Tensors
  readonly resolve: (outputs: Tensors) => void
  readonly reject: (error: unknown) => void
}

/** A job in a wave. */
interface Journey {
  readonly job: Job
  /** By stage; that of the first is nothing. */
  readonly entries: (TensorData | undefined)[]
  cotangent?: TensorData
  outputs: Map<string, TensorData>
  /** Outputs that several stages give: their sum. */
  sums: Map<string, Float64Array>
}

const stagedProgram = (engine: Engine, { model, tensors, stages: { spans, activationBytesMax } }: Required<StagedModel>, tracked: readonly LinearLayer[], build: BuildProgram): Program => {
  const stages = spans.map((span) => stageOf(span, tracked))
  const lowest = stages.findIndex(({ goesOnBelow }, s) => !goesOnBelow && layersIn(stages[s], tracked).length > 0)
  const specs = stages.map((stage) => build(layersIn(stage, tracked), stage))
  const sums: Record<string, Float64Array> = Object.fromEntries(
    specs.slice(lowest).flatMap(({ accumulate = {} }) => Object.entries(accumulate).map(([name, shape]) => [name, new Float64Array(shape.reduce((n, d) => n * d, 1))])),
  )
  const bound: Record<string, TensorData> = {}
  const queue: Job[] = []
  let working: Promise<void> | undefined
  let nodes = 0

  const work = async (): Promise<void> => {
    for (;;) {
      await new Promise(setImmediate) // what is asked for in one go is computed in one
      if (queue.length === 0) break
      await wave(taken())
    }
    working = undefined
  }
  const taken = (): readonly Journey[] => {
    let bytes = 0
    let count = 0
    for (const { inputs } of queue) {
      bytes += streamBytes(spans.length, inputs.tokens.data.length, model.width)
      if (count > 0 && bytes > activationBytesMax) break
      count++
    }
    return queue.splice(0, count).map((job) => ({ job, entries: [], outputs: new Map(), sums: new Map() }))
  }
  const wave = async (all: readonly Journey[]): Promise<void> => {
    try {
      await forward(all)
      // A run whose terms of a sum are no numbers is left out, and the others are summed anew: all of a run is added or nothing.
      for (let left = all; left.length > 0; ) {
        const failed = await backward(left)
        if (failed === undefined) break
        failed.journey.job.reject(failed.error)
        left = left.filter((journey) => journey !== failed.journey)
      }
    } catch (error) {
      for (const { job } of all) job.reject(error)
    }
  }
  /** Let go of again soon. */
  const compiled = (spec: ProgramSpec): Promise<Program> => engine.compile({ ...spec, weightsInPlace: true })
  /** To the entry of the last stage. */
  const forward = async (journeys: readonly Journey[]): Promise<void> => {
    for (const [s, stage] of stages.slice(0, -1).entries()) {
      await using program = await compiled(forwardProgram(model, tensors, stage, specs[s]))
      for (const { job, entries } of journeys) {
        const { exit } = await program.run({ tokens: copied(job.inputs.tokens), ...entryOf(entries[s]) })
        entries[s + 1] = exit
        if (s < lowest) entries[s] = undefined // nothing comes back here
      }
    }
  }
  /** From the last stage to the lowest with a tracked layer. Resolves to the run that spoilt a sum, if one did. */
  const backward = async (journeys: readonly Journey[]): Promise<{ readonly journey: Journey; readonly error: NotFiniteError } | undefined> => {
    const added: [string, Float64Array][] = []
    for (const journey of journeys) Object.assign(journey, { cotangent: undefined, outputs: new Map(), sums: new Map() })
    for (let s = stages.length - 1; s >= lowest; s--) {
      await using program = await compiled(specs[s])
      nodes = Math.max(nodes, program.nodes)
      const wanted = Object.keys(specs[s].inputs)
      await program.bind(only(bound, wanted))
      for (const journey of journeys) {
        const { job, entries, cotangent } = journey
        try {
          const { below, ...outputs } = await program.run({ ...only(job.inputs, wanted), ...entryOf(entries[s]), ...(cotangent === undefined ? {} : { cotangent }) })
          journey.cotangent = below
          gather(journey, outputs)
        } catch (error) {
          if (!(error instanceof NotFiniteError)) throw error
          return { journey, error }
        }
      }
      added.push(...Object.entries(program.sums))
    }
    for (const [name, terms] of added) for (let i = 0; i < terms.length; i++) sums[name][i] += terms[i]
    for (const { job, outputs, sums: own } of journeys) {
      for (const [name, sum] of own) outputs.set(name, { type: 'float32', shape: outputs.get(name)?.shape ?? [], data: Float32Array.from(sum) })
      job.resolve(Object.fromEntries(outputs))
    }
    return undefined
  }

  return {
    sums,
    get nodes() {
      return nodes
    },
    bind: async (inputs) => {
      Object.assign(bound, inputs)
    },
    run: (inputs) =>
      new Promise((resolve, reject) => {
        queue.push({ inputs, resolve, reject })
        working ??= work()
      }),
    [Symbol.asyncDispose]: async () => {
      await working
    },
  }
}

/** What the stages below an end give is added to what those above gave, in that order. */
const gather = ({ outputs, sums }: Journey, of: Tensors): void => {
  for (const [name, tensor] of Object.entries(of)) {
    const known = outputs.get(name)
    if (known === undefined) {
      outputs.set(name, tensor)
      continue
    }
    const sum = sums.get(name) ?? Float64Array.from(known.data, Number)
    for (let i = 0; i < sum.length; i++) sum[i] += Number(tensor.data[i])
    sums.set(name, sum)
  }
}

/** A program's buffers move to the engine: what is needed again goes there as a copy. */
const copied = (tensor: TensorData): TensorData => ({ ...tensor, data: tensor.data.slice() }) as TensorData

const entryOf = (entry: TensorData | undefined): Tensors => (entry === undefined ? {} : { entry: copied(entry) })

const only = (tensors: Tensors, names: readonly string[]): Tensors =>
  Object.fromEntries(Object.entries(tensors).filter(([name]) => names.includes(name)).map(([name, tensor]) => [name, copied(tensor)]))
