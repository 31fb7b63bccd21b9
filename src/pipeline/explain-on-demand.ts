/**
 * @file Explanations for a server: one explainer is kept open for the run that was asked for last, and given back when
 * nobody has asked for a while, since it holds a model's weights.
 */
import type { Log } from '../log/index.js'
import type { RunRecord } from '../settings/index.js'
import { openExplainer, type Explainer, type ExplainerSettings, type Explanation } from './explain.js'

/** How long an explainer stays open without being asked, ms. */
const idleMsMax = 5 * 60_000

export interface OnDemandRequest {
  readonly run: RunRecord
  readonly query: { readonly id: string }
  readonly partition: number
  readonly offset: number
  readonly piece: number
  /** Aborted: whoever asked is gone; what was not begun is not done. */
  readonly signal: AbortSignal
}

export interface ExplainOnDemand extends AsyncDisposable {
  /** One after the other. @throws UserError as `openExplainer` and `Explainer.explain` do; the reason of an aborted signal */
  explain(request: OnDemandRequest): Promise<Explanation>
}

export const explainOnDemand = (
  log: Log, settings: ExplainerSettings, { idleMs = idleMsMax, open = openExplainer }: { readonly idleMs?: number; readonly open?: typeof openExplainer } = {},
): ExplainOnDemand => {
  let kept: { readonly key: string; readonly explainer: Explainer } | undefined
  let timer: NodeJS.Timeout | undefined
  let last: Promise<unknown> = Promise.resolve()

  const close = async (): Promise<void> => {
    clearTimeout(timer)
    const { explainer } = kept ?? {}
    kept = undefined
    await explainer?.[Symbol.asyncDispose]()
  }
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const own = last.then(work)
    last = own.catch(() => undefined)
    return own
  }
  const explainNow = async ({ run, query, partition, offset, piece, signal }: OnDemandRequest): Promise<Explanation> => {
    signal.throwIfAborted()
    clearTimeout(timer)
    // A run that was reset and begun anew under its name is another one.
    const key = `${run.run} ${run.createdMs}`
    try {
      if (kept?.key !== key) {
        await close()
        kept = { key, explainer: await open(log, run, settings) }
      }
      return await kept.explainer.explain({ query: query.id, partition, offset, piece })
    } finally {
      timer = setTimeout(() => void inTurn(close), idleMs).unref()
    }
  }
  return {
    explain: (request) => inTurn(() => explainNow(request)),
    [Symbol.asyncDispose]: () => inTurn(close),
  }
}
