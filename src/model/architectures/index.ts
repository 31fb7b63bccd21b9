/** @file The architectures that are known. To add one, write its file and add its line. */
import { UserError } from '../../base/index.js'
import type { RawConfig } from '../config.js'
import type { Architecture } from './architecture.js'
import { cohere } from './cohere.js'
import { gemma } from './gemma.js'
import { gpt2 } from './gpt2.js'
import { gptNeox } from './gpt-neox.js'
import { llama } from './llama.js'
import { mixtral } from './mixtral.js'
import { olmo2 } from './olmo2.js'
import { phi3 } from './phi3.js'
import { qwen3 } from './qwen3.js'

const ARCHITECTURES: readonly Architecture[] = [
  gpt2,
  gptNeox,
  llama,
  mixtral,
  qwen3,
  olmo2,
  gemma,
  phi3,
  cohere,
]

/** The architecture of a config.json. @throws UserError naming those that are known */
export const architectureOf = ({ path, values }: RawConfig): Architecture => {
  const found = ARCHITECTURES.find(({ modelTypes }) => modelTypes.some((type) => type === values.model_type))
  if (found !== undefined) return found
  const known = ARCHITECTURES.flatMap(({ modelTypes }) => modelTypes).join(', ')
  throw new UserError(`"${path}": model_type = ${JSON.stringify(values.model_type)} is not supported (supported: ${known})`)
}
