// The query of one metric over a range, and the newest values of a device. InfluxDB gives the stored points of each
// series; what is made of them is reckoned here (reduce.ts), since its own functions know neither exact times nor
// integers beyond an int64, nor what a counter's beginning means.
import { formatTime } from '../../time.ts'
import { QueryRefused } from '../../query.ts'
import type { Aggregate, LatestValue, MetricQuery, SeriesResult } from '../../query.ts'
import { matches } from '../catalogue.ts'
import { byAggregate, groupSeries, modeOf, rangeOf, spanOf, tooManyPoints } from '../series-groups.ts'
import type { Group, Range } from '../series-groups.ts'
import type { Buckets } from './buckets.ts'
import { everywhere } from './buckets.ts'
import { devicesOf, findSeries, seriesTag } from './catalogue.ts'
import type { Series } from './catalogue.ts'
import { quotedName, quotedText } from './connection.ts'
import type { Connection, Row } from './connection.ts'
import { numberBits } from './line.ts'
import { Reduction, gainsOf, inOrder } from './reduce.ts'
import type { Point } from './reduce.ts'
import { measurementOf } from './series.ts'

const dayNano = 86_400_000_000_000n
const spanMask = 2n ** BigInt(numberBits) - 1n
/** Points that one question may make us read. */
const readLimit = 20_000_000
/** Of one time: more points of a series than this within a millisecond are not told apart as the newest. */
const newestRows = 32
/** Series that are named in a question; of more, all points of their devices are read. */
const namedSeries = 300
const measurementsAtOnce = 20

const columns = [
  'gauge',
  'gauge_int',
  'counter',
  'counter_int',
  'sum',
  'count_int',
  'time_unix_nano',
  'start_time_unix_nano',
  'arrived_unix_nano',
]
const fields = columns.map((name) => `${quotedName(name)}::field AS ${quotedName(name)}`).join(', ')

export async function queryMetric(
  connection: Connection,
  buckets: Buckets,
  query: MetricQuery,
  signal: AbortSignal,
): Promise<SeriesResult[]> {
  const range = rangeOf(query)
  const all = await findSeries(connection, buckets, { metric: query.metric, device: query.device }, signal)
  const groups = groupSeries(
    all.filter((series) => matches(series, query.where)),
    query.by,
  )
  if (groups.length === 0 || range.from >= range.to) return []
  let left = query.limit
  for (const [aggregate, some] of byAggregate(groups, query)) {
    const reader = new PointReader(connection, buckets, query, some, signal)
    left -=
      aggregate === undefined
        ? await storedPoints(reader, some, range, left)
        : await aggregated(reader, some, range, aggregate)
    if (left < 0) throw tooManyPoints(query)
  }
  return groups.map(({ result }) => result).filter(({ points }) => points.length > 0)
}

/** Reads the points of the series of some groups, one series after the other. */
class PointReader {
  readonly #connection: Connection
  readonly #from: string
  readonly #where: string
  readonly #signal: AbortSignal
  readonly #wanted = new Map<string, Series>()
  #left = readLimit

  constructor(
    connection: Connection,
    buckets: Buckets,
    query: MetricQuery,
    groups: readonly Group[],
    signal: AbortSignal,
  ) {
    this.#connection = connection
    this.#signal = signal
    this.#from = everywhere(buckets, measurementOf(query.metric))
    for (const { series } of groups) for (const each of series as Series[]) this.#wanted.set(each.tag, each)
    const tags = [...this.#wanted.keys()]
    const isNamed = tags.length <= namedSeries
    this.#where = isNamed
      ? `(${tags.map((tag) => `"dpulse.series"::tag = ${quotedText(tag)}`).join(' OR ')})`
      : query.device
        ? devicesOf(query.device)
        : '"dpulse.series"::tag != \'\''
  }

  /** Points with a time in [from, to), those of each series together and in order. */
  async *between(from: bigint, to: bigint): AsyncGenerator<[Series, Point[]]> {
    const least = from & ~spanMask
    const range = `time >= ${least} AND time <= ${(to - 1n) | spanMask}`
    yield* this.#series(`${range} AND ${this.#where} GROUP BY "dpulse.series"`, from, to)
  }

  /** The newest point of each series with a time in [from, to), as the last of a list. */
  async *newest(from: bigint, to: bigint): AsyncGenerator<[Series, Point[]]> {
    const range = `time >= ${from & ~spanMask} AND time <= ${(to - 1n) | spanMask}`
    const tail = `${this.#where} GROUP BY "dpulse.series" ORDER BY time DESC LIMIT ${newestRows}`
    yield* this.#series(`${range} AND ${tail}`, from, to)
  }

  async *#series(rest: string, from: bigint, to: bigint): AsyncGenerator<[Series, Point[]]> {
    let tag = ''
    let points: Point[] = []
    const series = (): [Series, Point[]][] => {
      const known = this.#wanted.get(tag)
      return known && points.length > 0 ? [[known, inOrder(points)]] : []
    }
    const query = `SELECT ${fields} FROM ${this.#from} WHERE ${rest}`
    for await (const row of this.#connection.rows(query, this.#signal)) {
      if (this.#left-- <= 0) {
        throw new QueryRefused('since', `more than ${readLimit} stored points: ask for a shorter time`)
      }
      const next = seriesTag(row)
      if (next !== tag) {
        yield* series()
        tag = next
        points = []
      }
      if (!this.#wanted.has(tag)) continue
      const point = pointOf(row)
      if (point.at >= from && point.at < to) points.push(point)
    }
    yield* series()
  }
}

function pointOf(row: Row): Point {
  const stored = BigInt(row.text('time'))
  const time = row.text('arrived_unix_nano') || row.text('time_unix_nano')
  const start = row.text('start_time_unix_nano')
  const integer = row.text('gauge_int') || row.text('counter_int')
  const double = row.text('gauge') || row.text('counter')
  const count = row.text('count_int')
  const point: Point = {
    at: time === '' ? stored : BigInt(time),
    number: Number(stored & spanMask),
    start: start === '' ? 0n : BigInt.asUintN(64, BigInt(start)),
    value: undefined,
    exact: undefined,
    count: undefined,
  }
  if (integer !== '') {
    point.exact = BigInt(integer)
    point.value = Number(integer)
  } else if (double !== '') point.value = Number(double)
  else if (count !== '') {
    point.count = BigInt(count)
    const sum = row.text('sum')
    const mean = sum === '' ? Number.NaN : Number(sum) / Number(point.count)
    if (Number.isFinite(mean)) point.value = mean
  }
  return point
}

/** Puts the stored points into their groups; how many there are. */
async function storedPoints(
  reader: PointReader,
  groups: readonly Group[],
  { from, to }: Range,
  limit: number,
): Promise<number> {
  const found = new Map<Group, Point[]>()
  const groupOf = groupsBySeries(groups)
  let count = 0
  for await (const [series, points] of reader.between(from, to)) {
    const group = groupOf.get(series)
    if (!group) continue
    const list = found.get(group) ?? []
    found.set(group, list)
    for (const point of points) {
      if (point.value === undefined) continue
      if (++count > limit) return count
      list.push(point)
    }
  }
  for (const [group, points] of found) {
    const sorted = group.series.length > 1 ? inOrder(points) : points
    for (const point of sorted) group.result.points.push([formatTime(point.at), valueOf(point)])
  }
  return count
}

const valueOf = ({
  value,
  exact,
}: {
  value?: number | undefined
  exact?: bigint | undefined
}): number | string => {
  if (exact === undefined) return value ?? 0
  const near = Number(exact)
  return Number.isSafeInteger(near) ? near : String(exact)
}

function groupsBySeries(groups: readonly Group[]): Map<unknown, Group> {
  return new Map(groups.flatMap((group) => group.series.map((series) => [series, group] as const)))
}

async function aggregated(
  reader: PointReader,
  groups: readonly Group[],
  range: Range,
  aggregate: Aggregate,
): Promise<number> {
  const { from, to, step } = range
  const grows = aggregate === 'increase' || aggregate === 'rate'
  const groupOf = groupsBySeries(groups)
  const bases = new Map<Series, Point>()
  if (grows && from > 0n) {
    const before = from > dayNano ? from - dayNano : 0n
    for await (const [series, points] of reader.newest(before, from)) {
      const last = points.at(-1)
      if (last) bases.set(series, last)
    }
  }
  const steps = new Map<Group, Map<bigint, Reduction>>()
  for await (const [series, points] of reader.between(from, to)) {
    const group = groupOf.get(series)
    if (!group) continue
    let own = steps.get(group)
    if (!own) steps.set(group, (own = new Map()))
    const some = grows ? gainsOf(points, bases.get(series), modeOf(series)) : points
    for (const point of some) {
      if (point.value === undefined) continue
      const bucket = step > 0n ? point.at / step : 0n
      let reduction = own.get(bucket)
      if (!reduction) own.set(bucket, (reduction = new Reduction()))
      reduction.add(point)
    }
  }
  let count = 0
  for (const [group, own] of steps) {
    for (const [bucket, reduction] of [...own].sort(([a], [b]) => (a < b ? -1 : 1))) {
      count++
      const { time, seconds } = spanOf(bucket, range, aggregate)
      const found = reduction.result(aggregate)
      const value = aggregate === 'rate' ? Number(found.exact ?? found.value) / seconds : valueOf(found)
      group.result.points.push([formatTime(time), value])
    }
  }
  return count
}

/** The newest value of each series of a device. */
export async function latestValues(
  connection: Connection,
  buckets: Buckets,
  device: string,
  signal: AbortSignal,
): Promise<LatestValue[]> {
  const all = await findSeries(connection, buckets, { device: [device] }, signal)
  const newest = new Map<string, Point>()
  const measurements = [...new Set(all.map(({ metric }) => measurementOf(metric)))]
  for (let index = 0; index < measurements.length; index += measurementsAtOnce) {
    const some = measurements.slice(index, index + measurementsAtOnce)
    const from = some.map((measurement) => everywhere(buckets, measurement)).join(', ')
    const query = `SELECT ${fields} FROM ${from} WHERE "host.id"::tag = ${quotedText(device)}
      GROUP BY "dpulse.series" ORDER BY time DESC LIMIT ${newestRows}`
    for await (const row of connection.rows(query, signal)) {
      const point = pointOf(row)
      const tag = seriesTag(row)
      const known = newest.get(tag)
      if (point.value !== undefined && (!known || inOrder([known, point])[1] === point))
        newest.set(tag, point)
    }
  }
  return all.flatMap(({ tag, metric, unit, kind, attributes }): LatestValue[] => {
    const point = newest.get(tag)
    return point
      ? [{ metric, unit, kind, attributes, time: formatTime(point.at), value: valueOf(point) }]
      : []
  })
}
