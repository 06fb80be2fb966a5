// Which fault hits which device when: what is written for `--faults` is what happens, and whatever is wrong with it is said.
import { describe, expect, test } from 'vitest'
import { faultKinds } from '../../simulator/faults/index.ts'
import { createSchedule, parseFaults } from '../../simulator/faults/schedule.ts'
import type { Device, Truth } from '../../simulator/model.ts'
import { step, World } from '../../simulator/physics/index.ts'
import { epochMs, kindOf, makeDevice } from '../support/simulated.ts'

const hour = 3600

function fleetOf(count: number, kind = 'octeon'): Device[] {
  const world = new World(5, epochMs)
  return Array.from({ length: count }, (_, index) => makeDevice(kindOf(kind), 5, world, index))
}

/** The truth of so many seconds. */
function truthOf(faults: string, devices: Device[], seconds: number): Truth[] {
  const truths: Truth[] = []
  const schedule = createSchedule({ faults, devices, tell: (truth) => truths.push(truth) })
  for (let second = 0; second < seconds; second++) {
    for (const device of devices) {
      schedule.step(device)
      step(device)
      device.state.lines.length = 0
    }
  }
  return truths
}

describe('what is asked for', () => {
  test('is a list of names, with a rate where the usual one will not do', () => {
    const { drawn, told } = parseFaults('overheating, link_flaps:2/day,ecc:0.5/hour')
    expect(drawn.map(({ kind, perDay }) => [kind.name, perDay])).toEqual([
      ['overheating', faultKinds.find(({ name }) => name === 'overheating')?.perDay],
      ['link_flaps', 2],
      ['ecc', 12],
    ])
    expect(told).toEqual([])
  })

  test('is all of them where it says so, and a later item overrides an earlier one', () => {
    const { drawn } = parseFaults('all:3/day,offline:1/day')
    expect(drawn.map(({ kind }) => kind.name)).toEqual(faultKinds.map(({ name }) => name))
    expect(drawn.filter(({ perDay }) => perDay !== 3).map(({ kind, perDay }) => [kind.name, perDay])).toEqual(
      [['offline', 1]],
    )
  })

  test('is none where nothing is asked', () => {
    expect(parseFaults('')).toEqual({ drawn: [], told: [] })
    expect(parseFaults('none')).toEqual({ drawn: [], told: [] })
  })

  test.each([
    ['overheatin', 'there is no fault "overheatin"'],
    ['link_flaps:2', '"link_flaps:2" is none of NAME, NAME:2/day'],
    ['link_flaps:0/day', 'link_flaps:0/day: 0 is no rate above 0'],
    ['link_flaps:1.2.3/day', '1.2.3 is no rate above 0'],
    ['link_flaps:2/week', '"link_flaps:2/week" is none of'],
    ['ecc@#0+soon', 'ecc@#0+soon: soon is no time'],
    ['ecc@#0+5m/0', 'ecc@#0+5m/0: 0 is no length'],
    [
      'nope,ecc,never:1/day',
      'there is no fault "nope"; there is no fault "never". There are: overheating, fan_failure',
    ],
  ])('%s is refused by its name, with what there is', (text, complaint) => {
    expect(() => parseFaults(text)).toThrow(complaint)
    expect(() => parseFaults(text)).toThrow('noisy_neighbour, and all')
  })

  test('of a device that there is not is refused, with those that there are', () => {
    const create = () => createSchedule({ faults: 'ecc@#7+5m', devices: fleetOf(3), tell: () => undefined })
    expect(create).toThrow('there is no device #7. There are 3, #0 (octeon-5-0) to #2')
  })

  test('of a device that cannot have it is refused', () => {
    const devices = fleetOf(1, 'bluefield-3')
    const create = () => createSchedule({ faults: 'fan_failure@#0+5m', devices, tell: () => undefined })
    expect(create).toThrow('bluefield-3-5-0 (bluefield-3) cannot have fan_failure')
  })
})

describe('what is told exactly', () => {
  test('begins then and there, lasts so long, and comes once', () => {
    const truths = truthOf('offline@octeon-5-1+10m/5m,ecc@#0+90s/2m', fleetOf(2), hour)
    expect(truths).toEqual([
      { at: '2026-01-05T09:01:30.000Z', device: 'octeon-5-0', fault: 'ecc', where: 'mc0', phase: 'begin' },
      { at: '2026-01-05T09:03:30.000Z', device: 'octeon-5-0', fault: 'ecc', where: 'mc0', phase: 'end' },
      {
        at: '2026-01-05T09:10:00.000Z',
        device: 'octeon-5-1',
        fault: 'offline',
        where: 'network',
        phase: 'begin',
      },
      {
        at: '2026-01-05T09:15:00.000Z',
        device: 'octeon-5-1',
        fault: 'offline',
        where: 'network',
        phase: 'end',
      },
    ])
  })

  test('waits while another of its kind is under way, and for a device that does not run', () => {
    const truths = truthOf('log_storm@#0+1m/10m,log_storm@#0+2m/5m', fleetOf(1), hour)
    expect(truths.map(({ at, phase }) => `${at.slice(14, 19)} ${phase}`)).toEqual([
      '01:00 begin',
      '11:00 end',
      '11:00 begin',
      '16:00 end',
    ])
  })

  test('ends with the run', () => {
    const [device] = fleetOf(1)
    if (!device) throw new Error('no device')
    const truths: Truth[] = []
    const schedule = createSchedule({
      faults: 'offline@#0+1s',
      devices: [device],
      tell: (one) => truths.push(one),
    })
    for (let second = 0; second < 5; second++) {
      schedule.step(device)
      step(device)
    }
    schedule.end(device)
    expect(truths.map(({ phase }) => phase)).toEqual(['begin', 'end'])
    expect(device.state.isOffline).toBe(false)
  })
})

describe('what is drawn', () => {
  test('is the same in two runs of one seed', () => {
    const run = () => truthOf('all:12/day', fleetOf(4), 2 * hour)
    const first = run()
    expect(first.length).toBeGreaterThan(20)
    expect(run()).toEqual(first)
  })

  test('begins as often as it is asked to', () => {
    const truths = truthOf('bmc_hung:6/hour', fleetOf(20), 2 * hour)
    const begun = truths.filter(({ phase }) => phase === 'begin').length
    // It lasts 22 minutes or so, in which no other begins: one in 32 minutes, on 20 devices, in two hours.
    expect(begun).toBeGreaterThan(55)
    expect(begun).toBeLessThan(110)
  })

  test('of one fault does not depend on which others are asked for', () => {
    const of = (faults: string) =>
      truthOf(faults, fleetOf(5), 2 * hour)
        .filter(({ fault }) => fault === 'bmc_hung')
        .map(({ at, device, phase }) => `${at} ${device} ${phase}`)
    const alone = of('bmc_hung:24/day')
    expect(alone.length).toBeGreaterThan(4)
    expect(of('bmc_hung:24/day,ecc:9/day,link_flaps:4/day')).toEqual(alone)
  })

  test('spares the devices that cannot have it', () => {
    expect(truthOf('fan_failure:50/day', fleetOf(3, 'bluefield-2'), hour)).toEqual([])
  })
})
