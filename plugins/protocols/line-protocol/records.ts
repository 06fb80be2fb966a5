// From lines to Records. A numeric field becomes a data point, named `measurement_field` as Telegraf names it for
// OpenTelemetry and Prometheus; fields called `gauge`, `counter` or `value` take the name of the measurement alone. Tags are
// attributes. A line with a text `message` is a log record, whose tags and other fields are attributes; of other lines the
// texts, which no metric can hold, become a log record beside the points.
import { isUtf8 } from 'node:buffer'
import type { Records } from '../../contract/batch.ts'
import type { LogsEncoder } from '../../contract/encoder.ts'
import type { Class } from '../../contract/signal.ts'
import { Writer } from '../../contract/wire.ts'
import { deviceFromHostId } from '../otlp/device.ts'
import { LogGroups, severityOf } from '../records/log-groups.ts'
import {
  MetricGroups,
  writeDouble,
  writeInteger,
  writeTextAttribute,
  writeTime,
} from '../records/metric-groups.ts'
import type { MetricShape } from '../records/metric-groups.ts'
import { IntegerReader, TimeReader, readDecimal } from '../records/numbers.ts'
import { LineReader, booleanField, floatField, integerField, textField, unsignedField } from './lines.ts'

/** Units of times in a second, by their names in both versions of the API. */
export const precisions: Readonly<Record<string, number>> = {
  n: 1e9,
  ns: 1e9,
  u: 1e6,
  us: 1e6,
  µ: 1e6,
  ms: 1e3,
  s: 1,
  m: 1 / 60,
  h: 1 / 3600,
}

export interface LineOptions {
  readonly scope: string
  /** Whom the records are about where no tag says it. */
  readonly device: string
  /** Makes the encoded Resource of a device. */
  resource(device: string): Uint8Array
  /** The tag that names the device, if any. */
  readonly deviceTag: string | undefined
}

export interface Refused {
  readonly line: number
  readonly reason: string
  /** How the line begins. */
  readonly excerpt: string
}

export interface Taken {
  readonly records: Records[]
  /** Lines, whether taken or refused. */
  readonly lines: number
  readonly refused: number
  /** The first of them. */
  readonly first: Refused | undefined
}

/** Devices of which records are being made at once. */
const mostDevices = 500

interface Target {
  readonly metrics: MetricGroups
  readonly logs: LogGroups
}

/** The class under which a line that nobody could read is counted. */
export const refusedClass: Class = 'resource'

const named = (text: string): Buffer => Buffer.from(text, 'latin1')
const words = {
  gauge: named('gauge'),
  counter: named('counter'),
  value: named('value'),
  message: named('message'),
}
const levelWords = ['level', 'severity', 'PRIORITY'].map(named)
const measurementKey = named('influx.measurement')

/** Takes bodies of line protocol, one at a time. The bytes of a body are changed. */
export class LineRecords {
  readonly #options: LineOptions
  readonly #reader = new LineReader()
  readonly #integer = new IntegerReader()
  readonly #time = new TimeReader()
  readonly #targets = new Map<string, Target>()
  readonly #deviceTag: Buffer | undefined
  #records: Records[] = []
  /** Name of the metric of a field. */
  #name = Buffer.alloc(4096)
  /** Tags and time of the line, as every point of it holds them. */
  readonly #shared = new Writer(1024)
  #observedSeconds = 0
  #observedNanos = 0

  constructor(options: LineOptions) {
    this.#options = options
    this.#deviceTag = options.deviceTag === undefined ? undefined : Buffer.from(options.deviceTag)
  }

  /** Every line that can be read; `nowUnixNano` is the time of those that have none. */
  take(body: Buffer, perSecond: number, nowUnixNano: bigint): Taken {
    // Names and texts go into OTLP as they are: what is no UTF-8 is replaced once, for the whole body.
    const reader = this.#reader.reset(isUtf8(body) ? body : Buffer.from(body.toString('utf8')))
    this.#observedSeconds = Number(nowUnixNano / 1_000_000_000n)
    this.#observedNanos = Number(nowUnixNano % 1_000_000_000n)
    this.#records = []
    let lines = 0
    let refused = 0
    let first: Refused | undefined
    for (let found = reader.next(); found !== 'end'; found = reader.next()) {
      lines++
      const reason = found === 'line' ? this.#judge(perSecond) : reader.reason
      if (reason === undefined) this.#write()
      else {
        refused++
        first ??= {
          line: reader.lineNumber,
          reason,
          excerpt: found === 'line' ? this.#excerpt() : reader.excerpt,
        }
      }
    }
    for (const { metrics, logs } of this.#targets.values()) {
      metrics.flush()
      logs.flush()
    }
    if (this.#targets.size >= mostDevices) this.#targets.clear()
    return { records: this.#records, lines, refused, first }
  }

  #excerpt(): string {
    const { bytes, measurementStart, measurementEnd } = this.#reader
    return bytes.toString('utf8', measurementStart, Math.min(measurementEnd, measurementStart + 100))
  }

  /** Why a line cannot be taken, before anything of it is written. */
  #judge(perSecond: number): string | undefined {
    const { bytes, fields, timeStart, timeEnd } = this.#reader
    if (timeEnd === timeStart) {
      this.#time.seconds = this.#observedSeconds
      this.#time.nanos = this.#observedNanos
    } else if (!this.#time.read(bytes, timeStart, timeEnd, perSecond)) {
      return `timestamp ${this.#text(timeStart, timeEnd)} is no time between 1970 and 2262`
    }
    for (let index = 0; index < fields.count; index++) {
      if (this.#isValue(index)) continue
      const what = `field ${this.#text(fields.keyStart(index), fields.keyEnd(index))}`
      return `${what} has no value that can be stored: ${this.#text(fields.valueStart(index), fields.valueEnd(index))}`
    }
    return undefined
  }

  #isValue(index: number): boolean {
    const { bytes, fields } = this.#reader
    const start = fields.valueStart(index)
    const end = fields.valueEnd(index)
    switch (fields.type[index]) {
      case textField:
        return true
      case booleanField:
        return isBoolean(bytes, start, end)
      case floatField:
        return Number.isFinite(readDecimal(bytes, start, end))
      default:
        return this.#integer.read(bytes, start, end - 1, fields.type[index] === integerField)
    }
  }

  #write(): void {
    const { fields } = this.#reader
    const target = this.#target()
    let texts = 0
    let message = -1
    for (let index = 0; index < fields.count; index++) {
      if (fields.type[index] !== textField) continue
      texts++
      if (this.#isKey(index, words.message)) message = index
    }
    if (texts > 0) this.#log(target.logs, message)
    if (message < 0 && texts < fields.count) this.#points(target.metrics)
  }

  /** Where records of the line's device go. */
  #target(): Target {
    const device = this.#deviceTag === undefined ? this.#options.device : this.#device(this.#deviceTag)
    const known = this.#targets.get(device)
    if (known) return known
    const options = {
      scope: { name: this.#options.scope },
      device,
      resource: this.#options.resource(device),
      take: (records: Records) => void this.#records.push(records),
    }
    const target = { metrics: new MetricGroups(options), logs: new LogGroups(options) }
    this.#targets.set(device, target)
    return target
  }

  #device(tag: Buffer): string {
    const { bytes, tags } = this.#reader
    for (let index = 0; index < tags.count; index++) {
      if (!same(bytes, tags.keyStart(index), tags.keyEnd(index), tag)) continue
      const device = deviceFromHostId(bytes.toString('utf8', tags.valueStart(index), tags.valueEnd(index)))
      // Those beyond are counted for us: a sender that invents devices must not fill the memory.
      return this.#targets.has(device) || this.#targets.size < mostDevices ? device : this.#options.device
    }
    return this.#options.device
  }

  #points(metrics: MetricGroups): void {
    const { bytes, fields } = this.#reader
    const { seconds, nanos } = this.#time
    const shared = this.#shared
    shared.reset()
    this.#writeTags(shared, 7)
    writeTime(shared, seconds, nanos)
    for (let index = 0; index < fields.count; index++) {
      const type = fields.type[index]
      if (type === textField) continue
      const isCounter = this.#isKey(index, words.counter)
      const alone = isCounter || this.#isKey(index, words.gauge) || this.#isKey(index, words.value)
      const shape: MetricShape = isCounter && type !== booleanField ? 'counter' : 'gauge'
      const metric = metrics.metric(this.#name, 0, this.#nameOf(index, alone), shape)
      metrics.begin(metric)
      metric.points.raw(shared.buffer, 0, shared.position)
      const start = fields.valueStart(index)
      const end = fields.valueEnd(index)
      if (type === floatField) writeDouble(metric.points, readDecimal(bytes, start, end))
      else if (type === booleanField) writeInteger(metric.points, isTrue(bytes[start] ?? 0) ? 1 : 0, 0)
      else {
        this.#integer.read(bytes, start, end - 1, type !== unsignedField)
        writeInteger(metric.points, this.#integer.low, this.#integer.high)
      }
      metrics.end(metric, seconds, nanos)
    }
  }

  /** A log record: of the field `message`, or of all texts. */
  #log(logs: LogGroups, message: number): void {
    const { bytes, fields, measurementStart, measurementEnd } = this.#reader
    const { seconds, nanos } = this.#time
    const record = logs.begin(this.#severity(), seconds, nanos, this.#observedSeconds, this.#observedNanos)
    if (message >= 0) record.bodyBytes(bytes, fields.valueStart(message), fields.valueEnd(message))
    else record.bodyBytes(bytes, measurementStart, measurementEnd)
    const { out } = record
    writeTextAttribute(
      out,
      6,
      measurementKey,
      0,
      measurementKey.length,
      bytes,
      measurementStart,
      measurementEnd,
    )
    this.#writeTags(out, 6)
    for (let index = 0; index < fields.count; index++) {
      if (index === message || (message < 0 && fields.type[index] !== textField)) continue
      this.#fieldAttribute(record, index)
    }
    logs.end(record)
  }

  #fieldAttribute(record: LogsEncoder, index: number): void {
    const { bytes, fields } = this.#reader
    const start = fields.valueStart(index)
    const end = fields.valueEnd(index)
    const type = fields.type[index]
    if (type === textField) {
      writeTextAttribute(
        record.out,
        6,
        bytes,
        fields.keyStart(index),
        fields.keyEnd(index),
        bytes,
        start,
        end,
      )
      return
    }
    const key = bytes.toString('utf8', fields.keyStart(index), fields.keyEnd(index))
    if (type === booleanField) record.attribute(key, isTrue(bytes[start] ?? 0))
    else if (type === floatField) record.attribute(key, readDecimal(bytes, start, end))
    else record.attribute(key, BigInt(bytes.toString('latin1', start, end - 1)))
  }

  /** Of the line, by a tag or text field that names a level. */
  #severity(): number {
    const { bytes, tags, fields } = this.#reader
    for (const pairs of [tags, fields]) {
      for (let index = 0; index < pairs.count; index++) {
        if (pairs.type[index] !== textField) continue
        const isLevel = levelWords.some((word) =>
          same(bytes, pairs.keyStart(index), pairs.keyEnd(index), word),
        )
        if (!isLevel) continue
        return severityOf(bytes.toString('utf8', pairs.valueStart(index), pairs.valueEnd(index)))
      }
    }
    return 0
  }

  #writeTags(out: Writer, field: number): void {
    const { bytes, tags } = this.#reader
    for (let index = 0; index < tags.count; index++) {
      writeTextAttribute(
        out,
        field,
        bytes,
        tags.keyStart(index),
        tags.keyEnd(index),
        bytes,
        tags.valueStart(index),
        tags.valueEnd(index),
      )
    }
  }

  /** Writes the name of the field's metric into `#name`; how long it is. */
  #nameOf(index: number, alone: boolean): number {
    const { bytes, measurementStart, measurementEnd, fields } = this.#reader
    const first = measurementEnd - measurementStart
    const second = fields.keyEnd(index) - fields.keyStart(index)
    if (first + second + 1 > this.#name.length) this.#name = Buffer.alloc((first + second) * 2)
    copy(bytes, measurementStart, measurementEnd, this.#name, 0)
    if (alone) return first
    this.#name[first] = 0x5f
    copy(bytes, fields.keyStart(index), fields.keyEnd(index), this.#name, first + 1)
    return first + 1 + second
  }

  #isKey(index: number, word: Buffer): boolean {
    const { bytes, fields } = this.#reader
    return same(bytes, fields.keyStart(index), fields.keyEnd(index), word)
  }

  #text(start: number, end: number): string {
    return this.#reader.bytes.toString('utf8', start, Math.min(end, start + 60))
  }
}

function same(bytes: Buffer, start: number, end: number, word: Buffer): boolean {
  if (end - start !== word.length) return false
  for (let at = 0; at < word.length; at++) if (bytes[start + at] !== word[at]) return false
  return true
}

function copy(from: Buffer, start: number, end: number, to: Buffer, at: number): void {
  for (let index = start; index < end; index++) to[at + index - start] = from[index] ?? 0
}

const isTrue = (byte: number): boolean => (byte | 0x20) === 0x74

const booleans = ['t', 'T', 'true', 'True', 'TRUE', 'f', 'F', 'false', 'False', 'FALSE'].map(named)
const isBoolean = (bytes: Buffer, start: number, end: number): boolean =>
  booleans.some((word) => same(bytes, start, end, word))
