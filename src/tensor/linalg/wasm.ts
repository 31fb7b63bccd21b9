/**
 * @file A small assembler for WebAssembly: what the kernels are written in. An expression or statement is the list
 * of its bytes, so they compose by nesting: `set(sum, f64x2.add(get(sum), v128.load(get(x))))`. Only the instructions
 * in use are named. Kernels made here ship as source, run wherever Node does and need nothing compiled at install.
 * Binary format: WebAssembly Core Specification 2.0, chapter 5.
 */

/** Bytes of an expression (leaves one value) or of a statement (leaves none). */
export type Code = readonly number[]

export type ValueType = 'i32' | 'f64' | 'v128'

/** A parameter or a local variable of a function. */
export interface Local {
  readonly index: number
  readonly type: ValueType
}

const typeCode: { readonly [T in ValueType]: number } = { i32: 0x7f, f64: 0x7c, v128: 0x7b }

/** Unsigned LEB128. */
const unsigned = (x: number): number[] => {
  const bytes: number[] = []
  for (let left = x; ; left = Math.floor(left / 128)) {
    if (left < 128) return [...bytes, left]
    bytes.push((left % 128) | 0x80)
  }
}

/** Signed LEB128 of a 32-bit integer. */
const signed = (x: number): number[] => {
  const bytes: number[] = []
  for (let left = x | 0; ; left >>= 7) {
    if (left >= -64 && left < 64) return [...bytes, left & 0x7f]
    bytes.push((left & 0x7f) | 0x80)
  }
}

const binary =
  (op: number) =>
  (a: Code, b: Code): Code => [...a, ...b, op]

const simd = (op: number, ...rest: readonly number[]): number[] => [0xfd, ...unsigned(op), ...rest]

const simdBinary =
  (op: number) =>
  (a: Code, b: Code): Code => [...a, ...b, ...simd(op)]

/** Alignment hint 8 and an offset in bytes. */
const place = (offset: number): number[] => [3, ...unsigned(offset)]

export const get = (local: Local): Code => [0x20, ...unsigned(local.index)]
export const set = (local: Local, value: Code): Code => [...value, 0x21, ...unsigned(local.index)]

export const i32 = {
  const: (x: number): Code => [0x41, ...signed(x)],
  add: binary(0x6a),
  sub: binary(0x6b),
  mul: binary(0x6c),
  and: binary(0x71),
  shl: binary(0x74),
  lessSigned: binary(0x48),
  less: binary(0x49),
}

export const f64 = {
  const: (x: number): Code => [0x44, ...new Uint8Array(Float64Array.of(x).buffer)],
  load: (address: Code, offset = 0): Code => [...address, 0x2b, ...place(offset)],
  store: (address: Code, value: Code, offset = 0): Code => [...address, ...value, 0x39, ...place(offset)],
  add: binary(0xa0),
  sub: binary(0xa1),
  mul: binary(0xa2),
  div: binary(0xa3),
}

export const v128 = {
  load: (address: Code, offset = 0): Code => [...address, ...simd(0x00), ...place(offset)],
  /** One f64 from memory in both lanes. */
  loadSplat: (address: Code, offset = 0): Code => [...address, ...simd(0x0a), ...place(offset)],
  store: (address: Code, value: Code, offset = 0): Code => [...address, ...value, ...simd(0x0b), ...place(offset)],
  /** Both lanes zero. */
  zero: simd(0x0c, ...new Array<number>(16).fill(0)) as Code,
}

export const f64x2 = {
  splat: (x: Code): Code => [...x, ...simd(0x14)],
  lane: (x: Code, lane: 0 | 1): Code => [...x, ...simd(0x21, lane)],
  /** The lane `i` of a, then the lane `j` of b. */
  shuffle: (a: Code, b: Code, i: 0 | 1, j: 0 | 1): Code => [
    ...a,
    ...b,
    ...simd(0x0d, ...Array.from({ length: 16 }, (_, k) => (k < 8 ? 8 * i + k : 16 + 8 * j + k - 8))),
  ],
  add: simdBinary(0xf0),
  sub: simdBinary(0xf1),
  mul: simdBinary(0xf2),
  div: simdBinary(0xf3),
}

/** Statements one after another. */
export const block = (...statements: readonly Code[]): Code => statements.flat()

export const when = (condition: Code, ...then: readonly Code[]): Code => [...condition, 0x04, 0x40, ...then.flat(), 0x0b]

/** while (condition) body; the test stands at the end of the loop. */
export const whilst = (condition: Code, ...body: readonly Code[]): Code =>
  when(condition, [0x03, 0x40, ...body.flat(), ...condition, 0x0d, 0, 0x0b])

/** local += amount, for i32. */
export const advance = (local: Local, amount: number | Code): Code =>
  set(local, i32.add(get(local), typeof amount === 'number' ? i32.const(amount) : amount))

export interface Func {
  readonly params: readonly ValueType[]
  readonly locals: readonly ValueType[]
  readonly body: Code
}

/** A function without a result. `write` gets its parameters and a maker of local variables, which start as zero. */
export const func = (
  params: readonly ValueType[],
  write: (params: readonly Local[], local: (type: ValueType) => Local) => Code,
): Func => {
  const locals: ValueType[] = []
  const local = (type: ValueType): Local => ({ index: params.length + locals.push(type) - 1, type })
  const body = write(
    params.map((type, index) => ({ index, type })),
    local,
  )
  return { params, locals, body }
}

const vector = (items: readonly Code[]): Code => [...unsigned(items.length), ...items.flat()]
const section = (id: number, content: Code): Code => [id, ...unsigned(content.length), ...content]
const named = (name: string): Code => vector([...new TextEncoder().encode(name)].map((byte) => [byte]))

/** A module that imports the memory `env.memory` and exports the functions under their names. */
export const assemble = (functions: Readonly<Record<string, Func>>): Uint8Array<ArrayBuffer> => {
  const all = Object.entries(functions)
  const type = ({ params }: Func): Code => [0x60, ...vector(params.map((param) => [typeCode[param]])), 0]
  const code = ({ locals, body }: Func): Code => {
    const content = [...vector(locals.map((local) => [1, typeCode[local]])), ...body, 0x0b]
    return [...unsigned(content.length), ...content]
  }
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, vector(all.map(([, f]) => type(f)))),
    ...section(2, vector([[...named('env'), ...named('memory'), 0x02, 0x00, 0]])),
    ...section(3, vector(all.map((_, i) => unsigned(i)))),
    ...section(7, vector(all.map(([name], i) => [...named(name), 0x00, ...unsigned(i)]))),
    ...section(10, vector(all.map(([, f]) => code(f)))),
  ])
}

/** The part of the WebAssembly interface in use; the type library of Node 20 has none. */
interface WebAssemblyApi {
  readonly Memory: new (limits: { initial: number }) => Memory
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => Module
  readonly Instance: new (module: Module, imports: { env: { memory: Memory } }) => { readonly exports: unknown }
}

/** A memory in pages of 64 KiB. Growing it detaches `buffer`, and a new one stands there. */
export interface Memory {
  readonly buffer: ArrayBuffer
  grow(pages: number): number
}

/** A compiled module. */
export interface Module {
  readonly [Symbol.toStringTag]: string
}

/** The engine's WebAssembly. */
export const webAssembly = (globalThis as unknown as { readonly WebAssembly: WebAssemblyApi }).WebAssembly
