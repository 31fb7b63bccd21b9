/**
 * @file The three kinds of error that are not bugs. Anything else that is thrown is a bug and ends the process.
 */

/** The user can mend it: printed without a stack, with the fix where one is known. Exit code 1 (usage errors: 2). */
export class UserError extends Error {
  override readonly name = 'UserError'
  /** What to do about it, as a command or a sentence. */
  readonly fix: string | undefined
  constructor(message: string, { fix, cause }: { fix?: string; cause?: unknown } = {}) {
    super(message, cause === undefined ? undefined : { cause })
    this.fix = fix
  }
}

/** Where in the pipeline a record failed. */
export type Stage = 'ingest' | 'decode' | 'tokenize' | 'score' | 'fit'

/** This record cannot be processed: it goes to the topic `dead-letters` with its stage and reason; the others go on. */
export class DeadLetterError extends Error {
  override readonly name = 'DeadLetterError'
  readonly stage: Stage
  constructor(stage: Stage, message: string, { cause }: { cause?: unknown } = {}) {
    super(message, cause === undefined ? undefined : { cause })
    this.stage = stage
  }
}

/** It may work if tried again; only the shell retries. */
export class TransientError extends Error {
  override readonly name = 'TransientError'
}
