// What each fault does to a device, beside a twin that is spared it; and that nothing that is emitted names it.
import { describe, expect, test } from 'vitest'
import { kernelEventOf } from '../../plugins/protocols/kernel/events.ts'
import { faultKinds } from '../../simulator/faults/index.ts'
import { createSchedule } from '../../simulator/faults/schedule.ts'
import { kinds } from '../../simulator/kinds/index.ts'
import type { Device, Kind } from '../../simulator/model.ts'
import { readSensor, step } from '../../simulator/physics/index.ts'
import { makeDevice } from '../support/simulated.ts'

/** What can be read off a device over a run. */
function watch(device: Device) {
  const events = new Map<string, number>()
  const seen = {
    asic: 0,
    throttled: 0,
    slowestFan: Infinity,
    linkDown: 0,
    lines: 0,
    texts: [] as string[],
    bmcSilent: 0,
    readings: [] as (number | undefined)[],
    inlet: 0,
    cutOff: 0,
    hungryService: 0,
    down: 0,
    network: 0,
    events: (name: string) => events.get(name) ?? 0,
  }
  let kernelNext = device.state.kernelNext
  let boots = device.state.boots
  const lowest = device.state.ports.map(() => 0)
  function look(): void {
    const { state, kind } = device
    seen.asic = Math.max(seen.asic, state.temperature.asic)
    seen.inlet = Math.max(seen.inlet, state.temperature.inlet)
    if (state.isThrottled) seen.throttled++
    for (const fan of state.fans) seen.slowestFan = Math.min(seen.slowestFan, fan.rpm)
    if (state.power !== 'on') seen.down++
    else if (state.ports.some((port, index) => !port.isUp && lowest[index] === 0)) seen.linkDown++
    seen.lines += state.lines.length
    if (seen.lines < 20_000) seen.texts.push(...state.lines.map(({ text }) => text))
    state.lines.length = 0
    if (state.bmc.hung || state.bmc.delayMs > 1000) seen.bmcSilent++
    if (state.isOffline) seen.cutOff++
    seen.network += state.load.network
    for (const service of state.services)
      seen.hungryService = Math.max(seen.hungryService, service.memoryBytes)
    if (state.elapsedMs % 30_000 === 0) {
      for (const sensor of kind.sensors) {
        seen.readings.push(readSensor(device, sensor))
      }
    }
    const fresh = state.boots === boots ? state.kernelNext - kernelNext : state.kernelNext
    boots = state.boots
    kernelNext = state.kernelNext
    for (const { text } of fresh > 0 ? state.kernel.slice(-fresh) : []) {
      const event = kernelEventOf(text)
      if (event) events.set(event.name, (events.get(event.name) ?? 0) + 1)
    }
  }
  return { seen, look }
}

type Seen = ReturnType<typeof watch>['seen']

const minutes = 60

/** Runs a device with the fault, from 5 minutes on and for so long, and its twin without it. */
function compare(kind: Kind, fault: string, seed: number, lasts: number) {
  const [hit, spared] = [makeDevice(kind, seed), makeDevice(kind, seed)]
  const schedule = createSchedule({
    faults: `${fault}@#0+5m/${lasts}m`,
    devices: [hit],
    tell: () => undefined,
  })
  const [ofHit, ofSpared] = [watch(hit), watch(spared)]
  for (let second = 0; second < (5 + lasts) * minutes; second++) {
    schedule.step(hit)
    step(hit)
    step(spared)
    ofHit.look()
    ofSpared.look()
  }
  return { hit, spared, with: ofHit.seen, without: ofSpared.seen }
}

interface Twins {
  hit: Device
  spared: Device
  with: Seen
  without: Seen
}

const restarts = (device: Device): number =>
  device.state.services.reduce((sum, service) => sum + service.restarts, 0)
const sum = (device: Device, counter: 'rxErrors' | 'rxDropped' | 'pausedFrames' | 'carrierChanges'): number =>
  device.state.ports.reduce((total, port) => total + port[counter], 0)

/** By fault: how long the test lasts, in minutes, and what has to differ. */
const shows: Record<string, [number, (twins: Twins) => void]> = {
  overheating: [
    20,
    ({ hit, with: seen, without }) => {
      expect(seen.asic).toBeGreaterThan(without.asic + 25)
      expect(seen.inlet).toBeGreaterThan(without.inlet + 15)
      expect(without.throttled).toBe(0)
      if (seen.throttled === 0) expect(seen.asic).toBeLessThan(hit.kind.thermal.throttle)
      else expect(seen.events('dpu.kernel.thermal')).toBeGreaterThan(0)
    },
  ],
  fan_failure: [
    20,
    ({ hit, spared, with: seen, without }) => {
      expect(seen.slowestFan).toBeLessThan(without.slowestFan / 2)
      expect(hit.state.fanDuty).toBeGreaterThan(spared.state.fanDuty)
      expect(hit.state.bmc.log.some(({ message }) => /^fan\d sensor crossed/.test(message))).toBe(true)
    },
  ],
  link_flaps: [
    15,
    ({ hit, spared, with: seen, without }) => {
      expect(seen.events('dpu.kernel.link')).toBeGreaterThan(without.events('dpu.kernel.link') + 10)
      expect(sum(hit, 'carrierChanges')).toBeGreaterThan(sum(spared, 'carrierChanges') + 10)
    },
  ],
  ageing_optics: [
    60,
    ({ hit, spared, with: seen }) => {
      expect(sum(hit, 'rxErrors')).toBeGreaterThan(sum(spared, 'rxErrors') + 1000)
      expect(seen.events('dpu.kernel.link')).toBeGreaterThan(0)
      expect(Math.max(...hit.state.ports.map((port) => port.biasMilliamps))).toBeGreaterThan(
        1.3 * Math.max(...spared.state.ports.map((port) => port.biasMilliamps)),
      )
    },
  ],
  ecc: [
    60,
    ({ hit, spared, with: seen }) => {
      expect(hit.state.memory.eccCorrectable).toBeGreaterThan(spared.state.memory.eccCorrectable + 30)
      expect(hit.state.memory.eccUncorrectable).toBeGreaterThan(0)
      expect(spared.state.memory.eccUncorrectable).toBe(0)
      expect(seen.events('dpu.kernel.memory_error')).toBeGreaterThan(30)
    },
  ],
  aer_storm: [
    10,
    ({ hit, spared, with: seen }) => {
      expect(hit.state.aer.correctable).toBeGreaterThan(spared.state.aer.correctable + 300)
      expect(seen.events('dpu.kernel.pcie_error')).toBeGreaterThan(100)
    },
  ],
  nvme_wear: [
    60,
    ({ hit, spared, with: seen }) => {
      const [worn, fresh] = [hit.state.drives, spared.state.drives]
      expect(worn.some((drive, index) => drive.percentUsed > (fresh[index]?.percentUsed ?? 0) + 30)).toBe(
        true,
      )
      expect(worn.some(({ mediaErrors }) => mediaErrors > 0)).toBe(true)
      expect(seen.events('dpu.kernel.io_error')).toBeGreaterThan(0)
    },
  ],
  crash_loop: [
    15,
    ({ hit, spared, with: seen }) => {
      expect(restarts(hit)).toBeGreaterThan(restarts(spared) + 20)
      expect(seen.texts.some((text) => text.includes('status=11/SEGV'))).toBe(true)
    },
  ],
  memory_leak: [
    60,
    ({ with: seen, without }) => {
      expect(seen.hungryService).toBeGreaterThan(3 * without.hungryService)
      expect(seen.events('dpu.kernel.oom_kill')).toBeGreaterThan(0)
      expect(seen.texts.some((text) => text.includes("Failed with result 'oom-kill'"))).toBe(true)
    },
  ],
  kernel_panic: [
    10,
    ({ hit, spared, with: seen }) => {
      expect(hit.state.boots).toBeGreaterThan(spared.state.boots)
      expect(seen.down).toBeGreaterThan(30)
      expect(seen.events('dpu.kernel.panic')).toBeGreaterThan(0)
      expect(seen.texts.some((text) => text.startsWith('Kernel panic - not syncing'))).toBe(true)
    },
  ],
  bmc_hung: [
    15,
    ({ hit, with: seen, without }) => {
      expect(seen.bmcSilent).toBeGreaterThan(600)
      expect(without.bmcSilent).toBe(0)
      expect(hit.state.bmc.hung).toBe(true)
    },
  ],
  bad_sensors: [
    10,
    ({ with: seen, without }) => {
      const odd = seen.readings.filter((reading, index) => {
        const other = without.readings[index]
        if (reading === undefined || other === undefined) return reading !== other
        return Math.abs(reading - other) > 0.3 * Math.abs(other)
      })
      expect(odd.length).toBeGreaterThanOrEqual(20)
      expect(odd.length).toBeLessThan(seen.readings.length / 2)
    },
  ],
  offline: [
    30,
    ({ hit, spared, with: seen }) => {
      expect(seen.cutOff).toBeGreaterThan(29 * minutes)
      expect(hit.state.ports).toEqual(spared.state.ports) // it works on
    },
  ],
  log_storm: [5, ({ with: seen, without }) => expect(seen.lines).toBeGreaterThan(50 * without.lines)],
  noisy_neighbour: [
    20,
    ({ hit, spared, with: seen, without }) => {
      expect(seen.network).toBeGreaterThan(without.network + 20)
      expect(sum(hit, 'pausedFrames')).toBeGreaterThan(sum(spared, 'pausedFrames') + 1000)
    },
  ],
}

const fitting = (name: string): Kind[] =>
  kinds.filter((kind) => faultKinds.find((one) => one.name === name)?.fits(makeDevice(kind, 1)) === true)

describe('each fault can be read off the device that it hits, and off no twin of it', () => {
  for (const { name } of faultKinds) {
    test(`${name} shows on every kind of device that can have it`, () => {
      const [lasts, check] = shows[name] ?? [0, () => expect.unreachable(`no test says what ${name} shows`)]
      const able = fitting(name)
      expect(able.length).toBeGreaterThan(0)
      for (const kind of able) for (const seed of [3, 11]) check(compare(kind, name, seed, lasts))
    })
  }
})

/** All that leaves a device as text. */
function wordsOf(device: Device, into: Set<string>): void {
  const { state, kind } = device
  for (const { text, service } of state.lines) into.add(`${service} ${text}`)
  state.lines.length = 0
  for (const { text } of state.kernel) into.add(text)
  for (const { message, messageId } of state.bmc.log) into.add(`${messageId} ${message}`)
  for (const sensor of kind.sensors) into.add(sensor.id)
  for (const port of kind.ports) into.add(port.name)
  for (const [part, version] of Object.entries(state.firmware)) into.add(`${part} ${version}`)
}

test('no text that a device emits names a fault or says that it is made up', () => {
  const names = faultKinds.flatMap(({ name }) => [name, name.replaceAll('_', '-'), name.replaceAll('_', '')])
  // Linux itself says "Kernel panic".
  const spelled = faultKinds
    .map(({ name }) => name.replaceAll('_', ' '))
    .filter((name) => name !== 'kernel panic')
  const named = `(?<![a-z0-9])(?:${[...names, ...spelled].join('|')})(?![a-z0-9])`
  const pattern = new RegExp(`${named}|simul|inject|(?<![a-z])(?:fake|mock|virtual device)`, 'i')
  const words = new Set<string>()
  for (const kind of kinds) {
    const device = makeDevice(kind, 21)
    const able = faultKinds.filter((one) => one.fits(device))
    const faults = able.map(({ name }, index) => `${name}@#0+${index * 4}m/4m`).join(',')
    const schedule = createSchedule({ faults, devices: [device], tell: () => undefined })
    for (let second = 0; second < (able.length + 5) * 4 * minutes; second++) {
      schedule.step(device)
      step(device)
      if (second % 20 === 0) wordsOf(device, words)
    }
  }
  expect(words.size).toBeGreaterThan(5000)
  expect([...words].filter((text) => pattern.test(text))).toEqual([])
})
