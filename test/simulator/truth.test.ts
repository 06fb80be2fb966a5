// `--truth` held against the store: an hour of a fleet, replayed into a real aggregator, with every fault there is. Each line
// of the truth has to be found by who asks the aggregator alone, in its time, at its device and place; and nowhere else.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { defaultLogin } from '../../simulator/bmc/index.ts'
import { faultKinds } from '../../simulator/faults/index.ts'
import type { Truth } from '../../simulator/model.ts'
import { askingOf } from '../support/asking.ts'
import type { Account } from '../support/asking.ts'
import { Evidence } from '../support/evidence.ts'
import type { Span } from '../support/evidence.ts'
import { findings } from '../support/findings.ts'
import type { Beside } from '../support/findings.ts'
import { eventually, startProgram } from '../support/programs.ts'
import { startSimulatedFleet } from '../support/simulated-fleet.ts'
import type { SimulatedFleet } from '../support/simulated-fleet.ts'
import { ledgerOf } from '../support/traffic.ts'

const portOffset = 20_500
/** Of the BMC of device 0; the others follow. */
const bmcPort = 29_110
const minuteMs = 60_000
const lastsMs = 60 * minuteMs
/** Of the clocks of devices, and of a machine that is busy: a simulated minute is a second. */
const slackMs = 3 * minuteMs
/** A truth may be read a moment after it shows. */
const wallSlackMs = 2000

/** Device, beginning and length in minutes. Cards of the first kind come first; those of the second have fans. */
const injected: readonly (readonly [fault: string, device: number, at: number, lasts: number])[] = [
  ['link_flaps', 0, 15, 15],
  ['ageing_optics', 1, 15, 35],
  ['ecc', 2, 15, 35],
  ['aer_storm', 3, 15, 10],
  ['nvme_wear', 4, 15, 35],
  ['crash_loop', 5, 15, 15],
  ['memory_leak', 6, 15, 40],
  ['noisy_neighbour', 7, 15, 20],
  ['bad_sensors', 8, 15, 20],
  ['log_storm', 9, 15, 2],
  ['kernel_panic', 10, 20, 15],
  ['offline', 12, 20, 15],
  ['overheating', 13, 15, 20],
  ['fan_failure', 14, 15, 20],
  ['bmc_hung', 15, 20, 30],
]
const kindsOfDevices = 'bluefield-3:13,octeon:4'
/** Of the one that hangs, and of a twin. Nothing is done to devices 11 and 16, one of each kind. */
const watchedBmcs = { hung: 15, spared: 16 }
const bmcCollector = 'bmc-watch'

interface Injection {
  readonly fault: string
  readonly device: string
  readonly where: string
  /** As the device's records have it, and as the clock on the wall had it. */
  readonly span: Span
  readonly wall: Span
}

interface Run {
  readonly injections: readonly Injection[]
  /** Of each device. */
  readonly kinds: ReadonlyMap<string, string>
  readonly startMs: number
  /** When each device was seen offline: Unix times of the wall. */
  readonly away: ReadonlyMap<string, readonly number[]>
  readonly looks: readonly number[]
}

const { get } = askingOf(portOffset)
const directory = mkdtempSync(join(tmpdir(), 'dpulse-truth-'))
const truthFile = join(directory, 'truth.jsonl')
let fleet: SimulatedFleet | undefined
let run: Run

const linesOfTruth = (): Truth[] =>
  readFileSync(truthFile, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Truth)

/** Beside the devices: it asks their BMCs over Redfish. */
function watchBmcs() {
  const config = join(directory, 'collector.yaml')
  const login = { username: defaultLogin.user, password: { env: 'DPULSE_TEST_BMC' } }
  const sources = Object.values(watchedBmcs).map((index) => [
    `bmc-${index}`,
    {
      type: 'redfish',
      endpoint: `http://127.0.0.1:${bmcPort + index}`,
      ...login,
      interval: '1s',
      timeout: '2s',
    },
  ])
  const settings = {
    collector: { id: bmcCollector },
    sources: { ...Object.fromEntries(sources), self: { type: 'dpulse', interval: '1s' } },
    exporters: { fleet: { type: 'mqtt', urls: [`mqtt://127.0.0.1:${1883 + portOffset}`] } },
    pipelines: {
      bmcs: { sources: [...sources.map(([id]) => id), 'self'], exporters: ['fleet'] },
    },
  }
  writeFileSync(config, JSON.stringify(settings))
  const environment = { DPULSE_TEST_BMC: defaultLogin.password }
  const data = join(directory, 'collector')
  return startProgram('collector', { data, portOffset, arguments: ['--config', config], environment })
}

/** Looks on until the simulator has ended: at the truth as it is written, and at who is offline. */
async function lookOn(of: SimulatedFleet) {
  const seenAt: number[] = []
  const away = new Map<string, number[]>()
  const looks: number[] = []
  await eventually('an hour is over', 240, async () => {
    const list = await get<{ device: string; state: string }[]>('/api/devices')
    const now = Date.now()
    looks.push(now)
    for (const { device, state } of list) {
      if (state === 'offline') away.set(device, [...(away.get(device) ?? []), now])
    }
    while (seenAt.length < linesOfTruth().length) seenAt.push(now)
    return of.ended()
  })
  return { seenAt, away, looks }
}

function injectionsOf(seenAt: readonly number[]): Injection[] {
  const truths = linesOfTruth().map((truth, index) => ({ ...truth, seenMs: seenAt[index] ?? Number.NaN }))
  return truths
    .filter(({ phase }) => phase === 'begin')
    .map(({ fault, device, where, at, seenMs }) => {
      const end = truths.find((one) => one.phase === 'end' && one.device === device && one.fault === fault)
      if (!end) throw new Error(`${fault} has no end`)
      return {
        fault,
        device,
        where,
        span: { sinceMs: Date.parse(at), untilMs: Date.parse(end.at) },
        wall: { sinceMs: seenMs, untilMs: end.seenMs },
      }
    })
}

/** Those that say of which kind they are: the cards themselves. */
async function kindsOf(): Promise<Map<string, string>> {
  const list = await get<{ device: string; labels: Record<string, string> }[]>('/api/devices')
  return new Map(list.flatMap(({ device, labels: { kind } }) => (kind === undefined ? [] : [[device, kind]])))
}

beforeAll(async () => {
  const startMs = Date.now() - lastsMs
  const faults = injected.map(([fault, device, at, lasts]) => `${fault}@#${device}+${at}m/${lasts}m`)
  const options = {
    devices: kindsOfDevices,
    seed: '8',
    speed: '60',
    duration: '1h',
    start: new Date(startMs).toISOString(),
    faults: faults.join(','),
    truth: truthFile,
    bmc: String(bmcPort),
  }
  const line = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value])
  fleet = await startSimulatedFleet(portOffset, line)
  await eventually('the BMCs answer', 60, async () => {
    const root = await fetch(`http://127.0.0.1:${bmcPort + watchedBmcs.spared}/redfish/v1`)
    return root.ok
  })
  const collector = watchBmcs()
  try {
    const { seenAt, away, looks } = await lookOn(fleet)
    expect(fleet.ended()).toEqual({ code: 0 })
    await collector.stop()
    await fleet.settle()
    const injections = injectionsOf(seenAt)
    const kinds = await kindsOf()
    run = { injections, kinds, startMs, away, looks }
  } finally {
    await collector.stop()
  }
})

afterAll(async () => {
  await fleet?.[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

/** A device to which nothing was done, of the same kind. */
function twinOf(device: string): string {
  const kind = run.kinds.get(device)
  const injured = new Set(run.injections.map((one) => one.device))
  const twin = [...run.kinds].find(([other, its]) => its === kind && !injured.has(other))
  if (!twin) throw new Error(`${device} has no twin`)
  return twin[0]
}

const partAway = (device: string, { sinceMs, untilMs }: Span): number => {
  const meanwhile = run.looks.filter((ms) => ms >= sinceMs && ms <= untilMs)
  const away = new Set(run.away.get(device))
  return meanwhile.filter((ms) => away.has(ms)).length / Math.max(1, meanwhile.length)
}

async function isAccountComplete(device: string): Promise<boolean> {
  const { produced, stored, dropped, balanced } = await get<Account>('/api/ledger', { device })
  return balanced && stored === produced && Object.keys(dropped).length === 0
}

/** A BMC names its device by the serial number alone. */
function bmcOf(device: string, wall: Span): Beside['bmc'] {
  const isHit = run.injections.some((one) => one.device === device && one.fault === 'bmc_hung')
  const index = isHit ? watchedBmcs.hung : watchedBmcs.spared
  const read = new Evidence(get, device.slice((run.kinds.get(device)?.length ?? 0) + 1), wall)
  const source = { 'dpulse.component': `bmc-${index}` }
  return { source, own: new Evidence(get, bmcCollector, wall), read }
}

async function find(injection: Injection, device: string, span: Span, wall: Span) {
  const beside = {
    partAway: partAway(device, wall),
    isAccountComplete: await isAccountComplete(device),
    bmc: bmcOf(device, wall),
  }
  const look = findings[injection.fault]
  if (!look) throw new Error(`nobody says how ${injection.fault} is found`)
  return look(new Evidence(get, device, span), injection.where, beside)
}

const allAre = (found: Record<string, boolean>, is: boolean) =>
  Object.fromEntries(Object.keys(found).map((name) => [name, is]))

const widened = ({ sinceMs, untilMs }: Span): Span => ({
  sinceMs: sinceMs - slackMs,
  untilMs: untilMs + slackMs,
})

describe('an hour with every fault there is', () => {
  test('is in the truth as it was asked for', () => {
    const told = run.injections.map(({ fault, span: { sinceMs, untilMs } }) => [
      fault,
      Math.round((sinceMs - run.startMs) / minuteMs),
      Math.round((untilMs - sinceMs) / minuteMs),
    ])
    expect(new Set(told)).toEqual(new Set(injected.map(([fault, , at, lasts]) => [fault, at, lasts])))
    const all = new Set(faultKinds.map(({ name }) => name))
    expect(new Set(run.injections.map(({ fault }) => fault))).toEqual(all)
    expect(new Set(Object.keys(findings))).toEqual(all)
  })

  test.each(faultKinds.map(({ name }) => name))(
    '%s is found on its device, at its place and in its time, and neither before nor on a twin',
    async (fault) => {
      const injections = run.injections.filter((one) => one.fault === fault)
      expect(injections.length).toBeGreaterThan(0)
      for (const injection of injections) {
        const { device, span, wall } = injection
        const during = widened(span)
        const earlier = { sinceMs: run.startMs, untilMs: during.sinceMs }
        const earlierWall = { sinceMs: run.looks[0] ?? 0, untilMs: wall.sinceMs - wallSlackMs }
        const found = {
          here: await find(injection, device, during, wall),
          twin: await find(injection, twinOf(device), during, wall),
          before: await find(injection, device, earlier, earlierWall),
        }
        expect(found).toEqual({
          here: allAre(found.here, true),
          twin: allAre(found.here, false),
          before: allAre(found.here, false),
        })
      }
    },
  )

  test('leaves no word in the store that names a fault', async () => {
    const names = faultKinds.flatMap(({ name }) => [
      name,
      name.replaceAll('_', '-'),
      name.replaceAll('_', ' '),
    ])
    // Linux itself says "Kernel panic".
    const telling = names.filter((name) => name !== 'kernel panic')
    const pattern = new RegExp(`(?<![a-z0-9])(?:${telling.join('|')})(?![a-z0-9])`, 'gi')
    const metrics = await get<{ name: string }[]>('/api/metrics')
    const words = metrics.map(({ name }) => name)
    const last = { since: '2h', step: '2h', aggregate: 'last' }
    for (const { name: metric } of metrics) {
      const series = await get<{ attributes: object }[]>('/api/query', { ...last, metric })
      words.push(...series.map(({ attributes }) => JSON.stringify(attributes)))
    }
    let next: string | undefined
    do {
      const asked = { since: '2h', limit: '10000', ...(next !== undefined && { next }) }
      const page = await get<{ records: object[]; next?: string }>('/api/logs', asked)
      words.push(...page.records.map((record) => JSON.stringify(record)))
      next = page.next
    } while (next !== undefined)
    expect(words.length).toBeGreaterThan(20_000)
    expect(words.flatMap((text) => text.match(pattern) ?? [])).toEqual([])
  })

  test('is lost nowhere but in the storm of lines, and with the device that panicked', async () => {
    const { streams, balanced } = await ledgerOf(portOffset)
    expect(balanced).toBe(true)
    const deviceOf = (fault: string) => run.injections.find((one) => one.fault === fault)?.device
    const unknown = streams.filter((one) => one.unknown > 0).map(({ device }) => device)
    expect(unknown.filter((device) => device !== deviceOf('kernel_panic'))).toEqual([])
    const dropped = streams.filter((one) => Object.keys(one.dropped).length > 0)
    const elsewhere = dropped.filter((one) => one.device !== deviceOf('log_storm') || one.class !== 'log')
    expect(elsewhere).toEqual([])
  })
})
