/** @file `tributary describe`: the pipelines as text and as Mermaid. */
import { Command, Option } from 'commander'
import { pipelinesMermaid, pipelineText, type Pipeline } from '../pipeline/steps.js'
import { resolveGlobalSettings } from '../settings/index.js'
import { givenTo, outputFor } from './shell.js'

/** All pipelines, in the order of a first run. */
const loadPipelines = async (): Promise<readonly Pipeline[]> =>
  (
    await Promise.all([
      import('../pipeline/ingest.js'), import('../pipeline/queries.js'), import('../pipeline/fit.js'), import('../pipeline/prepare.js'),
      import('../pipeline/score.js'), import('../pipeline/sum.js'), import('../pipeline/explain.js'),
    ])
  ).map(({ steps }) => steps)

export const describeCommand = (): Command =>
  new Command('describe')
    .description('print the pipelines, as text and as a Mermaid flowchart')
    .addOption(new Option('--only <FORM>', 'one of both').choices(['text', 'mermaid']))
    .action(async ({ only }: { only?: string }, command: Command) => {
      const settings = resolveGlobalSettings(givenTo(command))
      const output = outputFor(settings)
      const pipelines = await loadPipelines()
      if (settings.json) return output.json({ pipelines, mermaid: pipelinesMermaid(pipelines) })
      const text = pipelines.map(pipelineText).join('\n')
      const mermaid = pipelinesMermaid(pipelines)
      if (only === 'text') await output.write(text)
      else if (only === 'mermaid') await output.write(mermaid)
      else await output.write(`${text}\n\`\`\`mermaid\n${mermaid}\`\`\`\n`)
    })
