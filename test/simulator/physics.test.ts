// How a healthy device moves: what follows what, how fast, and that all of it comes from the seed.
import { describe, expect, test } from 'vitest'
import { kinds } from '../../simulator/kinds/index.ts'
import type { Device } from '../../simulator/model.ts'
import { panic, powerOff, powerOn, readSensor, reset, step, World } from '../../simulator/physics/index.ts'
import { replaceOptics } from '../../simulator/physics/links.ts'
import { epochMs, kindOf, makeDevice, run } from '../support/simulated.ts'

const hour = 3600

/** Steps with a work of others on top each time, as if it were its own. */
function runUnder(device: Device, seconds: number, work: number): void {
  for (let second = 0; second < seconds; second++) {
    Object.assign(device.state.strain, { network: work, cpu: work, storage: work })
    step(device)
  }
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length

function correlation(a: readonly number[], b: readonly number[]): number {
  const [middleA, middleB] = [mean(a), mean(b)]
  const spread = (values: readonly number[], middle: number) =>
    Math.sqrt(mean(values.map((value) => (value - middle) ** 2)))
  const both = mean(a.map((value, index) => (value - middleA) * ((b[index] ?? 0) - middleB)))
  return both / (spread(a, middleA) * spread(b, middleB))
}

describe('heat and power', () => {
  test.each(kinds.map((kind) => [kind.name, kind] as const))(
    'of %s follow the load, with a lag',
    (_, kind) => {
      const device = makeDevice(kind, 6)
      run(device, 600)
      const before = { ...device.state.temperature, watts: device.state.watts }
      runUnder(device, 5, 0.9)
      const soon = { ...device.state.temperature, watts: device.state.watts }
      runUnder(device, 900, 0.9)
      const later = { ...device.state.temperature, watts: device.state.watts }
      expect(soon.watts).toBeGreaterThan(before.watts * 1.2)
      const [first, whole] = [soon.asic - before.asic, later.asic - before.asic]
      expect(whole).toBeGreaterThan(6)
      expect(first).toBeLessThan(0.35 * whole)
      expect(later.board - before.board).toBeLessThan(whole)
      run(device, 1800)
      expect(Math.abs(device.state.temperature.asic - before.asic)).toBeLessThan(8)
    },
  )

  test('stay within the figures of the kind at full work, in the warmest rack of a full fleet', () => {
    const world = new World(3, epochMs)
    const fleet = Array.from({ length: 16 }, (_, index) => makeDevice(kindOf('bluefield-3'), 3, world, index))
    for (let second = 0; second < hour; second++) for (const device of fleet) runUnder(device, 1, 0.9)
    for (const { state, kind } of fleet) {
      expect(state.isThrottled).toBe(false)
      expect(state.temperature.asic).toBeGreaterThan(state.temperature.inlet + 30)
      expect(state.watts).toBeLessThan(kind.power.full * 1.25)
    }
  })

  test('of neighbours that work warm the air of the rack', () => {
    const inlet = (work: number) => {
      const world = new World(3, epochMs)
      const fleet = Array.from({ length: 8 }, (_, index) =>
        makeDevice(kindOf('bluefield-3'), 3, world, index),
      )
      for (let second = 0; second < 1200; second++) {
        for (const [index, device] of fleet.entries()) runUnder(device, 1, index === 0 ? 0 : work)
      }
      return fleet[0]?.state.temperature.inlet ?? 0
    }
    expect(inlet(0.9)).toBeGreaterThan(inlet(0) + 1)
  })

  test('turn the fans up, and tell of it', () => {
    const device = makeDevice(kindOf('octeon'), 6)
    run(device, 600)
    const before = device.state.fans.map(({ rpm }) => rpm)
    runUnder(device, 900, 0.95)
    for (const [index, { rpm }] of device.state.fans.entries())
      expect(rpm).toBeGreaterThan((before[index] ?? 0) * 1.1)
  })

  test('beyond the limit slow a card down, far beyond end its work, and it comes back when it has cooled', () => {
    const device = makeDevice(kindOf('octeon'), 6)
    const states = new Set<string>()
    let freest = 0
    for (let second = 0; second < 1.7 * hour; second++) {
      if (second < hour)
        Object.assign(device.state.strain, { airflow: 0.97, inlet: 40, network: 0.9, cpu: 0.9 })
      const wasThrottled = device.state.isThrottled
      step(device)
      const { isThrottled, power, load } = device.state
      if (wasThrottled) freest = Math.max(freest, load.network)
      states.add(`${power}${isThrottled ? ' slowed' : ''}`)
    }
    expect([...states]).toEqual(expect.arrayContaining(['on', 'on slowed', 'off', 'booting']))
    expect(freest).toBeLessThanOrEqual(0.75)
    expect(device.state.power).toBe('on')
    expect(device.state.bmc.log.map(({ messageId }) => messageId)).toContain(
      'OpenBMC.0.1.SensorThresholdCriticalHighGoingHigh',
    )
    expect(device.state.bmc.log.map(({ messageId }) => messageId)).toContain('OpenBMC.0.1.DCPowerOn')
  })

  test('add up to the energy used', () => {
    const device = makeDevice(kindOf('bluefield-2'), 6)
    let joules = 0
    for (let second = 0; second < 600; second++) {
      step(device)
      joules += device.state.watts
    }
    expect(device.state.joules).toBeCloseTo(joules, 3)
  })
})

describe('load', () => {
  /** Load of the network at each minute of so many hours. */
  function loadOf(tenant: string, index: number, world: World, hours: number): number[] {
    const made = makeDevice(kindOf('bluefield-2'), 12, world, index, tenant)
    return Array.from({ length: hours * 60 }, () => {
      run(made, 60)
      return made.state.load.network
    })
  }

  test('of two devices of a tenant moves together more than that of two tenants', () => {
    const world = new World(12, epochMs)
    const [one, two] = [loadOf('blue', 0, world, 9), loadOf('blue', 1, world, 9)]
    const other = loadOf('green', 2, world, 9)
    expect(correlation(one, two)).toBeGreaterThan(0.5)
    expect(correlation(one, two)).toBeGreaterThan(correlation(one, other) + 0.1)
  })

  test('rises and falls over the day, and has bursts that stand out', () => {
    const loads = loadOf('blue', 0, new World(12, epochMs), 24)
    const hours = Array.from({ length: 24 }, (_, at) => mean(loads.slice(at * 60, at * 60 + 60)))
    expect(Math.max(...hours)).toBeGreaterThan(1.6 * Math.min(...hours))
    const jumps = loads.slice(1).map((load, index) => Math.abs(load - (loads[index] ?? 0)))
    expect(Math.max(...jumps)).toBeGreaterThan(6 * mean(jumps))
  })
})

describe('counters', () => {
  test('of 32 bits wrap, those of 64 do not', () => {
    const device = makeDevice(kindOf('bluefield-3'), 6)
    const management = device.state.ports.at(-1)
    // A little before its end.
    if (management) management.rxBytes = 2 ** 32 - 50_000_000
    let [wraps, before] = [0, 0]
    const uplink: number[] = []
    for (let second = 0; second < 2 * hour; second++) {
      step(device)
      const bytes = management?.rxBytes ?? 0
      if (bytes < before) wraps++
      before = bytes
      if (second % 600 === 0) uplink.push(device.state.ports[0]?.rxBytes ?? 0)
      expect(bytes < 2 ** 32).toBe(true)
    }
    expect(wraps).toBeGreaterThan(0)
    expect(uplink).toEqual(uplink.toSorted((a, b) => a - b))
  })

  test('begin again at a boot, except those of drives', () => {
    const device = makeDevice(kindOf('octeon'), 6)
    run(device, 60)
    const [port, drive] = [device.state.ports[0]?.rxBytes ?? 0, device.state.drives[0]?.readBytes ?? 0]
    reset(device)
    run(device, 200)
    expect(device.state.power).toBe('on')
    expect(device.state.boots).toBe(2)
    expect(device.state.ports[0]?.rxBytes).toBeLessThan(port)
    expect(device.state.drives[0]?.readBytes).toBeGreaterThanOrEqual(drive)
  })
})

describe('a boot', () => {
  test('takes as long as the kind takes, speaks in order from line 0 on, and starts all services', () => {
    const device = makeDevice(kindOf('bluefield-3'), 6)
    powerOff(device)
    run(device, 120)
    expect(device.state.power).toBe('off')
    expect(device.state.watts).toBeLessThan(10)
    powerOn(device)
    const from = device.state.elapsedMs
    while (device.state.power !== 'on' && device.state.elapsedMs < from + 600_000) step(device)
    const seconds = (device.state.elapsedMs - from) / 1000
    expect(seconds).toBeGreaterThan(0.8 * device.kind.bootSeconds)
    expect(seconds).toBeLessThan(1.4 * device.kind.bootSeconds)
    const times = device.state.kernel.map(({ atMs }) => atMs)
    expect(times).toEqual(times.toSorted((a, b) => a - b))
    expect(device.state.kernel[0]?.text).toMatch(/^Booting Linux/)
    expect(device.state.kernelNext).toBe(device.state.kernel.length)
    expect(device.state.services.every(({ isActive }) => isActive)).toBe(true)
    expect(device.state.lines.filter(({ text }) => text.startsWith('Started '))).toHaveLength(
      device.kind.services.length,
    )
  })

  test('after a panic brings what the kernel said last', () => {
    const device = makeDevice(kindOf('pensando-dsc2'), 6)
    run(device, 10)
    device.state.lines.length = 0
    panic(device)
    expect(device.state.kernel.at(-1)?.text).toBe('Rebooting in 10 seconds..')
    run(device, 200)
    const told = device.state.lines.filter(({ service }) => service === 'kernel').map(({ text }) => text)
    expect(told).toContain('Kernel panic - not syncing: Oops: Fatal exception in interrupt')
    expect(device.state.kernel.some(({ text }) => text.startsWith('Kernel panic'))).toBe(false)
  })
})

describe('clocks', () => {
  const devices = Array.from({ length: 40 }, (_, seed) => makeDevice(kindOf('octeon'), seed))

  /** How far its clock is off at most in so many hours, and what is said of it. */
  function watchClock(device: Device, hours: number): { furthest: number; said: string[] } {
    run(device, 300)
    device.state.lines.length = 0
    let furthest = 0
    const said: string[] = []
    for (let minute = 0; minute < hours * 60; minute++) {
      run(device, 60)
      furthest = Math.max(furthest, Math.abs(device.state.clock.offsetMs))
      for (const { text } of device.state.lines.splice(0))
        if (text.startsWith('System clock was stepped')) said.push(text)
    }
    return { furthest, said }
  }

  test('of most devices stay within milliseconds', () => {
    const exact = devices.filter(({ state }) => state.inner.isWellTimed)
    expect(exact.length).toBeGreaterThan(28)
    expect(exact.length).toBeLessThan(40)
    for (const device of exact.slice(0, 5)) {
      const { furthest, said } = watchClock(device, 1)
      expect(furthest).toBeLessThan(10)
      expect(said).toEqual([])
    }
  })

  test('of some drift far off, until they are stepped', () => {
    const drifting = devices.find(
      ({ state }) => !state.inner.isWellTimed && Math.abs(state.clock.driftPpm) > 15,
    )
    if (!drifting) throw new Error('no clock drifts')
    const { furthest, said } = watchClock(drifting, 20)
    expect(furthest).toBeGreaterThan(128)
    expect(said.length).toBeGreaterThan(0)
  })

  test('are wrong after some boots by all the years since 1970, and right a minute later', () => {
    const offsets = Array.from({ length: 40 }, (_, seed) => {
      const device = makeDevice(kindOf('octeon'), seed)
      reset(device)
      while (device.state.power !== 'on') step(device)
      const atBoot = device.state.clock.offsetMs
      run(device, 60)
      expect(Math.abs(device.state.clock.offsetMs)).toBeLessThan(200)
      return atBoot
    })
    expect(offsets.some((offset) => offset < -epochMs + hour * 1000)).toBe(true)
    expect(offsets.filter((offset) => Math.abs(offset) < 2000).length).toBeGreaterThan(20)
  })
})

describe('sensors', () => {
  test('tell the same when asked twice, and not the same for ever', () => {
    const device = makeDevice(kindOf('octeon'), 6)
    const read = () => device.kind.sensors.map((sensor) => readSensor(device, sensor))
    run(device, 60)
    const first = read()
    expect(read()).toEqual(first)
    run(device, 600)
    expect(read().filter((value, index) => value !== first[index]).length).toBeGreaterThan(5)
  })

  test('tell a lie where there is one, and nothing of what has no power', () => {
    const device = makeDevice(kindOf('bluefield-3'), 6)
    const sensor = device.kind.sensors.find(({ id }) => id === 'bluefield_temp')
    const read = () => (sensor ? readSensor(device, sensor) : Number.NaN)
    expect(read()).toBeGreaterThan(20)
    device.state.sensorLies.set('bluefield_temp', -128)
    expect(read()).toBe(-128)
    device.state.sensorLies.set('bluefield_temp', 'absent')
    expect(read()).toBeUndefined()
    device.state.sensorLies.clear()
    powerOff(device)
    expect(read()).toBeUndefined()
  })

  test('beyond a limit are logged by the BMC once, and once when they are back', () => {
    const device = makeDevice(kindOf('bluefield-3'), 6)
    const crossings = () => device.state.bmc.log.map(({ messageId }) => messageId.replace(/.*Threshold/, ''))
    device.state.sensorLies.set('VDDQ', 1.3)
    run(device, 60)
    expect(crossings()).toEqual(['WarningHighGoingHigh'])
    expect(device.state.bmc.log[0]?.message).toBe(
      'VDDQ sensor crossed a warning high threshold going high. Reading=1.300000 Threshold=1.200000.',
    )
    device.state.sensorLies.clear()
    run(device, 60)
    expect(crossings()).toEqual(['WarningHighGoingHigh', 'WarningHighGoingLow'])
  })
})

test('a new module has light again', () => {
  const device = makeDevice(kindOf('bluefield-3'), 6)
  const port = device.state.ports[0]
  if (port) port.ageing = 1
  run(device, 5)
  expect(port?.isUp).toBe(false)
  expect(port?.rxPower).toBeLessThan(-10)
  replaceOptics(device, 0)
  run(device, 5)
  expect(port?.isUp).toBe(true)
  expect(device.state.kernel.slice(-3).map(({ text }) => text)).toEqual([
    'mlx5_core 0000:03:00.0: Port module event: module 0, Cable unplugged',
    'mlx5_core 0000:03:00.0: Port module event: module 0, Cable plugged',
    'mlx5_core 0000:03:00.0 p0: Link up',
  ])
})

test('devices of one seed are the same, whoever else there is in the fleet and in whatever order they step', () => {
  const shape = ({ state }: Device) => JSON.stringify({ ...state, inner: undefined })
  const fleet = (order: (a: number, b: number) => number) => {
    const world = new World(9, epochMs)
    const devices = kinds.map((kind, index) => makeDevice(kind, 9, world, index))
    for (let second = 0; second < hour; second++) {
      for (const device of devices.toSorted((a, b) => order(a.index, b.index))) step(device)
    }
    return devices.map(shape)
  }
  const forward = fleet((a, b) => a - b)
  expect(fleet((a, b) => a - b)).toEqual(forward)
  expect(new Set(forward).size).toBe(kinds.length)
})
