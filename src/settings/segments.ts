/** @file Segments of a training, as settings name them: `--damping segment:TIME`, and `--later FACTORS=TIME...` for what came after. */
import type { Damping } from './kinds.js'
import type { Json } from './run-record.js'
import type { ScoreSettings } from './settings.js'
import { UsageError } from './usage-error.js'

/** A later segment of the training: its factor set, and the sum of the learning rates of its steps. */
export interface LaterSegment {
  readonly name: string
  readonly time: number
}

/** @throws UsageError for what is not FACTORS=TIME, a set named twice, or later segments of what is none */
export const laterSegments = ({ later, damping }: Pick<ScoreSettings, 'later' | 'damping'>): readonly LaterSegment[] => {
  const segments = later.map((text): LaterSegment => {
    const at = text.lastIndexOf('=')
    const [name, time] = [text.slice(0, Math.max(at, 0)), Number(text.slice(at + 1))]
    if (name === '' || text.slice(at + 1).trim() === '' || !(time > 0 && Number.isFinite(time)))
      throw new UsageError(`--later ${text}: a factor set with the sum of its learning rates is wanted`, { fix: '--later FACTORS=TIME, such as late=0.6' })
    return { name, time }
  })
  const twice = segments.find(({ name }, at) => segments.findIndex((other) => other.name === name) < at)
  if (twice !== undefined) throw new UsageError(`--later names "${twice.name}" twice`, { fix: 'fit each segment under a name of its own' })
  if (segments.length > 0 && damping.kind !== 'segment')
    throw new UsageError(`--later goes with the damping of a segment, not with --damping ${dampingText(damping)}`, { fix: '--damping segment:TIME, the sum of the learning rates of the segment of --factors' })
  return segments
}

/** As `--damping` has it. */
export const dampingText = (damping: Damping): string => {
  switch (damping.kind) {
    case 'relative':
      return `${damping.factor}x`
    case 'absolute':
      return String(damping.value)
    case 'segment':
      return `segment:${damping.time}`
    default:
      return damping satisfies never
  }
}

/** What a run records of its later segments, as `--later` has it. */
export const laterOfRecord = (recorded: Json | undefined): readonly string[] =>
  Array.isArray(recorded) ? (recorded as readonly { readonly factors: string; readonly time: number }[]).map(({ factors, time }) => `${factors}=${time}`) : []
