/** @file Values by a schema registry: its client and its wire format. Knows no topics, only their names. */
export { SchemaRegistry, type SchemaRegistryOptions } from './client.js'
export { wireFormat } from './wire-format.js'
