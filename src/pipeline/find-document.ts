/**
 * @file Where a document that a run scored lies, by its id: from the run's tables where it stands in one of them, else
 * from the run's influence records. No text of other documents is read.
 */
import { UserError } from '../base/index.js'
import { keyOf, partitionOf, type InfluenceValue, type Log, type TableRowValue } from '../log/index.js'
import { keyOfDocument } from './ingest.js'

const bounds = { recordsMax: 2048, bytesMax: 8 << 20 } as const
/** Ways of one id that are told apart in an error. */
const shownMax = 10

export interface DocumentPlace {
  readonly document: string
  readonly source: string
  readonly partition: number
  readonly offset: number
}

export interface WantedDocument {
  readonly document: string
  /** Null: whichever has it, if only one has. */
  readonly source: string | null
}

/**
 * @throws UserError if the run has not scored it, or several sources have a document of this id
 */
export const findDocument = async (log: Log, run: string, wanted: WantedDocument): Promise<DocumentPlace> => {
  const inTables = await placesInTables(log, run, wanted)
  const places = inTables.length > 0 ? inTables : await placesInInfluence(log, run, wanted)
  if (places.length === 1) return places[0]
  const { document, source } = wanted
  if (places.length === 0)
    throw new UserError(`run "${run}" has not scored a document "${document}"${source === null ? '' : ` of source "${source}"`}`, {
      fix: 'tributary topk and tributary scores name those that it has; a document that could not be processed is in dead-letters',
    })
  throw new UserError(`run "${run}" has scored documents "${document}" of ${places.length} sources: ${places.slice(0, shownMax).map((place) => place.source).join(', ')}`, {
    fix: `--source ${places[0].source}`,
  })
}

const isWanted = ({ document, source }: WantedDocument, row: { readonly document: string; readonly source: string }): boolean =>
  row.document === document && (source === null || row.source === source)

const collector = (): { readonly add: (row: DocumentPlace) => void; readonly all: () => readonly DocumentPlace[] } => {
  const places = new Map<string, DocumentPlace>()
  return {
    add: ({ document, source, partition, offset }) => void places.set(`${partition}/${offset}`, { document, source, partition, offset }),
    all: () => [...places.values()],
  }
}

const placesInTables = async (log: Log, run: string, wanted: WantedDocument): Promise<readonly DocumentPlace[]> => {
  const { add, all } = collector()
  const take = (rows: readonly TableRowValue[]): void => rows.forEach((row) => (isWanted(wanted, row) ? add(row) : undefined))
  for (const { value } of await log.latest('tables', keyOf(run, '')))
    if (value !== undefined) for (const rows of [value.top, value.bottom, value.topNormed, value.bottomNormed]) take(rows)
  return all()
}

const placesInInfluence = async (log: Log, run: string, wanted: WantedDocument): Promise<readonly DocumentPlace[]> => {
  const { add, all } = collector()
  const { document, source } = wanted
  const info = (await log.describe()).find(({ topic }) => topic === 'influence')
  if (info === undefined) return []
  // A document's partition is a hash of its key, so with the source there is one to look through.
  const only = source === null ? undefined : partitionOf(Buffer.from(keyOfDocument({ source, id: document })), info.partitions)
  for (let partition = 0; partition < info.partitions; partition++)
    if (only === undefined || only === partition)
      for await (const value of influenceOf(log, partition)) if (value.run === run && isWanted(wanted, value)) add(value)
  return all()
}

async function* influenceOf(log: Log, partition: number): AsyncGenerator<InfluenceValue> {
  for (let offset = 0; ; ) {
    const records = await log.read('influence', partition, offset, bounds)
    if (records.length === 0) return
    for (const { value } of records) if (value !== undefined) yield value
    offset = records[records.length - 1].offset + 1
  }
}
