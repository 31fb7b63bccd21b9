/** @file Where in a safetensors file its seal stands (seal.ts): fixed, so that it can be written last and found at once. */

/** The name in the header's metadata. It comes first there, and the metadata first in the header. */
export const sealName = 'sha256'
/** What stands for the seal while the content is hashed. */
export const sealUnset = '0'.repeat(64)
/** What the header begins with, behind the 8 bytes of its length. */
export const sealBefore = `{"__metadata__":{"${sealName}":"`
export const sealAt = 8 + sealBefore.length
export const sealEnd = sealAt + sealUnset.length
