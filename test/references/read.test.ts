import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { readReference, referenceNames, type ReferenceTensor } from './read.js'

const dot = (x: ReferenceTensor, y: ReferenceTensor): number => {
  assert.deepEqual(x.shape, y.shape)
  return x.data.reduce((sum, value, i) => sum + value * y.data[i], 0)
}

const assertClose = (found: number, wanted: number): void =>
  assert.ok(Math.abs(found - wanted) <= 1e-9 * Math.max(1, Math.abs(wanted)), `${found}, wanted ${wanted}`)

for (const name of referenceNames) {
  test(`the parts of the reference ${name} fit together`, () => {
    const reference = readReference(name)
    const { documents, queries, layers, tensor } = reference
    assert.ok(existsSync(join(reference.modelDir, 'config.json')))
    assert.deepEqual(tensor('losses').shape, [documents.length])
    assert.deepEqual(tensor('measurements').shape, [queries.length])
    assert.ok(new Set(documents.map((tokens) => tokens.length)).size > 10, 'documents are of unequal lengths')

    const scores = tensor('scores.dense.ekfac') // [L, Q, N]
    assert.deepEqual(scores.shape, [layers.length, queries.length, documents.length])
    layers.forEach((layer, l) => {
      const preconditioned = tensor(`preconditioned.query.0.${layer.name}`)
      assert.deepEqual(preconditioned.shape, [layer.outputs, layer.inputs + (layer.bias ? 1 : 0)])
      for (const n of [0, 1, 2]) {
        const gradient = tensor(`gradient.document.${n}.${layer.name}`)
        assertClose(-dot(preconditioned, gradient), scores.data[l * queries.length * documents.length + n])
        assertClose(dot(gradient, gradient), tensor('squaredNorms').data[l * documents.length + n])
      }
    })
  })

  test(`influence of ${name} over all layers is that of the MLP layers and that of attention`, () => {
    const reference = readReference(name)
    const [mlp, attention, all] = (['mlp', 'attention', 'all'] as const).map((t) => reference.scores('dense.kfac', t))
    assert.deepEqual(all.shape, [reference.queries.length, reference.documents.length])
    all.data.forEach((score, i) => assertClose(score, mlp.data[i] + attention.data[i]))
  })

  test(`kronfluence and the dense reference of ${name} agree in rank and in size`, () => {
    const reference = readReference(name)
    for (const strategy of ['ekfac', 'kfac', 'diagonal', 'identity'] as const) {
      const dense = reference.scores(`dense.${strategy}`, 'all')
      const other = reference.scores(`kronfluence.${strategy}`, 'all')
      const error = Math.hypot(...dense.data.map((score, i) => score - other.data[i])) / Math.hypot(...dense.data)
      assert.ok(error < 1e-9, `${strategy}: ${error}`)
    }
  })
}

test('a tensor that a reference lacks is named, with those that it has', () => {
  assert.throws(() => readReference('micro').tensor('scores.dense.newton'), /"scores.dense.newton"; it has .*losses/)
})
