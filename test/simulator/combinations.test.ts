// What holds for a device whatever faults hit it together: bounds, counters, the same from the same seed, and that it comes
// back.
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { faultKinds } from '../../simulator/faults/index.ts'
import { createSchedule } from '../../simulator/faults/schedule.ts'
import { kinds } from '../../simulator/kinds/index.ts'
import type { Device } from '../../simulator/model.ts'
import { step } from '../../simulator/physics/index.ts'
import { makeDevice } from '../support/simulated.ts'

const minutes = 60

/** Numbers that only rise, between two boots. */
function countersOf({ state, kind }: Device): [name: string, value: number, wraps: boolean][] {
  return [
    ...state.ports.flatMap((port, index) =>
      (
        ['rxBytes', 'txBytes', 'rxPackets', 'txPackets', 'rxErrors', 'rxDropped', 'pausedFrames'] as const
      ).map((name): [string, number, boolean] => [
        `port ${index} ${name}`,
        port[name],
        kind.ports[index]?.counterBits === 32,
      ]),
    ),
    ...state.drives.flatMap((drive, index) =>
      (['readBytes', 'writtenBytes', 'percentUsed', 'mediaErrors'] as const).map(
        (name): [string, number, boolean] => [`drive ${index} ${name}`, drive[name], false],
      ),
    ),
    ['ecc', state.memory.eccCorrectable + state.memory.eccUncorrectable, false],
    ['aer', state.aer.correctable + state.aer.nonfatal, false],
    ['joules', state.joules, false],
    ['cpu', state.cpuSeconds, false],
  ]
}

function checkBounds({ state, kind }: Device): void {
  const { temperature, load } = state
  const degrees = [
    temperature.inlet,
    temperature.asic,
    temperature.cpu,
    temperature.board,
    temperature.memory,
    ...temperature.drives,
    ...temperature.optics,
  ]
  for (const value of degrees) {
    if (!(value > 5 && value < 150)) expect.unreachable(`${value} degrees`)
  }
  for (const value of [load.cpu, load.network, load.storage, ...load.accelerators, state.fanDuty]) {
    if (!(value >= 0 && value <= 1)) expect.unreachable(`a load of ${value}`)
  }
  if (!(state.watts > 0 && state.watts < 2 * kind.power.full)) expect.unreachable(`${state.watts} W`)
  if (!(state.memory.usedBytes >= 0 && state.memory.usedBytes <= kind.memoryBytes))
    expect.unreachable(`${state.memory.usedBytes} bytes`)
  if (state.lines.length > 2500 || state.kernel.length > 600 || state.bmc.log.length > 300)
    expect.unreachable('more is kept than may be')
}

const combination = fc.record({
  seed: fc.integer({ min: 1, max: 1_000_000 }),
  kind: fc.constantFrom(...kinds),
  faults: fc.array(
    fc.record({
      name: fc.constantFrom(...faultKinds.map(({ name }) => name)),
      at: fc.integer({ min: 1, max: 40 }),
      lasts: fc.integer({ min: 1, max: 30 }),
    }),
    { minLength: 1, maxLength: 6 },
  ),
})

type Combination = typeof combination extends fc.Arbitrary<infer T> ? T : never

function play({ seed, kind, faults }: Combination, each: (device: Device) => void): Device {
  const device = makeDevice(kind, seed)
  const able = faults.filter(({ name }) => faultKinds.find((one) => one.name === name)?.fits(device))
  const asked = able.map(({ name, at, lasts }) => `${name}@#0+${at}m/${lasts}m`).join(',')
  const schedule = createSchedule({ faults: asked, devices: [device], tell: () => undefined })
  for (let second = 0; second < 71 * minutes; second++) {
    schedule.step(device)
    step(device)
    each(device)
    if (second % 7 === 0) device.state.lines.length = 0
  }
  schedule.end(device)
  return device
}

describe('whatever faults hit a device together', () => {
  test('its numbers stay within what is possible, and its counters fall at a boot or a wrap only', () => {
    fc.assert(
      fc.property(combination, (asked) => {
        let before = new Map<string, number>()
        let boots = 1
        play(asked, (device) => {
          checkBounds(device)
          if (device.state.elapsedMs % 5000 !== 0) return
          const now = countersOf(device)
          const isNew = device.state.boots !== boots
          boots = device.state.boots
          for (const [name, value, wraps] of now) {
            if (!Number.isFinite(value) || value < 0) expect.unreachable(`${name} is ${value}`)
            const fell = value < (before.get(name) ?? 0)
            if (fell && !wraps && !isNew)
              expect.unreachable(`${name} fell from ${before.get(name)} to ${value}`)
          }
          before = new Map(now.map(([name, value]) => [name, value]))
        })
      }),
      { numRuns: 15 },
    )
  })

  test('two runs of one seed are the same', () => {
    const shape = ({ state }: Device) =>
      JSON.stringify({ ...state, inner: undefined, sensorLies: [...state.sensorLies] })
    fc.assert(
      fc.property(combination, (asked) => {
        const runs = [1, 2].map(() => {
          let lines = ''
          const device = play(asked, ({ state }) => {
            if (state.lines.length > 0) lines = `${lines.slice(-2000)}${state.lines.at(-1)?.text}`
          })
          return shape(device) + lines
        })
        expect(runs[0]).toBe(runs[1])
      }),
      { numRuns: 5 },
    )
  })

  test('it comes back once they are over', () => {
    fc.assert(
      fc.property(combination, (asked) => {
        const device = play(asked, () => undefined)
        for (let second = 0; second < 40 * minutes; second++) step(device)
        const { state, kind } = device
        expect(state.power).toBe('on')
        expect(state.isThrottled).toBe(false)
        expect(state.isOffline).toBe(false)
        expect(state.sensorLies.size).toBe(0)
        expect(state.bmc).toMatchObject({ hung: false, delayMs: 0, errorRate: 0, wrong: false })
        expect(state.fans.every(({ health }) => health === 1)).toBe(true)
        expect(state.services.every(({ isActive }) => isActive)).toBe(true)
        const twin = makeDevice(kind, asked.seed)
        expect(state.ports.map(({ isUp }) => isUp)).toEqual(twin.state.ports.map(({ isUp }) => isUp))
        expect(state.temperature.asic).toBeLessThan(kind.thermal.throttle - 8)
        expect(state.memory.usedBytes).toBeLessThan(0.7 * kind.memoryBytes)
      }),
      { numRuns: 15 },
    )
  })
})
