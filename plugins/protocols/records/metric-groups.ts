// Data points of others on their way into Records: what comes in the order of lines (a metric here, another there) is
// laid out as OTLP wants it, all points of a metric together, sorted into classes and cut where a batch is full.
// Metrics are found again by the bytes of their name, so that nothing is allocated per point.
import { batchLimits } from '../../contract/batch.ts'
import type { Records } from '../../contract/batch.ts'
import { RequestEncoder } from '../../contract/encoder.ts'
import { classOfMetric } from '../../contract/signal.ts'
import type { Class } from '../../contract/signal.ts'
import type { Scope } from '../../contract/values.ts'
import { Writer, fixed64Type } from '../../contract/wire.ts'

/** `counter` is a cumulative monotonic sum, `updowncounter` a cumulative sum that may fall. */
export type MetricShape =
  | 'gauge'
  | 'counter'
  | 'updowncounter'
  | 'histogram'
  | 'exponential_histogram'
  | 'summary'

/** Field of the Metric message that holds the points, and what that message says beside them. */
const shapes: Readonly<Record<MetricShape, { tag: number; tail: readonly number[] }>> = {
  gauge: { tag: 0x2a, tail: [] },
  // aggregation_temporality 2 is cumulative; is_monotonic.
  counter: { tag: 0x3a, tail: [0x10, 2, 0x18, 1] },
  updowncounter: { tag: 0x3a, tail: [0x10, 2] },
  histogram: { tag: 0x4a, tail: [0x10, 2] },
  exponential_histogram: { tag: 0x52, tail: [0x10, 2] },
  summary: { tag: 0x5a, tail: [] },
}

/** Names that are remembered; one sender that invents names without end costs time, no memory. */
const mostMetrics = 4000
const hashSeed = 0x811c9dc5

/** A metric of which points are being collected. */
export interface Metric {
  readonly name: Uint8Array
  readonly unit: string
  readonly shape: MetricShape
  readonly class: Class
  /** Its points, each a field of the message that holds them. */
  readonly points: Writer
  count: number
  /** Another metric whose name has the same hash. */
  readonly next: Metric | undefined
}

class GroupEncoder extends RequestEncoder {
  add({ name, unit, shape, points, count }: Metric): void {
    const { out } = this
    out.byte(0x12)
    const metric = out.open()
    out.byte(0x0a)
    out.bytes(name)
    if (unit !== '') {
      out.byte(0x1a)
      out.string(unit)
    }
    const { tag, tail } = shapes[shape]
    out.byte(tag)
    const data = out.open()
    out.raw(points.buffer, 0, points.position)
    for (const byte of tail) out.byte(byte)
    out.close(data)
    out.close(metric)
    this.count += count
  }

  saw(seconds: number, nanos: number): void {
    this.seen(seconds, nanos)
  }

  finish(device: string, name: Class): Records {
    return { device, signal: 'metrics', class: name, ...this.finishRequest() }
  }
}

/** The metrics of one class that hold points. */
interface Group {
  readonly encoder: GroupEncoder
  readonly metrics: Metric[]
  count: number
  bytes: number
}

export interface MetricGroupsOptions {
  readonly scope: Scope
  readonly device: string
  /** An encoded Resource. */
  readonly resource: Uint8Array
  /** Hears of Records as soon as they fill a batch, and of the rest at `flush`. */
  readonly take: (records: Records) => void
}

/** Points of one Resource. `metric`, then `begin`, the fields of the point into `metric.points`, and `end`. */
export class MetricGroups {
  readonly #options: MetricGroupsOptions
  readonly #metrics = new Map<number, Metric>()
  #known = 0
  readonly #groups = new Map<Class, Group>()
  #mark = 0

  constructor(options: MetricGroupsOptions) {
    this.#options = options
  }

  /** The metric with the name `bytes[start, end)`, valid UTF-8. */
  metric(bytes: Uint8Array, start: number, end: number, shape: MetricShape, unit = ''): Metric {
    let hash = hashSeed
    for (let at = start; at < end; at++) hash = Math.imul(hash ^ (bytes[at] ?? 0), 0x01000193)
    const first = this.#metrics.get(hash)
    for (let one = first; one !== undefined; one = one.next) {
      if (one.shape === shape && one.unit === unit && equals(one.name, bytes, start, end)) return one
    }
    if (this.#known >= mostMetrics) {
      this.flush()
      this.#metrics.clear()
      this.#known = 0
    }
    const name = Buffer.from(bytes.subarray(start, end))
    const metric: Metric = {
      name,
      unit,
      shape,
      class: classOfMetric(name.toString('utf8')),
      points: new Writer(256),
      count: 0,
      next: this.#metrics.get(hash),
    }
    this.#metrics.set(hash, metric)
    this.#known++
    return metric
  }

  /** Opens a point; what is written into `metric.points` until `end` are its fields, the time among them. */
  begin(metric: Metric): void {
    metric.points.byte(0x0a)
    this.#mark = metric.points.openSmall()
  }

  /** Closes the point, of this time. */
  end(metric: Metric, seconds: number, nanos: number): void {
    const { points } = metric
    points.closeSmall(this.#mark)
    let group = this.#groups.get(metric.class)
    if (!group) {
      group = { encoder: this.#newEncoder(), metrics: [], count: 0, bytes: 0 }
      this.#groups.set(metric.class, group)
    }
    if (group.count === 0) group.encoder.begin(this.#options.resource)
    if (metric.count++ === 0) {
      group.metrics.push(metric)
      group.bytes += metric.name.length + metric.unit.length + 32
    }
    group.encoder.saw(seconds, nanos)
    group.count++
    group.bytes += points.position - this.#mark + 4
    if (group.count >= batchLimits.records || group.bytes >= batchLimits.bytes)
      this.#finish(metric.class, group)
  }

  /** Hands over what is held. */
  flush(): void {
    for (const [name, group] of this.#groups) if (group.count > 0) this.#finish(name, group)
  }

  #newEncoder(): GroupEncoder {
    return new GroupEncoder(this.#options.scope, 4096)
  }

  #finish(name: Class, group: Group): void {
    for (const metric of group.metrics) {
      group.encoder.add(metric)
      metric.points.reset()
      metric.count = 0
    }
    group.metrics.length = 0
    group.count = 0
    group.bytes = 0
    this.#options.take(group.encoder.finish(this.#options.device, name))
  }
}

function equals(name: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (name.length !== end - start) return false
  for (let at = 0; at < name.length; at++) if (name[at] !== bytes[start + at]) return false
  return true
}

/** Fields of a NumberDataPoint, HistogramDataPoint or SummaryDataPoint that stand alike in all of them. */
export function writeTime(out: Writer, seconds: number, nanos: number): void {
  out.tag(3, fixed64Type)
  out.fixed64Time(seconds, nanos)
}

/** When the total began to count. */
export function writeStart(out: Writer, seconds: number, nanos: number): void {
  out.tag(2, fixed64Type)
  out.fixed64Time(seconds, nanos)
}

/** The value of a gauge or sum. */
export function writeDouble(out: Writer, value: number): void {
  out.tag(4, fixed64Type)
  out.double(value)
}

/** The value of a gauge or sum that is a whole number, as two halves. */
export function writeInteger(out: Writer, low: number, high: number): void {
  out.tag(6, fixed64Type)
  out.fixed64(low, high)
}

/** A string attribute as field `field` of the message that is open; both are valid UTF-8. */
export function writeTextAttribute(
  out: Writer,
  field: number,
  key: Uint8Array,
  keyStart: number,
  keyEnd: number,
  value: Uint8Array,
  valueStart: number,
  valueEnd: number,
): void {
  out.byte(field * 8 + 2)
  const mark = out.openSmall()
  out.byte(0x0a)
  out.bytes(key, keyStart, keyEnd)
  out.byte(0x12)
  const inner = out.openSmall()
  out.byte(0x0a)
  out.bytes(value, valueStart, valueEnd)
  out.closeSmall(inner)
  out.closeSmall(mark)
}
