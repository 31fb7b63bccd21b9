/** @file Which device is chosen, told by probes that were made up. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { UserError } from '../../src/base/index.js'
import { chooseDevice, type ChooseOptions, type Device, type DeviceReport } from '../../src/tensor/index.js'

type Works = 'yes' | 'software' | 'no'
const world = (works: Partial<Record<Device, Works>>, { present = true } = {}): ChooseOptions & { readonly asked: string[] } => {
  const asked: string[] = []
  return {
    asked,
    present: () => present,
    probe: (device, { width }): Promise<DeviceReport> => {
      asked.push(width === undefined ? device : `${device} ${width}`)
      return Promise.resolve(
        (works[device] ?? 'no') === 'no'
          ? { device, usable: false, problem: `no ${device} driver`, fix: `install ${device}` }
          : { device, usable: true, gemmRate: 12.3e12, software: works[device] === 'software' },
      )
    },
  }
}

test('without a GPU nothing is asked', async () => {
  const here = world({ cuda: 'yes' }, { present: false })
  assert.deepEqual(await chooseDevice('auto', here), { device: 'cpu', note: undefined })
  assert.deepEqual(await chooseDevice('cpu', here), { device: 'cpu', note: undefined })
  assert.deepEqual(here.asked, [])
})

test('auto takes CUDA, else WebGPU, else the CPU, and says which', async () => {
  const both = world({ cuda: 'yes', webgpu: 'yes' })
  const chosen = await chooseDevice('auto', both)
  assert.equal(chosen.device, 'cuda')
  assert.match(chosen.note ?? '', /^device cuda: f32 products at 12,000 GFLOP\/s$/)
  assert.deepEqual(both.asked, ['cuda'], 'one is enough')
  assert.equal((await chooseDevice('auto', world({ webgpu: 'yes' }))).device, 'webgpu')
  const none = await chooseDevice('auto', world({}))
  assert.equal(none.device, 'cpu')
  assert.match(none.note ?? '', /no cuda driver; install cuda.*no webgpu driver; install webgpu/)
})

test('a software driver is taken by its name only', async () => {
  const chosen = await chooseDevice('auto', world({ webgpu: 'software' }))
  assert.equal(chosen.device, 'cpu')
  assert.match(chosen.note ?? '', /webgpu: a software driver/)
  const named = await chooseDevice('webgpu', world({ webgpu: 'software' }))
  assert.equal(named.device, 'webgpu')
  assert.match(named.note ?? '', /for tests/)
})

test('a device that was asked for and is not there is refused with what is missing, wherever hardware is looked for', async () => {
  for (const device of ['cuda', 'webgpu'] as const)
    await assert.rejects(
      chooseDevice(device, world({}, { present: false })),
      (error) => error instanceof UserError && error.message === `device ${device} is not usable here: no ${device} driver` && error.fix === `install ${device}; or --device cpu`,
    )
})

test('the device has to have the precision', async () => {
  const both = world({ cuda: 'yes', webgpu: 'yes' })
  assert.equal((await chooseDevice('auto', { ...both, precision: 'bf16' })).device, 'cuda')
  assert.deepEqual(both.asked, ['cuda bfloat16'])
  await assert.rejects(chooseDevice('webgpu', { ...both, precision: 'bf16' }), /webgpu is not usable here with --precision bf16: WebGPU has no bfloat16/)
  assert.equal((await chooseDevice('webgpu', { ...both, precision: 'f16' })).device, 'webgpu')
  const cpu = await chooseDevice('auto', { ...world({}, { present: false }), precision: 'f16' })
  assert.equal(cpu.device, 'cpu')
  assert.match(cpu.note ?? '', /multiplies in float32/)
})
