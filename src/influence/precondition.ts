/**
 * @file Preconditioned query gradients (docs/method.md §4), layer by layer, in the form that a join needs: dense, low-rank,
 * or all queries in one pair of bases.
 *
 * Everything stays in the eigenbasis: δ and ā of a query's few tokens are rotated, not its dense gradient;
 * G̃ ⊘ (Λ + λ) is elementwise there, and only what is kept is rotated back. Truncation is in the metric of the
 * gradients: M = S^½ Q̃ A^½ is truncated, which is elementwise too, and undone on the kept vectors.
 *
 * With the damping of a segment of training (SOURCE, segments.ts) the inverse is another function of Λ, and what came after the
 * segment decays the query first: Q̃ = F_ℓ(S_{ℓ+1} ⋯ S_L G_q), each S in the eigenbasis of its own segment.
 *
 * Queries come as gradients of their loss −f, so that influence −∇fᵀ(G + λI)⁻¹∇L is +⟨Q̃, ∇L⟩.
 */
import type { LinearLayer } from '../model/index.js'
import type { Engine, InputSpec, Ops, Program, TensorData } from '../tensor/index.js'
import { basisInputs, basisTensors, rotate, type Basis } from './basis.js'
import { dampingOf, type Damping, type LayerFactors, type Strategy } from './factors.js'
import { inputWidth, isGradientTransposed } from './layers.js'
import { decayOf, inverseOf, type LaterFactors } from './segments.js'
import { sketch, sketchMatrix, sketchWidth, truncate, type Truncation } from './sketch.js'

/** One query's gradient in one layer as its factors: G_q = δᵀ ā. */
export interface QueryLayerGradient {
  readonly tokens: number
  /** δ f32 [T, O] */
  readonly delta: Float32Array
  /** ā f32 [T, I'] */
  readonly input: Float32Array
}

/** Q̃ f32 [...gradientShape], full rank. */
export type DenseQuery = Float32Array

/** Q̃ ≈ U Vᵀ */
export interface LowRankQuery {
  /** f32 [O, R] */
  readonly u: Float32Array
  /** f32 [I', R] */
  readonly v: Float32Array
}

/** All queries of a set in one pair of bases: Q̃_q ≈ P C_q Rᵀ */
export interface SharedQueries {
  /** f32 [O, kO] */
  readonly p: Float32Array
  /** f32 [I', kI] */
  readonly r: Float32Array
  /** f32 [Q, kO, kI] */
  readonly c: Float32Array
  readonly widths: readonly [number, number]
}

/** Queries are worked on in groups whose dense gradients of one layer take about this many bytes. */
const groupBytes = 256 << 20

/** Eigenvalues below this share of their mean count as that much when truncating. */
const spectrumFloor = 1e-3

export interface LayerPreconditioner {
  /** λ of this layer. */
  readonly damping: number
  dense(queries: readonly QueryLayerGradient[]): Promise<readonly DenseQuery[]>
  lowRank(queries: readonly QueryLayerGradient[], options: { readonly rank: number; readonly seed: number }): Promise<readonly LowRankQuery[]>
  shared(queries: readonly QueryLayerGradient[], options: { readonly width: number; readonly seed: number }): Promise<SharedQueries>
}

/** The widths that a layer's shared bases have for a wanted k. */
export const sharedWidths = (layer: LinearLayer, k: number): readonly [number, number] => [Math.min(k, layer.outputs), Math.min(k, inputWidth(layer))]

/** The rank that a layer's low-rank queries have for a wanted R. */
export const lowRankOf = (layer: LinearLayer, rank: number): number => Math.min(rank, layer.outputs, inputWidth(layer))

/** Of one query's M [O, I']: `y` [O, ℓ] spans its leading space, and `b` [ℓ, I'] is yᵀ M. */
interface Sketch extends Truncation {
  readonly y: Float32Array
  readonly b: Float32Array
}

/** What the layers of one preconditioner have in common. */
interface Common {
  /** The program of a key, compiled once; `work` has it for itself, so that what it binds stays bound meanwhile. */
  use<V>(key: string, make: () => Parameters<Engine['compile']>[0], work: (program: Program) => Promise<V>): Promise<V>
  /** `sketchMatrix`, drawn once for layers of one width. */
  omega(n: number, width: number, seed: number): Float32Array
}

/**
 * Programs are compiled once for each shape of layer and kept. Layers may be worked on side by side: each has a program to itself
 * from what it binds to its last run, so that one is computed while the rest of another is done here.
 */
export const preconditioner = (engine: Engine, strategy: Strategy, damping: Damping) => {
  const programs = new Map<string, { readonly program: Promise<Program>; last: Promise<unknown> }>()
  const omegas = new Map<string, Float32Array>()
  const common: Common = {
    use: (key, make, work) => {
      const known = programs.get(key) ?? { program: engine.compile(make()), last: Promise.resolve() }
      programs.set(key, known)
      const done = known.last.then(async () => work(await known.program))
      known.last = done.catch(() => undefined)
      return done
    },
    omega: (n, width, seed) => {
      const key = `${n} ${width} ${seed}`
      const omega = omegas.get(key) ?? sketchMatrix(n, width, seed)
      omegas.set(key, omega)
      return omega
    },
  }
  return {
    /** @param later the factors of what came after, the last segment of the training last */
    layer: (factors: LayerFactors, later: readonly LaterFactors[] = []): LayerPreconditioner =>
      layerPreconditioner(factors, later, { lambda: dampingOf(strategy, factors.eigenvalues, damping), damping }, common),
    [Symbol.asyncDispose]: async (): Promise<void> => {
      for (const { program } of programs.values()) await (await program)[Symbol.asyncDispose]()
    },
  }
}

const layerPreconditioner = (
  factors: LayerFactors, later: readonly LaterFactors[], { lambda, damping }: { readonly lambda: number; readonly damping: Damping }, common: Common,
): LayerPreconditioner => {
  const { layer, inputs: basisA, outputs: basisS, eigenvalues } = factors
  const [O, I] = [layer.outputs, inputWidth(layer)]
  const blocksOf = ({ inputs, outputs }: LayerFactors): string => `${outputs?.blocks.length ?? 0} and ${inputs?.blocks.length ?? 0} blocks`
  const shape = [`${O}×${I} in ${blocksOf(factors)}`, ...later.map((segment) => blocksOf(segment.factors))].join(' before ')
  const group = Math.max(1, Math.floor(groupBytes / (O * I * 4)))

  // What every program here is bound to, and gradients of a group of queries.
  const bases: Readonly<Record<string, InputSpec>> = {
    ...(basisS === null ? {} : basisInputs('QS', basisS)),
    ...(basisA === null ? {} : basisInputs('QA', basisA)),
    inverse: { type: 'float32', shape: [O, I] },
    rootS: { type: 'float32', shape: [1, O] },
    rootA: { type: 'float32', shape: [1, I] },
    ...Object.assign({}, ...later.map(({ factors: { inputs, outputs } }, n): Readonly<Record<string, InputSpec>> => ({
      ...(outputs === null ? {} : basisInputs(`QS/${n}`, outputs)),
      ...(inputs === null ? {} : basisInputs(`QA/${n}`, inputs)),
      [`decay/${n}`]: { type: 'float32', shape: [O, I] },
    }))),
  }
  const boundBases = (): Readonly<Record<string, TensorData>> => ({
    ...(basisS === null ? {} : basisTensors('QS', basisS)),
    ...(basisA === null ? {} : basisTensors('QA', basisA)),
    inverse: float([O, I], inverseOf(eigenvalues, lambda, damping)),
    rootS: float([1, O], rootsOf(basisS, O)),
    rootA: float([1, I], rootsOf(basisA, I)),
    ...Object.assign({}, ...later.map(({ factors: { inputs, outputs, eigenvalues: values }, time }, n): Readonly<Record<string, TensorData>> => ({
      ...(outputs === null ? {} : basisTensors(`QS/${n}`, outputs)),
      ...(inputs === null ? {} : basisTensors(`QA/${n}`, inputs)),
      [`decay/${n}`]: float([O, I], decayOf(values, time)),
    }))),
  })
  const gradientInputs = { delta: { type: 'float32', shape: ['G', 'T', O] }, input: { type: 'float32', shape: ['G', 'T', I] } } as const

  /** G̃ ⊘ (Λ + λ) in the eigenbasis; `weighted`: M, that is S^½ and A^½ on both sides of it. [G, O, I'] */
  const into = <T>(ops: Ops<T>, value: (name: string) => T, { weighted }: { readonly weighted: boolean }): T => {
    const steps = [
      ...later.map(({ factors: own }, n) => ({ own, name: `/${n}`, factor: `decay/${n}` })).toReversed(),
      { own: factors, name: '', factor: 'inverse' },
    ]
    // From the query's few tokens into the first basis; from one basis into the next through the parameters' own.
    let inside: T | undefined
    for (const [n, { own: { inputs, outputs }, name, factor }] of steps.entries()) {
      const [S, A] = ['QS', 'QA'].map((side) => (b: number) => value(`${side}${name}.${b}`))
      const isLast = n + 1 === steps.length
      if (inside === undefined) {
        const d = outputs === null ? value('delta') : rotate(ops, value('delta'), outputs, S)
        const a = inputs === null ? value('input') : rotate(ops, value('input'), inputs, A)
        // The roots of a few tokens, where that is all there is, rather than of a dense matrix.
        inside = weighted && isLast
          ? ops.matmul(ops.mul(d, value('rootS')), ops.mul(a, value('rootA')), { transA: true })
          : ops.matmul(d, a, { transA: true })
      } else {
        const left = outputs === null ? inside : turn(ops, inside, outputs, S, { back: true }) // Q_Sᵀ X
        inside = inputs === null ? left : rotate(ops, left, inputs, A) // X Q_A
        if (weighted && isLast) inside = ops.mul(ops.mul(inside, ops.reshape(value('rootS'), [O, 1])), value('rootA'))
      }
      inside = ops.mul(inside, value(factor))
      if (!isLast) inside = out(ops, inside, { inputs, outputs }, S, A)
    }
    return inside ?? value('delta') // there is one step at least
  }
  /** [.., O, r] out of the metric and out of the eigenbasis. */
  const outS = <T>(ops: Ops<T>, x: T, value: (name: string) => T): T => {
    const plain = ops.div(x, ops.reshape(value('rootS'), [O, 1]))
    return basisS === null ? plain : turn(ops, plain, basisS, (b) => value(`QS.${b}`))
  }
  /** The same of rows, [.., r, I']. */
  const outA = <T>(ops: Ops<T>, x: T, value: (name: string) => T): T => {
    const plain = ops.div(x, value('rootA'))
    return basisA === null ? plain : rotate(ops, plain, basisA, (b) => value(`QA.${b}`), { back: true })
  }

  type Build = <T>(ops: Ops<T>, value: (name: string) => T) => Readonly<Record<string, T>>
  /** The program of a kind for this layer's shape, bound to this layer's factors and to `tensors`. */
  const bound = <V>(
    kind: string, inputs: Readonly<Record<string, InputSpec>>, tensors: Readonly<Record<string, TensorData>>, build: Build, work: (program: Program) => Promise<V>,
  ): Promise<V> =>
    common.use(`${kind} ${shape}`, () => ({ name: `preconditioning (${kind}) of ${shape}`, inputs: { ...bases, ...inputs }, weights: new Map(), build }), async (program) => {
      await program.bind({ ...boundBases(), ...tensors })
      return work(program)
    })

  /** Each query's sketch, Y [O, ℓ] and B [ℓ, I'] of M, and how its truncation is made of them; `outside`: as factors of Q̃ itself. */
  const sketched = async (
    queries: readonly QueryLayerGradient[], rank: number, seed: number, { outside }: { readonly outside: boolean },
  ): Promise<{ readonly sketches: readonly Sketch[]; readonly width: number; readonly kept: number }> => {
    const width = sketchWidth(rank, O, I)
    const kept = Math.min(rank, width)
    const found = await bound(
      `sketch ${width}${outside ? ', outside' : ''}`, { ...gradientInputs, omega: { type: 'float32', shape: [I, width] } },
      { omega: float([I, width], common.omega(I, width, seed).slice()) },
      (ops, value) => {
        const { Y, B, GY, GB } = sketch(ops, into(ops, value, { weighted: true }), value('omega'), width)
        return outside ? { Y: outS(ops, Y, value), B: outA(ops, B, value), GY, GB } : { Y, B, GY, GB }
      },
      async (program) => {
        const parts = []
        for (const part of chunks(queries, group)) parts.push({ count: part.length, outputs: await program.run(padded(part, O, I)) })
        return parts
      },
    )
    const sketches: Sketch[] = []
    for (const { count, outputs: { Y, B, GY, GB } } of found) {
      for (let q = 0; q < count; q++) sketches.push({ y: row(Y, q), b: row(B, q), ...(await truncate(row(GY, q), row(GB, q), width, kept)) })
    }
    return { sketches, width, kept }
  }

  /** Y C_U [O, r] and Bᵀ C_V [I', r] of every sketch. */
  const truncated = (
    { sketches, width, kept }: { readonly sketches: readonly Sketch[]; readonly width: number; readonly kept: number },
    coefficientsOf: (one: Sketch) => readonly [u: Float32Array, v: Float32Array],
  ): Promise<readonly LowRankQuery[]> => {
    const coefficients = { type: 'float32', shape: ['G', width, kept] } as const
    return common.use(`truncate ${O}×${I} from ${width} to ${kept}`, () => ({
      name: `truncation of ${O}×${I}`,
      inputs: { Y: { type: 'float32', shape: ['G', O, width] }, B: { type: 'float32', shape: ['G', width, I] }, CU: coefficients, CV: coefficients },
      weights: new Map(),
      build: (ops, value) => ({ U: ops.matmul(value('Y'), value('CU')), V: ops.matmul(value('B'), value('CV'), { transA: true }) }),
    }), async (program) => {
      const all: LowRankQuery[] = []
      for (const part of chunks(sketches, group)) {
        const both = part.map(coefficientsOf)
        const { U, V } = await program.run({
          Y: float([part.length, O, width], concatenated(part.map(({ y }) => y))),
          B: float([part.length, width, I], concatenated(part.map(({ b }) => b))),
          CU: float([part.length, width, kept], concatenated(both.map(([u]) => u))),
          CV: float([part.length, width, kept], concatenated(both.map(([, v]) => v))),
        })
        for (let q = 0; q < part.length; q++) all.push({ u: row(U, q).slice(), v: row(V, q).slice() })
      }
      return all
    })
  }

  return {
    damping: lambda,

    dense: (queries) =>
      bound('dense', gradientInputs, {}, (ops, value) => ({
        Q: asGradient(ops, layer, out(ops, into(ops, value, { weighted: false }), factors, (b) => value(`QS.${b}`), (b) => value(`QA.${b}`))),
      }), async (program) => {
        const all: DenseQuery[] = []
        for (const part of chunks(queries, group)) {
          const { Q } = await program.run(padded(part, O, I))
          for (let q = 0; q < part.length; q++) all.push(row(Q, q))
        }
        return all
      }),

    lowRank: async (queries, { rank, seed }) => {
      const found = await sketched(queries, lowRankOf(layer, rank), seed, { outside: true })
      return truncated(found, ({ coefficients }) => [coefficients, coefficients])
    },

    shared: async (queries, { width: k, seed }) => {
      const widths = sharedWidths(layer, k)
      // Enough of each query to find the space that they share.
      const found = await sketched(queries, Math.min(32, O, I), seed, { outside: false })
      const { kept } = found
      const normOf = (values: Float64Array): number => Math.sqrt(values.reduce((sum, v) => sum + v * v, 0)) || 1
      // U diag(s)/‖M‖ and V diag(s)/‖M‖
      const stacks = await truncated(found, ({ coefficients, values }) => {
        const norm = normOf(values)
        return [coefficients.map((c, at) => (c * values[at % kept]) / norm), coefficients.map((c) => c / norm)]
      })
      const P = await leadingSpace(stacks.map(({ u }) => u), O, kept, widths[0], seed, common)
      const R = await leadingSpace(stacks.map(({ v }) => v), I, kept, widths[1], seed + 1, common)
      const [kO, kI] = widths
      const space = { P: { type: 'float32', shape: [O, kO] }, R: { type: 'float32', shape: [I, kI] } } as const
      const c = await bound(`project ${kO} ${kI}`, { ...gradientInputs, ...space }, { P: float([O, kO], P.slice()), R: float([I, kI], R.slice()) }, (ops, value) => ({
        C: ops.matmul(ops.matmul(value('P'), into(ops, value, { weighted: true }), { transA: true }), value('R')),
      }), async (program) => {
        const all = new Float32Array(queries.length * kO * kI)
        let done = 0
        for (const part of chunks(queries, group)) {
          const { C } = await program.run(padded(part, O, I))
          all.set(C.data as Float32Array, done * kO * kI)
          done += part.length
        }
        return all
      })
      const { p, r } = await bound(`bases ${kO} ${kI}`, space, {}, (ops, value) => ({
        p: outS(ops, value('P'), value), r: ops.transpose(outA(ops, ops.transpose(value('R'), [1, 0]), value), [1, 0]),
      }), (program) => program.run({ P: float([O, kO], P), R: float([I, kI], R) }))
      return { p: p.data as Float32Array, r: r.data as Float32Array, c, widths }
    },
  }
}

/** The k leading left singular vectors of [X_1 … X_Q], each [n, r]: f32 [n, k], orthonormal. */
const leadingSpace = async (
  parts: readonly Float32Array[], n: number, r: number, k: number, seed: number, common: Common,
): Promise<Float32Array> => {
  if (k === n) return Float32Array.from({ length: n * n }, (_, at) => Number(at % (n + 1) === 0))
  const columns = parts.length * r
  const stack = new Float32Array(n * columns)
  parts.forEach((part, q) => {
    for (let i = 0; i < n; i++) stack.set(part.subarray(i * r, (i + 1) * r), i * columns + q * r)
  })
  const width = Math.min(sketchWidth(k, n, columns), n)
  const kept = Math.min(k, width)
  const inputs = { X: { type: 'float32', shape: [1, n, 'C'] }, omega: { type: 'float32', shape: ['C', width] } } as const
  const { Y, GY, GB } = await common.use(`space ${n} ${width}`, () => ({
    name: `the space that ${parts.length} queries share`,
    inputs,
    weights: new Map(),
    build: (ops, value) => sketch(ops, value('X'), value('omega'), width),
  }), (program) => program.run({ X: float([1, n, columns], stack), omega: float([columns, width], common.omega(columns, width, seed).slice()) }))
  const { coefficients } = await truncate(GY.data as Float32Array, GB.data as Float32Array, width, kept)
  const { space: computed } = await common.use(`space ${n} from ${width} to ${kept}`, () => ({
    name: `the leading ${kept} of ${width} directions`,
    inputs: { Y: { type: 'float32', shape: [n, width] }, C: { type: 'float32', shape: [width, kept] } },
    weights: new Map(),
    build: (ops, value) => ({ space: ops.matmul(value('Y'), value('C')) }),
  }), (program) => program.run({ Y: float([n, width], Y.data as Float32Array), C: float([width, kept], coefficients) }))
  const space = computed.data as Float32Array
  if (kept === k) return space
  // Fewer directions than k: the rest of the basis is zero and costs nothing in truth.
  const wide = new Float32Array(n * k)
  for (let i = 0; i < n; i++) wide.set(space.subarray(i * kept, (i + 1) * kept), i * k)
  return wide
}

/** Out of the eigenbasis: Q_S X Q_Aᵀ, [.., O, I']. */
const out = <T>(ops: Ops<T>, x: T, { inputs, outputs }: Pick<LayerFactors, 'inputs' | 'outputs'>, S: (b: number) => T, A: (b: number) => T): T => {
  const left = outputs === null ? x : turn(ops, x, outputs, S)
  return inputs === null ? left : rotate(ops, left, inputs, A, { back: true })
}

/** [G, O, I'] as each document's gradient is held. */
const asGradient = <T>(ops: Ops<T>, layer: LinearLayer, x: T): T => (isGradientTransposed(layer) ? ops.transpose(x, [0, 2, 1]) : x)

/** Q X over the second to last axis: [.., width, n]; `back`: Qᵀ X, into the basis. */
const turn = <T>(ops: Ops<T>, x: T, basis: Basis, block: (b: number) => T, { back = false } = {}): T =>
  basis.blocks.length === 1
    ? ops.matmul(block(0), x, { transA: back })
    : ops.concat(
        basis.blocks.map(({ from, size }, b) => ops.matmul(block(b), ops.slice(x, { axis: -2, from, to: from + size }), { transA: back })),
        -2,
      )

/** √ of a spectrum, floored; all 1 where there is none. */
const rootsOf = (basis: Basis | null, width: number): Float32Array => {
  if (basis === null) return new Float32Array(width).fill(1)
  const mean = basis.values.reduce((sum, value) => sum + value, 0) / width
  return mean > 0 ? Float32Array.from(basis.values, (value) => Math.sqrt(Math.max(value, spectrumFloor * mean))) : new Float32Array(width).fill(1)
}

const float = (shape: readonly number[], data: Float32Array): TensorData => ({ type: 'float32', shape, data })

/** Gradients of several queries as one batch; the shorter ones end in zeros, which add nothing. */
const padded = (queries: readonly QueryLayerGradient[], O: number, I: number): Readonly<Record<'delta' | 'input', TensorData>> => {
  const T = Math.max(...queries.map(({ tokens }) => tokens))
  const delta = new Float32Array(queries.length * T * O)
  const input = new Float32Array(queries.length * T * I)
  queries.forEach((query, q) => {
    delta.set(query.delta, q * T * O)
    input.set(query.input, q * T * I)
  })
  return { delta: float([queries.length, T, O], delta), input: float([queries.length, T, I], input) }
}

/** Row q of a tensor whose first axis is the queries. */
const row = ({ data, shape }: TensorData, q: number): Float32Array => {
  const size = data.length / shape[0]
  return (data as Float32Array).subarray(q * size, (q + 1) * size)
}

const chunks = function* <V>(values: readonly V[], size: number): Generator<readonly V[]> {
  for (let from = 0; from < values.length; from += size) yield values.slice(from, from + size)
}

const concatenated = (arrays: readonly Float32Array[]): Float32Array => {
  const all = new Float32Array(arrays.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const array of arrays) {
    all.set(array, at)
    at += array.length
  }
  return all
}
