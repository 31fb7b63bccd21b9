import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { packageRoot } from '../../src/base/index.js'
import { settingsMarkdown } from '../../src/settings/describe.js'

test('docs/settings.md says what the table of settings says (node dist/test/settings/write-docs.js writes it)', () => {
  assert.equal(readFileSync(join(packageRoot(), 'docs', 'settings.md'), 'utf8'), settingsMarkdown())
})
