/** @file The runs of a log. */
import { UserError } from '../base/index.js'
import type { Log } from '../log/index.js'
import { parseRunRecord, type RunRecord } from '../settings/index.js'

/** A run's record. @throws UserError that lists the runs there are */
export const readRun = async (log: Log, run: string): Promise<RunRecord> => {
  const records = await log.latest('runs', run)
  const record = records.find(({ key }) => key === run)
  if (record?.value === undefined) {
    const runs = (await log.latest('runs')).map(({ key }) => key)
    throw new UserError(`there is no run "${run}"`, {
      fix: runs.length === 0 ? 'tributary score --run NAME ...' : `runs: ${runs.join(', ')}`,
    })
  }
  return parseRunRecord(run, record.value.settings)
}
