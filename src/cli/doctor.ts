/** @file `tributary doctor` */
import { Command } from 'commander'
import { UserError } from '../base/index.js'
import type { Diagnosis } from '../pipeline/doctor.js'
import { resolveGlobalSettings } from '../settings/index.js'
import { escaped } from './output.js'
import { givenTo, outputFor } from './shell.js'

const textOf = ({ name, usable, needed, said, fix }: Diagnosis): string =>
  `${usable ? 'ok     ' : needed ? 'BROKEN ' : 'missing'} ${name}: ${escaped(said)}\n${usable || fix === undefined ? '' : `        fix: ${escaped(fix)}\n`}`

export const doctorCommand = (): Command =>
  new Command('doctor')
    .description('tell which engines and devices are usable and how fast, and whether home and log are')
    .addHelpText('after', `
ok: usable. missing: optional, with the way to get it. BROKEN: nothing works without it; the command then ends with 1.
A device is tried in a process of its own, on products whose results are known; its rate is that of products of 2,048 × 576 ×
1,536, which is also what plan reckons with and benches take shares of. Nothing is changed.`)
    .action(async (_options: unknown, command: Command) => {
      const settings = resolveGlobalSettings(givenTo(command))
      const output = outputFor(settings)
      const { examine } = await import('../pipeline/doctor.js')
      const findings: Diagnosis[] = []
      for await (const finding of examine(settings)) {
        findings.push(finding)
        if (!settings.json) await output.write(textOf(finding))
      }
      if (settings.json) await output.json({ findings })
      const broken = findings.filter(({ usable, needed }) => needed && !usable)
      if (broken.length > 0)
        throw new UserError(`not usable here: ${broken.map(({ name }) => name).join(', ')}`, { fix: broken.map(({ name, fix }) => `${name}: ${fix ?? 'see above'}`).join('; ') })
    })
