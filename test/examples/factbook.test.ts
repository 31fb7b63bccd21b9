/** The pure parts of the factbook example: cutting texts, the exact tests, and the verdict on made-up scores. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { packageRoot } from '../../src/base/index.js'
import { capitalQueries, check, parseScores, report, type Score } from '../../examples/factbook/check.js'
import {
  codeDocuments, corpus, countryDocuments, countryOf, ownDocument, pieces, shard, untagged,
  type Packages, type Profile,
} from '../../examples/factbook/corpus.js'
import { binomialTail, medianByChance, signTest, upperMedian } from '../../examples/factbook/statistics.js'

/** Words as tokens: what joins them counts for nothing, as in no real tokenizer but close enough to see bounds. */
const words = (text: string): number => text.split(/\s+/).filter((word) => word !== '').length
const bounds = { tokensMax: 30, tokensMin: 3, count: words }

const mali: Profile = {
  Introduction: { Background: { text: 'The Sudanese Republic and Senegal became independent of France in 1960.' } },
  Geography: { Location: { text: 'interior Western Africa' }, Area: { total: { text: '1,240,192 sq km' }, water: { text: null } } },
  Government: {
    'Country name': { 'conventional long form': { text: 'Republic of Mali' }, 'conventional short form': { text: 'Mali' } },
    Capital: { name: { text: 'Bamako' }, 'geographic coordinates': { text: '12 39 N, 8 00 W' } },
    'Government type': { text: 'republic' },
  },
}
const chad: Profile = {
  Government: { 'Country name': { 'conventional short form': { text: 'Chad' } }, Capital: { name: { text: "N'Djamena" } } },
}
const ocean: Profile = { Geography: { Location: { text: 'body of water' } } }

test('a country has one document that states its capital, and it comes first', () => {
  const documents = [...countryDocuments(mali, bounds)]
  assert.equal(documents[0].id, 'factbook/mali/capital')
  assert.equal(documents[0].country, 'Mali')
  assert.match(documents[0].text, /^The World Factbook: Mali\nCapital: Bamako; .*\nCountry name: .*Republic of Mali/)
  assert.ok(documents.slice(1).every(({ text }) => !text.includes('Bamako')))
  assert.deepEqual(documents.slice(1).map(({ id }) => id), ['factbook/mali/introduction/0', 'factbook/mali/geography/0'])
  assert.equal(documents[2].text, 'The World Factbook: Mali. Geography\nArea: total: 1,240,192 sq km')
})

test('what is no country has no document', () => {
  assert.equal(countryOf(ocean), undefined)
  assert.deepEqual([...countryDocuments(ocean, bounds)], [])
})

test('ids of own documents are spelt from the country alone', () => {
  assert.equal(ownDocument("Cote d'Ivoire"), 'factbook/cote-d-ivoire/capital')
})

test('the tags of the Brown corpus come off, and marks join the words they belong to', () => {
  assert.equal(
    untagged("\tThe/at jury/nn said/vbd ,/, ``/`` no/at evidence/nn ''/'' of/in (/( any/dti )/) kind/nn ;/. ;/. and/or/cc more/ap ./."),
    'The jury said, "no evidence" of (any) kind; and/or more.',
  )
  assert.equal(untagged(''), '')
})

test('pieces keep every line in order, and no piece is over the bound', () => {
  const line = fc.array(fc.constantFrom('a', 'bb', 'ccc'), { minLength: 1, maxLength: 50 }).map((parts) => parts.join(' '))
  fc.assert(fc.property(fc.array(line, { maxLength: 20 }), fc.integer({ min: 2, max: 30 }), (lines, tokensMax) => {
    const texts = [...pieces(lines, { tokensMax, tokensMin: 0, count: words })]
    assert.ok(texts.every((text) => words(text) <= tokensMax))
    assert.equal(texts.join(' ').replace(/\s+/g, ' '), lines.join(' '))
  }))
})

test('a line without a space is cut where it must be, never inside a character', () => {
  const letters = { tokensMax: 3, tokensMin: 0, count: (text: string) => text.length }
  assert.deepEqual([...pieces(['abcdefgh'], letters)], ['abc', 'def', 'gh'])
  assert.deepEqual([...pieces(['a😀😀b'], letters)], ['a😀', '😀b'])
})

test('what is left over and too short is dropped', () => {
  assert.deepEqual([...pieces(['one two three four', 'five'], { tokensMax: 4, tokensMin: 2, count: words })], ['one two three four'])
  assert.deepEqual([...codeDocuments({ path: 'x.js', text: '\r\n\r\n' }, bounds)], [])
})

test('the corpus takes of every file in turn, holds the queried countries, and is the same every time', () => {
  const code = Array.from({ length: 5 }, (_, at) => ({ path: `f${at}.js`, text: 'let a = 1\n'.repeat(20) }))
  const packages: Packages = {
    factbook: [mali, chad, ocean].map((profile, at) => ({ path: `x/${at}.json`, text: JSON.stringify(profile) })),
    brown: [{ path: 'ca01', text: 'The/at jury/nn said/vbd so/rb ./.' }],
    code,
  }
  const options = { ...bounds, shares: { factbook: 1, brown: 5, code: 7 } }
  for (const country of ['Mali', 'Chad']) {
    const documents = corpus(packages, { ...options, countries: [country] })
    assert.equal(documents[0].id, ownDocument(country))
    assert.deepEqual(documents, corpus(packages, { ...options, countries: [country] }))
    assert.deepEqual(documents.map(({ source }) => source), ['factbook', 'brown', ...Array<string>(7).fill('code')])
    assert.equal(new Set(documents.slice(2).map(({ id }) => id.split('/')[1])).size, 5)
  }
  assert.throws(() => corpus(packages, { ...options, countries: ['Atlantis'] }), /no capital of Atlantis/)
})

test('a shard has a document a line', () => {
  assert.equal(shard([{ id: 'a', text: 'x\ny', source: 'code' }]), '{"id":"a","text":"x\\ny","source":"code"}\n')
})

test('the binomial tail agrees with sums of exact integers', () => {
  // P(Bin(5, 1/2) ≥ 3) = 16/32; P(Bin(4, 1/4) ≥ 3) = (4·3 + 1)/256
  assert.ok(Math.abs(binomialTail(5, 0.5, 3) - 0.5) < 1e-15)
  assert.ok(Math.abs(binomialTail(4, 0.25, 3) - 13 / 256) < 1e-15)
  assert.equal(binomialTail(4, 0.25, 0), 1)
  assert.equal(binomialTail(4, 0.25, 5), 0)
})

test('the chance of a median is what counting all ranks gives', () => {
  const N = 5
  const n = 3
  for (let m = 0; m < N; m++) {
    let asLow = 0
    for (let a = 0; a < N; a++) for (let b = 0; b < N; b++) for (let c = 0; c < N; c++) if (upperMedian([a, b, c]) <= m) asLow++
    assert.ok(Math.abs(medianByChance([m, m, m], N) - asLow / N ** n) < 1e-14)
  }
})

test('the sign test leaves ties out', () => {
  assert.equal(signTest([[1, 1]]), 1)
  assert.ok(Math.abs(signTest([[1, 2], [1, 2], [3, 3], [2, 1]]) - 0.5) < 1e-15) // P(Bin(3, 1/2) ≥ 2)
})

const queriesText = readFileSync(join(packageRoot(), 'examples', 'factbook', 'queries.jsonl'), 'utf8')

test('the queries are queries, with enough capitals and arithmetic whose steps are right', () => {
  assert.ok(capitalQueries(queriesText).length >= 25)
  const rows = queriesText.trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>)
  assert.equal(new Set(rows.map(({ id }) => id)).size, rows.length)
  for (const row of rows) assert.ok(['factual', 'reasoning', 'control'].includes(String(row.group)) && row.completion !== '')
  const reasoning = rows.filter(({ group, task }) => group === 'reasoning' && task === 'arithmetic')
  assert.ok(reasoning.length >= 4)
  for (const { prompt, completion, answer } of reasoning) {
    const [, a, sign, b, next, c] = (/\((\d+) ([-+/]) (\d+)\) ([*+]) (\d+)/.exec(String(prompt)) ?? []).map((x) => (Number.isNaN(Number(x)) ? x : Number(x)))
    const inner = sign === '+' ? Number(a) + Number(b) : sign === '-' ? Number(a) - Number(b) : Number(a) / Number(b)
    const outer = next === '*' ? inner * Number(c) : inner + Number(c)
    assert.equal(answer, String(outer))
    assert.match(String(completion), new RegExp(`= ${inner}\\n${inner} .* = ${outer}\\nThe answer is ${outer}\\.$`))
  }
})

/** Scores of every capital against its own document, at the rank that `rankOf` says, among 60 documents. */
const scoresAt = (rankOf: (at: number) => number): readonly Score[] => {
  const queries = capitalQueries(queriesText)
  return queries.flatMap(({ id, country }, at) => {
    const own = ownDocument(country)
    const others = [
      ...queries.map((other) => ownDocument(other.country)).filter((document) => document !== own),
      ...Array.from({ length: 60 - queries.length }, (_, i) => `code/x/${i}`),
    ]
    others.splice(rankOf(at), 0, own)
    return others.map((document, rank) => ({
      query: id, document, influence: 100 - rank, influencePerNat: (100 - rank) / 4, influenceNormed: 50 - rank,
    }))
  })
}

test('the check passes where own documents come first, and says what the ranks were', () => {
  const verdict = check(capitalQueries(queriesText), { ekfac: scoresAt((at) => at % 3), identity: scoresAt(() => 29) })
  assert.deepEqual(verdict.failures, [])
  assert.equal(verdict.documents, 60)
  assert.equal(verdict.summaries.influence.ekfac.median, 1)
  assert.equal(verdict.summaries.influenceNormed.identity.median, 29)
  assert.ok(verdict.summaries.influence.ekfac.byChance < 1e-9 && verdict.pairs.influence.byChance < 1e-6)
  assert.equal(verdict.rows[0].nats, 4)
  assert.match(report(verdict), /passed$/)
})

test('the check fails by chance ranks, and where the dot product does as well', () => {
  const byChance = check(capitalQueries(queriesText), { ekfac: scoresAt((at) => (at * 7) % 60), identity: scoresAt(() => 59) })
  assert.match(byChance.failures.join('\n'), /may be chance/)
  const noBetter = check(capitalQueries(queriesText), { ekfac: scoresAt(() => 2), identity: scoresAt(() => 2) })
  assert.match(report(noBetter), /FAILED: .*median rank 2 against 2, the own document higher for 0 queries and lower for 0/)
  const tied = check(capitalQueries(queriesText), { ekfac: scoresAt(() => 0), identity: scoresAt((at) => (at < 3 ? 5 : 0)) })
  assert.deepEqual([tied.failures, tied.pairs.influence.higher, tied.pairs.influence.lower], [[], 3, 0])
})

test('a check of too few capitals, or without an own document, is no check', () => {
  const [first] = capitalQueries(queriesText)
  const scores = scoresAt(() => 0)
  assert.throws(() => check([first], { ekfac: scores, identity: scores }), /wants 20/)
  const without = scores.filter(({ document }) => document !== ownDocument(first.country))
  assert.throws(() => check([first], { ekfac: without, identity: without }), /no document "factbook\/mali\/capital"/)
  assert.throws(() => parseScores('x', '{"query":"a"}'), /x, line 1 is no score/)
})
