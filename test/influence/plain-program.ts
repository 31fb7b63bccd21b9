/** @file Programs on the plain engine: the same computation, in float64. */
import assert from 'node:assert/strict'
import { plainOps, plainTensor, type PlainTensor } from '../../src/tensor/engines/plain.js'
import type { Ops, ProgramSpec, TensorData } from '../../src/tensor/index.js'
import type { Weights } from '../../src/model/index.js'

const noWeights: Weights<PlainTensor> = (name) => assert.fail(`no weight ${name}`)

/** One run. Inputs may be given in float64. */
export const runPlain = (
  { build, inputs: wanted }: ProgramSpec, inputs: Readonly<Record<string, TensorData | PlainTensor>>,
  { weights = noWeights, ops = plainOps() }: { readonly weights?: Weights<PlainTensor>; readonly ops?: Ops<PlainTensor> } = {},
): Readonly<Record<string, PlainTensor>> => {
  const given = new Map(Object.entries(inputs).map(([name, { data, shape }]) => [name, plainTensor(Array.from(data as ArrayLike<number | bigint>, Number), shape)]))
  return build(ops, (name) => (name in wanted ? (given.get(name) ?? assert.fail(`no input ${name}`)) : assert.fail(`undeclared input ${name}`)), weights)
}
