import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { UserError, runId } from '../../src/base/index.js'
import { openEnvironment } from '../../src/log/environment.js'
import {
  declaredTopics,
  embeddedLog,
  keyOf,
  type AvroSchema,
  type Log,
  type TopicDeclaration,
  type TopicName,
} from '../../src/log/index.js'
import { assigned, logContract, readAll } from './contract.js'
import { BOUNDS, RUN, document, tables } from './records.js'

const newFolder = (): string => mkdtempSync(join(tmpdir(), 'tributary-log-'))

logContract('embedded', async () => {
  const folder = newFolder()
  return { open: () => embeddedLog(join(folder, 'log')), destroy: async () => rmSync(folder, { recursive: true }) }
})

/** A test with a folder that is removed afterwards and children that are killed. */
const check = (title: string, body: (home: string, start: Start) => Promise<void>, skip: string | false = false): void => {
  test(title, { skip, timeout: 60_000 }, async () => {
    const folder = newFolder()
    const children: ChildProcess[] = []
    const start: Start = (...args) => {
      const child = spawn(process.execPath, [CHILD, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
      children.push(child)
      return spoken(child)
    }
    try {
      await body(join(folder, 'log'), start)
    } finally {
      await Promise.all(children.map((child) => ended(child, 'SIGKILL')))
      rmSync(folder, { recursive: true })
    }
  })
}

const CHILD = fileURLToPath(new URL('./child.js', import.meta.url))

interface Said {
  readonly held?: number
  readonly taken?: number
  readonly appended?: number
  readonly committed?: number
  readonly error?: string
  readonly fix?: string
}

interface Child {
  readonly pid: number
  /** The next line; undefined when it has ended. */
  next(): Promise<Said | undefined>
  end(signal?: NodeJS.Signals): Promise<void>
}

type Start = (...args: readonly string[]) => Child

const spoken = (child: ChildProcess): Child => {
  assert.ok(child.stdout !== null)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    pid: child.pid ?? 0,
    next: async () => {
      const { value, done } = await lines.next()
      return done === true ? undefined : (JSON.parse(value) as Said)
    },
    end: (signal) => ended(child, signal),
  }
}

const ended = async (child: ChildProcess, signal?: NodeJS.Signals): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  if (signal !== undefined) child.kill(signal)
  await exit
}

const opened = async (home: string): Promise<Log> => {
  const log = await embeddedLog(home)
  await log.ensureTopics()
  return log
}

const countOf = async (log: Log, topic: TopicName): Promise<number> =>
  ((await log.describe()).find((info) => info.topic === topic)?.ends ?? []).reduce((sum, end) => sum + end, 0)

/* ------------------------------------------------- several processes ----------------------------------------------- */

check('a lease is held by one process, names it, and is free when that process is killed', async (home, start) => {
  const holder = start('hold', home, 'factors:f')
  assert.equal((await holder.next())?.held, holder.pid)
  await using log = await opened(home)
  assert.throws(
    () => log.lease('factors:f', 'fit'),
    (error) => error instanceof UserError && error.message.includes(`process ${holder.pid}`) &&
      error.message.includes('be killed') && error.fix?.includes(`kill ${holder.pid}`) === true,
  )
  log.lease('factors:other', 'fit').release()
  await holder.end('SIGKILL')
  const lease = log.lease('factors:f', 'fit')
  assert.throws(() => log.lease('factors:f', 'fit'), UserError)
  assert.match((await start('take', home, 'factors:f').next())?.error ?? '', new RegExp(`process ${process.pid}\\b`))
  lease.release()
  assert.ok((await start('take', home, 'factors:f').next())?.taken)
})

check('a lease of a pid that was given to another process since is free', async (home) => {
  await using log = await opened(home)
  log.lease('factors:f', 'fit')
  const { tables: { leases }, root, release } = openEnvironment(home, false)
  root.transactionSync(() => leases.putSync('factors:f', (leases.get('factors:f') ?? '').replace(/"started":"\d+"/, '"started":"1"')))
  await release()
  log.lease('factors:f', 'fit').release()
}, process.platform !== 'linux' && 'start times are compared as /proc gives them')

check('a second worker of a run is refused; after SIGKILL of the first it goes on where that was', async (home, start) => {
  await using log = await opened(home)
  const worker = start('commit', home)
  for (let committed = 0; committed < 3; ) committed = (await worker.next())?.committed ?? 3
  const stop = new AbortController()
  await assert.rejects(assigned(log, stop.signal, runId('crash')), (error) => error instanceof UserError && error.message.includes(`process ${worker.pid}`))
  await worker.end('SIGKILL')
  const [assignment] = await assigned(log, stop.signal, runId('crash'))
  assert.ok((await assignment.restore()).position.offset >= 3)
  stop.abort()
})

check('one process reads while another appends, and is woken within 200 ms', async (home, start) => {
  await using log = await opened(home)
  const writer = start('append', home, '0', '3000', '100', '1000')
  const { signal } = new AbortController()
  const offsets = [0, 0, 0, 0]
  const ids = new Set<string>()
  let slowestMs = 0
  while (ids.size < 3000) {
    await log.grown({ signal })
    for (const partition of offsets.keys())
      for (;;) {
        const records = await log.read('documents', partition, offsets[partition], BOUNDS)
        if (records.length === 0) break
        for (const { offset, value, timestampMs } of records) {
          assert.equal(offset, offsets[partition]++)
          ids.add(value?.id ?? '')
          slowestMs = Math.max(slowestMs, Date.now() - timestampMs)
        }
      }
  }
  assert.equal((await writer.next())?.appended, 100)
  assert.ok(slowestMs < 2000, `a record came ${slowestMs} ms after it was appended`) // wide: machines under load
})

check('two processes append at once: every document is there once', async (home, start) => {
  await using log = await opened(home)
  const one = start('append', home, '0', '600', '50', '100')
  const two = start('append', home, '300', '900', '50', '100')
  await Promise.all([one.end(), two.end()])
  assert.equal(await countOf(log, 'documents'), 900)
})

/* ---------------------------------------------------- being killed -------------------------------------------------- */

for (let round = 1; round <= 10; round++)
  check(`a committing process killed at a random point, ${round}: position, state and records agree`, async (home, start) => {
    const worker = start('commit', home)
    let acknowledged = 0
    const until = 1 + ((round * 7) % 20)
    while (acknowledged < until) acknowledged = (await worker.next())?.committed ?? until
    await new Promise((resolve) => setTimeout(resolve, (round * 1.7) % 9))
    await worker.end('SIGKILL')
    for (let said; (said = await worker.next()) !== undefined; ) acknowledged = said.committed ?? acknowledged

    await using log = await opened(home)
    const stop = new AbortController()
    const [assignment] = await assigned(log, stop.signal, runId('crash'))
    const { position, state } = await assignment.restore()
    assert.ok(position.offset >= acknowledged, `commit ${acknowledged} was acknowledged, the position is ${position.offset}`)
    assert.deepEqual(state.map(({ value }) => value), [tables(0, position.offset, 'q', 'crash').value])
    const records = await readAll(log, 'influence', 0, BOUNDS)
    assert.equal(records.length, position.detail)
    assert.equal(records.length, (position.offset * (position.offset + 1)) / 2)
    assert.equal(records.at(-1)?.value?.offset, position.offset)
    await assignment.commit({ append: [], position })
    stop.abort()
  })

check('an ingesting process killed: a second ingest appends exactly what is missing', async (home, start) => {
  const writer = start('append', home, '0', '100000', '20', '2000')
  for (let i = 0; i < 10; i++) await writer.next()
  await writer.end('SIGKILL')
  await using log = await opened(home)
  const there = await countOf(log, 'documents')
  assert.ok(there >= 200)
  const records = Array.from({ length: there + 40 }, (_, i) => document(`d${i}`))
  assert.deepEqual(await log.append(records, { unique: true }), { appended: 40, duplicates: there })
})

check('a full disk is a UserError with its fix and nothing else is printed; what was acknowledged is there', async (home) => {
  // EFBIG of a file-size limit takes the same way through LMDB as ENOSPC and needs no disk.
  const script = `trap '' XFSZ; ulimit -f 8192; exec "$0" "$@"`
  const args = ['-c', script, process.execPath, CHILD, 'fill', home]
  const filling = spawn('sh', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const printed = text(filling.stderr)
  const child = spoken(filling)
  let acknowledged = 0
  const failures: Said[] = []
  let alive = false
  for (let said; (said = await child.next()) !== undefined; ) {
    acknowledged += said.appended ?? 0
    if (said.error !== undefined) failures.push(said)
    alive = said.held !== undefined
  }
  assert.equal(failures.length, 3)
  for (const { error, fix } of failures) {
    assert.match(error ?? '', /UserError: .*disk.* is full/)
    assert.match(fix ?? '', /make room/)
  }
  assert.ok(alive, 'and the process goes on')
  assert.equal(await printed, '', 'lmdb prints nothing of its own')
  assert.ok(acknowledged > 0)
  await using log = await opened(home)
  assert.equal(await countOf(log, 'documents'), acknowledged)
  assert.deepEqual(await log.append([document(`d${acknowledged}`)], { unique: true }), { appended: 1, duplicates: 0 })
}, process.platform === 'win32' && 'needs ulimit')

/* ------------------------------------------------- homes that are no good ------------------------------------------ */

const refused = async (home: string, message: RegExp, fix: RegExp, options = {}): Promise<void> =>
  await assert.rejects(embeddedLog(home, options), (error) => {
    assert.ok(error instanceof UserError, String(error))
    assert.match(error.message, message)
    assert.match(error.fix ?? '', fix)
    return true
  })

check('a reader of a home that is not there creates nothing', async (home) => {
  await refused(home, /there is no log/, /tributary ingest/, { readonly: true })
  assert.ok(!existsSync(home))
})

check('a reader reads, and cannot write', async (home) => {
  await using log = await opened(home)
  await log.append([{ ...document('a'), partition: 0 }])
  await using reader = await embeddedLog(home, { readonly: true })
  assert.equal((await reader.read('documents', 0, 0, BOUNDS)).length, 1)
  await assert.rejects(reader.append([document('b')]), /for reading only/)
})

check('a log without topics says what to do', async (home) => {
  await using log = await embeddedLog(home)
  assert.deepEqual(await log.describe(), [])
  await assert.rejects(log.append([document('a')]), (error) => error instanceof UserError && /ingest/.test(error.fix ?? ''))
})

check('a newer format is refused', async (home) => {
  await (await opened(home))[Symbol.asyncDispose]()
  const { tables: { meta }, release } = openEnvironment(home, false)
  await meta.put('format', '{"version":99}')
  await release()
  await refused(home, /format 99/, /newer tributary/)
})

check('a file that is no log, and one that was cut short, are refused', async (home) => {
  await (await opened(home))[Symbol.asyncDispose]()
  writeFileSync(join(home, 'data.mdb'), 'x'.repeat(50000))
  await refused(home, /damaged|another LMDB format/, /--home/)
  rmSync(home, { recursive: true })
  const log = await opened(home)
  for (let i = 0; i < 3; i++) await log.append([document(`d${i}`, 'x'.repeat(15 << 20))])
  await log[Symbol.asyncDispose]()
  truncateSync(join(home, 'data.mdb'), 1 << 20)
  await refused(home, /damaged: .* should have/, /copy/)
})

check('a folder without permission is refused with the command that mends it', async (home) => {
  await (await opened(home))[Symbol.asyncDispose]()
  chmodSync(join(home, 'data.mdb'), 0o400)
  await refused(home, /no permission/, /chmod/)
}, process.getuid?.() === 0 && 'root may write everywhere')

check('a file where the folder should be is refused', async (home) => {
  writeFileSync(home, '')
  await refused(home, /./, /--home/)
})

/* ---------------------------------------------- schemas, damage, retention ------------------------------------------ */

const withDocuments = (change: (topic: TopicDeclaration) => Partial<TopicDeclaration>): ReadonlyMap<TopicName, TopicDeclaration> =>
  new Map([...declaredTopics()].map(([name, topic]) => [name, name === 'documents' ? { ...topic, ...change(topic) } : topic]))

const withField = (field: object) => ({ schema }: TopicDeclaration): Partial<TopicDeclaration> => {
  const { fields, ...rest } = schema as { readonly fields: readonly unknown[] }
  return { schema: { ...rest, fields: [...fields, field] } as AvroSchema }
}

check('documents of an older schema are read by a newer one, and the other way round', async (home) => {
  const newer = withDocuments(withField({ name: 'language', type: 'string', default: 'en' }))
  await using log = await opened(home)
  await log.append([{ ...document('a'), partition: 0 }])
  await using later = await embeddedLog(home, { topics: newer })
  const { value } = document('b')
  await later.append([{ ...document('b'), value: { ...value, language: 'fr' } as typeof value, partition: 0 }])
  const languages = (await readAll(later, 'documents', 0)).map(({ value }) => (value as { language?: string } | undefined)?.language)
  assert.deepEqual(languages, ['en', 'fr'])
  assert.deepEqual((await readAll(log, 'documents', 0)).map(({ value }) => value), [document('a').value, document('b').value])
})

check('a record whose schema cannot be resolved carries its bytes and the problem, the others their values', async (home) => {
  await using log = await opened(home)
  await log.append([{ ...document('a'), partition: 0 }])
  await using strict = await embeddedLog(home, { topics: withDocuments(withField({ name: 'language', type: 'string' })) })
  const { value } = document('b')
  await strict.append([{ ...document('b'), value: { ...value, language: 'fr' } as typeof value, partition: 0 }])
  const [first, second] = await strict.read('documents', 0, 0, BOUNDS)
  assert.equal(first.value, undefined)
  assert.match(first.problem ?? '', /language/)
  assert.equal(Buffer.from(first.raw ?? []).toString('hex', 0, 2), 'c301')
  assert.equal(first.key, document('a').key)
  assert.equal(second.value?.id, 'b')
})

check('bytes that changed on the disk are told from records, and the records behind them are read', async (home) => {
  const log = await opened(home)
  for (const id of ['a', 'b']) await log.append([{ ...document(id), partition: 0 }])
  await log.append([tables(0, 1)])
  await log[Symbol.asyncDispose]()
  const { tables: { batches, newest }, root, release } = openEnvironment(home, false)
  root.transactionSync(() => {
    for (const table of [batches, newest]) {
      const [key] = [...table.getKeys({ limit: 1 })].map((bytes) => Buffer.from(bytes))
      const entry = Buffer.from(table.getBinary(key) ?? [])
      entry[entry.length - 1] ^= 4
      table.putSync(key, entry)
    }
  })
  await release()
  await using damaged = await opened(home)
  const [first, second] = await damaged.read('documents', 0, 0, BOUNDS)
  assert.match(first.problem ?? '', /checksum/)
  assert.ok(first.value === undefined && first.raw !== undefined && first.raw.length > 0)
  assert.deepEqual([second.offset, second.value?.id], [1, 'b'])
  const [table] = await damaged.latest('tables')
  assert.match(table.problem ?? '', /checksum/)
})

check('records older than the retention are dropped, offsets go on, and what was seen stays seen', async (home) => {
  let nowMs = 1_000_000
  await using log = await embeddedLog(home, { nowMs: () => nowMs, topics: withDocuments(() => ({ retentionMs: 1000 })) })
  await log.ensureTopics({ partitions: 1 })
  await log.append([document('a'), document('b')])
  nowMs += 500
  await log.append([document('c')])
  nowMs += 800
  await log.append([document('d')])
  const info = (await log.describe()).find(({ topic }) => topic === 'documents')
  assert.deepEqual([info?.starts, info?.ends], [[2], [4]])
  assert.deepEqual((await log.read('documents', 0, 0, BOUNDS)).map(({ offset, value }) => [offset, value?.id]), [[2, 'c'], [3, 'd']])
  assert.equal((await log.append([document('a')], { unique: true })).duplicates, 1)
})

check('a map that must grow does so under a reader', async (home) => {
  await using log = await opened(home)
  for (let lot = 0; lot < 6; lot++) {
    await log.append(Array.from({ length: 2000 }, (_, i) => document(`${lot}-${i}`, 'x'.repeat(2000))))
    assert.equal(await countOf(log, 'documents'), 2000 * (lot + 1))
    assert.equal((await log.read('documents', 0, 0, BOUNDS))[0].value?.text?.length, 2000)
  }
})

check('the log says what it has: positions of a run without a worker', async (home) => {
  await using log = await opened(home)
  assert.deepEqual(await log.positions(RUN), [{ offset: 0 }, { offset: 0 }, { offset: 0 }, { offset: 0 }])
  assert.equal(keyOf('a', 'b'), 'a\u001fb')
})
