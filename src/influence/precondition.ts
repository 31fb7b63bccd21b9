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
import { sketch, sketchMatrix, sketchWidth, truncate } from './sketch.js'

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

export interface LayerPreconditioner extends AsyncDisposable {
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

/**
 * Programs are compiled once for each shape of layer and kept; `layer` binds the factors of one and must be done with
 * before the next.
 */
export const preconditioner = (engine: Engine, strategy: Strategy, damping: Damping) => {
  const programs = new Map<string, Promise<Program>>()
  const compiled = (key: string, make: () => Parameters<Engine['compile']>[0]): Promise<Program> => {
    const known = programs.get(key)
    if (known !== undefined) return known
    const made = engine.compile(make())
    programs.set(key, made)
    return made
  }
  return {
    /** @param later the factors of what came after, the last segment of the training last */
    layer: (factors: LayerFactors, later: readonly LaterFactors[] = []): LayerPreconditioner =>
      layerPreconditioner(factors, later, { lambda: dampingOf(strategy, factors.eigenvalues, damping), damping }, compiled),
    [Symbol.asyncDispose]: async (): Promise<void> => {
      for (const program of programs.values()) await (await program)[Symbol.asyncDispose]()
    },
  }
}

const layerPreconditioner = (
  factors: LayerFactors, later: readonly LaterFactors[], { lambda, damping }: { readonly lambda: number; readonly damping: Damping },
  compiled: (key: string, make: () => Parameters<Engine['compile']>[0]) => Promise<Program>,
): LayerPreconditioner => {
  const { layer, inputs: basisA, outputs: basisS } = factors
  const [O, I] = [layer.outputs, inputWidth(layer)]
  const blocksOf = ({ inputs, outputs }: LayerFactors): string => `${outputs?.blocks.length ?? 0} and ${inputs?.blocks.length ?? 0} blocks`
  const shape = [`${O}×${I} in ${blocksOf(factors)}`, ...later.map((segment) => blocksOf(segment.factors))].join(' before ')
  const inverse = inverseOf(factors.eigenvalues, lambda, damping)
  const roots = { S: rootsOf(basisS, O), A: rootsOf(basisA, I) }
  /** S^½ ⊙ inverse ⊙ A^½: what turns G̃ into M. */
  const weights = new Float32Array(inverse.length)
  for (let o = 0; o < O; o++) for (let i = 0; i < I; i++) weights[o * I + i] = inverse[o * I + i] * roots.S[o] * roots.A[i]
  const group = Math.max(1, Math.floor(groupBytes / (O * I * 4)))

  // What every program here is bound to, and gradients of a group of queries.
  const bases: Readonly<Record<string, InputSpec>> = {
    ...(basisS === null ? {} : basisInputs('QS', basisS)),
    ...(basisA === null ? {} : basisInputs('QA', basisA)),
    inverse: { type: 'float32', shape: [O, I] },
    weights: { type: 'float32', shape: [O, I] },
    rootS: { type: 'float32', shape: [O, 1] },
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
    inverse: float([O, I], inverse.slice()),
    weights: float([O, I], weights.slice()),
    rootS: float([O, 1], roots.S.slice()),
    rootA: float([1, I], roots.A.slice()),
    ...Object.assign({}, ...later.map(({ factors: { inputs, outputs, eigenvalues }, time }, n): Readonly<Record<string, TensorData>> => ({
      ...(outputs === null ? {} : basisTensors(`QS/${n}`, outputs)),
      ...(inputs === null ? {} : basisTensors(`QA/${n}`, inputs)),
      [`decay/${n}`]: float([O, I], decayOf(eigenvalues, time)),
    }))),
  })
  const gradientInputs = { delta: { type: 'float32', shape: ['G', 'T', O] }, input: { type: 'float32', shape: ['G', 'T', I] } } as const
  /** G̃ ⊙ an elementwise weight, in the eigenbasis: [G, O, I'] */
  const into = <T>(ops: Ops<T>, value: (name: string) => T, weight: 'inverse' | 'weights'): T => {
    const steps = [
      ...later.map(({ factors: own }, n) => ({ own, name: `/${n}`, weight: `decay/${n}` })).toReversed(),
      { own: factors, name: '', weight },
    ]
    // From the query's few tokens into the first basis; from one basis into the next through the parameters' own.
    let inside: T | undefined
    for (const [n, { own: { inputs, outputs }, name, weight: factor }] of steps.entries()) {
      const [S, A] = ['QS', 'QA'].map((side) => (b: number) => value(`${side}${name}.${b}`))
      if (inside === undefined) {
        const d = outputs === null ? value('delta') : rotate(ops, value('delta'), outputs, S)
        const a = inputs === null ? value('input') : rotate(ops, value('input'), inputs, A)
        inside = ops.matmul(d, a, { transA: true })
      } else {
        const left = outputs === null ? inside : turn(ops, inside, outputs, S, { back: true }) // Q_Sᵀ X
        inside = inputs === null ? left : rotate(ops, left, inputs, A) // X Q_A
      }
      inside = ops.mul(inside, value(factor))
      if (n + 1 < steps.length) inside = out(ops, inside, { inputs, outputs }, S, A)
    }
    return inside ?? value('delta') // there is one step at least
  }
  /** [.., O, r] and [.., I', r] out of the metric and out of the eigenbasis. */
  const outS = <T>(ops: Ops<T>, x: T, value: (name: string) => T): T => {
    const plain = ops.div(x, value('rootS'))
    return basisS === null ? plain : turn(ops, plain, basisS, (b) => value(`QS.${b}`))
  }
  const outA = <T>(ops: Ops<T>, x: T, value: (name: string) => T): T => {
    const plain = ops.div(x, ops.reshape(value('rootA'), [I, 1]))
    return basisA === null ? plain : turn(ops, plain, basisA, (b) => value(`QA.${b}`))
  }

  /** The program of a kind for this layer's shape, bound to this layer's factors. */
  const boundFor = new Map<string, Promise<Program>>()
  const programFor = (kind: string, inputs: Readonly<Record<string, InputSpec>>, build: <T>(ops: Ops<T>, value: (name: string) => T) => Readonly<Record<string, T>>): Promise<Program> => {
    const known = boundFor.get(kind)
    if (known !== undefined) return known
    const made = compiled(`${kind} ${shape}`, () => ({ name: `preconditioning (${kind}) of ${shape}`, inputs: { ...bases, ...inputs }, weights: new Map(), build })).then(async (program) => {
      await program.bind(boundBases())
      return program
    })
    boundFor.set(kind, made)
    return made
  }

  const sketched = async (queries: readonly QueryLayerGradient[], rank: number, seed: number) => {
    const width = sketchWidth(rank, O, I)
    const kept = Math.min(rank, width)
    const program = await programFor(`sketch ${width}`, { ...gradientInputs, omega: { type: 'float32', shape: [I, width] } }, (ops, value) =>
      sketch(ops, into(ops, value, 'weights'), value('omega'), width),
    )
    await program.bind({ omega: float([I, width], sketchMatrix(I, width, seed)) })
    const sketches = []
    for (const part of chunks(queries, group)) {
      const { Y, B, GY, GB } = await program.run(padded(part, O, I))
      for (let q = 0; q < part.length; q++) {
        const { coefficients, values } = await truncate(row(GY, q), row(GB, q), width, kept)
        sketches.push({ y: row(Y, q).slice(), b: row(B, q).slice(), coefficients, values })
      }
    }
    return { sketches, width, kept }
  }

  return {
    damping: lambda,

    dense: async (queries) => {
      const program = await programFor('dense', gradientInputs, (ops, value) => ({
        Q: asGradient(ops, layer, out(ops, into(ops, value, 'inverse'), factors, (b) => value(`QS.${b}`), (b) => value(`QA.${b}`))),
      }))
      const all: DenseQuery[] = []
      for (const part of chunks(queries, group)) {
        const { Q } = await program.run(padded(part, O, I))
        for (let q = 0; q < part.length; q++) all.push(row(Q, q))
      }
      return all
    },

    lowRank: async (queries, { rank, seed }) => {
      const { sketches, width, kept } = await sketched(queries, lowRankOf(layer, rank), seed)
      const program = await programFor(
        `factors ${width} ${kept}`,
        { Y: { type: 'float32', shape: ['G', O, width] }, B: { type: 'float32', shape: ['G', width, I] }, C: { type: 'float32', shape: ['G', width, kept] } },
        (ops, value) => ({
          U: outS(ops, ops.matmul(value('Y'), value('C')), value),
          V: outA(ops, ops.matmul(value('B'), value('C'), { transA: true }), value),
        }),
      )
      const all: LowRankQuery[] = []
      for (const part of chunks(sketches, group)) {
        const { U, V } = await program.run({
          Y: float([part.length, O, width], concatenated(part.map(({ y }) => y))),
          B: float([part.length, width, I], concatenated(part.map(({ b }) => b))),
          C: float([part.length, width, kept], concatenated(part.map(({ coefficients }) => coefficients))),
        })
        for (let q = 0; q < part.length; q++) all.push({ u: row(U, q).slice(), v: row(V, q).slice() })
      }
      return all
    },

    shared: async (queries, { width: k, seed }) => {
      const widths = sharedWidths(layer, k)
      // Enough of each query to find the space that they share.
      const { sketches, width, kept } = await sketched(queries, Math.min(32, O, I), seed)
      const normOf = (values: Float64Array): number => Math.sqrt(values.reduce((sum, v) => sum + v * v, 0)) || 1
      const stacks = sketches.map(({ y, b, coefficients, values }) => {
        const norm = normOf(values)
        return {
          left: product(y, coefficients, O, width, kept, (r) => values[r] / norm), // U diag(s)/‖M‖, [O, r]
          right: product(transposed(b, width, I), coefficients, I, width, kept, () => 1 / norm), // V diag(s)/‖M‖, [I', r]
        }
      })
      const P = await leadingSpace(stacks.map(({ left }) => left), O, kept, widths[0], seed, compiled)
      const R = await leadingSpace(stacks.map(({ right }) => right), I, kept, widths[1], seed + 1, compiled)
      const [kO, kI] = widths
      const space = { P: { type: 'float32', shape: [O, kO] }, R: { type: 'float32', shape: [I, kI] } } as const
      const project = await programFor(`project ${kO} ${kI}`, { ...gradientInputs, ...space }, (ops, value) => ({
        C: ops.matmul(ops.matmul(value('P'), into(ops, value, 'weights'), { transA: true }), value('R')),
      }))
      await project.bind({ P: float([O, kO], P.slice()), R: float([I, kI], R.slice()) })
      const c = new Float32Array(queries.length * kO * kI)
      let done = 0
      for (const part of chunks(queries, group)) {
        const { C } = await project.run(padded(part, O, I))
        c.set(C.data as Float32Array, done * kO * kI)
        done += part.length
      }
      const out = await programFor(`bases ${kO} ${kI}`, space, (ops, value) => ({ p: outS(ops, value('P'), value), r: outA(ops, value('R'), value) }))
      const { p, r } = await out.run({ P: float([O, kO], P), R: float([I, kI], R) })
      return { p: p.data as Float32Array, r: r.data as Float32Array, c, widths }
    },

    [Symbol.asyncDispose]: async () => {
      boundFor.clear()
    },
  }
}

/** The k leading left singular vectors of [X_1 … X_Q], each [n, r]: f32 [n, k], orthonormal. */
const leadingSpace = async (
  parts: readonly Float32Array[], n: number, r: number, k: number, seed: number,
  compiled: (key: string, make: () => Parameters<Engine['compile']>[0]) => Promise<Program>,
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
  const sketching = await compiled(`space ${n} ${width}`, () => ({
    name: `the space that ${parts.length} queries share`,
    inputs,
    weights: new Map(),
    build: (ops, value) => sketch(ops, value('X'), value('omega'), width),
  }))
  const { Y, GY, GB } = await sketching.run({ X: float([1, n, columns], stack), omega: float([columns, width], sketchMatrix(columns, width, seed)) })
  const { coefficients } = await truncate(GY.data as Float32Array, GB.data as Float32Array, width, kept)
  const space = product(Y.data as Float32Array, coefficients, n, width, kept, () => 1)
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

/** x [m, n] · y [n, r], column j scaled: small products that are not worth a program. */
const product = (x: Float32Array, y: Float32Array, m: number, n: number, r: number, scale: (column: number) => number): Float32Array => {
  const scaled = Float32Array.from(y, (value, at) => value * scale(at % r))
  const out = new Float32Array(m * r)
  const sums = new Float64Array(r)
  for (let i = 0; i < m; i++) {
    sums.fill(0)
    for (let k = 0; k < n; k++) {
      const left = x[i * n + k]
      for (let j = 0; j < r; j++) sums[j] += left * scaled[k * r + j]
    }
    out.set(sums, i * r)
  }
  return out
}

const transposed = (x: Float32Array, rows: number, columns: number): Float32Array => {
  const out = new Float32Array(x.length)
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = x[i * columns + j]
  return out
}
