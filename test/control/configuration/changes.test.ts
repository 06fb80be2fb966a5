// The keeper of wishes: what it remembers, publishes and compares, and rollouts that go on, stop, and outlive their keeper.
import { describe, expect, test, vi } from 'vitest'
import type { DeviceChange } from '../../../plugins/protocols/fleet-changes.ts'
import { FakeClock } from '../../support/clock.ts'
import { memoryFleet } from '../../support/fleet-changes.ts'
import type { MemoryFleet } from '../../support/fleet-changes.ts'

const names = Array.from({ length: 10 }, (_, at) => `dpu-${at}`)
const fleetOf = (given: Parameters<typeof memoryFleet>[1] = {}, offline: readonly string[] = []) =>
  memoryFleet(
    async () =>
      names.map((device) => ({
        device,
        collector: device,
        state: offline.includes(device) ? ('offline' as const) : ('online' as const),
      })),
    given,
  )

const wish = { text: 'a: b\n', by: 'ada', soakMs: 10_000 }
const told = ({ messages }: MemoryFleet): string[] =>
  names.filter((device) => messages.has(`dpulse/${device}/config/desired`))
const answerAll = (fleet: MemoryFleet) => told(fleet).forEach((device) => fleet.answer(device, 'in_force'))

describe('a wish', () => {
  test('is retained for each device, in force once the device says so, and the text is kept once', async () => {
    const fleet = fleetOf()
    const answer = await fleet.changes.apply({ ...wish, devices: ['dpu-1', 'dpu-2'] })
    expect(answer).toMatchObject({ devices: ['dpu-1', 'dpu-2'], warnings: [] })
    expect(fleet.desired('dpu-1').configuration).toMatchObject({ text: 'a: b\n', by: 'ada' })
    fleet.answer('dpu-1', 'in_force')
    const list = await fleet.changes.list(['dpu-0', 'dpu-1', 'dpu-2'])
    expect(list.map(({ state }) => state)).toEqual(['own', 'in_force', 'pending'])
    expect([...fleet.registry.entries()].filter(([key]) => key.startsWith('configuration/'))).toHaveLength(1)
    expect(await fleet.changes.get('dpu-2')).toMatchObject({ text: 'a: b\n' })
    expect(await fleet.changes.get('dpu-77')).toBeUndefined()
  })

  test('is answered with what the check finds, and then nobody is told', async () => {
    const problem = { path: 'sources', message: 'no', severity: 'error' as const }
    const fleet = fleetOf({ check: async () => [problem] })
    expect(await fleet.changes.apply({ ...wish, devices: names })).toEqual({ refused: [problem] })
    expect(fleet.messages.size).toBe(0)
  })

  test('is ahead of all that the device has heard, whatever the clock and the journal of the aggregator', async () => {
    const fleet = fleetOf()
    await fleet.changes.apply({ ...wish, devices: ['dpu-1'] })
    fleet.answer('dpu-1', 'in_force')
    const { revision } = fleet.desired('dpu-1')
    const later = fleetOf({ clock: new FakeClock(1_000_000_000n) })
    const payload = fleet.messages
    fleet.answer('dpu-1', 'in_force', { revision })
    later.changes.onReported(
      'dpu-1',
      Buffer.from(JSON.stringify((await fleet.changes.list(['dpu-1']))[0]?.reported)),
    )
    expect(payload.size).toBeGreaterThan(0)
    expect((await later.changes.list(['dpu-1']))[0]?.state).toBe('drift')
    await later.changes.release(['dpu-1'], 'ada')
    expect(later.desired('dpu-1').revision).toBeGreaterThan(revision)
  })

  test('of a trial that is heard is acknowledged on the ack topic', async () => {
    const fleet = fleetOf()
    await fleet.changes.apply({ ...wish, devices: ['dpu-1'] })
    const { configuration } = fleet.desired('dpu-1')
    const outcome = { revision: configuration?.revision ?? 0, hash: configuration?.hash ?? null, reason: '' }
    const time = new Date().toISOString()
    fleet.answer('dpu-1', 'trial', {
      outcome: { ...outcome, state: 'trial', problems: [], time, trial: 'T1' },
    })
    expect(fleet.messages.get('dpulse/dpu-1/ack')).toBe('{"streams":[],"trial":"T1"}')
  })

  test('that the broker has lost is published again, and a verbosity that is over is not', async () => {
    const clock = new FakeClock()
    const fleet = fleetOf({ clock })
    const stop = new AbortController()
    const running = fleet.changes.run(stop.signal)
    await fleet.changes.setVerbosity({
      devices: ['dpu-1'],
      source: 'syslog',
      severity: 'debug',
      forMs: 60_000,
      by: 'ada',
    })
    fleet.messages.clear()
    await clock.advance(6000)
    expect(fleet.desired('dpu-1').verbosity).toMatchObject([{ source: 'syslog', severity: 'debug' }])
    await clock.advance(60_000)
    expect(fleet.desired('dpu-1').verbosity).toEqual([])
    stop.abort()
    await running
  })

  test('for labels is merged, and null stands for one that is taken away', async () => {
    const fleet = fleetOf()
    await fleet.changes.setLabels(new Map([['dpu-1', { rack: 'r1', site: 'lab' }]]))
    await fleet.changes.setLabels(new Map([['dpu-1', { rack: null }]]))
    expect(fleet.desired('dpu-1').labels).toEqual({ rack: null, site: 'lab' })
  })
})

describe('a rollout', () => {
  const begin = async (offline: readonly string[] = []) => {
    const clock = new FakeClock()
    const fleet = fleetOf({ clock }, offline)
    const stop = new AbortController()
    const running = fleet.changes.run(stop.signal)
    await fleet.changes.apply({ ...wish, devices: names, stages: [10, 50, 100] })
    const rollout = async () => (await fleet.changes.rollouts())[0]
    const end = async () => {
      stop.abort()
      await running
    }
    await clock.advance(2000)
    return { clock, fleet, rollout, end }
  }

  test('reaches the next stage only when the one before is in force and was watched', async () => {
    const { clock, fleet, rollout, end } = await begin()
    expect(told(fleet)).toHaveLength(1)
    await clock.advance(60_000)
    expect(told(fleet)).toHaveLength(1)
    answerAll(fleet)
    await clock.advance(5000)
    expect(told(fleet)).toHaveLength(1)
    await clock.advance(10_000)
    expect(told(fleet)).toHaveLength(5)
    answerAll(fleet)
    await clock.advance(15_000)
    expect(told(fleet)).toHaveLength(10)
    answerAll(fleet)
    await clock.advance(15_000)
    expect(await rollout()).toMatchObject({ state: 'done', reached: 10, states: { in_force: 10 } })
    await end()
  })

  test.each(['refused', 'rolled_back'] as const)('stops where a device says %s', async (state) => {
    const { clock, fleet, rollout, end } = await begin()
    answerAll(fleet)
    await clock.advance(15_000)
    const [first] = told(fleet)
    fleet.answer(first ?? '', state)
    await clock.advance(60_000)
    expect(await rollout()).toMatchObject({ state: 'stopped', reached: 5 })
    expect((await rollout())?.detail).toContain(first)
    expect(told(fleet)).toHaveLength(5)
    await end()
  })

  test('stops where a device that it has reached loses records, and not for what was lost before', async () => {
    for (const device of names) await Promise.resolve(device)
    const { clock, fleet, rollout, end } = await begin()
    const [first] = told(fleet)
    for (const device of names) if (device !== first) fleet.lost.set(device, 7)
    answerAll(fleet)
    await clock.advance(15_000)
    answerAll(fleet)
    await clock.advance(5000)
    expect(await rollout()).toMatchObject({ state: 'running', reached: 5 })
    fleet.lost.set(first ?? '', 3)
    await clock.advance(2000)
    expect(await rollout()).toMatchObject({
      state: 'stopped',
      detail: `${first}: 3 records were lost since it was reached`,
    })
    await end()
  })

  test('does not wait for devices that are offline, and begins with those that are not', async () => {
    const away = names.slice(0, 5)
    const { clock, fleet, rollout, end } = await begin(away)
    for (let stage = 0; stage < 3; stage++) {
      for (const device of told(fleet)) if (!away.includes(device)) fleet.answer(device, 'in_force')
      if (stage === 0) expect(away).not.toContain(told(fleet)[0])
      await clock.advance(15_000)
    }
    await clock.advance(15_000)
    expect(await rollout()).toMatchObject({ state: 'done', states: { in_force: 5, pending: 5 } })
    await end()
  })

  test('goes on where its keeper was killed, and tells nobody twice', async () => {
    const { clock, fleet, end } = await begin()
    await end()
    const before = fleet.desired(told(fleet)[0] ?? '').revision
    fleet.again()
    const stop = new AbortController()
    const running = fleet.changes.run(stop.signal)
    answerAll(fleet)
    await clock.advance(20_000)
    expect(told(fleet)).toHaveLength(5)
    const list: DeviceChange[] = await fleet.changes.list()
    expect(Math.min(...list.flatMap(({ desired }) => desired?.revision ?? []))).toBe(before)
    stop.abort()
    await running
  })

  test('is stopped by whoever says so', async () => {
    const { clock, fleet, rollout, end } = await begin()
    const { id = '' } = (await rollout()) ?? {}
    expect(await fleet.changes.stopRollout(id, 'ada')).toBe(true)
    expect(await fleet.changes.stopRollout(id, 'ada')).toBe(false)
    answerAll(fleet)
    await clock.advance(60_000)
    await vi.waitFor(async () =>
      expect(await rollout()).toMatchObject({ state: 'stopped', detail: 'stopped by ada', reached: 1 }),
    )
    await end()
  })
})
