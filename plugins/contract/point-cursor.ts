// Reads data points in place (opentelemetry-proto metrics/v1), whatever the type of their metric.
import { Reader, bytesType, fixed64Type, varintType } from './wire.ts'
import { attributesOf } from './any-value.ts'
import { RequestCursor, emptySpan } from './request-cursor.ts'
import type { Span } from './request-cursor.ts'
import type { AttributeValue } from './values.ts'

/** The data oneof of a Metric, by its field number. */
export type MetricType = 'gauge' | 'sum' | 'histogram' | 'exponential_histogram' | 'summary'
const metricTypes: Readonly<Record<number, MetricType>> = {
  5: 'gauge',
  7: 'sum',
  9: 'histogram',
  10: 'exponential_histogram',
  11: 'summary',
}
/** Field number of the attributes in each kind of data point. */
export const pointAttributesField: Readonly<Record<MetricType, number>> = {
  gauge: 7,
  sum: 7,
  histogram: 9,
  exponential_histogram: 1,
  summary: 7,
}

/** Reads data points of all five metric types. A Metric without points yields none. */
export class PointCursor extends RequestCursor {
  /** Grows with each Metric message. */
  metricIndex = 0
  readonly metric = emptySpan()
  readonly name = emptySpan()
  readonly unit = emptySpan()
  readonly description = emptySpan()
  /** The Gauge, Sum, … message. */
  readonly data = emptySpan()
  type: MetricType = 'gauge'
  /** 0 unspecified, 1 delta, 2 cumulative. */
  temporality = 0
  monotonic = false
  /** The data point's message. */
  readonly point = emptySpan()
  startLow = 0
  startHigh = 0
  timeLow = 0
  timeHigh = 0
  flags = 0
  /** For gauge and sum: which of the two holds the value. */
  valueKind: 'none' | 'double' | 'int' = 'none'
  double = 0
  /** Two halves of the sfixed64. */
  intLow = 0
  intHigh = 0
  readonly attributes = emptySpan()
  attributeCount = 0
  /** Where a field of another type than a Metric's stands, seen since `reset`: these are records of another signal. */
  strangeAt = -1
  #at = 0

  override reset(bytes: Uint8Array): this {
    super.reset(bytes)
    this.strangeAt = -1
    this.metricIndex = 0
    this.#at = 0
    this.data.start = this.data.end = this.metric.start = this.metric.end = 0
    return this
  }

  next(): boolean {
    const { reader } = this
    for (;;) {
      reader.position = this.#at
      reader.end = this.data.end
      while (reader.position < this.data.end) {
        const key = reader.key()
        if (key !== 0x0a) {
          reader.skip(key)
          continue
        }
        const size = reader.length()
        this.point.start = reader.position
        this.point.end = reader.position + size
        this.#at = this.point.end
        this.#readPoint(reader)
        return true
      }
      reader.position = this.metric.end
      if (!this.nextMetric()) return false
    }
  }

  /** Moves to the next Metric, whatever is left of this one. For those that want metrics, not points. */
  nextMetric(): boolean {
    if (this.metricIndex > 0) this.reader.position = this.metric.end
    if (!this.nextItem(this.metric)) return false
    this.metricIndex++
    const { reader } = this
    this.name.start = this.name.end = this.unit.start = this.unit.end = 0
    this.description.start = this.description.end = this.data.start = this.data.end = 0
    this.temporality = 0
    this.monotonic = false
    this.type = 'gauge'
    reader.position = this.metric.start
    reader.end = this.metric.end
    while (!reader.done) {
      const began = reader.position
      const key = reader.key()
      const type = metricTypes[key >>> 3]
      if (key === 0x0a) this.#take(this.name)
      else if (key === 0x12) this.#take(this.description)
      else if (key === 0x1a) this.#take(this.unit)
      else if (type && (key & 7) === bytesType) {
        this.#take(this.data)
        this.type = type
      } else {
        // All fields of a Metric are length-delimited.
        if ((key & 7) !== bytesType && key < 13 * 8) this.strangeAt = began
        reader.skip(key)
      }
    }
    this.#readData(reader)
    this.#at = this.data.start
    reader.position = this.metric.end
    return true
  }

  #readData(reader: Reader): void {
    if (this.type === 'gauge' || this.type === 'summary') return
    reader.position = this.data.start
    reader.end = this.data.end
    while (!reader.done) {
      const key = reader.key()
      if (key === 0x10) this.temporality = reader.varint()
      else if (key === 0x18) this.monotonic = reader.varint() !== 0
      else reader.skip(key)
    }
  }

  #take(into: Span): void {
    const size = this.reader.length()
    into.start = this.reader.position
    into.end = into.start + size
    this.reader.position = into.end
  }

  #readPoint(reader: Reader): void {
    this.startLow = this.startHigh = this.timeLow = this.timeHigh = this.flags = this.attributeCount = 0
    this.attributes.start = this.attributes.end = 0
    this.valueKind = 'none'
    const wanted = pointAttributesField[this.type] * 8 + bytesType
    const simple = this.type === 'gauge' || this.type === 'sum'
    reader.position = this.point.start
    reader.end = this.point.end
    while (reader.position < this.point.end) {
      const began = reader.position
      const key = reader.key()
      if (key === wanted) {
        if (this.attributeCount++ === 0) this.attributes.start = began
        reader.skip(bytesType)
        this.attributes.end = reader.position
      } else if (key === 16 + fixed64Type) {
        reader.fixed64()
        this.startLow = reader.low
        this.startHigh = reader.high
      } else if (key === 24 + fixed64Type) {
        reader.fixed64()
        this.timeLow = reader.low
        this.timeHigh = reader.high
      } else if (simple && key === 32 + fixed64Type) {
        this.double = reader.double()
        this.valueKind = 'double'
      } else if (simple && key === 48 + fixed64Type) {
        reader.fixed64()
        this.intLow = reader.low
        this.intHigh = reader.high
        this.valueKind = 'int'
      } else if (key === (simple || this.type === 'summary' ? 64 : 80) + varintType) {
        this.flags = reader.varint()
      } else reader.skip(key)
    }
  }

  /** Whether nothing but attributes stands in their extent; else its bytes differ from point to point. */
  hasContiguousAttributes(): boolean {
    const reader = new Reader(this.bytes)
    reader.position = this.attributes.start
    reader.end = this.attributes.end
    const wanted = pointAttributesField[this.type] * 8 + 2
    while (!reader.done) {
      const key = reader.key()
      if (key !== wanted) return false
      reader.skip(key)
    }
    return true
  }

  pointAttributes(): Record<string, AttributeValue> {
    return attributesOf(
      this.bytes,
      this.attributes.start,
      this.attributes.end,
      pointAttributesField[this.type],
    )
  }
}
