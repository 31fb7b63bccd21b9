/** @file `tributary doctor` as a child process, with what is there and with what is not. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import type { AddressInfo } from 'node:net'
import { examine, type Diagnosis } from '../../src/pipeline/doctor.js'
import { globalSettings } from '../../src/settings/index.js'
import type { Device, DeviceReport } from '../../src/tensor/index.js'
import { temporaryFolder, tributaryIn } from './tributary.js'

const findingsOf = (stdout: string): readonly Diagnosis[] => (JSON.parse(stdout) as { findings: readonly Diagnosis[] }).findings
const named = (findings: readonly Diagnosis[], name: string): Diagnosis => {
  const found = findings.find((finding) => finding.name === name)
  assert.ok(found, `${name} among ${findings.map((finding) => finding.name).join(', ')}`)
  return found
}

describe('doctor', () => {
  const folder = temporaryFolder()
  const tributary = tributaryIn(folder)

  test('a machine on which the default works: 0, a rate for the CPU, a fix for what is missing, and nothing made', { timeout: 180_000 }, async () => {
    const { code, stdout, stderr } = await tributary('doctor --json --home fresh')
    assert.equal(code, 0, stderr)
    const findings = findingsOf(stdout)
    const cpu = named(findings, 'onnx cpu')
    assert.ok(cpu.usable && (cpu.gemmRate ?? 0) > 1e8, JSON.stringify(cpu))
    for (const { usable, fix, name } of findings) assert.ok(usable || (fix ?? '').length > 10, name)
    assert.match(named(findings, 'log').said, /made by the first ingest/)
    assert.equal(existsSync(join(folder, 'fresh')), false)
    const text = await tributary('doctor --home fresh')
    assert.match(text.stdout, /^ok {6}onnx cpu: f32 products at [\d.,]+ GFLOP\/s$/m)
  })

  test('a home that is a file, no broker, no registry: 1, and each with its fix', { timeout: 180_000 }, async () => {
    writeFileSync(join(folder, 'taken'), '')
    const { code, stdout, stderr } = await tributary('doctor --home taken/home --log kafka://127.0.0.1:1 --schema-registry http://user:secret@127.0.0.1:1')
    assert.equal(code, 1)
    assert.match(stdout, /BROKEN {2}home: [^\n]+\n +fix: /)
    assert.match(stdout, /BROKEN {2}log: [^\n]*no broker[^\n]+\n +fix: start the broker/)
    assert.match(stdout, /BROKEN {2}registry: http:\/\/127\.0\.0\.1:1\/: /)
    assert.match(stderr, /not usable here: home, log, registry/)
    assert.doesNotMatch(stdout + stderr, /secret/)
  })

  test('a registry is asked with its user', async () => {
    const asked: (string | undefined)[] = []
    const server = createServer((request, response) => {
      asked.push(`${request.url} ${request.headers.authorization}`)
      response.writeHead(request.headers.authorization === undefined ? 401 : 200).end('[]')
    }).listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address() as AddressInfo
    const none = (device: Device): Promise<DeviceReport> => Promise.resolve({ device, usable: false, problem: 'none', fix: 'none' })
    const at = async (url: string): Promise<Diagnosis> => {
      const findings: Diagnosis[] = []
      for await (const finding of examine(globalSettings({ home: join(folder, 'fresh'), schemaRegistry: url }), { probe: none })) findings.push(finding)
      return named(findings, 'registry')
    }
    try {
      assert.equal((await at(`http://user:pass@127.0.0.1:${port}/under/`)).usable, true)
      assert.deepEqual(asked, [`/under/subjects Basic ${Buffer.from('user:pass').toString('base64')}`])
      const refused = await at(`http://127.0.0.1:${port}`)
      assert.match(`${refused.said} ${refused.fix}`, /answers 401 user and password/)
    } finally {
      server.closeAllConnections()
      server.close()
    }
  })

  test('a GPU is measured in both widths; a CPU that does not work is what everything needs', async () => {
    const probe = (device: Device, options: { readonly width?: string } = {}): Promise<DeviceReport> =>
      Promise.resolve(
        device === 'cuda'
          ? { device, usable: true, gemmRate: options.width === 'float16' ? 4e13 : 2e13, software: false }
          : { device, usable: false, problem: 'it died', fix: 'another machine' },
      )
    const findings: Diagnosis[] = []
    for await (const finding of examine(globalSettings({ home: join(folder, 'fresh') }), { probe })) findings.push(finding)
    const cuda = named(findings, 'onnx cuda')
    assert.deepEqual([cuda.usable, cuda.gemmRate, cuda.gemmRateF16, cuda.said], [true, 2e13, 4e13, 'f32 products at 20,000 GFLOP/s, f16 products at 40,000 GFLOP/s'])
    const cpu = named(findings, 'onnx cpu')
    assert.deepEqual([cpu.usable, cpu.needed, cpu.said, cpu.fix], [false, true, 'it died', 'another machine'])
  })
})
