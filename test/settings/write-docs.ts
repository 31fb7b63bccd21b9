/** @file `node dist/test/settings/write-docs.js`: writes what is made from the table of settings. A test compares. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../../src/base/index.js'
import { settingsMarkdown } from '../../src/settings/describe.js'
import { runFileJsonSchema } from '../../src/settings/index.js'

writeFileSync(join(packageRoot(), 'docs', 'settings.md'), settingsMarkdown())
writeFileSync(join(packageRoot(), 'schemas', 'run.schema.json'), `${JSON.stringify(runFileJsonSchema(), null, 2)}\n`)
