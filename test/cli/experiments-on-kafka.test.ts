/** @file `replay`, `diff`, `sum`, `reset` and `doctor` as child processes on a real broker, beside the same in a home. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { packageRoot } from '../../src/base/index.js'
import { withBroker } from '../log/kafka/broker.js'
import { temporaryFolder, tributaryIn, writeLines, type Ended } from './tributary.js'

const model = join(packageRoot(), 'demo', 'model')

interface Diff { readonly queries: readonly { readonly query: string; readonly compared: number; readonly spearman: number }[] }

await withBroker('experiments on a cluster', { overrides: {} }, (broker) => {
  const folder = temporaryFolder()
  const tributary = tributaryIn(folder)
  const on = (log: string) => async (line: string): Promise<Ended> => await tributary([...line.split(' '), '--quiet', '--home', log.startsWith('kafka') ? 'cluster' : 'home', '--log', log])

  test('come to what they come to on the embedded log, and bad ones are refused', { timeout: 400_000 }, async () => {
    const documents = writeLines(folder, 'documents.jsonl', Array.from({ length: 24 }, (_, i) => ({
      id: `d${i}`, source: i % 2 === 0 ? 'even' : 'odd', text: `The capital of country ${i} is town ${i * 7}. It has a river.`,
    })))
    const queries = writeLines(folder, 'queries.jsonl', [{ id: 'capital', prompt: 'The capital of country 3 is', completion: ' town 21.' }])
    const found: Record<string, unknown>[] = []
    for (const log of ['embedded', `kafka://${broker.plaintext}`]) {
      const run = on(log)
      const done = async (line: string): Promise<string> => {
        const { code, stdout, stderr } = await run(line)
        assert.equal(code, 0, `${line} on ${log}: ${stderr}`)
        return stdout
      }
      await done(`ingest ${documents}`)
      await done(`queries add ${queries}`)
      await done(`fit --model ${model} --factors made --documents 24 --strategy identity`)
      await done(`score --model ${model} --factors made --run one`)
      await done('replay --run two --from one --set damping=5x --source odd')
      await done('replay --run three --from one --set k=7')
      await done('sum one=1 three=0.5 --run both')
      const { queries: compared } = JSON.parse(await done('diff one two --json')) as Diff
      found.push({
        compared: compared.map(({ query, compared: ranked, spearman }) => [query, ranked, spearman]),
        two: await done('topk --run two'), both: await done('topk --run both -k 5'),
      })
      assert.equal(compared[0].compared, 12)

      const refused = async (line: string, pattern: RegExp): Promise<void> => {
        const { code, stderr } = await run(line)
        assert.ok(code === 1 || code === 2, `${line}: ${code}`)
        assert.match(stderr, pattern)
      }
      await refused('replay --run four --from none', /no run "none"/)
      await refused('diff one none', /no run "none"/)
      await refused('sum one=1 none=1 --run bad', /no run "none"/)
      await refused('reset --run two', /--yes/)
      assert.match(await done('reset --run two --yes'), /is reset/)
      await refused('topk --run two', /no run "two"/)
      await done('replay --run two --from one --set damping=5x --source odd')
      assert.equal(await done('topk --run two'), found.at(-1)?.two)
    }
    assert.deepEqual(found[1], found[0])
    assert.match((await on(`kafka://${broker.plaintext}`)('doctor')).stdout, /^ok +log: kafka:[^\n]+ topics, 24 documents/m)
  })
})
