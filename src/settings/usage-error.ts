import { UserError } from '../base/index.js'

/** A command called wrongly or a setting that is not allowed: nothing was started. Exit code 2. */
export class UsageError extends UserError {}
