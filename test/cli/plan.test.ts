/** @file `tributary plan`: its counts against those of programs and files that are really made. */
import assert from 'node:assert/strict'
import { statSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { packageRoot } from '../../src/base/index.js'
import { joinCost, joins, trackedLayers, type JoinKind } from '../../src/influence/index.js'
import { openModel } from '../../src/model/index.js'
import type { RunPlan } from '../../src/pipeline/plan.js'
import { temporaryFolder, tributaryIn, writeLines } from './tributary.js'

const model = join(packageRoot(), 'demo', 'model')

describe('plan', () => {
  const folder = temporaryFolder()
  const tributary = tributaryIn(folder)
  const planned = async (more: string): Promise<RunPlan> => {
    const { code, stdout, stderr } = await tributary(`plan --json --gemm-rate 100 --model ${model} ${more}`)
    assert.equal(code, 0, stderr)
    return JSON.parse(stdout) as RunPlan
  }

  test("queries' bytes are those of the tensors that a program is bound to, in every join", { timeout: 120_000 }, async () => {
    const plan = await planned('--query-count 7 --rank 5 --shared-rank 9 --track all')
    const checkpoint = await openModel(model, { positionsMax: 4096 })
    const tracked = trackedLayers(checkpoint.model, 'all')
    const bytesOf = (kind: JoinKind): number =>
      tracked.flatMap((layer) => Object.values(joins[kind].inputs(layer, { queries: 7, rank: kind === 'shared' ? 9 : 5 })))
        .reduce((sum, { shape }) => sum + 4 * shape.reduce<number>((product, d) => product * Number(d), 1), 0)
    for (const { join: kind, queryBytes } of plan.joins) assert.equal(queryBytes, bytesOf(kind), kind)
    assert.equal(plan.joins.find(({ join: kind }) => kind === plan.chosen), plan.joins.find(({ fits }) => fits))
    const dense = joinCost('dense', tracked, { queries: 7, rank: 5 }, 512)
    assert.ok(plan.joins.some(({ join: kind, queryBytes }) => kind === 'dense' && queryBytes === dense.bytes))
  })

  test('the weights are those of the file, and factors on disk take what is foretold', { timeout: 240_000 }, async () => {
    const plan = await planned('--track mlp')
    const lines = Array.from({ length: 6 }, (_, i) => ({ id: `d${i}`, text: `The capital of country ${i} is a town with a river.` }))
    assert.equal((await tributary(`ingest ${writeLines(folder, 'documents.jsonl', lines)} --quiet`)).code, 0)
    const fitted = await tributary(`fit --model ${model} --factors made --documents 6 --quiet`)
    assert.equal(fitted.code, 0, fitted.stderr)
    const files = readdirSync(join(folder, '.tributary', 'factors', 'made'), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile() && /safetensors$|npy$|bin$/.test(entry.name))
    const bytes = files.reduce((sum, file) => sum + statSync(join(file.parentPath, file.name)).size, 0)
    assert.ok(Math.abs(bytes / plan.fit.diskBytes - 1) < 0.05, `${bytes} bytes in ${files.length} files, foretold ${plan.fit.diskBytes}`)
    const weights = (await openModel(model, { positionsMax: 64 })).model
    const numbers = [...weights.weightShapes.values()].reduce((sum, shape) => sum + shape.reduce((product, d) => product * d, 1), 0)
    assert.deepEqual([plan.checkpoint.parameters, plan.checkpoint.weightBytes], [numbers, 4 * numbers])
  })

  test('twice the rate is half the time; half the documents, too; stages are counted', { timeout: 120_000 }, async () => {
    const [one, two] = [await planned('--documents 1000'), await planned('--documents 500')]
    assert.ok(Math.abs(one.joins[0].hours / two.joins[0].hours - 2) < 1e-9)
    const faster = JSON.parse((await tributary(`plan --json --gemm-rate 200 --model ${model} --documents 1000`)).stdout) as RunPlan
    assert.ok(Math.abs(one.fit.hours / faster.fit.hours - 2) < 1e-9)
    assert.ok((await planned(`--stage-memory ${Math.ceil(one.checkpoint.weightBytes / 2)}`)).checkpoint.stages > 1)
  })

  test('what does not fit is told with what would help; what cannot be planned is an error with its fix', { timeout: 180_000 }, async () => {
    const tight = await tributary(`plan --gemm-rate 100 --model ${model} --device-memory 64MiB --query-count 100000`)
    assert.equal(tight.code, 0, tight.stderr)
    assert.match(tight.stdout, /does not fit[^]*nothing fits: no join fits in 0\.06 GiB[^]*--memory/)
    const wrong = async (line: string): Promise<string> => {
      const { code, stderr } = await tributary(line)
      assert.ok(code === 1 || code === 2, `${line}: ${code}`)
      return stderr
    }
    assert.match(await wrong('plan --model nowhere --gemm-rate 100'), /nowhere[^]*fix: /)
    assert.match(await wrong('plan'), /--model/)
    assert.match(await wrong(`plan --model ${model} --gemm-rate 0`), /--gemm-rate/)
    assert.match(await wrong(`plan --model ${model} --gemm-rate 100 --track nothing.at.all`), /matches none/)
    assert.match(await wrong(`plan --model ${model} --gemm-rate 100 --stage-memory 1KiB`), /a stage of/)
  })

  test('a rate is measured where none is given', { timeout: 120_000 }, async () => {
    const { code, stdout, stderr } = await tributary(`plan --model ${model} --device cpu`)
    assert.equal(code, 0, stderr)
    assert.match(stdout, /products: [\d.,]+ GFLOP\/s \(cpu\)/)
    assert.match(stdout, /chosen/)
  })
})
