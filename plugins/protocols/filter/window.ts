// One series of readings in a window: what is known of it, how it is written as a data point, and as a row of state that
// a later run takes up, even one whose rules are others.
import * as z from 'zod'
import type { PointCursor } from '../../contract/cursor.ts'
import { classes } from '../../contract/signal.ts'
import type { Class } from '../../contract/signal.ts'
import type { Writer } from '../../contract/wire.ts'
import { numberOf } from './limits.ts'
import { AttributeWalk } from './record.ts'
import type { RecordFacts } from './record.ts'
import { functions } from './settings.ts'
import type { Function } from './settings.ts'

/** What all readings of a series have in common. Bytes are messages as they are encoded. */
export interface SeriesHead {
  readonly device: string
  readonly class: Class
  readonly resource: Buffer
  readonly scope: Buffer
  readonly name: string
  readonly unit: string
  readonly isSum: boolean
  readonly temporality: number
  readonly monotonic: boolean
  /** The attributes, as fields of the data point. */
  readonly attributes: Buffer
}

interface Stamp {
  low: number
  high: number
}

interface Newest extends Stamp {
  value: number
  isInt: boolean
  at: Stamp
}

function stamp(to: Stamp, { timeLow, timeHigh }: PointCursor): void {
  to.low = timeLow
  to.high = timeHigh
}

export class Series {
  readonly head: SeriesHead
  readonly to: readonly Function[]
  count = 0
  #min = 0
  #max = 0
  #sum = 0
  #increase = 0
  /** The newest reading of the window: the bits of its value, and whether that is an integer. */
  #isInt = false
  #last = 0
  #lastLow = 0
  #lastHigh = 0
  readonly #from: Stamp = { low: 0, high: 0 }
  readonly #until: Stamp = { low: 0, high: 0 }
  /** The newest reading of all, from which the next one counts; windows go by, it stays. */
  #newest: Newest | undefined
  /** When a reading came last, by the monotonic clock. */
  heardMs = 0

  constructor(head: SeriesHead, to: readonly Function[]) {
    this.head = head
    this.to = to
  }

  /** One that is older than another is in all but the last value, and a counter does not begin anew with it. */
  take(point: PointCursor, nowMs: number): void {
    const value = numberOf(point)
    if (this.count === 0) {
      this.#min = this.#max = value
      this.#sum = this.#increase = 0
      stamp(this.#from, point)
    }
    if (value < this.#min) this.#min = value
    if (value > this.#max) this.#max = value
    this.#sum += value
    if (compareStamps(point.timeLow, point.timeHigh, this.#from) < 0) stamp(this.#from, point)
    if (this.count === 0 || compareStamps(point.timeLow, point.timeHigh, this.#until) >= 0) {
      this.#isInt = point.valueKind === 'int'
      this.#last = value
      this.#lastLow = point.intLow
      this.#lastHigh = point.intHigh
      stamp(this.#until, point)
    }
    if (this.#isDelta) this.#increase += value
    if (!this.isAfter(point)) {
      if (!this.#isDelta) this.#increase += this.#grown(value, point)
      const isInt = point.valueKind === 'int'
      this.#newest ??= { value, isInt, low: 0, high: 0, at: { low: 0, high: 0 } }
      this.#newest.value = value
      this.#newest.isInt = isInt
      this.#newest.low = point.intLow
      this.#newest.high = point.intHigh
      stamp(this.#newest.at, point)
    }
    this.count++
    this.heardMs = nowMs
  }

  /** Whether it knows a reading that is newer than this one. */
  isAfter({ timeLow, timeHigh }: PointCursor): boolean {
    return this.#newest !== undefined && compareStamps(timeLow, timeHigh, this.#newest.at) < 0
  }

  /** A reading that is older by more than this is no late one: the clock was set. What follows counts from it. */
  startAnewBefore(point: PointCursor, ms: number): void {
    if (!this.#newest || !this.isAfter(point)) return
    if (millisOf(this.#newest.at) - millisOf({ low: point.timeLow, high: point.timeHigh }) > ms)
      this.#newest = undefined
  }

  /** Counts on from the newest value of another. */
  follow(other: Series): void {
    const newest = other.#newest
    this.#newest = newest && { ...newest, at: { ...newest.at } }
  }

  get #isDelta(): boolean {
    return this.head.isSum && this.head.temporality === 1
  }

  #grown(value: number, point: PointCursor): number {
    const { isSum, monotonic } = this.head
    const newest = this.#newest
    if (!newest) return 0
    // A difference of integers is exact although they are beyond 2^53.
    const exact = newest.isInt && point.valueKind === 'int'
    const more = exact
      ? ((point.intHigh | 0) - (newest.high | 0)) * 4_294_967_296 +
        ((point.intLow >>> 0) - (newest.low >>> 0))
      : value - newest.value
    // A counter that falls has begun anew.
    return more < 0 && isSum && monotonic ? value : more
  }

  /** What it is called that a function makes. */
  nameOf(made: Function): string {
    const { isSum, name } = this.head
    const keeps =
      this.to.length === 1 && (made === 'last' || (!isSum && made !== 'increase' && made !== 'count'))
    return keeps ? name : `${name}.${made}`
  }

  /** A Metric message with one data point. */
  write(out: Writer, made: Function): void {
    const { head } = this
    const isCounter = made === 'increase' && head.isSum
    const isSum = isCounter || (made === 'last' && head.isSum)
    out.byte(0x0a)
    out.string(this.nameOf(made))
    if (head.unit !== '' && made !== 'count') {
      out.byte(0x1a)
      out.string(head.unit)
    }
    out.byte(isSum ? 0x3a : 0x2a)
    const data = out.open()
    if (isSum) {
      out.byte(0x10)
      out.byte(isCounter ? 1 : head.temporality)
      if (head.monotonic) {
        out.byte(0x18)
        out.byte(1)
      }
    }
    out.byte(0x0a)
    const point = out.open()
    out.raw(head.attributes)
    if (made !== 'last') {
      out.byte(0x11)
      out.fixed64(this.#from.low, this.#from.high)
    }
    out.byte(0x19)
    out.fixed64(this.#until.low, this.#until.high)
    this.#writeValue(out, made)
    out.close(point)
    out.close(data)
  }

  #writeValue(out: Writer, made: Function): void {
    const isInt = made === 'count' || (this.#isInt && made !== 'mean')
    if (made === 'last' && isInt) {
      out.byte(0x31)
      return out.fixed64(this.#lastLow, this.#lastHigh)
    }
    const value = this.value(made)
    out.byte(isInt ? 0x31 : 0x21)
    if (isInt) out.fixed64Big(BigInt(Math.round(value)))
    else out.double(value)
  }

  value(made: Function): number {
    switch (made) {
      case 'min':
        return this.#min
      case 'max':
        return this.#max
      case 'mean':
        return this.#sum / this.count
      case 'last':
        return this.#last
      case 'increase':
        return this.#increase
      case 'count':
        return this.count
      default:
        return made satisfies never
    }
  }

  get from(): bigint {
    return stampOf(this.#from)
  }
  get until(): bigint {
    return stampOf(this.#until)
  }
  /** When its newest reading was, of whatever window. */
  get newest(): bigint {
    return stampOf(this.#newest?.at ?? this.#until)
  }

  /** As a row of state; `ageMs` is how long the window has been open. */
  encode(ageMs: number): Buffer {
    const { head } = this
    const row: Row = {
      device: head.device,
      class: head.class,
      resource: head.resource.toString('base64'),
      scope: head.scope.toString('base64'),
      name: head.name,
      unit: head.unit,
      sum: head.isSum,
      temporality: head.temporality,
      monotonic: head.monotonic,
      attributes: head.attributes.toString('base64'),
      to: [...this.to],
      age: ageMs,
      count: this.count,
      // JSON knows neither NaN nor infinities.
      numbers: [this.#min, this.#max, this.#sum, this.#increase, this.#last].map(String),
      last: [this.#lastLow, this.#lastHigh],
      int: this.#isInt,
      ...(this.#newest && { newest: encodeNewest(this.#newest) }),
      from: [this.#from.low, this.#from.high],
      until: [this.#until.low, this.#until.high],
    }
    return Buffer.from(JSON.stringify(row))
  }

  /** Undefined where the bytes are no such row. */
  static decode(
    bytes: Uint8Array,
    nowMs: number,
    to?: readonly Function[],
  ): { series: Series; ageMs: number } | undefined {
    const parsed = rowSchema.safeParse(parseJson(bytes))
    if (!parsed.success) return undefined
    const row = parsed.data
    const [resource, scope, attributes] = [row.resource, row.scope, row.attributes].map((text) =>
      Buffer.from(text, 'base64'),
    ) as [Buffer, Buffer, Buffer] // three in, three out
    const { device, class: name, unit, sum, temporality, monotonic } = row
    const series = new Series(
      {
        device,
        class: name,
        resource,
        scope,
        name: row.name,
        unit,
        isSum: sum,
        temporality,
        monotonic,
        attributes,
      },
      to ?? row.to,
    )
    const [min, max, total, increase, last] = row.numbers.map(Number) as [
      number,
      number,
      number,
      number,
      number,
    ]
    series.count = row.count
    series.#min = min
    series.#max = max
    series.#sum = total
    series.#increase = increase
    series.#last = last
    series.#lastLow = row.last[0]
    series.#lastHigh = row.last[1]
    series.#isInt = row.int
    Object.assign(series.#from, { low: row.from[0], high: row.from[1] })
    Object.assign(series.#until, { low: row.until[0], high: row.until[1] })
    series.#newest = row.newest && decodeNewest(row.newest)
    series.heardMs = nowMs
    return { series, ageMs: row.age }
  }
}

const newestSchema = z.object({
  value: z.string(),
  int: z.boolean(),
  bits: z.tuple([z.number(), z.number()]),
  at: z.tuple([z.number(), z.number()]),
})

const encodeNewest = ({ value, isInt, low, high, at }: Newest): z.output<typeof newestSchema> => ({
  value: String(value),
  int: isInt,
  bits: [low, high],
  at: [at.low, at.high],
})

const decodeNewest = ({ value, int, bits, at }: z.output<typeof newestSchema>): Newest => ({
  value: Number(value),
  isInt: int,
  low: bits[0],
  high: bits[1],
  at: { low: at[0], high: at[1] },
})

const rowSchema = z.object({
  device: z.string(),
  class: z.enum(classes),
  resource: z.string(),
  scope: z.string(),
  name: z.string(),
  unit: z.string(),
  sum: z.boolean(),
  temporality: z.number(),
  monotonic: z.boolean(),
  attributes: z.string(),
  to: z.array(z.enum(functions)),
  age: z.number(),
  count: z.number(),
  numbers: z.array(z.string()).length(5),
  last: z.tuple([z.number(), z.number()]),
  int: z.boolean(),
  newest: newestSchema.optional(),
  from: z.tuple([z.number(), z.number()]),
  until: z.tuple([z.number(), z.number()]),
})
type Row = z.output<typeof rowSchema>

const compareStamps = (low: number, high: number, to: Stamp): number =>
  (high >>> 0) - (to.high >>> 0) || (low >>> 0) - (to.low >>> 0)

const stampOf = ({ low, high }: Stamp): bigint => (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)

const millisOf = ({ low, high }: Stamp): number => ((high >>> 0) * 4_294_967_296 + (low >>> 0)) / 1e6

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString())
  } catch {
    return undefined
  }
}

/** What a reading has in common with those that will follow it. */
export const headOf = (record: RecordFacts, point: PointCursor): SeriesHead => ({
  device: record.device,
  class: record.class,
  resource: Buffer.from(point.bytes.subarray(point.resource.start, point.resource.end)),
  scope: Buffer.from(point.bytes.subarray(point.scope.start, point.scope.end)),
  name: record.metricName,
  unit: point.text(point.unit),
  isSum: point.type === 'sum',
  temporality: point.temporality,
  monotonic: point.monotonic,
  attributes: attributesOf(record),
})

function attributesOf({ bytes, attributesStart, attributesEnd, layout }: RecordFacts): Buffer {
  const walk = new AttributeWalk().over(bytes, attributesStart, attributesEnd, layout.attributes)
  const fields: Buffer[] = []
  while (walk.next()) fields.push(bytes.subarray(walk.fieldStart, walk.fieldEnd))
  return Buffer.concat(fields)
}
