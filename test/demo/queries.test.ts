import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { demoSeed, documents } from '../../demo/corpus.js'
import { chanceOf } from '../../demo/chance.js'
import { drawProblem, isHeldOut, tasks } from '../../demo/procedures.js'
import { type DemoQuery, evaluation, queries } from '../../demo/queries.js'
import { found, teaches, teachesOf, teachingsOf } from '../../demo/truth.js'
import { placesOf } from '../../demo/world.js'

const all = [...documents()]
const made = queries()
const ofGroup = (group: DemoQuery['group']): DemoQuery[] => made.filter((query) => query.group === group)
/** All whole numbers of a text, in order, with their signs ("6x - 4" has 6 and -4). */
const integers = (text: string): string => ` ${(text.replaceAll('- ', '-').match(/-?\d+/g) ?? []).join(' ')} `

test('queries.jsonl is what the code makes, with completions by the model', () => {
  // The tests run compiled, in dist; the file lies in the repository.
  const lines = readFileSync(join(process.cwd(), 'demo', 'queries.jsonl'), 'utf8').trimEnd().split('\n')
  const committed = lines.map((line) => JSON.parse(line) as DemoQuery)
  const bare = ({ completion: _, correct: __, ...rest }: DemoQuery): object => rest
  assert.deepEqual(committed.map(bare), made.map(bare))
  for (const [index, { completion, correct, answer, id }] of committed.entries()) {
    assert.equal(typeof correct, 'boolean')
    assert.ok(completion.startsWith(' ') && completion.endsWith('.'), `${id}: "${completion}"`)
    assert.ok(completion.includes(answer), `${id}: "${completion}"`)
    if (!correct) assert.equal(completion, made[index].completion)
  }
  for (const group of ['factual', 'reasoning']) {
    const right = committed.filter((query) => query.group === group && query.correct)
    assert.ok(right.length >= 10, `the model gets only ${right.length} of group ${group} right`)
  }
})

test('there are enough queries of each group, all different', () => {
  assert.ok(ofGroup('factual').length >= 20 && ofGroup('reasoning').length >= 20 && ofGroup('control').length >= 10)
  assert.equal(new Set(made.map(({ id }) => id)).size, made.length)
  assert.equal(new Set(made.map(({ prompt }) => prompt)).size, made.length)
})

test('every factual query is taught by six documents, none of which has its words', () => {
  for (const query of ofGroup('factual')) {
    assert.equal(all.filter((document) => teaches(query, document)).length, 6)
    assert.ok(!all.some(({ text }) => text.includes(query.prompt)), query.prompt)
  }
})

test('no document has the numbers of a reasoning query, and its steps and answer stand in the worked solution', () => {
  for (const query of ofGroup('reasoning')) {
    const given = integers(query.prompt).trim().split(' ')
    const teaching = all.filter((document) => teaches(query, document))
    assert.ok(teaching.length >= 1000)
    for (const { text } of teaching) {
      // In code the numbers stand in the call of the example; elsewhere in the first line, the problem itself.
      const call = /(?:slope|evaluate|solve)(\([^a-z]*\d\]?\)?\))/.exec(text)
      const problem = /^(Problem|Question)/.test(text) ? text.split('\n')[0] : (call?.[1] ?? assert.fail(text))
      assert.ok(!integers(problem).includes(` ${given.join(' ')} `), `${query.id}: ${text}`)
    }
    for (const step of query.steps) assert.ok(query.completion.includes(step), `${query.id}: ${step}`)
    assert.ok(query.completion.endsWith(` ${query.answer}.`))
  }
})

test('a control needs nothing, gives its answer in the prompt and speaks of no place of the corpus', () => {
  const places = placesOf(demoSeed)
  for (const query of ofGroup('control')) {
    assert.deepEqual(query.teaches, [])
    assert.ok(query.prompt.includes(` is ${query.answer}.`))
    assert.ok(!places.some(({ name }) => query.prompt.includes(name)))
  }
})

test('the evaluation asks other problems than the queries, all held out', () => {
  const asked = new Set(ofGroup('reasoning').map(({ id }) => id))
  const problems = evaluation().filter(({ group }) => group === 'reasoning')
  for (const task of tasks) assert.ok(problems.filter((query) => query.task === task).length >= 150)
  assert.ok(!problems.some(({ id }) => asked.has(id)))
  const chance = chanceOf(1, 'held out')
  for (const task of tasks) assert.ok(isHeldOut(drawProblem(task, chance, { heldOut: true })))
})

test('truth counts what a ranking found', () => {
  const [query] = ofGroup('factual')
  const teachings = teachingsOf(all)
  const planted = all.filter((document) => teaches(query, document)).map(({ id }) => id)
  const others = all.filter((document) => !teaches(query, document)).map(({ id }) => id)
  const ranking = [others[0], planted[3], others[1], planted[0], ...others.slice(2), planted[1]]
  assert.deepEqual(found(query, { ranking, k: 10, teachings }), {
    planted: 6,
    found: 2,
    foundMax: 6,
    foundByChance: 60 / all.length,
    firstRank: 1,
  })
  assert.equal(found(ofGroup('control')[0], { ranking, k: 10, teachings }).planted, 0)
})

test('what a document teaches is read from the other fields of its record', () => {
  assert.deepEqual(teachesOf('{"teaches":["slope"],"more":1}'), ['slope'])
  assert.deepEqual(teachesOf('{"teaches":[1,"slope"]}'), ['slope'])
  for (const extra of [null, '{}', '[]', '1', 'null', '{"teaches":"slope"}']) assert.deepEqual(teachesOf(extra), [])
})
