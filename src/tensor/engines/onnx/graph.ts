/**
 * @file An ONNX graph under construction: inputs, initializers, nodes; `build` gives the bytes of a ModelProto
 * (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Equal nodes are made once (hash-consing), so what two
 * callers both need, such as ā of gate and up, is computed once.
 */
import { createHash } from 'node:crypto'
import { bytes, float, integer, message, text } from './protobuf.js'

/** The name of a value in the graph. */
export type Value = string

export type ElementType = 'float32' | 'float64' | 'float16' | 'bfloat16' | 'int64' | 'int32' | 'bool'

// onnx.proto, TensorProto.DataType
const dataType: Readonly<Record<ElementType, number>> = {
  float32: 1, int32: 6, int64: 7, bool: 9, float16: 10, float64: 11, bfloat16: 16,
}

/** A dimension: a known length, or the name of one that is known when the graph runs. */
export type Dimension = number | string

/** An attribute of a node; a plain number is an integer, `{ float }` a float. */
export type Attribute = number | string | readonly number[] | { readonly float: number }

/** Where the bytes of an external initializer lie. */
export interface ExternalData {
  /** File name within the session's folder of external data. */
  readonly file: string
  readonly offset: number
  readonly length: number
}

const opsetVersion = 17

export class GraphBuilder {
  readonly #inputs: Uint8Array[] = []
  readonly #initializers: Uint8Array[] = []
  readonly #nodes: Uint8Array[] = []
  readonly #known = new Map<string, readonly Value[]>()
  #names = 0

  get nodeCount(): number {
    return this.#nodes.length
  }

  input(name: string, type: ElementType, dimensions: readonly Dimension[]): Value {
    this.#inputs.push(valueInfo(name, type, dimensions))
    return name
  }

  /** A small constant kept in the graph itself. */
  constant(type: 'float32' | 'int64', values: ArrayLike<number>, dimensions: readonly number[]): Value {
    const data = type === 'float32' ? Float32Array.from(values) : BigInt64Array.from(Array.from(values, BigInt))
    const raw = Buffer.from(data.buffer)
    const key = `constant|${type}|${dimensions.join()}|${raw.byteLength > 64 ? createHash('sha256').update(raw).digest('hex') : raw.toString('hex')}`
    return this.#once(key, () => {
      const name = this.#name()
      this.#initializers.push(tensorProto({ name, type, dimensions, data: raw }))
      return [name]
    })[0]
  }

  /** A weight whose bytes stay in their file. */
  external(name: string, type: ElementType, dimensions: readonly number[], data: ExternalData): Value {
    return this.#once(`external|${name}`, () => {
      const entry = (key: string, value: string | number): Uint8Array => bytes(13, message(text(1, key), text(2, String(value))))
      this.#initializers.push(
        message(
          ...dimensions.map((d) => integer(1, d)),
          integer(2, dataType[type]),
          text(8, name),
          entry('location', data.file),
          entry('offset', data.offset),
          entry('length', data.length),
          integer(14, 1), // data_location: EXTERNAL
        ),
      )
      return [name]
    })[0]
  }

  /** Adds a node, or finds the equal one. `domain` is empty for ONNX's own operators. */
  node(op: string, inputs: readonly Value[], attributes: Readonly<Record<string, Attribute>> = {}, { domain = '', outputs = 1 } = {}): readonly Value[] {
    return this.#once(`${domain}|${op}|${inputs.join()}|${JSON.stringify(attributes)}`, () => {
      const names = Array.from({ length: outputs }, () => this.#name())
      this.#nodes.push(
        message(
          ...inputs.map((name) => text(1, name)),
          ...names.map((name) => text(2, name)),
          text(3, `${op}_${names[0]}`),
          text(4, op),
          ...Object.entries(attributes).map(([key, value]) => bytes(5, attributeProto(key, value))),
          ...(domain === '' ? [] : [text(7, domain)]),
        ),
      )
      return names
    })
  }

  /** The model's bytes; `outputs` maps the names that a caller sees to values of the graph. */
  build(outputs: Readonly<Record<string, Value>>): Uint8Array {
    const renames = Object.entries(outputs).map(([name, value]) => message(text(1, value), text(2, name), text(3, `output_${name}`), text(4, 'Identity')))
    const graph = message(
      ...this.#nodes.map((node) => bytes(1, node)),
      ...renames.map((node) => bytes(1, node)),
      text(2, 'tributary'),
      ...this.#initializers.map((initializer) => bytes(5, initializer)),
      ...this.#inputs.map((input) => bytes(11, input)),
      ...Object.keys(outputs).map((name) => bytes(12, text(1, name))),
    )
    const opset = (domain: string, version: number): Uint8Array => bytes(8, message(text(1, domain), integer(2, version)))
    return message(integer(1, 9), bytes(7, graph), opset('', opsetVersion), opset('com.microsoft', 1))
  }

  #name(): Value {
    return `v${this.#names++}`
  }

  #once(key: string, make: () => readonly Value[]): readonly Value[] {
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const made = make()
    this.#known.set(key, made)
    return made
  }
}

/** A tensor whose bytes stand in the model. */
export interface Initializer {
  readonly name: string
  readonly type: ElementType
  readonly dimensions: readonly number[]
  /** Row-major, little-endian. */
  readonly data: Uint8Array
}

const tensorProto = ({ name, type, dimensions, data }: Initializer): Uint8Array =>
  message(...dimensions.map((d) => integer(1, d)), integer(2, dataType[type]), text(8, name), bytes(9, data))

/** The model with these tensors and inputs in its graph: of a protocol buffer that follows another one, the messages are merged. */
export const withAdditions = (model: Uint8Array, initializers: readonly Initializer[], inputs: readonly Omit<Initializer, 'data'>[]): Uint8Array =>
  message(model, bytes(7, message(
    ...initializers.map((initializer) => bytes(5, tensorProto(initializer))),
    ...inputs.map(({ name, type, dimensions }) => bytes(11, valueInfo(name, type, dimensions))),
  )))

const valueInfo = (name: string, type: ElementType, dimensions: readonly Dimension[]): Uint8Array => {
  const shape = message(...dimensions.map((d) => bytes(1, typeof d === 'number' ? integer(1, d) : text(2, d))))
  return message(text(1, name), bytes(2, bytes(1, message(integer(1, dataType[type]), bytes(2, shape)))))
}

const attributeProto = (name: string, value: Attribute): Uint8Array => {
  if (typeof value === 'number') return message(text(1, name), integer(3, value), integer(20, 2))
  if (typeof value === 'string') return message(text(1, name), text(4, value), integer(20, 3))
  if ('float' in value) return message(text(1, name), float(2, value.float), integer(20, 1))
  return message(text(1, name), ...value.map((v) => integer(8, v)), integer(20, 7))
}
