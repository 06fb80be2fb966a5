// The newest value of every series, as Prometheus text (exposition format 0.0.4), from requests of metrics. Series are
// bounded; what says nothing for a while is left out. Delta sums have no newest value, and are left out with their count.
import { PointCursor, pointAttributesField } from '../contract/point-cursor.ts'
import { attributesOf } from '../contract/any-value.ts'
import { eachRecord, jsonObject } from './log-json.ts'
import type { Json, Values } from './log-json.ts'
import { readDetail } from './point-detail.ts'
import { numberOf } from './point-json.ts'
import { helpText, prometheusLabel, prometheusName, quotedLabel } from './prometheus-names.ts'
import { identityOf, kindOf } from './series.ts'
import type { MetricKind } from './series.ts'

interface Series {
  readonly family: Family
  /** `a="b",c="d"`, without braces. */
  readonly labels: string
  seenMs: number
  /** Whether the numbers below are of a plain series. */
  value: number | bigint | undefined
  detail: Detail | undefined
}

interface Family {
  readonly name: string
  readonly kind: MetricKind
  readonly help: string
  readonly series: Map<string, Series>
}

type JsonNumber = number | string

/** As `readDetail` writes it. */
interface Detail {
  count?: JsonNumber
  sum?: JsonNumber
  counts?: JsonNumber[]
  bounds?: JsonNumber[]
  quantiles?: { quantile: JsonNumber; value: JsonNumber }[]
}

export interface ValueLimits {
  series: number
  expireMs: number
}

const types: Readonly<Record<MetricKind, string>> = {
  gauge: 'gauge',
  sum: 'gauge',
  counter: 'counter',
  histogram: 'histogram',
  // The text format cannot say exponential buckets: count and sum remain.
  exponential_histogram: 'summary',
  summary: 'summary',
}
const noRecordedValue = 1
const delta = 1

export class NewestValues {
  readonly #limits: ValueLimits
  readonly #cursor = new PointCursor()
  readonly #families = new Map<string, Family>()
  /** By the bytes of metric, Resource and attributes, which nearly always stay the same. */
  readonly #known = new Map<string, Series>()
  #count = 0
  /** Points that are not told: delta sums, and series beyond the limit or under a name that has another type. */
  leftOut = 0

  constructor(limits: ValueLimits) {
    this.#limits = limits
  }

  get size(): number {
    return this.#count
  }

  /** Reads a request; what is malformed in it is passed over. */
  take(request: Uint8Array, nowMs: number): void {
    const cursor = this.#cursor
    let resourceKey = ''
    let resourceIndex = -1
    eachRecord(cursor, request, (_, resource) => {
      if (cursor.resourceIndex !== resourceIndex) {
        resourceIndex = cursor.resourceIndex
        resourceKey = textAt(cursor, cursor.resource.start, cursor.resource.end)
      }
      if ((cursor.flags & noRecordedValue) !== 0) return
      if (cursor.temporality === delta && cursor.type !== 'gauge' && cursor.type !== 'summary') {
        this.leftOut++
        return
      }
      const series = this.#seriesOf(resourceKey, resource)
      if (!series) {
        this.leftOut++
        return
      }
      series.seenMs = nowMs
      series.value = numberOf(cursor)
      series.detail =
        series.value === undefined ? (JSON.parse(readDetail(cursor).text || '{}') as Detail) : undefined
    })
  }

  /** Where the cursor stands; undefined where there is no room, or the name belongs to a metric of another type. */
  #seriesOf(resourceKey: string, resource: Values): Series | undefined {
    const cursor = this.#cursor
    const { name, unit, attributes } = cursor
    const metric = textAt(cursor, name.start, name.end)
    const raw = textAt(cursor, attributes.start, attributes.end)
    const key = `${metric}\0${textAt(cursor, unit.start, unit.end)}\0${kindOf(cursor)}\0${raw}\0${resourceKey}`
    const known = this.#known.get(key)
    if (known) return known
    const family = this.#familyOf(cursor)
    if (!family) return undefined
    const labels = labelsOf(cursor, resource)
    let series = family.series.get(labels)
    if (!series) {
      if (this.#count >= this.#limits.series) return undefined
      series = { family, labels, seenMs: 0, value: undefined, detail: undefined }
      family.series.set(labels, series)
      this.#count++
    }
    if (this.#known.size >= 2 * this.#limits.series) this.#known.clear()
    this.#known.set(key, series)
    return series
  }

  #familyOf(cursor: PointCursor): Family | undefined {
    const kind = kindOf(cursor)
    const name = prometheusName(cursor.text(cursor.name), cursor.text(cursor.unit), kind)
    let family = this.#families.get(name)
    if (!family) {
      family = { name, kind, help: cursor.text(cursor.description), series: new Map() }
      this.#families.set(name, family)
    }
    return types[family.kind] === types[kind] ? family : undefined
  }

  /** What is there, a metric after the other. */
  text(nowMs: number): string {
    const lines: string[] = []
    for (const family of [...this.#families.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
      this.#forgetOld(family, nowMs)
      if (family.series.size === 0) {
        this.#families.delete(family.name)
        continue
      }
      if (family.help !== '') lines.push(`# HELP ${family.name} ${helpText(family.help)}`)
      lines.push(`# TYPE ${family.name} ${types[family.kind]}`)
      for (const series of family.series.values()) write(lines, series)
    }
    return lines.length === 0 ? '' : `${lines.join('\n')}\n`
  }

  #forgetOld(family: Family, nowMs: number): void {
    for (const [labels, { seenMs }] of family.series) {
      if (nowMs - seenMs <= this.#limits.expireMs) continue
      family.series.delete(labels)
      this.#count--
      this.#known.clear()
    }
  }
}

/** Bytes as a key. */
const textAt = (cursor: PointCursor, start: number, end: number): string =>
  cursor.bytes.toString('latin1', start, end)

/** The device, the service as `job`, what else identifies the Resource, and the attributes of the point; sorted. */
function labelsOf(cursor: PointCursor, resource: Values): string {
  const { start, end } = cursor.attributes
  const own = jsonObject(attributesOf(cursor.bytes, start, end, pointAttributesField[cursor.type]))
  const { 'service.name': job, ...identity } = identityOf(jsonObject(resource))
  const device = resource['host.id']
  const labels = new Map<string, string>()
  const add = (key: string, value: Json) => {
    const label = prometheusLabel(key)
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    // Two keys that become one are joined, so that no two series look the same.
    const other = labels.get(label)
    labels.set(label, other === undefined ? text : `${other};${text}`)
  }
  if (typeof device === 'string') add('host.id', device)
  if (job !== undefined) add('job', job)
  for (const [key, value] of Object.entries(identity)) add(key, value)
  for (const [key, value] of Object.entries(own)) add(key, value)
  const sorted = [...labels].toSorted(([a], [b]) => (a < b ? -1 : 1))
  return sorted.map(([label, value]) => `${label}=${quotedLabel(value)}`).join(',')
}

function write(lines: string[], { family, labels, value, detail }: Series): void {
  const { name, kind } = family
  const line = (suffix: string, more: string, number: JsonNumber | bigint) => {
    const all = [labels, more].filter(Boolean).join(',')
    lines.push(`${name}${suffix}${all === '' ? '' : `{${all}}`} ${numberText(number)}`)
  }
  if (value !== undefined) return line('', '', value)
  const { count = 0, sum, counts = [], bounds = [], quantiles = [] } = detail ?? {}
  if (kind === 'histogram') {
    let total = 0n
    for (const [index, bound] of bounds.entries()) {
      total += BigInt(counts[index] ?? 0)
      line('_bucket', `le="${numberText(bound)}"`, total)
    }
    line('_bucket', 'le="+Inf"', count)
  }
  for (const each of quantiles) line('', `quantile="${numberText(each.quantile)}"`, each.value)
  if (sum !== undefined) line('_sum', '', sum)
  return line('_count', '', count)
}

function numberText(value: JsonNumber | bigint): string {
  const text = String(value)
  return text === 'Infinity' ? '+Inf' : text === '-Infinity' ? '-Inf' : text
}
