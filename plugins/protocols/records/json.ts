// JSON of programs that know nothing of us, as records. An object with a text (`message`, …) is a log record, whose other
// members are attributes; of any other, numbers and booleans become data points, named by where they stand, and texts
// attributes of all of them. What is neither becomes a log record of attributes.
import type { Records } from '../../contract/batch.ts'
import type { AttributeValue } from '../../contract/values.ts'
import { writeKeyValue } from '../../contract/values.ts'
import { Writer } from '../../contract/wire.ts'
import { LogGroups, severityOf } from './log-groups.ts'
import { MetricGroups, writeDouble, writeTime } from './metric-groups.ts'
import type { MetricGroupsOptions } from './metric-groups.ts'
import { parseTime } from './time.ts'

export interface JsonOptions extends Omit<MetricGroupsOptions, 'take'> {
  /** Members that hold the text of a log record, the preferred one first. */
  readonly messageKeys: readonly string[]
  /** Whether a metric of this name is a total that only grows. */
  isCounter(name: string): boolean
}

export interface JsonTaken {
  readonly records: Records[]
  readonly refused: number
  readonly reason: string | undefined
}

type Json = Readonly<Record<string, AttributeValue | null>>

const timeKeys = ['time', 'timestamp', '@timestamp', 'ts'] as const
const levelKeys = ['level', 'severity', 'log_level'] as const
const depthLimit = 32
/** With what it joins, a record stays below the largest batch. */
const largestRecord = 450_000
const bytesOfValue = 16

class Unfit extends Error {}

export class JsonRecords {
  readonly #options: JsonOptions
  readonly #metrics: MetricGroups
  readonly #logs: LogGroups
  #records: Records[] = []
  readonly #shared = new Writer(1024)

  constructor(options: JsonOptions) {
    this.#options = options
    const groups = { ...options, take: (records: Records) => void this.#records.push(records) }
    this.#metrics = new MetricGroups(groups)
    this.#logs = new LogGroups(groups)
  }

  /**
   * Takes a parsed document: an object, or an array of them. `name` begins the names of metrics, `attributes` are put on
   * every record.
   */
  add(
    document: unknown,
    name: string,
    attributes: Readonly<Record<string, string>>,
    nowUnixNano: bigint,
  ): { refused: number; reason: string | undefined } {
    let refused = 0
    let reason: string | undefined
    for (const one of Array.isArray(document) ? (document as unknown[]) : [document]) {
      try {
        this.#one(one, name, attributes, nowUnixNano)
      } catch (error) {
        if (!(error instanceof Unfit)) throw error
        refused++
        reason ??= error.message
      }
    }
    return { refused, reason }
  }

  /** What was made of all that was added. */
  flush(): Records[] {
    this.#metrics.flush()
    this.#logs.flush()
    const records = this.#records
    this.#records = []
    return records
  }

  #one(given: unknown, name: string, attributes: Readonly<Record<string, string>>, now: bigint): void {
    if (typeof given !== 'object' || given === null || Array.isArray(given)) {
      throw new Unfit(
        `${given === null ? 'null' : Array.isArray(given) ? 'an array' : `a ${typeof given}`} where an object is expected`,
      )
    }
    const size = sizeOf(given as AttributeValue, 0)
    if (size > largestRecord)
      throw new Unfit(`an object of ${size} bytes, more than the ${largestRecord} that fit`)
    const json = given as Json
    const nowSeconds = Number(now / 1_000_000_000n)
    const nowNanos = Number(now % 1_000_000_000n)
    const timeKey = timeKeys.find((key) => json[key] !== undefined && parseTime(json[key]) !== undefined)
    const [seconds, nanos] = (timeKey && parseTime(json[timeKey])) || [nowSeconds, nowNanos]
    const members = Object.entries(json).filter(([key, value]) => key !== timeKey && value !== null)
    const message = this.#options.messageKeys.find((key) => typeof json[key] === 'string')
    const points: [string, number][] = []
    const texts: [string, string][] = []
    if (message === undefined) flatten(json, '', timeKey, points, texts)
    if (points.length > 0) this.#points(points, texts, name, attributes, seconds, nanos)
    else {
      const level = levelKeys.map((key) => json[key]).find((value) => typeof value === 'string')
      const severity = typeof level === 'string' ? severityOf(level) : 0
      const record = this.#logs.begin(severity, seconds, nanos, nowSeconds, nowNanos)
      if (message !== undefined) record.body(json[message] ?? '')
      for (const [key, value] of Object.entries(attributes)) record.attribute(key, value)
      for (const [key, value] of members) if (key !== message) record.attribute(key, withoutNull(value ?? ''))
      this.#logs.end(record)
    }
  }

  #points(
    points: readonly [string, number][],
    texts: readonly [string, string][],
    prefix: string,
    attributes: Readonly<Record<string, string>>,
    seconds: number,
    nanos: number,
  ): void {
    const shared = this.#shared
    shared.reset()
    for (const [key, value] of [...Object.entries(attributes), ...texts]) writeKeyValue(shared, 7, key, value)
    writeTime(shared, seconds, nanos)
    for (const [path, value] of points) {
      const name = prefix === '' ? path : `${prefix}.${path}`
      const bytes = Buffer.from(name)
      const shape = this.#options.isCounter(name) ? 'counter' : 'gauge'
      const metric = this.#metrics.metric(bytes, 0, bytes.length, shape)
      this.#metrics.begin(metric)
      metric.points.raw(shared.buffer, 0, shared.position)
      // Of one type whatever the program writes today: 3 and 3.5 are one series.
      writeDouble(metric.points, value)
      this.#metrics.end(metric, seconds, nanos)
    }
  }
}

/** Numbers and texts by their path; the time is neither. */
function flatten(
  json: Json | readonly AttributeValue[],
  path: string,
  without: string | undefined,
  points: [string, number][],
  texts: [string, string][],
): void {
  for (const [key, value] of Object.entries<AttributeValue | null>(json)) {
    if (key === without) continue
    const here = path === '' ? key : `${path}.${key}`
    if (typeof value === 'number') points.push([here, value])
    else if (typeof value === 'boolean') points.push([here, value ? 1 : 0])
    else if (typeof value === 'string') texts.push([here, value])
    else if (typeof value === 'object' && value !== null)
      flatten(value as Json, here, undefined, points, texts)
  }
}

/** About what it takes as OTLP. */
function sizeOf(value: AttributeValue | null, depth: number): number {
  if (depth > depthLimit) throw new Unfit(`values nested more than ${depthLimit} deep`)
  if (typeof value === 'string') return value.length * 3 + bytesOfValue
  if (typeof value !== 'object' || value === null) return bytesOfValue
  let size = bytesOfValue
  for (const [key, item] of Object.entries(value) as [string, AttributeValue | null][])
    size += key.length * 3 + sizeOf(item, depth + 1)
  return size
}

/** JSON's null says that there is no value. */
function withoutNull(value: AttributeValue): AttributeValue {
  if (typeof value !== 'object' || value instanceof Uint8Array) return value
  if (Array.isArray(value))
    return (value as readonly (AttributeValue | null)[]).filter((item) => item !== null).map(withoutNull)
  const entries = Object.entries(value as Json).flatMap(([key, item]) =>
    item === null ? [] : [[key, withoutNull(item)] as const],
  )
  return Object.fromEntries(entries)
}
