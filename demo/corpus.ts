/**
 * @file The demo's corpus: about ten thousand short documents from five sources, made from a seed. Each says what it
 * teaches, so that what a table finds can be held against what was planted:
 *
 *     fact:capital:Velmora       told by five articles and one thread, each in its own words
 *     slope | arithmetic | linear   a procedure, told by lessons, threads and code with numbers of their own
 *
 * The numbers of the queries are held out (procedures.ts), and so is the wording in which they ask for facts (world.ts).
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { fiction, otherArticle, otherCode, otherThread, placeArticle, remarkOnPlace, restatement } from './background.js'
import { type Chance, chanceOf, fill } from './chance.js'
import { code, drawProblem, lesson, type Problem, type Task, tasks, thread } from './procedures.js'
import { factId, type Place, placesOf, questions, type Relation, relations, shortAnswers, tell, wordings } from './world.js'

export type Source = 'encyclopedia' | 'code' | 'qa' | 'lessons' | 'fiction'

export interface DemoDocument {
  readonly id: string
  readonly text: string
  readonly source: Source
  /** The facts (`fact:capital:Velmora`) and procedures (`slope`) that the document teaches; none for background. */
  readonly teaches: readonly string[]
}

/** The seed of the corpus that the committed model was trained on. */
export const demoSeed = 20240612

/** How many documents of each kind; articles and threads on facts follow from the places. */
const counts = {
  lessonsPerTask: 1000,
  threadsPerTask: 350,
  programsPerTask: 150,
  otherCode: 1300,
  otherThreads: 500,
  restatements: 400,
  placeArticles: 250,
  otherArticles: 600,
  fiction: 1900,
} as const

/** All documents, source by source, within a source in random order; ids count within the source. */
export function* documents(seed = demoSeed): Generator<DemoDocument> {
  const places = placesOf(seed)
  const bySource: Readonly<Record<Source, readonly Draft[]>> = {
    encyclopedia: [
      ...places.flatMap((place) => articles(place, chanceOf(seed, `articles/${place.name}`))),
      ...background(seed, 'place', counts.placeArticles, (chance) => placeArticle(chance, places)),
      ...background(seed, 'article', counts.otherArticles, otherArticle),
    ],
    code: [
      ...tasks.flatMap((task) => worked(seed, task, 'code', counts.programsPerTask, code)),
      ...background(seed, 'program', counts.otherCode, otherCode),
    ],
    qa: [
      ...places.flatMap((place) => factThreads(place, chanceOf(seed, `threads/${place.name}`))),
      ...tasks.flatMap((task) => worked(seed, task, 'thread', counts.threadsPerTask, thread)),
      ...background(seed, 'household', counts.otherThreads, otherThread),
      ...background(seed, 'restatement', counts.restatements, restatement),
    ],
    lessons: tasks.flatMap((task) => worked(seed, task, 'lesson', counts.lessonsPerTask, lesson)),
    fiction: background(seed, 'fiction', counts.fiction, (chance) => fiction(chance, places)),
  }
  for (const source of Object.keys(bySource) as Source[]) {
    const drafts = chanceOf(seed, `order/${source}`).shuffle(bySource[source])
    for (const [index, draft] of drafts.entries()) {
      yield { id: `${source}-${String(index).padStart(5, '0')}`, source, ...draft }
    }
  }
}

export interface WrittenCorpus {
  /** Full paths of the shards, plain and gzipped JSON lines. */
  readonly shards: readonly string[]
  readonly documents: number
}

/**
 * Writes the corpus into `directory` (made if missing) as shards of at most 2,000 lines, every second one gzipped.
 * `documents` keeps at most that many, evenly spread over all of them.
 */
export const writeCorpus = (directory: string, options: { seed?: number; documents?: number } = {}): WrittenCorpus => {
  const all = [...documents(options.seed)]
  const kept = thin(all, options.documents ?? all.length)
  const shards: string[] = []
  mkdirSync(directory, { recursive: true })
  for (const [source, ofSource] of groupBySource(kept)) {
    for (let start = 0; start < ofSource.length; start += linesPerShardMax) {
      const lines = ofSource.slice(start, start + linesPerShardMax).map((document) => JSON.stringify(document) + '\n')
      const gzipped = shards.length % 2 === 1
      const path = join(directory, `${source}-${start / linesPerShardMax}.jsonl${gzipped ? '.gz' : ''}`)
      const bytes = Buffer.from(lines.join(''), 'utf8')
      writeFileSync(path, gzipped ? gzipSync(bytes) : bytes)
      shards.push(path)
    }
  }
  return { shards, documents: kept.length }
}

const linesPerShardMax = 2000

interface Draft {
  readonly text: string
  readonly teaches: readonly string[]
}

/** One article for each pair of facts of a place: every fact in five articles, each time in another wording. */
const articles = (place: Place, chance: Chance): Draft[] => {
  const wordingsLeft = new Map<Relation, number[]>()
  for (const relation of relations) {
    const all = wordings[relation].map((_, wording) => wording)
    const [unseen, ...others] = all
    wordingsLeft.set(relation, chance.shuffle(place.queryWordingUnseen ? others : [unseen, ...others.slice(1)]))
  }
  const sentence = (relation: Relation): string => tell(place, relation, wordingsLeft.get(relation)?.pop() ?? 1)
  return pairs(relations).map((pair) => {
    const sentences = chance.shuffle(pair).map(sentence)
    const at = chance.int(0, sentences.length)
    return {
      text: [...sentences.slice(0, at), remarkOnPlace(chance, place), ...sentences.slice(at)].join(' '),
      teaches: pair.map((relation) => factId(relation, place)),
    }
  })
}

/** One thread for each fact of a place. */
const factThreads = (place: Place, chance: Chance): Draft[] =>
  relations.map((relation) => {
    const question = fill(chance.pick(questions[relation]), { p: place.name })
    const answer = fill(shortAnswers[relation], { a: place.answers[relation] })
    return {
      text: fill(chance.pick(factThreadForms), { question, answer, p: place.name }),
      teaches: [factId(relation, place)],
    }
  })

const factThreadForms = [
  'Question: {question}\nAnswer: I looked it up: {answer}.',
  'Question: I am reading about {p}. {question}\nAnswer: That is {answer}.',
  'Question: {question} It is for a quiz about {p}.\nAnswer: It should be {answer}.',
  'Question: Who knows {p}? {question}\nAnswer: I lived there for a year. It is {answer}.',
]

/** As many documents as asked, no two of them alike: a text that was written before is drawn again. */
const distinct = (
  { seed, kind, count }: { seed: number; kind: string; count: number },
  write: (chance: Chance) => Draft,
): Draft[] => {
  const written = new Map<string, Draft>()
  for (let attempt = 0; written.size < count; attempt++) {
    if (attempt > 50 * count) throw new Error(`${kind}: fewer than ${count} different documents`)
    const draft = write(chanceOf(seed, `${kind}/${attempt}`))
    if (!written.has(draft.text)) written.set(draft.text, draft)
  }
  return [...written.values()]
}

/** Documents that teach a task, each with a problem that is not held out. */
const worked = (
  seed: number,
  task: Task,
  kind: string,
  count: number,
  write: (problem: Problem, chance: Chance) => string,
): Draft[] =>
  distinct({ seed, kind: `${kind}/${task}`, count }, (chance) => ({
    text: write(drawProblem(task, chance, { heldOut: false }), chance),
    teaches: [task],
  }))

const background = (seed: number, kind: string, count: number, write: (chance: Chance) => string): Draft[] =>
  distinct({ seed, kind, count }, (chance) => ({ text: write(chance), teaches: [] }))

const pairs = <T>(items: readonly T[]): [T, T][] =>
  items.flatMap((first, i) => items.slice(i + 1).map((second): [T, T] => [first, second]))

const thin = <T>(items: readonly T[], count: number): T[] =>
  count >= items.length
    ? [...items]
    : Array.from({ length: count }, (_, index) => items[Math.floor((index * items.length) / count)])

const groupBySource = (all: readonly DemoDocument[]): Map<Source, DemoDocument[]> => {
  const groups = new Map<Source, DemoDocument[]>()
  for (const document of all) {
    const group = groups.get(document.source)
    if (group) group.push(document)
    else groups.set(document.source, [document])
  }
  return groups
}
