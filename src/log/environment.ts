/**
 * @file The LMDB environment of a log: opening it, what is safe, and errors in the user's words.
 *
 * Durability. lmdb-js turns `overlappingSync` on by default: a commit is visible before it is flushed, and after a
 * crash of the machine the last flushed state is found by comparing boot ids. Here it is off, as are noSync,
 * noMetaSync, mapAsync and useWritemap: what remains is LMDB as its authors ship it. Data pages are written and
 * flushed (fdatasync), then the meta page is written to the older of two slots through a synchronous descriptor; pages
 * that a meta page reaches are never overwritten. So a commit that has resolved survives SIGKILL and, as far as disk
 * and file system keep their word about flushing, a crash of the machine; one that has not is there whole or not at
 * all. The writers' lock is a robust mutex in shared memory: a killed writer's is taken over. Not safe: network file
 * systems, and one home used by two machines.
 *
 * Size. LMDB maps the file; lmdb-js begins small and doubles the map when a writer runs out of it, readers follow when
 * they renew their snapshot. The map is address space and not memory, so tens of GB need nothing set.
 *
 * One process opens a folder once, however many logs it asks for: two environments over one file in one process lose
 * locks, and a synchronous transaction of one would wait for ever for an asynchronous one of the other.
 */
import {
  accessSync, closeSync, constants, existsSync, fsyncSync, mkdirSync, openSync, readSync, realpathSync, rmSync, statSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { open, type Database, type RootDatabase } from 'lmdb'
import { UserError } from '../base/index.js'

/** The files of an LMDB environment in its folder. */
const DATA = 'data.mdb'
const LOCK = 'lock.mdb'

/** The tables of a log; embedded.ts says what is in each. */
export interface Tables {
  readonly meta: Database<string, string>
  readonly schemas: Database<string, string>
  readonly leases: Database<string, string>
  readonly positions: Database<string, string>
  readonly partitions: Database<Buffer, Buffer>
  readonly batches: Database<Buffer, Buffer>
  readonly newest: Database<Buffer, Buffer>
  readonly order: Database<Buffer, Buffer>
  readonly identities: Database<Buffer, Buffer>
}

export interface Environment {
  readonly root: RootDatabase
  readonly tables: Tables
  readonly directory: string
  /** Gives this use back; the last one closes the environment. */
  release(): Promise<void>
}

interface Shared {
  readonly root: RootDatabase
  readonly tables: Tables
  uses: number
}

const opened = new Map<string, Shared>()

/** Opens (with `readonly`: never creates) the environment in a folder. */
export const openEnvironment = (directory: string, readonly: boolean): Environment => {
  const fresh = !existsSync(join(directory, DATA))
  if (fresh && readonly)
    throw new UserError(`there is no log at "${directory}"`, { fix: 'tributary ingest PATH... (or another --home)' })
  try {
    if (fresh) mkdirSync(directory, { recursive: true })
    const path = realpathSync(directory)
    const shared = opened.get(path) ?? openFirst(path, readonly)
    opened.set(path, shared)
    shared.uses++
    let released = false
    const release = async (): Promise<void> => {
      if (released) return
      released = true
      if (--shared.uses > 0) return
      opened.delete(path)
      await shared.root.close()
    }
    return { root: shared.root, tables: shared.tables, directory, release }
  } catch (error) {
    throw explained(error, directory)
  }
}

const openFirst = (path: string, readonly: boolean): Shared => {
  // lmdb-js 3.5 ends the process with SIGSEGV when LMDB refuses to open: what it would refuse is looked for before.
  const readOnly = !mayWrite(path, readonly)
  if (!readOnly && sizeOf(join(path, DATA)) === 0) probeRoom(path)
  refuseDamaged(path)
  const root = open({
    path,
    noSubdir: false,
    encoding: 'binary',
    maxDbs: 16,
    maxReaders: READERS_MAX,
    overlappingSync: false,
    // Batching writes a marker whose promise nobody holds: a second failed commit would end the process by it.
    eventTurnBatching: false,
    // A reader too opens for writing where it may: then it shares the environment of a writer in this process.
    readOnly,
  })
  printNoFailures(root)
  try {
    return { root, tables: openTables(root, path, !readonly), uses: 0 }
  } catch (error) {
    void root.close()
    throw error
  }
}

/** What lmdb-js calls to have its writer begin; undeclared in its types. `done` is called on this thread. */
interface NativeWriter {
  readonly startWriting?: (address: number, done: (status: number) => unknown) => unknown
}
/** What a writer is done with: committed, or more to do. Anything else is a failure. */
const writerStatuses: ReadonlySet<number> = new Set([0, 1, 2])

/**
 * lmdb-js prints why a commit failed, with a stack, and then rejects with it. It is told once, by whoever asked for the commit:
 * `console.error` is silent for the one synchronous call in which lmdb-js learns of a failure.
 */
const printNoFailures = (root: RootDatabase): void => {
  const { env } = root as { readonly env?: NativeWriter }
  const startWriting = env?.startWriting?.bind(env)
  if (env === undefined || startWriting === undefined) return // another version of lmdb-js: then it prints
  const quietly: typeof startWriting = (address, done) =>
    startWriting(address, (status) => {
      if (writerStatuses.has(status)) return done(status)
      const print = console.error
      console.error = () => {}
      try {
        return done(status)
      } finally {
        console.error = print
      }
    })
  Object.defineProperty(env, 'startWriting', { value: quietly }) // what it inherits is read-only
}

/** Whether the files can be opened for writing. Throws if they cannot and that is not enough. */
const mayWrite = (path: string, readonly: boolean): boolean => {
  const data = refusal(join(path, DATA))
  // A reader enters itself in the lock file, unless the whole file system is for reading only.
  const lock = refusal(join(path, LOCK))
  if (data === undefined && lock === undefined) return true
  if (readonly && (lock === undefined || lock.code === 'EROFS')) return false
  throw data ?? lock
}

const refusal = (path: string): NodeJS.ErrnoException | undefined => {
  try {
    accessSync(existsSync(path) ? path : dirname(path), constants.R_OK | constants.W_OK)
    return undefined
  } catch (error) {
    return error as NodeJS.ErrnoException
  }
}

/** Throws ENOSPC while that is still an error: LMDB maps the lock file, and touching a page with no room is a signal. */
const probeRoom = (path: string): void => {
  const probe = join(path, `probe-${process.pid}`)
  try {
    const file = openSync(probe, 'w')
    try {
      writeSync(file, Buffer.alloc(PROBE_BYTES, 1))
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
  } finally {
    rmSync(probe, { force: true })
  }
}

/**
 * Looks at both meta pages as LMDB would (64-bit, little-endian; u32 each unless said): 24 magic, 28 version, 48 page
 * size, u64 144 last page, u64 152 transaction. A data file shorter than its own account of itself would end the
 * process with SIGBUS when it is read.
 */
const refuseDamaged = (path: string): void => {
  const data = join(path, DATA)
  const size = sizeOf(data)
  if (size === 0 || !['x64', 'arm64'].includes(process.arch)) return // new, or laid out otherwise
  const metas = Buffer.alloc(META_BYTES * 2)
  const file = openSync(data, 'r')
  try {
    readSync(file, metas, 0, META_BYTES, 0)
    readSync(file, metas, META_BYTES, META_BYTES, metas.readUInt32LE(48))
  } finally {
    closeSync(file)
  }
  const [first, second] = [metas.subarray(0, META_BYTES), metas.subarray(META_BYTES)]
  if (first.readUInt32LE(24) !== MDB_MAGIC || second.readUInt32LE(24) !== MDB_MAGIC)
    throw corrupted(path, `${DATA} is not a file of LMDB`)
  if (first.readUInt32LE(28) !== MDB_VERSION)
    throw new UserError(`the log at "${path}" has LMDB's data format ${first.readUInt32LE(28)}, not ${MDB_VERSION}`,
      { fix: 'use the version of tributary that wrote it, or another --home' })
  const newest = first.readBigUInt64LE(152) >= second.readBigUInt64LE(152) ? first : second
  const wanted = (Number(newest.readBigUInt64LE(144)) + 1) * newest.readUInt32LE(48)
  if (size + SLACK_BYTES < wanted) throw corrupted(path, `${DATA} has ${size} bytes and should have ${wanted}`)
}

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0

const META_BYTES = 176
const MDB_MAGIC = 0xbeefc0de
const MDB_VERSION = 2
/** Processes and threads that read at once; 64 bytes of the lock file each. */
const READERS_MAX = 512
/** Room that a new log needs at the least. */
const PROBE_BYTES = 1 << 20
/** LMDB may leave the file's last pages unwritten if they were freed in the transaction that took them. */
const SLACK_BYTES = 16 << 20

const openTables = (root: RootDatabase, path: string, create: boolean): Tables => {
  const table = <V, K extends string | Buffer>(name: string, options: object): Database<V, K> => {
    const found: Database<V, K> | undefined = root.openDB<V, K>(name, { ...options, create } as object)
    if (found === undefined) throw corrupted(path, `its table "${name}" is missing`)
    return found
  }
  const text = { encoding: 'string' }
  const binary = { encoding: 'binary', keyEncoding: 'binary' }
  return {
    meta: table('meta', text),
    schemas: table('schemas', text),
    leases: table('leases', text),
    positions: table('positions', text),
    partitions: table('partitions', binary),
    batches: table('batches', binary),
    newest: table('newest', binary),
    order: table('order', binary),
    identities: table('identities', binary),
  }
}

/* ---------------------------------------------------- the errors --------------------------------------------------- */

const EACCES = 13
/** Also of a full disk: LMDB says so when the disk took the first part of a write. */
const EIO = 5
const MDB_MAP_FULL = -30792
const DISK_FULL = new Set([28 /* ENOSPC */, 122 /* EDQUOT, Linux */, 69 /* EDQUOT, macOS */, 27 /* EFBIG */, MDB_MAP_FULL])
const NOT_ALLOWED = new Set([EACCES, 1 /* EPERM */, 30 /* EROFS */])
const BROKEN = new Set([-30797 /* page not found */, -30796 /* corrupted */, -30795 /* panic */, -30793 /* invalid */])

export const corrupted = (directory: string, what: string, cause?: unknown): UserError =>
  new UserError(`the log at "${directory}" is damaged: ${what}`, {
    fix: 'restore the folder from a copy that was taken while nothing wrote to it, or ingest into a new --home',
    cause,
  })

/** An error of LMDB or of the file system as a UserError with its fix; any other as it is. */
export const explained = (error: unknown, directory: string): unknown => {
  if (error instanceof UserError || !(error instanceof Error)) return error
  const code = 'code' in error ? error.code : undefined
  const number = typeof code === 'number' ? code : -Number('errno' in error ? error.errno : 0)
  if (DISK_FULL.has(number))
    return new UserError(`the disk of the log at "${directory}" is full (${error.message}); nothing of this write was ` +
      'kept, everything before it was', { fix: `make room on the disk of ${dirname(directory)} and start again`, cause: error })
  if (number === EIO)
    return new UserError(`the log at "${directory}" could not be written: the disk is full or failing (${error.message}); ` +
      'nothing of this write was kept, everything before it was',
      { fix: `make room on the disk (df -h "${directory}") or mend it, and start again`, cause: error })
  if (NOT_ALLOWED.has(number))
    return new UserError(`no permission to write the log at "${directory}" (${error.message})`,
      { fix: `give this user write permission (chown -R or chmod -R u+rwX "${directory}") or use another --home`, cause: error })
  if (number === -30794) // MDB_VERSION_MISMATCH
    return new UserError(`the log at "${directory}" was written by another LMDB format (${error.message})`,
      { fix: 'use the version of tributary that wrote it, or another --home', cause: error })
  if (BROKEN.has(number)) return corrupted(directory, error.message, error)
  if (number === -30790) // MDB_READERS_FULL
    return new UserError(`too many processes read the log at "${directory}"`, { fix: 'stop some of them', cause: error })
  if (number === 20 /* ENOTDIR */ || number === 17 /* EEXIST */)
    return new UserError(`"${directory}" is not a folder (${error.message})`, { fix: 'use another --home', cause: error })
  return error
}

/** One write transaction, off this thread but for `action`; whole and durable when it resolves, or nothing of it. */
export const transact = async <T>({ root, directory }: Environment, action: () => T): Promise<T> => {
  try {
    // A child transaction: an action that throws takes back its own writes and no others that share the flush.
    return await root.childTransaction(action)
  } catch (error) {
    throw explained(await commitErrorOf(error), directory)
  }
}

/** lmdb-js hides why a commit failed behind a promise that rejects. */
const commitErrorOf = async (error: unknown): Promise<unknown> => {
  if (!(error instanceof Error && 'commitError' in error)) return error
  try {
    await error.commitError
    return error
  } catch (cause) {
    return cause
  }
}
