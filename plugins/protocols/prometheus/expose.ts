// The newest value of every series, as an exposition: what was exported is looked up by its bytes, so that a series that is
// known costs neither labels nor names again. Log records, which Prometheus cannot hold, are counted by severity.
import type { Records } from '../../contract/batch.ts'
import { LogCursor, PointCursor } from '../../contract/cursor.ts'
import type { AttributeValue } from '../../contract/values.ts'
import { Reader, bytesType, fixed64Type } from '../../contract/wire.ts'
import { labelsOf, metricName } from './names.ts'

export interface ExposeOptions {
  readonly mostSeries: number
  /** Series that nothing came of for so long are gone. */
  readonly expireMs: number
}

type Kind = 'counter' | 'gauge' | 'histogram' | 'summary'

interface Family {
  readonly name: string
  readonly kind: Kind
  readonly series: Map<string, Series>
}

interface Series {
  readonly labels: string
  seenMs: number
  value: number | bigint
  sum: number | undefined
  bounds: readonly number[]
  /** Of a histogram counts of each bucket, of a summary values. */
  values: readonly number[]
}

const severities = ['unspecified', 'trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const
const logFamily = 'log_records_total'
/** Of the Resource these are on every series; the rest is told by `target_info`. */
const identifying = { 'service.name': 'job', 'host.id': 'host_id' } as const

export class Exposition {
  readonly #options: ExposeOptions
  readonly #families = new Map<string, Family>()
  /** By the bytes of Resource, metric and attributes. */
  readonly #known = new Map<string, Series>()
  #count = 0
  /** Of the batch that is being added. */
  #device = ''

  constructor(options: ExposeOptions) {
    this.#options = options
  }

  /** How many records found no place. */
  add({ signal, bytes, device }: Pick<Records, 'signal' | 'bytes' | 'device'>, nowMs: number): number {
    this.#device = device
    if (signal === 'logs') return this.#addLogs(bytes, nowMs)
    return signal === 'metrics' ? this.#addPoints(bytes, nowMs) : 0
  }

  #addPoints(bytes: Uint8Array, nowMs: number): number {
    const cursor = new PointCursor().reset(bytes)
    let resource = ''
    let resourceIndex = 0
    let metric = ''
    let metricIndex = 0
    let rejected = 0
    while (cursor.next()) {
      if (isWithoutValue(cursor)) continue
      if (cursor.resourceIndex !== resourceIndex) {
        resourceIndex = cursor.resourceIndex
        resource = spanText(cursor.bytes, cursor.resource)
        this.#target(cursor.resourceAttributes(), nowMs)
      }
      if (cursor.metricIndex !== metricIndex) {
        metricIndex = cursor.metricIndex
        metric = `${cursor.type} ${cursor.temporality} ${cursor.text(cursor.name)} ${cursor.text(cursor.unit)}`
      }
      const key = `${this.#device}\n${resource}\n${metric}\n${spanText(cursor.bytes, cursor.attributes)}`
      const series = this.#known.get(key) ?? this.#place(key, cursor)
      if (series === undefined) rejected++
      else {
        series.seenMs = nowMs
        readInto(series, cursor)
      }
    }
    return rejected
  }

  #place(key: string, cursor: PointCursor): Series | undefined {
    const { type, monotonic } = cursor
    const isCounter = type === 'sum' && monotonic
    const isGauge = type === 'gauge'
    const kind: Kind =
      type === 'summary'
        ? 'summary'
        : type === 'gauge' || type === 'sum'
          ? isCounter
            ? 'counter'
            : 'gauge'
          : 'histogram'
    const name = metricName(cursor.text(cursor.name), cursor.text(cursor.unit), isCounter, isGauge)
    const own = this.#identity(cursor.resourceAttributes())
    const pairs = Object.entries(cursor.pointAttributes()).map(
      ([label, value]) => [label, textOf(value)] as const,
    )
    const series = this.#series(name, kind, labelsOf([...own, ...pairs]))
    if (series) this.#known.set(key, series)
    return series
  }

  #series(name: string, kind: Kind, labels: string): Series | undefined {
    let family = this.#families.get(name)
    if (!family) this.#families.set(name, (family = { name, kind, series: new Map() }))
    // A name has one type: what comes under it with another one has no place.
    if (family.kind !== kind) return undefined
    let series = family.series.get(labels)
    if (!series) {
      if (this.#count >= this.#options.mostSeries) return undefined
      this.#count++
      series = { labels, seenMs: 0, value: 0, sum: undefined, bounds: [], values: [] }
      family.series.set(labels, series)
    }
    return series
  }

  #target(attributes: Readonly<Record<string, AttributeValue>>, nowMs: number): void {
    const others = Object.entries(attributes)
      .filter(([key]) => !(key in identifying))
      .map(([key, value]) => [key, textOf(value)] as const)
    const info = this.#series('target_info', 'gauge', labelsOf([...this.#identity(attributes), ...others]))
    if (!info) return
    info.value = 1
    info.seenMs = nowMs
  }

  #addLogs(bytes: Uint8Array, nowMs: number): number {
    const cursor = new LogCursor().reset(bytes)
    let own: (readonly [string, string])[] = []
    let resourceIndex = 0
    let rejected = 0
    const series = new Map<number, Series | undefined>()
    while (cursor.next()) {
      if (cursor.resourceIndex !== resourceIndex) {
        resourceIndex = cursor.resourceIndex
        own = this.#identity(cursor.resourceAttributes())
        series.clear()
      }
      const level = Math.min(6, Math.ceil(cursor.severityNumber / 4))
      if (!series.has(level)) {
        const labels = labelsOf([...own, ['severity', severities[level] ?? 'unspecified']])
        series.set(level, this.#series(logFamily, 'counter', labels))
      }
      const one = series.get(level)
      if (one) {
        one.value = Number(one.value) + 1
        one.seenMs = nowMs
      } else rejected++
    }
    return rejected
  }

  /** Labels that are on every series; the sender may have left the device out. */
  #identity(attributes: Readonly<Record<string, AttributeValue>>): (readonly [string, string])[] {
    const known: Readonly<Record<string, AttributeValue>> = { 'host.id': this.#device, ...attributes }
    return Object.entries(identifying).flatMap(([key, label]) => {
      const value = known[key]
      return value === undefined ? [] : [[label, textOf(value)] as const]
    })
  }

  /** Forgets what is old. */
  #expire(nowMs: number): void {
    let isAnyGone = false
    for (const family of this.#families.values()) {
      for (const [labels, { seenMs }] of family.series) {
        // What is counted here stays: it would begin at nothing again.
        if (nowMs - seenMs <= this.#options.expireMs || family.name === logFamily) continue
        family.series.delete(labels)
        this.#count--
        isAnyGone = true
      }
      if (family.series.size === 0) this.#families.delete(family.name)
    }
    if (isAnyGone) this.#known.clear()
  }

  /** The whole exposition, family by family. */
  *render(openMetrics: boolean, nowMs: number): Generator<string> {
    this.#expire(nowMs)
    for (const { name, kind, series } of [...this.#families.values()].toSorted((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      const announced = openMetrics && kind === 'counter' ? name.replace(/_total$/, '') : name
      const lines = [`# TYPE ${announced} ${kind}`]
      for (const one of series.values()) lines.push(...linesOf(name, kind, one))
      yield `${lines.join('\n')}\n`
    }
    if (openMetrics) yield '# EOF\n'
  }
}

function* linesOf(
  name: string,
  kind: Kind,
  { labels, value, sum, bounds, values }: Series,
): Generator<string> {
  const sample = (suffix: string, extra: string, of: number | bigint): string => {
    const inner = [labels, extra].filter((text) => text !== '').join(',')
    return `${name}${suffix}${inner === '' ? '' : `{${inner}}`} ${numberText(of)}`
  }
  if (kind === 'counter' || kind === 'gauge') {
    yield sample('', '', value)
    return
  }
  let before = 0
  for (const [index, bound] of bounds.entries()) {
    const part = values[index] ?? 0
    before += part
    if (kind === 'histogram') yield sample('_bucket', `le="${numberText(bound)}"`, before)
    else yield sample('', `quantile="${numberText(bound)}"`, part)
  }
  if (kind === 'histogram') yield sample('_bucket', 'le="+Inf"', value)
  if (sum !== undefined) yield sample('_sum', '', sum)
  yield sample('_count', '', value)
}

const numberText = (value: number | bigint): string =>
  value === Infinity ? '+Inf' : value === -Infinity ? '-Inf' : String(value)

const textOf = (value: AttributeValue): string =>
  typeof value === 'object'
    ? JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? String(item) : item))
    : String(value)

const spanText = (bytes: Buffer, { start, end }: { start: number; end: number }): string =>
  end > start ? bytes.toString('latin1', start, end) : ''

/** A series that has no value now: zero would be an invention. */
const isWithoutValue = ({ flags, type, valueKind }: PointCursor): boolean =>
  (flags & 1) !== 0 || ((type === 'gauge' || type === 'sum') && valueKind === 'none')

/** Takes over the cursor's point; one of delta temporality is added to what was there. */
function readInto(series: Series, cursor: PointCursor): void {
  const isDelta = cursor.temporality === 1
  if (cursor.type === 'gauge' || cursor.type === 'sum') {
    if (cursor.valueKind === 'none') return
    const value =
      cursor.valueKind === 'int'
        ? BigInt.asIntN(64, (BigInt(cursor.intHigh) << 32n) | BigInt(cursor.intLow))
        : cursor.double
    series.value = isDelta ? Number(series.value) + Number(value) : value
    return
  }
  const point = readPoint(cursor)
  const isSame = isDelta && series.bounds.length === point.bounds.length
  series.value = isDelta ? Number(series.value) + point.count : point.count
  series.sum = isDelta ? (series.sum ?? 0) + (point.sum ?? 0) : point.sum
  series.values = isSame
    ? point.values.map((value, index) => value + (series.values[index] ?? 0))
    : point.values
  series.bounds = point.bounds
}

/** Count, sum and parts of a histogram or summary (opentelemetry-proto metrics/v1); an exponential one has no bounds. */
function readPoint({ bytes, point, type }: PointCursor): {
  count: number
  sum: number | undefined
  bounds: number[]
  values: number[]
} {
  const reader = new Reader(bytes)
  reader.position = point.start
  reader.end = point.end
  const found = {
    count: 0,
    sum: undefined as number | undefined,
    bounds: [] as number[],
    values: [] as number[],
  }
  while (!reader.done) {
    const key = reader.key()
    const field = key >>> 3
    if (key === 4 * 8 + fixed64Type) found.count = Number(reader.fixed64Big())
    else if (key === 5 * 8 + fixed64Type) found.sum = reader.double()
    else if (type === 'histogram' && field === 6)
      packed(reader, key, () => void found.values.push(Number(reader.fixed64Big())))
    else if (type === 'histogram' && field === 7)
      packed(reader, key, () => void found.bounds.push(reader.double()))
    else if (type === 'summary' && key === 6 * 8 + bytesType) readQuantile(reader, found)
    else reader.skip(key)
  }
  return found
}

/** A repeated 64-bit field, packed or not. */
function packed(reader: Reader, key: number, read: () => void): void {
  if ((key & 7) === fixed64Type) {
    read()
    return
  }
  const end = reader.length() + reader.position
  while (reader.position < end) read()
}

function readQuantile(reader: Reader, into: { bounds: number[]; values: number[] }): void {
  const end = reader.length() + reader.position
  let quantile = 0
  let value = 0
  while (reader.position < end) {
    const key = reader.key()
    if (key === 8 + fixed64Type) quantile = reader.double()
    else if (key === 16 + fixed64Type) value = reader.double()
    else reader.skip(key)
  }
  into.bounds.push(quantile)
  into.values.push(value)
}
