/** @file What one architecture brings: a file beside this one, and one line in index.ts. */
import type { RawConfig } from '../config.js'
import type { Model } from '../model.js'

export interface Architecture {
  /** The values of config.json's model_type that it reads. */
  readonly modelTypes: readonly string[]
  /** What Hugging Face writes before the names of the base model. A checkpoint of the base model alone lacks it. */
  readonly prefix: string
  /** Stored tensors that are not weights: buffers of older versions. Matched against the whole name without prefix. */
  readonly buffers: RegExp
  /** Under which name older versions store the output head, if not as `HEAD`. */
  readonly head?: string
  /** @throws UserError naming the setting that is unsupported, missing or wrong */
  readonly read: (config: RawConfig, options: ReadOptions) => Blueprint
}

export interface ReadOptions {
  /** At most so many positions, if the checkpoint has more: what is never asked for need not be tabulated. */
  readonly positionsMax: number
}

/** A model but for the one thing that only the weights tell: whether the head is the embedding. */
export interface Blueprint {
  /** The name of the token embedding. */
  readonly embedding: string
  /** Whether config.json ties the head to the embedding. */
  readonly tied: boolean
  /** @param head the name of the head's weight: the embedding's, or `HEAD` */
  readonly build: (head: string) => Model
}

/** The output head, as all causal models of Hugging Face name it. */
export const HEAD = 'lm_head.weight'

/** What older versions stored of rotary positions. */
export const ROTARY_BUFFERS = /^(layers\.\d+\.(self_attn|attention)\.)?rotary_emb\.(inv_freq|cos_cached|sin_cached)$/
