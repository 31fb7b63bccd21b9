/**
 * @file Writes protocol buffers (https://protobuf.dev/programming-guides/encoding/): just the wire types that ONNX
 * needs. A message is the concatenation of its fields.
 */

const varint = (value: number | bigint): Uint8Array => {
  let rest = BigInt.asUintN(64, BigInt(value))
  const bytes: number[] = []
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128)
  bytes.push(Number(rest))
  return Uint8Array.from(bytes)
}

const tag = (field: number, wireType: 0 | 2 | 5): Uint8Array => varint((field << 3) | wireType)

export const message = (...fields: readonly Uint8Array[]): Uint8Array => Buffer.concat(fields)

/** A length-delimited field: bytes, a string, or a message. */
export const bytes = (field: number, value: Uint8Array): Uint8Array => message(tag(field, 2), varint(value.byteLength), value)
export const text = (field: number, value: string): Uint8Array => bytes(field, Buffer.from(value))
export const integer = (field: number, value: number | bigint): Uint8Array => message(tag(field, 0), varint(value))
export const float = (field: number, value: number): Uint8Array => {
  const four = Buffer.alloc(4)
  four.writeFloatLE(value)
  return message(tag(field, 5), four)
}
