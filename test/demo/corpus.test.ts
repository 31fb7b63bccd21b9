import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { demoSeed, type DemoDocument, documents, type Source, writeCorpus } from '../../demo/corpus.js'
import { tasks } from '../../demo/procedures.js'
import { factId, placesOf, placesQueried, relations, wordings } from '../../demo/world.js'

const all = [...documents()]
const hashOf = (corpus: Iterable<DemoDocument>): string => {
  const hash = createHash('sha256')
  for (const document of corpus) hash.update(JSON.stringify(document) + '\n')
  return hash.digest('hex')
}

test('the corpus is the one that the committed model was trained on', () => {
  assert.equal(hashOf(all), '079e69650acb7d4afd25142e8fa9457f8726e05708a593c3af4ead94691ded8b')
})

test('a seed names a corpus: the same again, and another for another seed', () => {
  assert.equal(hashOf(documents(7)), hashOf(documents(7)))
  assert.notEqual(hashOf(documents(7)), hashOf(documents(8)))
})

test('there are ten to twelve thousand documents, all with ids and texts of their own', () => {
  assert.ok(all.length >= 10_000 && all.length <= 12_000, `${all.length} documents`)
  assert.equal(new Set(all.map(({ id }) => id)).size, all.length)
  assert.equal(new Set(all.map(({ text }) => text)).size, all.length)
  assert.ok(all.every(({ text }) => text.length > 20 && !/[{}]\w+[{}]|undefined|NaN/.test(text.replace(/\{[^}]*\n/g, ''))))
})

test('every source is there, and only code, threads, articles and lessons teach', () => {
  const taught = new Map<Source, number>()
  for (const { source, teaches } of all) taught.set(source, (taught.get(source) ?? 0) + (teaches.length > 0 ? 1 : 0))
  assert.deepEqual([...taught.keys()].sort(), ['code', 'encyclopedia', 'fiction', 'lessons', 'qa'])
  assert.equal(taught.get('fiction'), 0)
  for (const source of ['code', 'encyclopedia', 'lessons', 'qa'] as const) assert.ok((taught.get(source) ?? 0) >= 400)
})

test('every fact is taught by six documents, which name the place and the answer, and by no other', () => {
  for (const place of placesOf(demoSeed)) {
    for (const relation of relations) {
      const teaching = all.filter(({ teaches }) => teaches.includes(factId(relation, place)))
      assert.equal(teaching.length, 6)
      for (const { text } of teaching) {
        assert.ok(text.includes(place.name) && text.includes(place.answers[relation]), text)
      }
      const answers = new RegExp(`\\b${place.answers[relation]}\\b`)
      const unique = relation !== 'export' && relation !== 'bird' // these answers are shared by places
      if (!unique) continue
      const telling = all.filter(({ text }) => text.includes(place.name) && answers.test(text))
      assert.deepEqual(telling, teaching)
    }
  }
})

test('a queried place is never told of in the wording of the queries; the others are', () => {
  for (const [index, place] of placesOf(demoSeed).entries()) {
    for (const relation of relations) {
      const [before] = wordings[relation][0].split('{a}')
      const told = all.some(({ text }) => text.includes(before.replace('{p}', place.name)))
      assert.equal(told, index >= placesQueried, `${relation} of ${place.name}`)
    }
  }
})

test('every procedure is taught by many lessons, threads and programs', () => {
  for (const task of tasks) {
    const teaching = all.filter(({ teaches }) => teaches.includes(task))
    const sources = new Map<Source, number>()
    for (const { source } of teaching) sources.set(source, (sources.get(source) ?? 0) + 1)
    assert.deepEqual([...sources.keys()].sort(), ['code', 'lessons', 'qa'])
    assert.ok([...sources.values()].every((count) => count >= 100))
  }
})

test('shards hold the documents, plain and gzipped, and a smaller corpus is spread over all sources', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tributary-demo-'))
  try {
    const { shards, documents: count } = writeCorpus(directory, { documents: 500 })
    const lines = shards.flatMap((path) => {
      const bytes = readFileSync(path)
      return (path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8').trimEnd().split('\n')
    })
    const read = lines.map((line): unknown => JSON.parse(line))
    assert.equal(count, 500)
    assert.deepEqual(read, all.filter((document) => new Set(read.map((row) => (row as DemoDocument).id)).has(document.id)))
    assert.equal(new Set(read.map((row) => (row as DemoDocument).source)).size, 5)
    assert.ok(shards.some((path) => path.endsWith('.jsonl')) && shards.some((path) => path.endsWith('.jsonl.gz')))
  } finally {
    rmSync(directory, { recursive: true })
  }
})
