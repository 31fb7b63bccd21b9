/** @file What bench/peer/kronfluence_bench.py wrote. */
import { readFileSync } from 'node:fs'
import { z } from 'zod'

const peerSchema = z.object({
  settings: z.object({ tokens: z.number(), queries: z.number(), rank: z.number(), threads: z.number() }),
  covarianceTokensPerSecond: z.number().optional(),
  lambdaTokensPerSecond: z.number().optional(),
  eigendecompositionSeconds: z.number().optional(),
  querySeconds: z.number().optional(),
  queryFullRankSeconds: z.number().optional(),
  scoreTokensPerSecond: z.number().optional(),
})

export type Peer = z.infer<typeof peerSchema>

export const readPeer = (path: string): Peer => peerSchema.parse(JSON.parse(readFileSync(path, 'utf8')))
