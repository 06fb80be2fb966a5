// From an exposition to Records: counters are cumulative sums, gauges and what has no type gauges, histograms and summaries
// whole points, put together from the lines of one set of labels. Names stay as they are. NaN says that there is no value,
// so nothing is made of it; exemplars are left out.
import type { Records } from '../../contract/batch.ts'
import { Writer } from '../../contract/wire.ts'
import { writeHistogram, writeSummary } from '../records/histogram.ts'
import {
  MetricGroups,
  writeDouble,
  writeStart,
  writeTextAttribute,
  writeTime,
} from '../records/metric-groups.ts'
import type { MetricGroupsOptions, MetricShape } from '../records/metric-groups.ts'
import { TimeReader } from '../records/numbers.ts'
import { ExpositionReader, valueOf } from './text.ts'

/** A point of several lines in the making; used again and again. */
interface Composite {
  /** Its labels without `le` and `quantile`, encoded as attributes. */
  readonly attributes: Writer
  readonly bounds: number[]
  /** Of a histogram cumulative counts, of a summary values. */
  readonly values: number[]
  sum: number
  count: number
  created: number
  seconds: number
  nanos: number
}

export interface Taken {
  readonly records: Records[]
  /** Samples, whether taken or not. */
  readonly samples: number
  readonly refused: number
  readonly first: { readonly line: number; readonly reason: string } | undefined
}

/** Buckets or quantiles of one point. */
const mostParts = 1000
/** Of one family at once: beyond, what is there is written first. */
const mostComposites = 10_000

type Part = 'bucket' | 'sum' | 'count' | 'created' | 'total' | 'plain'
const suffixes = (['bucket', 'sum', 'count', 'created', 'total'] as const).map(
  (part) => [part, Buffer.from(`_${part}`)] as const,
)
const le = Buffer.from('le')
const quantile = Buffer.from('quantile')

/** Takes one exposition after another; the bytes are changed. */
export class ExpositionRecords {
  readonly #reader = new ExpositionReader()
  readonly #time = new TimeReader()
  readonly #groups: MetricGroups
  #records: Records[] = []
  readonly #pool: Composite[] = []
  #used = 0
  readonly #byLabels = new Map<string, Composite>()
  #last: Composite | undefined
  #family = Buffer.alloc(0)
  #familyIndex = -1
  #shape: MetricShape = 'gauge'
  #unit = ''
  #refused = 0
  #first: { line: number; reason: string } | undefined
  readonly #labels = new Writer(512)
  #now = { seconds: 0, nanos: 0 }

  constructor(options: Omit<MetricGroupsOptions, 'take'>) {
    this.#groups = new MetricGroups({ ...options, take: (records) => void this.#records.push(records) })
  }

  /** `openMetrics`: times are seconds with a fraction, else milliseconds. */
  take(body: Buffer, openMetrics: boolean, nowUnixNano: bigint, mostSamples: number): Taken {
    const reader = this.#reader.reset(body)
    this.#now = { seconds: Number(nowUnixNano / 1_000_000_000n), nanos: Number(nowUnixNano % 1_000_000_000n) }
    this.#records = []
    this.#refused = 0
    this.#first = undefined
    this.#familyIndex = -1
    let samples = 0
    for (let found = reader.next(); found !== 'end'; found = reader.next()) {
      if (++samples > mostSamples) this.#refuse(`more than ${mostSamples} samples`)
      else if (found === 'malformed') this.#refuse(reader.reason)
      else this.#sample(openMetrics)
    }
    this.#finishFamily()
    return { records: this.#records, samples, refused: this.#refused, first: this.#first }
  }

  /** A gauge about the scrape itself; the Records of all of them come from `flush`. */
  addGauge(name: string, value: number): void {
    const bytes = Buffer.from(name)
    const metric = this.#groups.metric(bytes, 0, bytes.length, 'gauge')
    this.#groups.begin(metric)
    writeTime(metric.points, this.#now.seconds, this.#now.nanos)
    writeDouble(metric.points, value)
    this.#groups.end(metric, this.#now.seconds, this.#now.nanos)
  }

  /** For a scrape that brought nothing to `take`. */
  at(nowUnixNano: bigint): void {
    this.#records = []
    this.#now = { seconds: Number(nowUnixNano / 1_000_000_000n), nanos: Number(nowUnixNano % 1_000_000_000n) }
  }

  flush(): Records[] {
    this.#groups.flush()
    return this.#records
  }

  #refuse(reason: string): void {
    this.#refused++
    this.#first ??= { line: this.#reader.lineNumber, reason }
  }

  #sample(openMetrics: boolean): void {
    const reader = this.#reader
    if (reader.familyIndex !== this.#familyIndex) this.#beginFamily()
    if (!this.#readTime(openMetrics)) {
      this.#refuse('a timestamp that is no time between 1970 and 2262')
      return
    }
    const part = this.#partOf()
    if (part === undefined || !this.#isComposed()) {
      // A sample that does not belong to its family has no type.
      const shape = part === undefined || this.#shape !== 'counter' ? 'gauge' : 'counter'
      if (part !== 'created' || reader.type !== 'counter')
        this.#plain(shape, part === undefined ? '' : this.#unit)
      return
    }
    const reason = this.#add(part)
    if (reason !== undefined) this.#refuse(reason)
  }

  #beginFamily(): void {
    this.#finishFamily()
    const { family, type, unit, familyIndex } = this.#reader
    this.#familyIndex = familyIndex
    this.#family = Buffer.from(family)
    this.#unit = unit
    this.#shape = type === 'counter' || type === 'histogram' || type === 'summary' ? type : 'gauge'
  }

  /** Whether points of the family are made of several lines. */
  #isComposed(): boolean {
    return this.#shape === 'histogram' || this.#shape === 'summary'
  }

  #readTime(openMetrics: boolean): boolean {
    const { bytes, timeStart, timeEnd } = this.#reader
    if (timeEnd === timeStart) {
      this.#time.seconds = this.#now.seconds
      this.#time.nanos = this.#now.nanos
      return true
    }
    if (!openMetrics) return this.#time.read(bytes, timeStart, timeEnd, 1000)
    return this.#time.set(valueOf(bytes, timeStart, timeEnd))
  }

  /** What the sample is to its family; undefined where it is none of it. */
  #partOf(): Part | undefined {
    const { bytes, nameStart, nameEnd, family } = this.#reader
    const own = this.#family.length
    if (family === '' || nameEnd - nameStart < own || !starts(bytes, nameStart, this.#family))
      return undefined
    if (nameEnd - nameStart === own) return 'plain'
    for (const [part, suffix] of suffixes) {
      if (nameEnd - nameStart === own + suffix.length && starts(bytes, nameStart + own, suffix)) return part
    }
    return undefined
  }

  #plain(shape: MetricShape, unit: string): void {
    const { bytes, nameStart, nameEnd, value } = this.#reader
    if (Number.isNaN(value)) return
    const { seconds, nanos } = this.#time
    const metric = this.#groups.metric(bytes, nameStart, nameEnd, shape, unit)
    this.#groups.begin(metric)
    this.#writeLabels(metric.points, 7, undefined)
    writeTime(metric.points, seconds, nanos)
    writeDouble(metric.points, value)
    this.#groups.end(metric, seconds, nanos)
  }

  /** Adds a line of a histogram or summary to its point; why it cannot. */
  #add(part: Part): string | undefined {
    const { value } = this.#reader
    const special = this.#shape === 'histogram' ? le : quantile
    const composite = this.#compositeOf(special)
    if (part === 'sum') composite.sum = value
    else if (part === 'count') composite.count = value
    else if (part === 'created') composite.created = value
    else if ((part === 'bucket') === (this.#shape === 'histogram')) {
      const bound = this.#labelValue(special)
      if (Number.isNaN(bound)) return `a line without ${special.toString()}`
      if (composite.bounds.length >= mostParts) return `more than ${mostParts} buckets or quantiles`
      composite.bounds.push(bound)
      composite.values.push(value)
    } else return `a line that no ${this.#shape} has`
    return undefined
  }

  /** The point of the sample's labels, `special` aside. */
  #compositeOf(special: Buffer): Composite {
    const labels = this.#labels
    labels.reset()
    this.#writeLabels(labels, this.#shape === 'histogram' ? 9 : 7, special)
    // The lines of a point follow each other.
    const last = this.#last
    if (last && isSame(last.attributes, labels)) return last
    const key = labels.buffer.toString('latin1', 0, labels.position)
    let composite = this.#byLabels.get(key)
    if (!composite) {
      if (this.#used >= mostComposites) this.#writeComposites()
      composite = this.#fresh()
      composite.attributes.raw(labels.buffer, 0, labels.position)
      composite.seconds = this.#time.seconds
      composite.nanos = this.#time.nanos
      this.#byLabels.set(key, composite)
    }
    this.#last = composite
    return composite
  }

  #fresh(): Composite {
    let composite = this.#pool[this.#used]
    if (!composite) {
      composite = {
        attributes: new Writer(256),
        bounds: [],
        values: [],
        sum: NaN,
        count: NaN,
        created: NaN,
        seconds: 0,
        nanos: 0,
      }
      this.#pool.push(composite)
    }
    this.#used++
    composite.attributes.reset()
    composite.bounds.length = composite.values.length = 0
    composite.sum = composite.count = composite.created = NaN
    return composite
  }

  #finishFamily(): void {
    if (this.#used > 0) this.#writeComposites()
  }

  #writeComposites(): void {
    const metric = this.#groups.metric(this.#family, 0, this.#family.length, this.#shape, this.#unit)
    for (const composite of this.#pool.slice(0, this.#used)) {
      const counts = this.#shape === 'histogram' ? bucketsOf(composite) : undefined
      if (typeof counts === 'string') {
        this.#refuse(`${this.#family.toString()}: ${counts}`)
        continue
      }
      const { seconds, nanos, attributes, created } = composite
      this.#groups.begin(metric)
      metric.points.raw(attributes.buffer, 0, attributes.position)
      if (this.#time.set(created)) writeStart(metric.points, this.#time.seconds, this.#time.nanos)
      writeTime(metric.points, seconds, nanos)
      const sum = Number.isNaN(composite.sum) ? undefined : composite.sum
      if (counts) writeHistogram(metric.points, counts.count, sum, counts.buckets, counts.bounds)
      else writeSummary(metric.points, composite.count || 0, sum ?? 0, composite.bounds, composite.values)
      this.#groups.end(metric, seconds, nanos)
    }
    this.#used = 0
    this.#last = undefined
    this.#byLabels.clear()
  }

  #labelValue(name: Buffer): number {
    const { bytes, labels, labelCount } = this.#reader
    for (let base = 0; base < labelCount * 4; base += 4) {
      const start = labels[base] ?? 0
      const size = (labels[base + 1] ?? 0) - start
      if (size === name.length && starts(bytes, start, name))
        return valueOf(bytes, labels[base + 2] ?? 0, labels[base + 3] ?? 0)
    }
    return NaN
  }

  #writeLabels(out: Writer, field: number, without: Buffer | undefined): void {
    const { bytes, labels, labelCount } = this.#reader
    for (let base = 0; base < labelCount * 4; base += 4) {
      const start = labels[base] ?? 0
      const end = labels[base + 1] ?? 0
      if (without && end - start === without.length && starts(bytes, start, without)) continue
      writeTextAttribute(out, field, bytes, start, end, bytes, labels[base + 2] ?? 0, labels[base + 3] ?? 0)
    }
  }
}

/** Counts of each bucket, of cumulative ones in whatever order; why they are none of a histogram. */
function bucketsOf({
  bounds,
  values,
  count,
}: Composite): { count: number; buckets: number[]; bounds: number[] } | string {
  const order = bounds.map((_, index) => index).toSorted((a, b) => (bounds[a] ?? 0) - (bounds[b] ?? 0))
  const finite = order.filter((index) => bounds[index] !== Infinity)
  const whole = order.find((index) => bounds[index] === Infinity)
  const total = (whole === undefined ? undefined : values[whole]) ?? count
  if (!isCount(total)) return 'a histogram without a +Inf bucket and a count'
  const buckets: number[] = []
  let before = 0
  for (const value of [...finite.map((index) => values[index] ?? 0), total]) {
    if (!isCount(value) || value < before) return 'buckets that are not cumulative'
    buckets.push(value - before)
    before = value
  }
  return { count: total, buckets, bounds: finite.map((index) => bounds[index] ?? 0) }
}

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 0

function starts(bytes: Buffer, at: number, word: Buffer): boolean {
  for (let index = 0; index < word.length; index++) if (bytes[at + index] !== word[index]) return false
  return true
}

function isSame(a: Writer, b: Writer): boolean {
  if (a.position !== b.position) return false
  for (let at = 0; at < a.position; at++) if (a.buffer[at] !== b.buffer[at]) return false
  return true
}
