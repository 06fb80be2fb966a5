// Data points of a batch as line protocol, near to Telegraf's `prometheus-v1`: the measurement is the metric, and what a
// field is called says its type, so that it never changes.
//
//   gauge, counter        doubles; a counter is a monotonic, cumulative sum
//   gauge_int, counter_int  integers, exact
//   count, sum, min, max, <bound>, +Inf   of histograms, doubles; buckets add up. Of summaries, <quantile>
//   count_int, detail     of both: the exact count, and all there is as JSON
//   time_unix_nano, start_time_unix_nano  exact; the low bits of the stored time are a number
import { createHash } from 'node:crypto'
import { streamKey } from '../../../plugins/contract/batch.ts'
import { PointCursor } from '../../../plugins/contract/point-cursor.ts'
import { WireError } from '../../../plugins/contract/wire.ts'
import type { Writer } from '../../../plugins/contract/wire.ts'
import type { Json } from '../../query.ts'
import type { Stored } from '../log-rows.ts'
import { readDetail } from '../../../plugins/protocols/point-detail.ts'
import type { PointDetail } from '../../../plugins/protocols/point-detail.ts'
import { Stamp, ascii, fieldText, firstNumber, integer, nanoOf, numberMask, pointTime } from './line.ts'
import type { Lines } from './line.ts'
import { time, timeNames, timesOf } from './log-lines.ts'
import type { LinePlace } from './log-lines.ts'
import type { Entry, Series } from './series.ts'

const noRecordedValue = 1
/** Bounds or quantiles of a point that become fields; all of them stand in `detail`. */
const boundLimit = 200

export class PointLines {
  readonly #series: Series
  readonly #cursor = new PointCursor()
  /** Points refused because there are too many series, since the last look. */
  overLimit = 0
  #batch = 0
  /** By series: the batch that it was last met in, and the latest span of stored times there. */
  #metIn = new Uint32Array(1024)
  #latest = new Float64Array(1024)
  readonly #stamps = { time: new Stamp(), start: new Stamp(), point: new Stamp() }

  constructor(series: Series) {
    this.#series = series
  }

  add(bytes: Uint8Array, place: LinePlace, lines: Lines): Stored {
    const { header } = place
    const cursor = this.#cursor.reset(bytes)
    this.#batch++
    // Runs of a collector number alike: a name of the stream keeps their points of one time apart.
    const first = firstNumber(header.produced, header.count) + offsetOf(streamKey(header))
    let stored = 0
    let seen = 0
    let resourceIndex = 0
    try {
      while (cursor.next()) {
        const index = seen++
        const count = lines.count
        let mark = lines.out.position
        let hour = 0
        try {
          if (cursor.resourceIndex !== resourceIndex) {
            resourceIndex = cursor.resourceIndex
            this.#series.begin(cursor)
          }
          if (!isStorable(cursor)) continue
          const detail = readDetail(cursor)
          const arrived = nanoOf(place.arrivedLow, place.arrivedHigh)
          const entry = this.#series.intern(cursor, header.device, arrived, lines)
          if (!entry) {
            this.overLimit++
            continue
          }
          if (lines.count > count) mark = lines.out.position
          hour = this.#line(lines.out, cursor, place, detail, entry, first, index)
        } catch (error) {
          if (!(error instanceof WireError)) throw error
          lines.out.position = mark
          continue
        }
        lines.end(place.owner, hour)
        stored++
      }
    } catch (error) {
      // Malformed from here on: what was read stays, the rest cannot be held.
      if (!(error instanceof WireError)) throw error
    }
    return { stored, rejected: Math.max(header.count, seen) - stored }
  }

  #line(
    out: Writer,
    cursor: PointCursor,
    place: LinePlace,
    detail: PointDetail,
    entry: Entry,
    first: number,
    index: number,
  ): number {
    out.raw(entry.head)
    if (cursor.type === 'gauge' || cursor.type === 'sum') numberFields(out, cursor)
    else distributionFields(out, detail)
    if (detail.text !== '') {
      const bytes = Buffer.from(detail.text)
      ascii(out, ',detail="')
      fieldText(out, bytes, 0, bytes.length)
      out.byte(0x22)
    }
    const times = timesOf(cursor, place)
    const stamps = this.#stamps
    out.raw(timeNames.time)
    stamps.time.write(out, times.low, times.high)
    out.byte(0x69)
    if (cursor.type !== 'gauge' && (cursor.startLow !== 0 || cursor.startHigh !== 0)) {
      out.raw(timeNames.start)
      stamps.start.write(out, cursor.startLow, cursor.startHigh)
      out.byte(0x69)
    }
    const low = times.suspect ? place.arrivedLow : times.low
    const high = times.suspect ? place.arrivedHigh : times.high
    if (times.suspect) time(out, timeNames.arrived, low, high)
    const number = (first + this.#place(entry.series, low, high, index)) % (numberMask + 1)
    return pointTime(out, low, high, number, stamps.point)
  }

  /**
   * What is added to the number of the batch: 0 as a rule, so that all points of a reading share one time; the place in
   * the batch for a point that could share it with one before it of the same series.
   */
  #place(series: number, low: number, high: number, index: number): number {
    while (series >= this.#metIn.length) {
      const metIn = new Uint32Array(this.#metIn.length * 2)
      metIn.set(this.#metIn)
      this.#metIn = metIn
      const latest = new Float64Array(metIn.length)
      latest.set(this.#latest)
      this.#latest = latest
    }
    const span = high * 4096 + (low >>> 20)
    const batch = this.#batch >>> 0
    if (this.#metIn[series] === batch && span <= (this.#latest[series] ?? 0)) return index
    this.#metIn[series] = batch
    this.#latest[series] = span
    return 0
  }
}

const offsetOf = (key: string): number =>
  createHash('sha256').update(key).digest().readUInt32LE(0) % (numberMask + 1)

/** Whether there is a number to store: InfluxDB refuses NaN and infinities, and with them the whole body. */
function isStorable(cursor: PointCursor): boolean {
  if ((cursor.flags & noRecordedValue) !== 0) return false
  if (cursor.type !== 'gauge' && cursor.type !== 'sum') return true
  return cursor.valueKind === 'int' || (cursor.valueKind === 'double' && Number.isFinite(cursor.double))
}

const fieldNames = {
  counter: Buffer.from(' counter='),
  gauge: Buffer.from(' gauge='),
  counterInt: Buffer.from(' counter_int='),
  gaugeInt: Buffer.from(' gauge_int='),
}

function numberFields(out: Writer, cursor: PointCursor): void {
  const isCounter = cursor.type === 'sum' && cursor.monotonic && cursor.temporality === 2
  if (cursor.valueKind === 'double') {
    out.raw(isCounter ? fieldNames.counter : fieldNames.gauge)
    ascii(out, numberText(cursor.double))
    return
  }
  out.raw(isCounter ? fieldNames.counterInt : fieldNames.gaugeInt)
  integer(out, cursor.intLow, cursor.intHigh)
  out.byte(0x69)
}

const numberText = (value: number): string => (Object.is(value, -0) ? '-0' : String(value))

/** Of a histogram or summary; buckets are cumulative, as Prometheus counts them. */
function distributionFields(out: Writer, { text, count, sum }: PointDetail): void {
  ascii(out, ` count=${Number(count)},count_int=${BigInt.asIntN(64, count)}i`)
  field(out, 'sum', sum)
  if (text === '') return
  const detail = JSON.parse(text) as Record<string, Json>
  field(out, 'min', detail.min)
  field(out, 'max', detail.max)
  const { bounds, counts, quantiles } = detail
  if (Array.isArray(counts)) {
    let total = 0
    for (const [index, each] of counts.slice(0, boundLimit).entries()) {
      total += Number(each)
      const bound = Array.isArray(bounds) ? bounds[index] : undefined
      if (index < counts.length - 1) field(out, fieldName(bound), total)
      else field(out, '+Inf', total)
    }
  }
  if (!Array.isArray(quantiles)) return
  for (const each of quantiles.slice(0, boundLimit)) {
    const { quantile, value } = each as Record<string, Json>
    field(out, fieldName(quantile), value)
  }
}

/** A bound or quantile as the name of a field; nothing for what is no number. */
const fieldName = (bound: Json | undefined): string =>
  typeof bound === 'number' && Number.isFinite(bound) ? String(bound) : ''

function field(out: Writer, name: string, value: Json | undefined): void {
  if (name === '' || typeof value !== 'number' || !Number.isFinite(value)) return
  ascii(out, `,${name}=${numberText(value)}`)
}
