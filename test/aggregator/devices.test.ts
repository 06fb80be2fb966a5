import { describe, expect, onTestFinished, test } from 'vitest'
import { openDevices } from '../../aggregator/devices.ts'
import type { Status } from '../../plugins/protocols/topics.ts'
import { statusSchema } from '../../plugins/protocols/topics.ts'
import { FakeClock } from '../support/clock.ts'
import { testContext } from '../support/context.ts'
import { openTestJournal } from '../support/journal.ts'
import { sampleBatch, sampleLogs } from '../support/records.ts'

const status = (given: Partial<Status>): Status =>
  statusSchema.parse({
    state: 'online',
    collector: 'dpu-1',
    instance: 'run-a',
    hostname: 'alpha',
    session: 'a',
    ...given,
  })

const header = (device: string, collector = device, session = 'a') => ({
  ...sampleBatch(sampleLogs([{}])).header,
  device,
  collector,
  session,
})

async function open(clock = new FakeClock()) {
  const journal = await openTestJournal()
  const { log, logged } = testContext()
  const table = journal.table('dpulse_registry')
  const devices = openDevices(table, clock, log)
  onTestFinished(() => devices.flush())
  const only = async () => (await devices.list())[0]
  return { devices, clock, logged, only, reopen: () => openDevices(table, clock, log) }
}

describe('the registry of devices', () => {
  test('shows a collector online from its birth until its will', async () => {
    const { devices, only } = await open()
    devices.onStatus(
      status({ labels: { 'dpu.rack': 'r1' }, version: '1.2.3', identity: 'dmi product_serial' }),
      false,
    )
    expect(await only()).toMatchObject({
      device: 'dpu-1',
      name: 'alpha',
      state: 'online',
      version: '1.2.3',
      labels: { 'dpu.rack': 'r1' },
      identity: [{ kind: 'dmi product_serial', value: 'dpu-1' }],
      conflicts: [],
    })
    devices.onStatus(status({ state: 'offline' }), false)
    expect(await only()).toMatchObject({ state: 'offline' })
  })

  test('is not misled by the will of an earlier run', async () => {
    const { devices, only } = await open()
    devices.onStatus(status({}), false)
    devices.onStatus(status({ instance: 'run-b', session: 'b' }), false)
    devices.onStatus(status({ state: 'offline' }), false)
    expect(await only()).toMatchObject({ state: 'online', conflicts: [] })
  })

  test('names two live runs under one id as a conflict, and neither wins', async () => {
    const { devices, clock, logged, only } = await open()
    devices.onStatus(status({}), false)
    await clock.advance(1000)
    devices.onStatus(status({ instance: 'run-b', hostname: 'beta', session: 'b' }), false)
    expect((await only())?.conflicts).toEqual([])
    await clock.advance(1000)
    devices.onBatch(header('dpu-1', 'dpu-1', 'a'))
    const device = await only()
    expect(device?.conflicts[0]?.collectors).toEqual(['alpha (run run-a)', 'beta (run run-b)'])
    devices.onStatus(status({ instance: 'run-b', hostname: 'beta', session: 'b' }), false)
    expect(logged).toContainEqual(
      expect.objectContaining({ level: 'warn', message: 'two live collectors claim one device' }),
    )
  })

  test('takes the backlog of a run that was killed for no sign of its life', async () => {
    const { devices, clock, only } = await open()
    devices.onStatus(status({}), false)
    await clock.advance(1000)
    const ended = [{ session: 'a', device: 'dpu-1', class: 'log' as const, seq: 3, produced: 9, dropped: {} }]
    devices.onStatus(status({ instance: 'run-b', session: 'b', ended }), false)
    await clock.advance(1000)
    devices.onBatch(header('dpu-1', 'dpu-1', 'a'))
    expect(await only()).toMatchObject({ state: 'online', conflicts: [] })
  })

  test('forgets a conflict when one of the two falls silent', async () => {
    const { devices, clock, only } = await open()
    devices.onStatus(status({}), false)
    await clock.advance(1000)
    devices.onStatus(status({ instance: 'run-b', session: 'b' }), false)
    await clock.advance(1000)
    devices.onBatch(header('dpu-1', 'dpu-1', 'a'))
    await clock.advance(61_000)
    devices.onBatch(header('dpu-1', 'dpu-1', 'b'))
    expect(await only()).toMatchObject({ state: 'online', conflicts: [] })
  })

  test('takes a birth from before its start for a while only', async () => {
    const { devices, clock, only } = await open()
    devices.onStatus(status({}), true)
    expect(await only()).toMatchObject({ state: 'online' })
    await clock.advance(60_000)
    expect(await only()).toMatchObject({ state: 'offline' })
    devices.onBatch(header('dpu-1'))
    expect(await only()).toMatchObject({ state: 'online' })
  })

  test('holds a device without a collector of its own online while its records come', async () => {
    const { devices, clock, only } = await open()
    devices.onBatch(header('bmc-7', 'otlp-127-0-0-1'))
    expect(await only()).toMatchObject({ device: 'bmc-7', state: 'online', collector: 'otlp-127-0-0-1' })
    await clock.advance(121_000)
    expect(await only()).toMatchObject({ state: 'offline' })
  })

  test('knows its devices again after a restart, and none that was removed', async () => {
    const { devices, reopen } = await open()
    devices.onStatus(status({}), false)
    devices.onBatch(header('dpu-2', 'dpu-2'))
    await devices.flush()
    expect(await devices.remove('dpu-2')).toBe('removed')
    expect(await devices.remove('dpu-2')).toBe('absent')
    const again = await reopen().list()
    expect(again.map(({ device, name }) => [device, name])).toEqual([['dpu-1', 'alpha']])
  })
})
