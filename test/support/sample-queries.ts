// A small fleet in memory behind the interfaces of aggregator/query.ts, for tests of what asks them: the HTTP API,
// the commands and the console. It filters, pages and aggregates for real, on what a test puts into it.
import { QueryRefused } from '../../aggregator/query.ts'
import type {
  DeviceInfo,
  HealthPart,
  LedgerReport,
  LogFilter,
  LogQuery,
  LogRecordRow,
  Match,
  MetricInfo,
  MetricQuery,
  Queries,
  SeriesResult,
  StreamAccount,
} from '../../aggregator/query.ts'
import type { ApiParts } from '../../aggregator/api/routes.ts'
import { memoryFleet } from './fleet-changes.ts'

export interface SampleSeries extends Omit<SeriesResult, 'points'> {
  /** Unix nanoseconds and value, oldest first. */
  samples: [bigint, number | string][]
}

export interface Sample extends ApiParts {
  records: LogRecordRow[]
  series: SampleSeries[]
  fleet: DeviceInfo[]
  streams: StreamAccount[]
  parts: HealthPart[]
  /** What the API said of failures that are its own fault. */
  errors: Record<string, unknown>[]
  /** Stores a record and gives it to those who follow. */
  add(record: Partial<LogRecordRow>): LogRecordRow
  /** How many follow. */
  readonly followers: number
  /** What each of them wants to see. */
  readonly followed: readonly LogFilter[]
  /** Runs before each query: a test holds it back, or fails it. */
  before: (signal: AbortSignal) => Promise<void>
}

export const second = 1_000_000_000n

export function nowNano(): bigint {
  return BigInt(Date.now()) * 1_000_000n
}

export function toTime(unixNano: bigint): string {
  const fraction = String(unixNano % second).padStart(9, '0')
  return `${new Date(Number(unixNano / 1_000_000n)).toISOString().slice(0, 19)}.${fraction}Z`
}

function toNano(time: string): bigint {
  return BigInt(Date.parse(`${time.slice(0, 19)}Z`)) * 1_000_000n + BigInt(time.slice(20, 29))
}

export function createSample(): Sample {
  const followers = new Set<{ filter: LogFilter; onRecord: (record: LogRecordRow) => void }>()
  let number = 0
  const sample: Sample = {
    records: [],
    series: [],
    fleet: [],
    streams: [],
    parts: [{ name: 'store', ready: true, detail: 'embedded' }],
    errors: [],
    before: async () => undefined,
    get followers() {
      return followers.size
    },
    get followed() {
      return [...followers].map(({ filter }) => filter)
    },
    add(partial) {
      number += 1
      const record = makeRecord(number, partial)
      sample.records.push(record)
      for (const { filter, onRecord } of followers) if (fits(record, filter)) onRecord(record)
      return record
    },
    queries: sampleQueries(() => sample),
    ledger: {
      report: async (device) =>
        reportOf(sample.streams.filter((one) => device?.includes(one.device) ?? true)),
    },
    devices: {
      list: async () => sample.fleet,
      remove: async (device) => {
        const index = sample.fleet.findIndex((one) => one.device === device)
        if (index < 0) return 'absent'
        sample.fleet.splice(index, 1)
        return 'removed'
      },
    },
    changes: memoryFleet(async () => sample.fleet).changes,
    live: {
      subscribe(filter, onRecord) {
        const follower = { filter, onRecord }
        followers.add(follower)
        return () => void followers.delete(follower)
      },
    },
    health: { parts: () => sample.parts },
    metricsText: async () => '# TYPE dpulse_records counter\ndpulse_records_total 5\n',
    log: { error: (message, facts) => void sample.errors.push({ message, ...facts }) },
  }
  return sample
}

// The sample is being made when this is called, so it is asked for later.
function sampleQueries(of: () => Sample): Queries {
  return {
    logs: async (query, signal) => {
      await of().before(signal)
      return pageOf(of().records, query)
    },
    metrics: async (device, signal) => {
      await of().before(signal)
      return metricsOf(of().series.filter((one) => device?.includes(one.device) ?? true))
    },
    query: async (query, signal) => {
      await of().before(signal)
      return seriesOf(of().series, query)
    },
    latest: async (device) =>
      of()
        .series.filter((one) => one.device === device)
        .flatMap(({ metric, unit, kind, attributes, samples }) => {
          const last = samples.at(-1)
          return last === undefined
            ? []
            : [{ metric, unit, kind, attributes, time: toTime(last[0]), value: last[1] }]
        }),
  }
}

/** Two devices, one hour of readings each, a hundred log lines and a ledger with a drop and a gap. */
export function createFleetSample(): Sample {
  const sample = createSample()
  const now = nowNano()
  const device = (name: string, state: 'online' | 'offline', rack: string): DeviceInfo => ({
    device: name,
    name: `${name}.lab`,
    labels: { site: 'lab', rack },
    state,
    lastSeen: toTime(state === 'online' ? now : now - 900n * second),
    collector: name,
    version: '0.1.0',
    identity: [{ kind: 'serial', value: name.toUpperCase() }],
    conflicts: [],
  })
  sample.fleet.push(device('mt2150x00001', 'online', 'r1'), device('mt2150x00002', 'offline', 'r2'))
  for (const { device } of sample.fleet) {
    sample.series.push(...readings(device, now))
    for (const [index, name] of ['event', 'environment', 'resource', 'log'].entries()) {
      sample.streams.push(makeStream(device, name, 1000 * (index + 1)))
    }
  }
  const [, environment, resource, log] = sample.streams
  if (log !== undefined) Object.assign(log, { produced: 4100, dropped: { rate: 80, overflow: 20 } })
  if (resource !== undefined) Object.assign(resource, { produced: 3040, inFlight: 40 })
  if (environment !== undefined)
    Object.assign(environment, { produced: 2500, unknown: 500, missing: [[12, 12]] })
  const severities = [9, 9, 9, 13, 9, 17, 5]
  for (let index = 0; index < 100; index += 1) {
    const time = toTime(now - BigInt(100 - index) * 5n * second)
    sample.add({
      time,
      observedTime: time,
      device: index % 3 === 0 ? 'mt2150x00002' : 'mt2150x00001',
      severityNumber: severities[index % severities.length] ?? 9,
      body: `sshd[${1000 + index}]: Accepted publickey for operator from 192.0.2.${index}`,
      attributes: { 'syslog.appname': 'sshd', 'syslog.procid': String(1000 + index) },
    })
  }
  return sample
}

function readings(device: string, now: bigint): SampleSeries[] {
  const wave = (middle: number, swing: number, period: number) =>
    Array.from({ length: 240 }, (_, index): [bigint, number] => [
      now - BigInt(240 - index) * 15n * second,
      Number((middle + swing * Math.sin(index / period)).toFixed(4)),
    ])
  const rising = (step: number) =>
    Array.from({ length: 240 }, (_, index): [bigint, number] => [
      now - BigInt(240 - index) * 15n * second,
      step * index,
    ])
  const one = (metric: string, unit: string, samples: [bigint, number][], attributes = {}): SampleSeries => ({
    metric,
    unit,
    kind: metric.endsWith('.io') ? 'counter' : 'gauge',
    device,
    attributes,
    samples,
  })
  return [
    one('system.cpu.utilization', '1', wave(0.3, 0.2, 9), { 'cpu.mode': 'user' }),
    one('system.cpu.utilization', '1', wave(0.1, 0.05, 5), { 'cpu.mode': 'system' }),
    one('system.memory.usage', 'By', wave(8e9, 5e8, 20), { 'system.memory.state': 'used' }),
    one('system.cpu.load_average.1m', '{thread}', wave(1.5, 1, 12)),
    one('hw.temperature', 'Cel', wave(55, 6, 30), { 'hw.name': 'soc' }),
    one('system.network.io', 'By', rising(1_500_000), {
      'network.interface.name': 'p0',
      'network.io.direction': 'receive',
    }),
    one('system.network.io', 'By', rising(400_000), {
      'network.interface.name': 'p0',
      'network.io.direction': 'transmit',
    }),
  ]
}

function makeStream(device: string, name: string, records: number): StreamAccount {
  return {
    collector: device,
    device,
    session: '01KAM3T8F6Q2Y0W4V9Z7XJ5RBC',
    class: name,
    produced: records,
    stored: records,
    inFlight: 0,
    dropped: {},
    lastSeq: Math.ceil(records / 100),
    missing: [],
    unknown: 0,
    balanced: true,
  }
}

function makeRecord(number: number, partial: Partial<LogRecordRow>): LogRecordRow {
  const time = toTime(nowNano())
  return {
    id: `s-${number}`,
    time,
    observedTime: time,
    device: 'mt2150x00001',
    severityNumber: 9,
    severityText: 'info',
    body: `line ${number}`,
    attributes: {},
    resource: { 'host.id': partial.device ?? 'mt2150x00001' },
    eventName: '',
    ...partial,
  }
}

function fits(record: LogRecordRow, filter: LogFilter): boolean {
  const text = filter.text?.toLowerCase()
  if (text !== undefined && !JSON.stringify(record.body).toLowerCase().includes(text)) return false
  if (filter.device !== undefined && !filter.device.includes(record.device)) return false
  if (filter.severity !== undefined && record.severityNumber < filter.severity) return false
  return matches({ ...record.resource, ...record.attributes }, filter.where)
}

function matches(attributes: Record<string, unknown>, where: readonly Match[]): boolean {
  return where.every(({ key, value }) => key in attributes && String(attributes[key]) === value)
}

function pageOf(all: readonly LogRecordRow[], query: LogQuery) {
  const { sinceUnixNano, untilUnixNano } = query
  const sorted = [...all].sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0))
  const fitting = sorted.filter((record) => {
    const time = toNano(record.time)
    if (sinceUnixNano !== undefined && time < sinceUnixNano) return false
    return (untilUnixNano === undefined || time < untilUnixNano) && fits(record, query)
  })
  const end =
    query.before === undefined ? fitting.length : fitting.findIndex(({ id }) => `at-${id}` === query.before)
  if (end < 0) throw new QueryRefused('next', 'is no cursor of this search')
  const start = Math.max(0, end - query.limit)
  const records = fitting.slice(start, end)
  return { records, ...(start > 0 && { next: `at-${fitting[start]?.id}` }) }
}

function metricsOf(series: readonly SampleSeries[]): MetricInfo[] {
  const infos = new Map<string, MetricInfo>()
  for (const { metric, unit, kind, attributes } of series) {
    const info = infos.get(metric) ?? { name: metric, unit, kind, attributes: [], series: 0 }
    info.series += 1
    info.attributes = [...new Set([...info.attributes, ...Object.keys(attributes)])].sort()
    infos.set(metric, info)
  }
  return [...infos.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}

function seriesOf(all: readonly SampleSeries[], query: MetricQuery): SeriesResult[] {
  const results: SeriesResult[] = []
  let points = 0
  for (const { samples, ...rest } of all) {
    if (rest.metric !== query.metric || query.device?.includes(rest.device) === false) continue
    if (!matches(rest.attributes, query.where)) continue
    const within = samples.filter(([time]) => time >= query.sinceUnixNano && time < query.untilUnixNano)
    const mine =
      query.stepNano === undefined ? within : stepped(within, query.stepNano, query.aggregate ?? 'mean')
    points += mine.length
    results.push({ ...rest, points: mine.map(([time, value]) => [toTime(time), value]) })
  }
  if (points > query.limit) throw new QueryRefused('step', `is needed: the answer has ${points} points`)
  return results
}

function stepped(
  samples: readonly [bigint, number | string][],
  step: bigint,
  how: string,
): [bigint, number][] {
  const buckets = new Map<bigint, number[]>()
  for (const [time, value] of samples) {
    const start = time - (time % step)
    buckets.set(start, [...(buckets.get(start) ?? []), Number(value)])
  }
  let before: number | undefined
  return [...buckets].map(([start, values]) => {
    const from = before ?? values[0] ?? 0
    before = values.at(-1)
    return [start, aggregated(values, from, step, how)]
  })
}

// A rise counts from the last value of the step before.
function aggregated(values: readonly number[], from: number, step: bigint, how: string): number {
  const sum = values.reduce((total, value) => total + value, 0)
  const rise = (values.at(-1) ?? 0) - from
  if (how === 'sum') return sum
  if (how === 'min') return Math.min(...values)
  if (how === 'max') return Math.max(...values)
  if (how === 'last') return values.at(-1) ?? 0
  if (how === 'increase') return rise
  if (how === 'rate') return rise / (Number(step) / 1e9)
  return sum / values.length
}

function reportOf(streams: readonly StreamAccount[]): LedgerReport {
  const report: LedgerReport = {
    produced: 0,
    stored: 0,
    inFlight: 0,
    dropped: {},
    unknown: 0,
    balanced: streams.every(({ balanced }) => balanced),
    streams: [...streams],
  }
  for (const { produced, stored, inFlight, unknown, dropped } of streams) {
    report.produced += produced
    report.stored += stored
    report.inFlight += inFlight
    report.unknown += unknown
    for (const [reason, count] of Object.entries(dropped))
      report.dropped[reason] = (report.dropped[reason] ?? 0) + count
  }
  return report
}
