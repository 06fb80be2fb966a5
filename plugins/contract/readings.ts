// The encoder of data points (opentelemetry-proto metrics/v1), as sources of readings use it.
import { fixed64Type } from './wire.ts'
import type { Records } from './batch.ts'
import { RequestEncoder } from './encoder.ts'
import { classOfMetric } from './signal.ts'
import type { Class } from './signal.ts'
import { writeKeyValue } from './values.ts'
import type { Attributes, Scope } from './values.ts'

/** How a metric is told: `counter` is a cumulative monotonic sum, `updowncounter` a cumulative sum that may fall. */
export type MetricKind = 'gauge' | 'counter' | 'updowncounter'

export interface MetricDeclaration {
  readonly kind: MetricKind
  /** UCUM unit, as semantic conventions write it. */
  readonly unit: string
  readonly description?: string
  /** Where the name alone would choose the wrong one. */
  readonly class?: Class
}

/** The metrics that a source emits, by name. */
export type MetricDeclarations = Readonly<Record<string, MetricDeclaration>>

class PointsEncoder extends RequestEncoder {
  #metric = ''
  #metricMark = 0
  #dataMark = 0

  metric(name: string, declared: MetricDeclaration): void {
    if (this.#metric === name) return
    this.endMetric()
    this.#metric = name
    const { out } = this
    out.byte(0x12)
    this.#metricMark = out.open()
    out.byte(0x0a)
    out.string(name)
    out.byte(0x1a)
    out.string(declared.unit)
    out.byte(declared.kind === 'gauge' ? 0x2a : 0x3a)
    this.#dataMark = out.open()
    if (declared.kind === 'gauge') return
    out.byte(0x10)
    out.byte(2) // AGGREGATION_TEMPORALITY_CUMULATIVE
    if (declared.kind === 'counter') {
      out.byte(0x18)
      out.byte(1)
    }
  }

  endMetric(): void {
    if (this.#metric === '') return
    this.out.close(this.#dataMark)
    this.out.close(this.#metricMark)
    this.#metric = ''
  }

  point(value: number | bigint, attributes: Attributes, time: TimeParts, start: TimeParts | undefined): void {
    const { out } = this
    out.byte(0x0a)
    const mark = out.openSmall()
    for (const key in attributes) writeKeyValue(out, 7, key, attributes[key] ?? '')
    if (start) {
      out.tag(2, fixed64Type)
      out.fixed64Time(start.seconds, start.nanos)
    }
    out.tag(3, fixed64Type)
    out.fixed64Time(time.seconds, time.nanos)
    if (typeof value === 'bigint') {
      out.tag(6, fixed64Type)
      out.fixed64Big(value)
    } else {
      out.tag(4, fixed64Type)
      out.double(value)
    }
    out.closeSmall(mark)
    this.count++
    this.seen(time.seconds, time.nanos)
  }

  finish(device: string, name: Class): Records {
    this.endMetric()
    return { device, signal: 'metrics', class: name, ...this.finishRequest() }
  }
}

/** Encoders between two readings, by scope: making one costs more than a small reading. */
const idle = new Map<string, PointsEncoder[]>()
const mostIdle = 8
/** A larger one was for a reading out of the ordinary. */
const mostIdleBytes = 64 * 1024

const keyOf = ({ name, version }: Scope): string => `${name}\0${version ?? ''}`

function takeEncoder(scope: Scope): PointsEncoder {
  return idle.get(keyOf(scope))?.pop() ?? new PointsEncoder(scope, 16 * 1024)
}

function giveBack(scope: Scope, encoder: PointsEncoder): void {
  const key = keyOf(scope)
  const list = idle.get(key) ?? []
  if (list.length < mostIdle && encoder.out.buffer.length <= mostIdleBytes) list.push(encoder)
  if (idle.size < 256) idle.set(key, list)
}

/** Unix time as two numbers. */
export interface TimeParts {
  readonly seconds: number
  readonly nanos: number
}
export const timeParts = (unixNano: bigint): TimeParts => ({
  seconds: Number(unixNano / 1_000_000_000n),
  nanos: Number(unixNano % 1_000_000_000n),
})

/**
 * One reading of a source: data points that share one timestamp, sorted into classes by the name of their metric
 * (or as declared), cut where a batch is full. A bigint is stored as an integer, a number as a double; NaN and
 * infinities are passed on, since the stores decide about them.
 */
export class Readings {
  readonly #scope: Scope
  readonly #declared: MetricDeclarations
  readonly #device: string
  readonly #resource: Uint8Array
  readonly #time: TimeParts
  readonly #start: TimeParts | undefined
  readonly #open = new Map<Class, PointsEncoder>()
  readonly #done: Records[] = []

  constructor(options: {
    scope: Scope
    declared: MetricDeclarations
    device: string
    resource: Uint8Array
    timeUnixNano: bigint
    /** When the counters began to count (boot, or the start of a process). */
    startUnixNano?: bigint
  }) {
    this.#scope = options.scope
    this.#declared = options.declared
    this.#device = options.device
    this.#resource = options.resource
    this.#time = timeParts(options.timeUnixNano)
    this.#start = options.startUnixNano === undefined ? undefined : timeParts(options.startUnixNano)
  }

  /** Points of one metric should follow each other: each change of name begins a new Metric. */
  add(name: string, value: number | bigint, attributes: Attributes = {}): void {
    const declared = this.#declared[name]
    if (!declared) throw new Error(`metric ${name} is not declared by ${this.#scope.name}`)
    const kind = declared.class ?? classOfMetric(name)
    let encoder = this.#open.get(kind)
    if (!encoder) {
      encoder = takeEncoder(this.#scope)
      encoder.begin(this.#resource)
      this.#open.set(kind, encoder)
    }
    encoder.metric(name, declared)
    encoder.point(value, attributes, this.#time, declared.kind === 'gauge' ? undefined : this.#start)
    if (!encoder.full) return
    this.#finish(kind, encoder)
    this.#open.delete(kind)
  }

  finish(): Records[] {
    for (const [kind, encoder] of this.#open) this.#finish(kind, encoder)
    this.#open.clear()
    return this.#done
  }

  #finish(kind: Class, encoder: PointsEncoder): void {
    this.#done.push(encoder.finish(this.#device, kind))
    giveBack(this.#scope, encoder)
  }
}
