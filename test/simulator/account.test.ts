// Virtual devices with the real runtime, on a virtual clock: what becomes of their records while they are cut off, and
// over a boot.
import { setImmediate as turn } from 'node:timers/promises'
import * as z from 'zod'
import { describe, expect, test } from 'vitest'
import { Budget } from '../../collector/budget.ts'
import { Logger } from '../../collector/logger.ts'
import { defineExporter } from '../../plugins/contract/index.ts'
import type { Batch, Clock } from '../../plugins/contract/index.ts'
import { plugins } from '../../plugins/index.ts'
import { clockOf } from '../../simulator/clock.ts'
import { collectorsConfig } from '../../simulator/collectors.ts'
import { Cable } from '../../simulator/exporters.ts'
import { createSchedule } from '../../simulator/faults/schedule.ts'
import { makeFleet } from '../../simulator/fleet.ts'
import { kinds } from '../../simulator/kinds/index.ts'
import { panic } from '../../simulator/physics/index.ts'
import { Simulation } from '../../simulator/simulation.ts'
import { Timeline, driveVirtual } from '../../simulator/timeline.ts'

const epochMs = Date.UTC(2026, 0, 5, 9)
const never = new AbortController().signal

/** A fleet of two, what arrived of it, and what is done to it while its time goes on. */
async function simulated(
  act: (it: { simulation: Simulation; clock: Clock; taken: Batch[] }) => Promise<void>,
) {
  const taken: Batch[] = []
  const memory = defineExporter({
    name: 'memory',
    summary: 'Keeps batches.',
    config: z.strictObject({}),
    create: () => ({
      export(batch) {
        taken.push(batch)
        return Promise.resolve({ rejected: 0 })
      },
    }),
  })
  const devices = makeFleet({ devices: 2, seed: 4, epochMs, kinds })
  const cables = new Map(devices.map(({ id }) => [id, new Cable()]))
  const timeline = new Timeline(epochMs)
  const clock = clockOf(timeline, { offsetMs: 0 })
  const logger = new Logger({ write: () => undefined })
  const destination = { definition: memory, config: {}, address: 'memory' }
  const simulation = new Simulation({
    timeline,
    clock,
    devices,
    cables,
    schedule: createSchedule({ faults: '', devices, tell: () => undefined }),
    config: collectorsConfig({ plugins, devices, cables, destination, interval: 10_000, speed: 1 }),
    budget: new Budget({ clock, logger: logger.for('budget') }),
    logger,
    version: '0',
    portOffset: 0,
    disk: 0,
    openLog: undefined,
    startWithinMs: 0,
  })
  const run = async () => {
    simulation.start()
    await act({ simulation, clock, taken })
    await simulation.stop()
  }
  await driveVirtual(timeline, run(), () => undefined)
  return { taken, devices }
}

/** Of each stream the numbers of its batches, and the total that the last one tells beside what was counted. */
function accountOf(taken: readonly Batch[]) {
  const streams = new Map<string, { seqs: number[]; stored: number; produced: number; dropped: number }>()
  for (const { header } of taken) {
    const key = `${header.session} ${header.device} ${header.class}`
    const stream = streams.get(key) ?? { seqs: [], stored: 0, produced: 0, dropped: 0 }
    streams.set(key, stream)
    stream.seqs.push(header.seq)
    stream.stored += header.count
    stream.produced = Math.max(stream.produced, header.produced)
    stream.dropped = Math.max(
      stream.dropped,
      Object.values(header.dropped).reduce((sum, n) => sum + n, 0),
    )
  }
  return [...streams.values()]
}

describe('a virtual device', () => {
  test('tells everything that a collector tells, each stream without a gap', async () => {
    const { taken, devices } = await simulated(({ clock }) => clock.delay(60_000, never))
    const classes = new Set(taken.map(({ header }) => header.class))
    for (const name of ['environment', 'resource', 'error', 'capability', 'log']) {
      expect(classes).toContain(name)
    }
    expect(new Set(taken.map(({ header }) => header.device))).toEqual(new Set(devices.map(({ id }) => id)))
    for (const { seqs, stored, produced, dropped } of accountOf(taken)) {
      expect(seqs.toSorted((a, b) => a - b)).toEqual(seqs.map((_, index) => index + 1))
      expect({ produced, dropped }).toEqual({ produced: stored, dropped: 0 })
    }
  })

  test('that is cut off goes on collecting: its buffer grows, and all of it comes when it is back', async () => {
    const held: number[] = []
    let during = 0
    const { taken } = await simulated(async ({ simulation, clock, taken: batches }) => {
      const [one] = simulation.devices
      if (!one) throw new Error('no device')
      const ofDevice = () => batches.filter(({ header }) => header.device === one.device.id).length
      await clock.delay(30_000, never)
      one.device.state.isOffline = true
      await clock.delay(5000, never)
      const before = ofDevice()
      for (let minute = 0; minute < 5; minute++) {
        await clock.delay(60_000, never)
        held.push(one.heldBytes)
      }
      during = ofDevice() - before
      expect(simulation.status().online).toBe(1)
      one.device.state.isOffline = false
      await clock.delay(60_000, never)
      held.push(one.heldBytes)
      expect(simulation.status().online).toBe(2)
    })
    expect(during).toBe(0)
    expect(held.slice(0, 5)).toEqual(held.slice(0, 5).toSorted((a, b) => a - b))
    expect(held[4]).toBeGreaterThan(3 * (held[0] ?? Infinity))
    expect(held[5]).toBeLessThan(held[0] ?? 0)
    for (const { seqs, stored, produced } of accountOf(taken)) {
      expect(new Set(seqs).size).toBe(seqs.length)
      expect(stored).toBe(produced)
    }
  })

  test('that panics boots with a collector of a new session, which reads the lines of that boot', async () => {
    const { taken, devices } = await simulated(async ({ simulation, clock }) => {
      const [one] = simulation.devices
      await clock.delay(20_000, never)
      if (one) panic(one.device)
      for (let waited = 0; waited < 900 && one?.device.state.power !== 'on'; waited++) {
        await clock.delay(1000, never)
      }
      await clock.delay(30_000, never)
      await turn()
    })
    const sessionsOf = (device: string | undefined) =>
      new Set(taken.filter(({ header }) => header.device === device).map(({ header }) => header.session))
    expect(sessionsOf(devices[0]?.id).size).toBe(2)
    expect(sessionsOf(devices[1]?.id).size).toBe(1)
    expect(devices[0]?.state.boots).toBe(2)
  })
})
