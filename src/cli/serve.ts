/** @file `tributary serve`: the live page of a home, its API and metrics; computes nothing but explanations, on demand. */
import { Command } from 'commander'
import { commandFields, parseAddress, resolveSettings } from '../settings/index.js'
import { addOptions } from './options.js'
import { exitCodes, givenTo, interruptible, outputFor } from './shell.js'

export const serveCommand = (): Command =>
  addOptions(new Command('serve').description('serve the live page: tables that move, search, documents with their scores, progress'), commandFields.serve)
    .addHelpText('after', `
Reads the topics alone: it may run beside a scoring, after it, or on another machine over a Kafka log. Only to explain a
score, when asked to, it loads the run's checkpoint and factors; where they are not at hand it says so.
tributary score --serve does the same within the scoring. The API is described at /api/openapi.json. There are no
accounts: whoever reaches the address may read everything in the home, so it is this machine's own unless told
otherwise. Ctrl-C ends it.`)
    .action(async (_options: unknown, command: Command) => {
      const settings = resolveSettings('serve', givenTo(command))
      const output = outputFor(settings)
      const { isLocal, servePage } = await import('./page.js')
      const { monitor, monitorRoutes } = await import('../monitor/index.js')
      const { versions } = await import('./watching.js')
      using interruption = interruptible(() => {})
      const address = parseAddress(settings.listen)
      const watched = monitor({ work: { pipeline: 'serve', run: settings.run ?? '' }, versions: versions() })
      await using page = await servePage(settings, { address, others: monitorRoutes(watched), run: settings.run ?? undefined })
      watched.observer.ready()
      watched.observer.idle()
      if (settings.json) await output.json({ url: page.url })
      else await output.write(`${page.url}\n`)
      if (!isLocal(address)) output.warn(`whoever reaches ${settings.listen} may read everything in "${settings.home}": there are no accounts`)
      await new Promise<void>((resolve) => {
        if (interruption.signal.aborted) resolve()
        else interruption.signal.addEventListener('abort', () => resolve())
      })
      await watched.ended()
      process.exitCode = interruption.exitCode ?? exitCodes.done
    })
