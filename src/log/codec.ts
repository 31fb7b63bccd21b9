/**
 * @file How a log turns the values of its topics into bytes and back, whatever the format: Avro single-object encoding
 * (single-object.ts) or the wire format of a schema registry (registry/wire-format.ts). Encoding and decoding never wait;
 * what has to be asked for elsewhere is asked for beforehand, once a schema:
 *
 *     await codec.prepareToWrite()      // its own schema can be found by every reader from here on
 *     codec.encode(value, target, 0)
 *     await codec.prepareToRead(values) // the schemas that these values were written with are here
 *     codec.decode(bytes, 0, bytes.length)
 *
 * Both return undefined where there is nothing to wait for, so a reader of known schemas stays synchronous.
 */
import type { AvroSchema } from './avro-schema.js'
import type { Decoded } from './avro.js'

/** The values of one topic. */
export interface ValueCodec {
  /** What stands before a body. */
  readonly headBytes: number

  /**
   * Makes this codec's schema known to readers. Before the first `encode`; cheap afterwards. Rejects with a UserError or
   * TransientError where the schema is refused or its keeper cannot be reached; it may then be called again.
   */
  prepareToWrite(): Promise<void> | undefined

  /**
   * Writes a value at `start`. Returns where it ends, or, negative, by how many bytes `target` is too short.
   * Throws if the value does not fit the schema, naming the field.
   */
  encode(value: object, target: Buffer, start: number): number

  /**
   * Finds the schemas that values were written with, where they are not known yet; null values (tombstones) are passed
   * over. A schema that nobody has is no error here: `decode` says so of each value. Rejects as `prepareToWrite` does.
   */
  prepareToRead(values: Iterable<Uint8Array | null>): Promise<void> | undefined

  /** Reads the value that fills `bytes` from `start` to `end`. Never throws: what cannot be decoded says why. */
  decode(bytes: Buffer, start: number, end: number): Decoded
}

/** Makes the codec of a topic. `name`: as the topic is called on the log. */
export type CodecFactory = (topic: { readonly name: string; readonly schema: AvroSchema }) => ValueCodec

/** Where a log keeps the schemas that its records were written with, by fingerprint (16 hexadecimal digits). */
export interface SchemaStore {
  /** Resolves when the schema's text is durable. Writing the same one again does no harm. */
  put(id: string, schemaText: string): Promise<void>
  /** Looks again for a schema that was not there before; undefined if there is none. */
  find(id: string): Promise<string | undefined>
}

/** A value's bytes as one new Buffer. @throws as `ValueCodec.encode` does */
export const encodeValue = (codec: ValueCodec, value: object): Buffer => {
  let target = Buffer.allocUnsafe(512)
  for (;;) {
    const end = codec.encode(value, target, 0)
    if (end >= 0) return Buffer.from(target.subarray(0, end))
    target = Buffer.allocUnsafe(target.length - end)
  }
}
