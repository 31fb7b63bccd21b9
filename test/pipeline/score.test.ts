import assert from 'node:assert/strict'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { documentOf, driveFit, driveScore, homeWith, influenceOf, temporary } from './drive.js'
import { tinyCheckpoint } from './tiny-checkpoint.js'

describe('a run', () => {
  const folder = temporary()
  let model = ''
  before(async () => {
    model = await tinyCheckpoint(join(folder, 'model'))
  })

  test('scores each document once', async () => {
    const { home, log } = await homeWith(Array.from({ length: 60 }, (_, i) => documentOf(i)))
    console.time('fit')
    console.log(await driveFit(log, home, model))
    console.timeEnd('fit')
    console.time('score')
    console.log(await driveScore(log, home, model))
    console.timeEnd('score')
    const influence = await influenceOf(log)
    assert.equal(influence.length, 60)
    console.log(influence[0])
  })
})
