import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { concat, from, Observable, of, Subject, throwError } from 'rxjs'
import { pulled } from '../../../src/pipeline/operators/pulled.js'

const never = new AbortController().signal
const all = async <V>(values: AsyncIterable<V>): Promise<V[]> => {
  const found: V[] = []
  for await (const value of values) found.push(value)
  return found
}
const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('pulled', () => {
  test('values come in order, those that were pushed at once and those that come later', async () => {
    assert.deepEqual(await all(pulled(from([1, 2, 3]), never)), [1, 2, 3])
    assert.deepEqual(await all(pulled(concat(of(1, undefined), tick().then(() => 2), of(3)), never)), [1, undefined, 2, 3])
    assert.deepEqual(await all(pulled(of<number[]>(), never)), [])
  })

  test('what was pushed before an error comes before it', async () => {
    const found: number[] = []
    await assert.rejects(async () => {
      for await (const value of pulled(concat(of(1, 2), throwError(() => new Error('broke'))), never)) found.push(value)
    }, /broke/)
    assert.deepEqual(found, [1, 2])
  })

  test('after an abort one more value comes, the one in the making, and then the end', async () => {
    const source = new Subject<number>()
    const controller = new AbortController()
    const values = pulled(source, controller.signal)
    const first = values.next()
    source.next(1)
    assert.deepEqual(await first, { done: false, value: 1 })
    controller.abort()
    const second = values.next()
    source.next(2)
    source.next(3)
    assert.deepEqual(await second, { done: false, value: 2 })
    assert.equal((await values.next()).done, true)
    assert.equal(source.observed, false)
  })

  test('an abort before the start still gives one value', async () => {
    assert.deepEqual(await all(pulled(from([1, 2, 3]), AbortSignal.abort())), [1])
  })

  test('whoever stops pulling ends the subscription', async () => {
    let ended = false
    const source = new Observable<number>((subscriber) => {
      subscriber.next(1)
      return () => (ended = true)
    })
    for await (const value of pulled(source, never)) {
      assert.equal(value, 1)
      break
    }
    assert.ok(ended)
  })
})
