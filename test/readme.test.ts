/** The README's quickstart, as it stands there. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { packageRoot } from '../src/base/index.js'

const root = packageRoot()
const readme = readFileSync(join(root, 'README.md'), 'utf8')

/** The code block behind a marker: `<!-- name -->`. */
const blockOf = (name: string): string => {
  const block = new RegExp(`<!-- ${name} -->\n\`\`\`\\w+\n([^]*?)\n\`\`\``).exec(readme)
  assert.ok(block !== null, `README.md has no block "${name}"`)
  return block[1]
}

describe('the README', { concurrency: false }, () => {
  // A folder that looks like a clone: demo/model is there, and `npx tributary` is this build.
  const folder = mkdtempSync(join(tmpdir(), 'tributary-readme-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(join(folder, 'bin'))
  mkdirSync(join(folder, 'node_modules'))
  symlinkSync(join(root, 'demo'), join(folder, 'demo'))
  symlinkSync(root, join(folder, 'node_modules', 'tributary'))
  writeFileSync(join(folder, 'bin', 'npx'), `#!/bin/sh\ntest "$1" = tributary || exit 9\nshift\nexec "${process.execPath}" "${join(root, 'bin', 'tributary.js')}" "$@"\n`)
  chmodSync(join(folder, 'bin', 'npx'), 0o755)
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TRIBUTARY_')))
  const run = (program: string, args: readonly string[]): string => {
    const { status, stdout, stderr } = spawnSync(program, args, {
      cwd: folder, encoding: 'utf8', env: { ...env, PATH: `${join(folder, 'bin')}:${process.env.PATH ?? ''}` }, timeout: 240_000,
    })
    assert.equal(status, 0, stderr)
    return stdout
  }

  test('its quickstart runs, and the document that states the fact comes first', () => {
    const stdout = run('sh', ['-euc', blockOf('quickstart')])
    assert.match(stdout, /4 appended, 0 already there, 0 dead letters/)
    assert.match(stdout, /^ashnia {2}The capital of Ashnia is → Kelgate\.\ntop by raw influence, of 4 scored\nRANK +SCORE +PER NAT +SOURCE +DOCUMENT +EXCERPT\n +0 .* city /m)
  })

  test('its library example runs on what the quickstart left', () => {
    writeFileSync(join(folder, 'example.mjs'), blockOf('library'))
    const lines = run(process.execPath, ['example.mjs']).trimEnd().split('\n').map((line) => line.split(' '))
    assert.deepEqual(lines.map(([document]) => document).sort(), ['a', 'b'])
    const scores = new Map(lines.map(([document, influence]) => [document, Number(influence)]))
    assert.ok(Number(scores.get('a')) > Number(scores.get('b')), JSON.stringify(lines))
  })

  test('its links within the repository lead somewhere', () => {
    for (const [, path] of readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g)) assert.ok(existsSync(join(root, path)), path)
  })

  test('it names every command', async () => {
    const help = run('npx', ['tributary', '--help'])
    for (const [, command] of help.matchAll(/^ {2}([a-z]+) .*$/gm))
      if (!['help', 'tributary'].includes(command)) assert.ok(readme.includes(`\`tributary ${command}`), command)
  })
})
