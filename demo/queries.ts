/**
 * @file The demo's queries: facts in a wording that no document uses for them, reasoning with held-out numbers, and
 * controls of the same looks that need neither. `node dist/demo/queries.js DIRECTORY` writes what demo/train.py needs:
 * `queries.jsonl` with the worked answers, and `evaluation.jsonl`, more questions of the same kinds. train.py then puts
 * the model's own greedy completions in their place where they are right, says whether they are, and writes
 * demo/queries.jsonl.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { chanceOf } from './chance.js'
import { demoSeed, writeCorpus } from './corpus.js'
import { drawProblem, type Problem, solve, state, statementsOfQueries, type Task, tasks } from './procedures.js'
import { factId, factPrompt, type Place, placesOf, placesQueried, type Relation, relations } from './world.js'

export interface DemoQuery {
  readonly id: string
  readonly prompt: string
  readonly completion: string
  readonly group: 'factual' | 'reasoning' | 'control'
  readonly task: 'facts' | Task
  readonly answer: string
  /** The calculations in order, as a document would write them; the answer alone for facts; none for controls. */
  readonly steps: readonly string[]
  /** What a document must teach to be planted truth for this query; none for controls. */
  readonly teaches: readonly string[]
  /** Whether the model's own greedy completion gives the answer; absent until train.py has asked it. */
  readonly correct?: boolean
}

const reasoningPerTask = 8

/** All queries with worked answers for completions: 24 facts, 24 problems, 12 controls. */
export const queries = (seed = demoSeed): DemoQuery[] => {
  const places = placesOf(seed)
  return [
    ...places.slice(0, placesQueried).map((place, index) => factQuery(place, relations[index % relations.length])),
    ...tasks.flatMap((task) => problemsOf(task, reasoningPerTask, seed, 'queries').map(reasoningQuery)),
    ...controlQueries(seed),
  ]
}

/** Questions to measure the model with: `perTask` held-out problems a task, other than the queries', and all facts. */
export const evaluation = (seed = demoSeed, perTask = 200): DemoQuery[] => {
  const asked = new Set(queries(seed).map((query) => query.id))
  return [
    ...placesOf(seed).flatMap((place) => relations.map((relation) => factQuery(place, relation))),
    ...tasks.flatMap((task) =>
      problemsOf(task, perTask + reasoningPerTask, seed, 'evaluation')
        .map(reasoningQuery)
        .filter((query) => !asked.has(query.id))
        .slice(0, perTask),
    ),
  ]
}

const factQuery = (place: Place, relation: Relation): DemoQuery => ({
  id: `fact-${relation}-${place.name.toLowerCase()}`,
  ...factPrompt(place, relation),
  group: 'factual',
  task: 'facts',
  answer: place.answers[relation],
  steps: [place.answers[relation]],
  teaches: [factId(relation, place)],
})

/** Problems that are held out, no two alike. */
const problemsOf = (task: Task, count: number, seed: number, use: string): Problem[] => {
  const chance = chanceOf(seed, `${use}/${task}`)
  const problems = new Map<string, Problem>()
  for (let tries = 0; problems.size < count && tries < 100_000; tries++) {
    const problem = drawProblem(task, chance, { heldOut: true })
    problems.set(problem.formula, problem)
  }
  return [...problems.values()]
}

const reasoningQuery = (problem: Problem, index: number): DemoQuery => {
  const statement = state(problem, index % statementsOfQueries)
  const asThread = index % 2 === 1
  return {
    id: `${problem.task}-${problem.numbers.join('-').replace('--', '-m')}`,
    prompt: asThread ? `Question: ${statement}\nAnswer:` : `Problem: ${statement}\nSolution:`,
    completion: ` ${solve(problem)}`,
    group: 'reasoning',
    task: problem.task,
    answer: String(problem.answer),
    steps: problem.steps,
    teaches: [problem.task],
  }
}

/** The answer stands in the prompt; the places are none of the corpus, and the numbers none of its problems. */
const controlQueries = (seed: number): DemoQuery[] => {
  const chance = chanceOf(seed, 'controls')
  const control = (id: string, task: DemoQuery['task'], subject: string, answer: string): DemoQuery => ({
    id: `control-${id}`,
    prompt: `Given: ${subject} is ${answer}.\nRestated: ${subject} is`,
    completion: ` ${answer}.`,
    group: 'control',
    task,
    answer,
    steps: [],
    teaches: [],
  })
  const restated: Readonly<Record<Task, (problem: Problem) => string>> = {
    slope: (problem) => `the slope of the line through ${problem.formula}`,
    arithmetic: (problem) => `the result of ${problem.formula}`,
    linear: (problem) => `the x of ${problem.formula}`,
  }
  return [
    control('capital-tolvara', 'facts', 'the capital of Tolvara', 'Brenwick'),
    control('capital-eskmora', 'facts', 'the capital of Eskmora', 'Yargate'),
    control('founder-quilheim', 'facts', 'the founder of Quilheim', 'Selma'),
    ...tasks.flatMap((task) =>
      [0, 1, 2].map((index) => {
        const problem = drawProblem(task, chance, { heldOut: true })
        return control(`${task}-${index}`, task, restated[task](problem), String(problem.answer))
      }),
    ),
  ]
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const directory = process.argv[2]
  if (!directory) throw new Error('say where to write: node dist/demo/queries.js DIRECTORY')
  mkdirSync(directory, { recursive: true })
  const lines = (rows: readonly unknown[]): string => rows.map((row) => JSON.stringify(row) + '\n').join('')
  writeFileSync(join(directory, 'queries.jsonl'), lines(queries()))
  writeFileSync(join(directory, 'evaluation.jsonl'), lines(evaluation()))
  const { shards, documents } = writeCorpus(join(directory, 'corpus'))
  console.log(`${documents} documents in ${shards.length} shards, queries and evaluation in ${directory}`)
}
