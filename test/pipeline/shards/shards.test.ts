import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { UserError } from '../../../src/base/index.js'
import { findShards, readShard, type ShardDocument, type ShardLine, type ShardOptions } from '../../../src/pipeline/shards/index.js'
import { splitLines } from '../../../src/pipeline/shards/lines.js'
import { Xxh64 } from '../../../src/pipeline/shards/xxh64.js'

// Compiled to dist/test/..., the fixtures stay in test/...
const fixtures = fileURLToPath(import.meta.url).replace(/shards\.test\.js$/, 'fixtures/').replace('/dist/test/', '/test/')
let folder = ''
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tributary-shards-'))
})
after(() => rm(folder, { recursive: true }))

const write = async (name: string, content: string | Uint8Array): Promise<string> => {
  const path = join(folder, name)
  await writeFile(path, content)
  return path
}
/** All lines, and the error that ended them. */
const readAll = async (path: string, options?: ShardOptions): Promise<{ lines: ShardLine[]; error?: UserError }> => {
  const lines: ShardLine[] = []
  try {
    for await (const line of readShard(path, options)) lines.push(line)
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    return { lines, error }
  }
  return { lines }
}
const read = async (name: string, content: string | Uint8Array, options?: ShardOptions): Promise<ShardLine[]> => {
  const { lines, error } = await readAll(await write(name, content), options)
  assert.equal(error, undefined)
  return lines
}
const documents = (lines: readonly ShardLine[]): ShardDocument[] =>
  lines.map((line) => ('ok' in line ? line.ok : assert.fail(line.problem)))
const problems = (lines: readonly ShardLine[]): (string | null)[] =>
  lines.map((line) => ('ok' in line ? null : line.problem))

test('lines of JSON become documents: ids as text, the other fields kept, a source of their own or the default', async () => {
  const lines = await read(
    'plain.jsonl',
    '\ufeff{"id":7,"text":"a","n":{"m":[1]}}\r\n\n  \n{"text":"b","source":"web","id":null}\n{"text":"c","id":"x"}',
    { source: 'default' },
  )
  assert.deepEqual(lines, [
    { ok: { id: '7', text: 'a', source: 'default', extra: { n: { m: [1] } } }, index: 0, bytes: 37 },
    { ok: { text: 'b', source: 'web', extra: {} }, index: 3, bytes: 37 },
    { ok: { id: 'x', text: 'c', source: 'default', extra: {} }, index: 4, bytes: 21 },
  ])
})

test('a line that is no document is a problem with its cause and its bytes; the others go on', async () => {
  const bad: [string | Buffer, RegExp][] = [
    ['{"text":', /not JSON/], ['[1]', /not an object/], ['null', /not an object/], ['{"id":"x"}', /no field "text"/],
    ['{"text":5}', /"text" is a number/], ['{"text":null}', /"text" is null/], ['{"text":""}', /"text" is empty/],
    ['{"text":"a","id":true}', /"id" is a boolean/], ['{"text":"a","id":12345678901234567890}', /beyond 2\^53/],
    ['{"text":"a","source":[]}', /"source" is an array/], [`{"text":"${'a'.repeat(200)}"}`, /has 211 bytes, over the bound of 100/],
    [Buffer.from([0x7b, 0xff, 0x7d]), /not UTF-8/],
  ]
  const content = Buffer.concat(bad.flatMap(([line]) => [Buffer.from(line), Buffer.from('\n{"text":"good"}\n')]))
  const lines = await read('bad.jsonl', content, { lineBytesMax: 100 })
  assert.equal(lines.length, 2 * bad.length)
  bad.forEach(([original, cause], at) => {
    const [line, next] = [lines[2 * at], lines[2 * at + 1]]
    assert.ok('problem' in line, String(original))
    assert.match(line.problem, cause)
    assert.equal(line.index, 2 * at)
    assert.deepEqual(Buffer.from(line.original), Buffer.from(original))
    assert.ok('ok' in next && next.ok.text === 'good')
  })
})

test('fields nested without end are a problem', async () => {
  const line = `{"text":"a","x":${'['.repeat(100_000)}${']'.repeat(100_000)}}\n`
  assert.match(String(problems(await read('deep.jsonl', line))[0]), /nested more than/)
})

test('lines are cut the same wherever the chunks fall', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom('a', 'bc', '\n', '\r\n', 'defghi')), fc.array(fc.nat(30)), (pieces, cuts) => {
      const bytes = Buffer.from(pieces.join(''))
      const split = (chunks: readonly Uint8Array[]): unknown[] => {
        const splitter = splitLines(5)
        const lines = chunks.flatMap((chunk) => [...splitter.push(chunk)].map((line) => ({ ...line, bytes: String(line.bytes) })))
        const last = splitter.end()
        return last === undefined ? lines : [...lines, { ...last, bytes: String(last.bytes) }]
      }
      const bounds = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b), bytes.length]
      assert.deepEqual(split(bounds.slice(1).map((to, at) => bytes.subarray(bounds[at], to))), split([bytes]))
      const expected = pieces.join('').split('\n')
      if (expected.at(-1) === '') expected.pop()
      assert.deepEqual(split([bytes]), expected.map((line, index) => ({
        index, bytes: line, bytesTotal: line.length, isEnded: index < pieces.join('').split('\n').length - 1,
      })))
    }),
  )
})

test('a last line that breaks off is torn, and the lines before it stand', async () => {
  for (const cut of ['{"text":"c', '{"text":"c"', '{', Buffer.from('{"text":"é').subarray(0, -1)]) {
    const path = await write('cut.jsonl', Buffer.concat([Buffer.from('{"text":"a"}\nnot\n'), Buffer.from(cut)]))
    const { lines, error } = await readAll(path)
    assert.equal(lines.length, 2)
    assert.match(String(error?.message), /cut\.jsonl" is torn: line 3 breaks off after \d+ bytes.* 2 whole lines came before/)
    assert.match(String(error?.fix), /ingest it again/)
  }
  assert.match(String(problems(await read('word.jsonl', 'word'))[0]), /not JSON/)
})

test('a named field that no line has is refused with the fields there are, before any line is handed on', async () => {
  const content = '{"id":"1","content":"a"}\nnot JSON\n{"name":"2","content":"b"}\n'
  const path = await write('fields.jsonl', content)
  const wrong = await readAll(path, { textField: 'body' })
  assert.deepEqual(wrong.lines, [])
  assert.match(String(wrong.error?.message), /none of the 2 lines looked at has a field "body"; the fields there are: content, id, name/)
  assert.match(String((await readAll(path, { textField: 'content', idField: 'key' })).error?.fix), /--id-field/)
  const right = await readAll(path, { textField: 'content', idField: 'name' })
  assert.deepEqual(problems(right.lines).map((problem) => problem === null), [true, false, true])
  // Left to default, a missing text is each line's own problem.
  assert.equal((await readAll(path)).lines.length, 3)
  // A long file is not read to its end for a slip of the pen.
  const long = await readAll(await write('long.jsonl', '{"a":"b"}\n'.repeat(5000)), { textField: 'body' })
  assert.match(String(long.error?.message), /none of the 1000 lines/)
})

const lines = (count: number): string => Array.from({ length: count }, (_, i) => `{"id":${i},"text":"text ${i} ${Math.sin(i)}"}\n`).join('')

test('gzip: members follow each other, padding is left out', async () => {
  const content = Buffer.concat([gzipSync(lines(2000)), gzipSync(''), gzipSync('{"text":"last"}\n'), Buffer.alloc(100)])
  assert.equal(documents(await read('members.jsonl.gz', content)).at(-1)?.text, 'last')
  assert.equal((await read('members.jsonl.gz', content)).length, 2001)
})

test('gzip that breaks off or is damaged is torn after every whole line before', async () => {
  const whole = gzipSync(lines(5000))
  const expected = documents(await read('whole.jsonl.gz', whole))
  assert.equal(expected.length, 5000)
  const damaged = Buffer.from(whole)
  damaged.fill(0, whole.length >> 1, (whole.length >> 1) + 50)
  const broken: [Uint8Array, number][] = [
    // Of corrupt data zlib keeps back the last chunk: 64 KiB, some 1,300 of these lines.
    [whole.subarray(0, whole.length >> 1), 2000], [whole.subarray(0, -4), 5000], [damaged, 500],
    [Buffer.concat([whole, Buffer.from('garbage')]), 3500], [new Uint8Array(0), 0], [Buffer.from('{"text":"plain"}\n'), 0],
  ]
  for (const [content, least] of broken) {
    const path = await write('torn.jsonl.gz', content)
    const { lines, error } = await readAll(path)
    assert.match(String(error?.message), new RegExp(`torn: .*gzip.* ${lines.length} whole line`))
    assert.ok(lines.length >= least, `${lines.length} lines of ${least}`)
    if (content !== damaged) assert.deepEqual(documents(lines), expected.slice(0, lines.length))
    assert.equal((await readAll(path)).lines.length, lines.length)
  }
})

test('zstd: frames, skippable and empty ones, with and without checksum', async () => {
  const found = documents((await readAll(`${fixtures}frames.jsonl.zst`)).lines)
  assert.equal(found.length, 3000)
  found.forEach((document, i) =>
    assert.deepEqual(document, { id: `d${i}`, text: `document ${i}: ${'é🌊'.repeat(i % 7)}`, extra: { n: i } }),
  )
})

test('zstd cut anywhere is torn, and no line is lost or made up', async () => {
  const whole = await readFile(`${fixtures}frames.jsonl.zst`)
  const { lines: expected } = await readAll(`${fixtures}frames.jsonl.zst`)
  const cuts = [1, 3, 5, 7, 12, 1000, whole.length >> 1, whole.length - 400, whole.length - 300, whole.length - 1]
  for (const cut of cuts) {
    const { lines, error } = await readAll(await write('cut.jsonl.zst', whole.subarray(0, cut)))
    assert.match(String(error?.message), /torn: its zstd data: .* at byte \d+; \d+ whole/, `cut at ${cut}`)
    assert.deepEqual(lines, expected.slice(0, lines.length))
  }
  const flipped = Buffer.from(whole)
  flipped[whole.length >> 2] ^= 0x10
  assert.match(String((await readAll(await write('flip.jsonl.zst', flipped))).error?.message), /torn/)
  assert.match(String((await readAll(await write('none.jsonl.zst', 'abcdefgh'))).error?.message), /it is not zstd/)
  const huge = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, 0xf8, 1, 0, 0)
  assert.match(String((await readAll(await write('huge.jsonl.zst', huge))).error?.message), /window .* over the bound/)
})

test('a bomb is one long line: 200 MiB from a few KiB, and the next line is read', async () => {
  const { lines } = await readAll(`${fixtures}bomb.jsonl.zst`)
  assert.deepEqual(problems(lines), [`the line has ${(200 << 20) + 11} bytes, over the bound of ${16 << 20}`, null])
  assert.ok('original' in lines[0] && lines[0].original.length === 1 << 20)
})

test('XXH64 is the published one, in any parts', () => {
  const low32 = (...parts: string[]): number => {
    const hash = new Xxh64()
    for (const part of parts) hash.update(Buffer.from(part))
    return hash.low32()
  }
  assert.equal(low32(''), 0x51d8e999)
  assert.equal(low32('a'), 0xa98c6e5b)
  assert.equal(low32('abc'), 0xad770999)
  const long = 'The quick brown fox jumps over the lazy dog, twice and again.'
  assert.equal(low32(long), low32(long.slice(0, 5), long.slice(5, 40), long.slice(40)))
})

test('parquet as pyarrow writes it, with each compression', async () => {
  for (const codec of ['snappy', 'gzip', 'zstd', 'none']) {
    const { lines, error } = await readAll(`${fixtures}${codec}.parquet`, { source: 'given' })
    assert.equal(error, undefined)
    assert.equal(lines.length, 30)
    assert.deepEqual(lines[3], {
      ok: {
        id: '9007199254740996',
        text: 'row 3 é🌊',
        source: 'wiki',
        extra: { meta: { tags: ['a', '3'], size: 3 }, at: '1970-01-01T00:00:03.000Z' },
      },
      index: 3,
      bytes: 12,
    })
    assert.match(String(problems(lines)[7]), /"text" is null/)
    assert.ok('ok' in lines[20] && lines[20].ok.source === 'given')
  }
})

test('parquet written here; a text over the bound is a problem, a row group over it is refused', async () => {
  const buffer = parquetWriteBuffer({
    columnData: [
      { name: 'id', data: [1, 2, 3], type: 'INT32' },
      { name: 'text', data: ['a', 'b'.repeat(50), 'c'], type: 'STRING' },
    ],
  })
  const path = await write('small.parquet', new Uint8Array(buffer))
  assert.deepEqual(documents((await readAll(path)).lines).map(({ id }) => id), ['1', '2', '3'])
  assert.match(String(problems((await readAll(path, { lineBytesMax: 20 })).lines)[1]), /50 bytes, over the bound of 20/)
  assert.match(String((await readAll(path, { rowGroupBytesMax: 10 })).error?.message), /row group 0 .* over the bound of 10/)
  assert.match(String((await readAll(path, { textField: 'body' })).error?.message), /the fields there are: id, text/)
})

test('parquet without its footer or with a damaged row group is torn after the groups before', async () => {
  const whole = await readFile(`${fixtures}zstd.parquet`)
  for (const content of [whole.subarray(0, -1), whole.subarray(0, 100), Buffer.alloc(0), Buffer.from('PAR1'), Buffer.alloc(500)]) {
    const { lines, error } = await readAll(await write('cut.parquet', content))
    assert.deepEqual(lines, [])
    assert.match(String(error?.message), /torn: its parquet footer cannot be read/)
  }
  const damaged = Buffer.from(whole)
  const at = whole.length - whole.readUInt32LE(whole.length - 8) - 8 // the footer's beginning
  damaged.fill(0xa5, Math.floor(at * 0.75), at)
  const { lines, error } = await readAll(await write('damaged.parquet', damaged))
  assert.match(String(error?.message), /torn: row group \d of 3 .* whole lines came before/)
  assert.ok(lines.length === 10 || lines.length === 20, String(lines.length))
})

test('a .txt file is one document', async () => {
  assert.deepEqual(await read('one.txt', 'a\r\nb\n', { source: 's' }), [{ ok: { text: 'a\r\nb\n', source: 's', extra: {} }, index: 0, bytes: 5 }])
  assert.deepEqual(problems(await read('empty.txt', '')), ['the file is empty'])
  assert.deepEqual(problems(await read('bytes.txt', Uint8Array.of(0xff, 0xfe))), ['the file is not UTF-8'])
  assert.deepEqual(problems(await read('big.txt', 'x'.repeat(99), { lineBytesMax: 50 })), ['the file has 99 bytes, over the bound of 50'])
})

test('a shard that is left early is closed, and one that is missing named', async () => {
  const path = await write('early.jsonl.gz', gzipSync(lines(50_000)))
  for await (const line of readShard(path)) if (line.index === 3) break
  assert.match(String((await readAll(join(folder, 'nowhere.jsonl'))).error?.message), /nowhere\.jsonl" cannot be read: ENOENT/)
  assert.match(String((await readAll(join(folder, 'nowhere.parquet'))).error?.message), /cannot be read: ENOENT/)
  assert.match(String((await readAll(join(folder, 'x.csv'))).error?.message), /known are/)
})

test('shards are found in files, folders and globs: sorted, once, and only those that are known', async () => {
  const root = join(folder, 'corpus')
  await mkdir(join(root, 'b', 'deep'), { recursive: true })
  for (const name of ['z.jsonl', 'B.txt', 'a.JSONL.GZ', 'b/c.parquet', 'b/deep/d.jsonl.zst', 'readme.md', 'b/e[1].jsonl'])
    await writeFile(join(root, name), '')
  await symlink(root, join(root, 'b', 'loop'))
  const all = ['B.txt', 'a.JSONL.GZ', 'b/c.parquet', 'b/deep/d.jsonl.zst', 'b/e[1].jsonl', 'z.jsonl'].map((name) => join(root, name))
  const found = (await findShards([root])).filter((path) => !path.includes('loop'))
  assert.deepEqual(found, all)
  assert.deepEqual((await findShards([join(root, 'z.jsonl'), root])).slice(0, 3), [all[5], all[0], all[1]])
  assert.deepEqual(await findShards([`${root}/**/*.{jsonl,parquet}`, join(root, 'b/e[1].jsonl')]).then((paths) => paths.filter((path) => !path.includes('loop'))), [all[2], all[4], all[5]])
  const refused: [string[], RegExp][] = [
    [[], /no shards were named/], [[join(root, 'readme.md')], /no shard by its extension; known are/],
    [[join(root, 'none.jsonl')], /does not exist/], [[`${root}/*.csv`], /matches no file/], [[`${root}/*.md`], /none of them a shard/],
  ]
  for (const [paths, message] of refused) await assert.rejects(findShards(paths), message)
})
