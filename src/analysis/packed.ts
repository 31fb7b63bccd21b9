/** @file One JSON value and some byte arrays in one: `"TRAN"`, version u32, JSON length u32, JSON, arrays. Little-endian. */

const magic = 0x4e415254
/** Of the state's form: what another version wrote is read again from the log. */
export const packedVersion = 1

/** @param head anything JSON; the lengths of the arrays are kept beside it */
export const pack = (head: unknown, parts: readonly Uint8Array[]): Uint8Array => {
  const json = Buffer.from(JSON.stringify({ head, lengths: parts.map(({ length }) => length) }))
  const begin = Buffer.alloc(12)
  begin.writeUInt32LE(magic, 0)
  begin.writeUInt32LE(packedVersion, 4)
  begin.writeUInt32LE(json.length, 8)
  return Buffer.concat([begin, json, ...parts])
}

/** @throws Error for bytes that `pack` of this version did not make */
export const unpack = (bytes: Uint8Array): { readonly head: unknown; readonly parts: readonly Uint8Array[] } => {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (buffer.length < 12 || buffer.readUInt32LE(0) !== magic) throw new Error('not the state of an analysis')
  if (buffer.readUInt32LE(4) !== packedVersion)
    throw new Error(`the state of an analysis is of version ${buffer.readUInt32LE(4)}, this reads ${packedVersion}`)
  const length = buffer.readUInt32LE(8)
  const { head, lengths } = JSON.parse(buffer.subarray(12, 12 + length).toString()) as { head: unknown; lengths: number[] }
  const parts: Uint8Array[] = []
  let at = 12 + length
  for (const size of lengths) {
    if (at + size > buffer.length) throw new Error('the state of an analysis is cut off')
    parts.push(Uint8Array.from(buffer.subarray(at, at + size))) // a copy: typed arrays need its start aligned
    at += size
  }
  if (at !== buffer.length) throw new Error('the state of an analysis has bytes too many')
  return { head, parts }
}

const isLittle = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1
if (!isLittle) throw new Error('analyses are kept little-endian; this machine is not')

export const bytesOf = (values: Float32Array | Float64Array | Uint32Array): Uint8Array =>
  Uint8Array.from(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
