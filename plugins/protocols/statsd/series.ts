// What lines of StatsD add up to: one series for each name, type and set of tags, found by the bytes of the line so that
// a line of a known series allocates nothing. Totals count from the first line on and never fall, so that a reading that
// was lost or came late takes nothing away from the next one.
import { Writer } from '../../contract/wire.ts'
import { writeKeyValue } from '../../contract/values.ts'
import { writeHistogram } from '../records/histogram.ts'
import { writeDouble, writeStart, writeTime } from '../records/metric-groups.ts'
import type { MetricGroups } from '../records/metric-groups.ts'
import { readDecimal } from '../records/numbers.ts'
import { StatsdLine, tagsOf } from './line.ts'
import type { LineType } from './line.ts'

export interface SeriesOptions {
  /** Upper bounds of histograms, ascending. */
  readonly bounds: readonly number[]
  readonly mostSeries: number
  /** Series that nobody touched for so long are forgotten. */
  readonly expireMs: number
  nowUnixNano(): bigint
}

interface Series {
  readonly key: string
  readonly type: LineType
  readonly name: Buffer
  readonly unit: string
  /** Encoded, as field 7 of a NumberDataPoint and field 9 of a HistogramDataPoint. */
  readonly attributes: Buffer
  readonly startSeconds: number
  readonly startNanos: number
  touched: boolean
  lastSeenMs: number
  /** Counter: the total. Gauge: the last value. Timing: the sum. */
  value: number
  count: number
  readonly buckets: number[]
  readonly members: Set<string>
}

/** A line as it came, and the series that it belongs to. */
interface Alias {
  readonly bytes: Buffer
  /** Where the tags begin. */
  readonly tagsAt: number
  readonly series: Series
  readonly next: Alias | undefined
}

/** Distinct members of one set in one interval; more than these are counted as these. */
const mostMembers = 10_000
const mostTags = 64
const longestMember = 256

export class StatsdSeries {
  readonly #options: SeriesOptions
  readonly #line = new StatsdLine()
  readonly #aliases = new Map<number, Alias>()
  #aliasCount = 0
  readonly #series = new Map<string, Series>()

  constructor(options: SeriesOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#series.size
  }

  /** Takes one line of valid UTF-8; why it was refused, where it was. A line is taken whole or not at all. */
  take(bytes: Buffer, start: number, end: number, nowMs: number): string | undefined {
    const line = this.#line
    const malformed = line.read(bytes, start, end)
    if (malformed !== undefined) return malformed
    let weight = 1
    if (line.rateEnd > line.rateStart) {
      const rate = readDecimal(bytes, line.rateStart, line.rateEnd)
      if (!(rate > 0 && rate <= 1)) return 'a sample rate that is not between 0 and 1'
      weight = 1 / rate
    }
    const wrong = line.type === 'set' ? undefined : this.#wrongValue(bytes)
    if (wrong !== undefined) return wrong
    const series = this.#find(bytes)
    if (series === undefined) return `more than ${this.#options.mostSeries} series`
    series.touched = true
    series.lastSeenMs = nowMs
    for (let at = line.valuesStart; at <= line.valuesEnd;) {
      const valueEnd = endOfValue(bytes, at, line.valuesEnd)
      this.#add(series, bytes, at, valueEnd, weight)
      at = valueEnd + 1
    }
    return undefined
  }

  #wrongValue(bytes: Buffer): string | undefined {
    const { valuesStart, valuesEnd, type } = this.#line
    for (let at = valuesStart; at <= valuesEnd;) {
      const end = endOfValue(bytes, at, valuesEnd)
      const value = readDecimal(bytes, at, end)
      if (!Number.isFinite(value)) return 'a value that is no number'
      if (type === 'counter' && value < 0) return 'a counter that falls: what may fall is a gauge'
      at = end + 1
    }
    return undefined
  }

  #add(series: Series, bytes: Buffer, start: number, end: number, weight: number): void {
    if (series.type === 'set') {
      if (series.members.size < mostMembers)
        series.members.add(bytes.toString('utf8', start, Math.min(end, start + longestMember)))
      return
    }
    const value = readDecimal(bytes, start, end)
    const first = bytes[start]
    if (series.type === 'counter') series.value += value * weight
    else if (series.type === 'timing') this.#observe(series, value, weight)
    // A sign makes it a change, as the protocol has it.
    else if (first === 0x2b || first === 0x2d) series.value += value
    else series.value = value
  }

  #observe(series: Series, value: number, weight: number): void {
    const { bounds } = this.#options
    // A sampled one stands for several; their number is whole.
    const count = Math.max(1, Math.round(weight))
    series.value += value * count
    series.count += count
    let low = 0
    let high = bounds.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (value <= (bounds[middle] ?? Infinity)) high = middle
      else low = middle + 1
    }
    series.buckets[low] = (series.buckets[low] ?? 0) + count
  }

  /** By name, type and tags as they stand in the line, else by what they mean. */
  #find(bytes: Buffer): Series | undefined {
    const { nameStart, innerEnd, tagsStart, tagsEnd, type, isMilliseconds } = this.#line
    const kind = kindByte(type, isMilliseconds)
    let hash = 0x811c9dc5 ^ kind
    for (let at = nameStart; at < innerEnd; at++) hash = Math.imul(hash ^ (bytes[at] ?? 0), 0x01000193)
    for (let at = tagsStart; at < tagsEnd; at++) hash = Math.imul(hash ^ (bytes[at] ?? 0), 0x01000193)
    const first = this.#aliases.get(hash)
    for (let one = first; one !== undefined; one = one.next) {
      if (isAlias(one, kind, bytes, nameStart, innerEnd, tagsStart, tagsEnd)) return one.series
    }
    const series = this.#resolve(bytes)
    if (!series) return undefined
    if (this.#aliasCount >= this.#options.mostSeries * 2) {
      this.#aliases.clear()
      this.#aliasCount = 0
    }
    this.#aliasCount++
    const own = Buffer.concat([
      Buffer.of(kind),
      bytes.subarray(nameStart, innerEnd),
      bytes.subarray(tagsStart, tagsEnd),
    ])
    this.#aliases.set(hash, {
      bytes: own,
      tagsAt: 1 + innerEnd - nameStart,
      series,
      next: this.#aliases.get(hash),
    })
    return series
  }

  #resolve(bytes: Buffer): Series | undefined {
    const line = this.#line
    const name = bytes.toString('utf8', line.nameStart, line.nameEnd)
    const tags = [
      ...tagsOf(bytes.toString('utf8', line.innerStart, line.innerEnd), '='),
      ...tagsOf(bytes.toString('utf8', line.tagsStart, line.tagsEnd), ':'),
    ].slice(0, mostTags)
    const unique = [...new Map(tags)].toSorted(([a], [b]) => (a < b ? -1 : 1))
    const key = JSON.stringify([kindByte(line.type, line.isMilliseconds), name, unique])
    const known = this.#series.get(key)
    if (known) return known
    if (this.#series.size >= this.#options.mostSeries) return undefined
    const now = this.#options.nowUnixNano()
    const attributes = new Writer(256)
    for (const [tag, value] of unique) writeKeyValue(attributes, line.type === 'timing' ? 9 : 7, tag, value)
    const series: Series = {
      key,
      type: line.type,
      name: Buffer.from(name),
      unit: line.isMilliseconds ? 'ms' : '',
      attributes: attributes.take(),
      startSeconds: Number(now / 1_000_000_000n),
      startNanos: Number(now % 1_000_000_000n),
      touched: false,
      lastSeenMs: 0,
      value: 0,
      count: 0,
      buckets: line.type === 'timing' ? Array.from({ length: this.#options.bounds.length + 1 }, () => 0) : [],
      members: new Set(),
    }
    this.#series.set(key, series)
    return series
  }

  /** Writes a point of every series that was touched since the last time, and forgets those that are old. */
  write(groups: MetricGroups, nowMs: number): void {
    const now = this.#options.nowUnixNano()
    const seconds = Number(now / 1_000_000_000n)
    const nanos = Number(now % 1_000_000_000n)
    let forgotten = false
    for (const series of this.#series.values()) {
      if (series.touched) {
        this.#point(groups, series, seconds, nanos)
        series.touched = false
        series.members.clear()
      } else if (nowMs - series.lastSeenMs > this.#options.expireMs) {
        this.#series.delete(series.key)
        forgotten = true
      }
    }
    if (!forgotten) return
    this.#aliases.clear()
    this.#aliasCount = 0
  }

  #point(groups: MetricGroups, series: Series, seconds: number, nanos: number): void {
    const { type, name, unit } = series
    const shape = type === 'counter' ? 'counter' : type === 'timing' ? 'histogram' : 'gauge'
    const metric = groups.metric(name, 0, name.length, shape, unit)
    groups.begin(metric)
    metric.points.raw(series.attributes)
    if (shape !== 'gauge') writeStart(metric.points, series.startSeconds, series.startNanos)
    writeTime(metric.points, seconds, nanos)
    if (type === 'timing')
      writeHistogram(metric.points, series.count, series.value, series.buckets, this.#options.bounds)
    else writeDouble(metric.points, type === 'set' ? series.members.size : series.value)
    groups.end(metric, seconds, nanos)
  }
}

const kindByte = (type: LineType, isMilliseconds: boolean): number =>
  type === 'counter' ? 0x63 : type === 'gauge' ? 0x67 : type === 'set' ? 0x73 : isMilliseconds ? 0x6d : 0x68

function endOfValue(bytes: Buffer, start: number, end: number): number {
  let at = start
  while (at < end && bytes[at] !== 0x3a) at++
  return at
}

function isAlias(
  { bytes: own, tagsAt }: Alias,
  kind: number,
  bytes: Buffer,
  start: number,
  end: number,
  tagsStart: number,
  tagsEnd: number,
): boolean {
  if (own[0] !== kind || tagsAt !== 1 + end - start || own.length !== tagsAt + tagsEnd - tagsStart)
    return false
  for (let at = start; at < end; at++) if (own[1 + at - start] !== bytes[at]) return false
  for (let at = tagsStart; at < tagsEnd; at++) if (own[tagsAt + at - tagsStart] !== bytes[at]) return false
  return true
}
