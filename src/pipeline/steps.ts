/**
 * @file What a pipeline says about itself, so that `tributary describe` can draw it: every pipeline file exports its
 * `steps`. A step's name is the name of its operator, in errors and traces too.
 */

/**
 * One step. `in` and `out` name what it takes and gives. "topic documents", "artifact factors" and "shards" (anything
 * that begins with topic, artifact or file) lie still and are drawn as stores; other names are what flows.
 */
export interface Step {
  readonly name: string
  readonly in: string | readonly string[]
  readonly out: string | readonly string[]
  /** What it does, in a few words. */
  readonly note: string
}

export interface Pipeline {
  /** `ingest`, `fit`, `score`: the name of the command and of the file. */
  readonly name: string
  /** What it is for, in one line. */
  readonly about: string
  readonly steps: readonly Step[]
}

const listOf = (names: string | readonly string[]): readonly string[] => (typeof names === 'string' ? [names] : names)

/** A pipeline as text: a line per step. */
export const pipelineText = ({ name, about, steps }: Pipeline): string => {
  const width = Math.max(...steps.map((step) => step.name.length))
  const lines = steps.map((step) => {
    const arrow = `${listOf(step.in).join(' + ')} → ${listOf(step.out).join(' + ')}`
    return `  ${step.name.padEnd(width)}  ${arrow}\n  ${' '.repeat(width)}  ${step.note}`
  })
  return `${name}: ${about}\n${lines.join('\n')}\n`
}

const isStore = (name: string): boolean => /^(topic|artifact|file) /.test(name)

/**
 * All pipelines as one Mermaid flowchart: stores are shared between pipelines, what flows labels the arrow from the
 * step that gives it to the next one that takes it.
 */
export const pipelinesMermaid = (pipelines: readonly Pipeline[]): string => {
  const label = (text: string): string => `"${text.replace(/"/g, '#quot;').replace(/</g, '&lt;').replace(/>/g, '&gt;')}"`
  const ids = new Map<string, string>()
  const storeId = (name: string): string => {
    const known = ids.get(name)
    if (known !== undefined) return known
    const id = `store${ids.size}`
    ids.set(name, id)
    return id
  }
  const groups: string[] = []
  const edges: string[] = []
  for (const { name, steps } of pipelines) {
    const stepId = (at: number): string => `${name.replace(/\W/g, '_')}${at}`
    groups.push(
      `  subgraph ${name.replace(/\W/g, '_')} [${label(name)}]`,
      ...steps.map((step, at) => `    ${stepId(at)}[${label(step.name)}]`),
      '  end',
    )
    steps.forEach((step, at) => {
      for (const given of listOf(step.in)) {
        if (isStore(given)) {
          edges.push(`  ${storeId(given)} --> ${stepId(at)}`)
          continue
        }
        const from = steps.findLastIndex((other, before) => before < at && listOf(other.out).includes(given))
        edges.push(from === -1
          ? `  ${storeId(given)} --> ${stepId(at)}`
          : `  ${stepId(from)} -- ${label(given)} --> ${stepId(at)}`)
      }
      for (const out of listOf(step.out)) {
        const isTaken = steps.some((other, after) => after > at && listOf(other.in).includes(out))
        if (isStore(out) || !isTaken) edges.push(`  ${stepId(at)} --> ${storeId(out)}`)
      }
    })
  }
  const stores = [...ids].map(([name, id]) => (isStore(name) ? `  ${id}[(${label(name)})]` : `  ${id}([${label(name)}])`))
  return ['flowchart LR', ...stores, ...groups, ...edges, ''].join('\n')
}
