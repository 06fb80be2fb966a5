// What the HTTP API (aggregator/api) asks of the rest of the aggregator. The store implements Queries, the ledger
// Ledger, the registry Devices, the ingest Live. Every answer is JSON-ready and has the shape that DESIGN §9 promises.

import type { Json, LogFilter, LogRecordRow, Match, Time } from '../plugins/protocols/log-json.ts'
import type { MetricKind } from '../plugins/protocols/series.ts'

export type { Json, LogFilter, LogRecordRow, Match, Time } from '../plugins/protocols/log-json.ts'
export { metricKinds } from '../plugins/protocols/series.ts'
export type { MetricKind } from '../plugins/protocols/series.ts'

/** Where a page of log records ended; opaque to all but the store that made it. It leads back in time. */
export type Cursor = string

/** The newest `limit` records that fit. Times are compared with the claimed time, or the arrival when that is suspect. */
export interface LogQuery extends LogFilter {
  /** Inclusive. */
  sinceUnixNano?: bigint
  /** Exclusive. */
  untilUnixNano?: bigint
  limit: number
  before?: Cursor
}

export interface LogPage {
  /** Oldest first. May be fewer than the limit and still have `next`: a page holds at most some 16 MiB of bodies. */
  records: LogRecordRow[]
  /** Given when older records fit as well. */
  next?: Cursor
}

export interface MetricInfo {
  name: string
  unit: string
  kind: MetricKind
  /** Names of the attributes by which its series differ, sorted. */
  attributes: string[]
  /** How many series. */
  series: number
}

export const aggregates = ['mean', 'min', 'max', 'sum', 'last', 'increase', 'rate'] as const
export type Aggregate = (typeof aggregates)[number]

export interface MetricQuery {
  metric: string
  /** Any of these; absent means every device. Never empty. */
  device?: readonly string[]
  /** All must match. */
  where: readonly Match[]
  /** Inclusive. */
  sinceUnixNano: bigint
  /** Exclusive. */
  untilUnixNano: bigint
  /** Width of one point; absent means the stored points, or one point over all with `aggregate`. */
  stepNano?: bigint
  /** Within a step and, with `by`, over series. Absent with a step: mean for gauges, rate for counters. */
  aggregate?: Aggregate
  /** Attributes (or `device`) that stay apart; the series that agree in them are joined. Absent: none are joined. */
  by?: readonly string[]
  /** Most points in the whole answer; a query that has more is refused with QueryRefused, never cut silently. */
  limit: number
}

export interface SeriesResult {
  metric: string
  unit: string
  kind: MetricKind
  /** Empty when `by` joined several devices. */
  device: string
  attributes: Record<string, Json>
  /** Oldest first. A histogram's value without aggregation is its mean; integers beyond 2^53 are strings. */
  points: [Time, number | string][]
}

/** The newest value of one series of a device. */
export interface LatestValue {
  metric: string
  unit: string
  kind: MetricKind
  attributes: Record<string, Json>
  time: Time
  value: number | string
}

/** History, asked of the store. `signal` aborts when the asker has gone or the time is up. */
export interface Queries {
  logs(query: LogQuery, signal: AbortSignal): Promise<LogPage>
  metrics(device: readonly string[] | undefined, signal: AbortSignal): Promise<MetricInfo[]>
  query(query: MetricQuery, signal: AbortSignal): Promise<SeriesResult[]>
  latest(device: string, signal: AbortSignal): Promise<LatestValue[]>
}

/** The asker is at fault: answered with 400 and the name of the parameter, as an operator would write it. */
export class QueryRefused extends Error {
  override readonly name = 'QueryRefused'
  readonly parameter: string

  constructor(parameter: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.parameter = parameter
  }
}

export interface StreamAccount {
  collector: string
  device: string
  session: string
  class: string
  produced: number
  stored: number
  inFlight: number
  /** By reason; only reasons that happened. */
  dropped: Record<string, number>
  lastSeq: number
  /** Ranges of sequence numbers, both ends included, that were announced or acknowledged and are not there. */
  missing: [number, number][]
  unknown: number
  /** Whether this stream's own sum holds. */
  balanced: boolean
  /** Traces: passed on, not stored, outside the sum. Absent when zero. */
  forwarded?: number
}

export interface LedgerReport {
  produced: number
  stored: number
  inFlight: number
  dropped: Record<string, number>
  unknown: number
  balanced: boolean
  forwarded?: number
  streams: StreamAccount[]
}

export interface Ledger {
  report(device?: readonly string[]): Promise<LedgerReport>
}

/** Two or more live collectors that claim one device: shown, and neither silently wins. */
export interface Conflict {
  collectors: string[]
  since: Time
  detail: string
}

export interface DeviceInfo {
  device: string
  name: string
  labels: Record<string, string>
  state: 'online' | 'offline'
  lastSeen: Time
  /** The collector that reported last. */
  collector: string
  version: string
  /** What the identity was derived from, best first, for example `{ kind: 'serial', value: 'MT2150X00001' }`. */
  identity: { kind: string; value: string }[]
  conflicts: Conflict[]
}

export interface Devices {
  list(): Promise<DeviceInfo[]>
  /** Forgets the device. Stored records stay until their retention; one that reports again comes back. */
  remove(device: string): Promise<'removed' | 'absent'>
}

/** What a subscriber of the live tail can take: at 100,000 records a second no row is built that nobody reads. */
export interface LiveFlow {
  /** Records that it takes now. At 0 rows need not be built: tell `missed` how many matched instead. */
  room(): number
  missed(count: number): void
}

/** Log records as they are taken in. `onRecord` must not block; the function that is returned ends it. */
export interface Live {
  subscribe(filter: LogFilter, onRecord: (record: LogRecordRow) => void, flow: LiveFlow): () => void
}

export interface HealthPart {
  name: string
  ready: boolean
  detail: string
}

/** 200 once all are ready. Under `dpulse up` the collector's listeners are among them. */
export interface Health {
  parts(): HealthPart[]
}
