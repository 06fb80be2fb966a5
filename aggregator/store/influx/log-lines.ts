// Log records of a batch as line protocol: OTLP bytes in, lines out, no object per record.
//
//   logs,dpulse.stream=…,host.id=…,service.name=…,severity=info body="…",severity_number=9i,… <time, numbered>
import { createHash } from 'node:crypto'
import { attributesOf } from '../../../plugins/contract/any-value.ts'
import { streamKey } from '../../../plugins/contract/batch.ts'
import type { Header } from '../../../plugins/contract/batch.ts'
import { LogCursor } from '../../../plugins/contract/log-cursor.ts'
import type { Span } from '../../../plugins/contract/request-cursor.ts'
import { WireError, Writer } from '../../../plugins/contract/wire.ts'
import { ByteInterner } from '../interner.ts'
import { JsonText, suspectText, textOf } from '../json-text.ts'
import { AttributeFields } from './attribute-fields.ts'
import { isSuspect } from '../log-rows.ts'
import type { Stored } from '../log-rows.ts'
import { ascii, fieldText, firstNumber, integer, nanoOf, numberMask, pointTime, tagOf } from './line.ts'
import type { Lines } from './line.ts'

/** What a batch tells of each of its records. */
export interface LinePlace {
  readonly header: Header
  /** Its number in the write. */
  readonly owner: number
  /** Number of its first record in the batch. */
  readonly first: number
  readonly arrivedLow: number
  readonly arrivedHigh: number
}

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal']
const severityTags = Array.from({ length: 25 }, (_, number) =>
  Buffer.from(number === 0 ? '' : `,severity=${levels[Math.floor((number - 1) / 4)]}`),
)

/** Behind the number of the record. */
const severityFields = severityTags.map((_, number) => Buffer.from(`",severity_number=${number}i`))

/** What stands between the values of a line. */
const names = {
  body: Buffer.from(',body="'),
  otherBody: Buffer.from(',body_form=1i,body="'),
  severityText: Buffer.from(',severity_text="'),
  eventName: Buffer.from(',event_name="'),
  traceId: Buffer.from(',trace_id="'),
  spanId: Buffer.from(',span_id="'),
  flags: Buffer.from(',flags='),
}
export const timeNames = {
  time: Buffer.from(',time_unix_nano='),
  start: Buffer.from(',start_time_unix_nano='),
  observed: Buffer.from(',observed_time_unix_nano='),
  arrived: Buffer.from(',arrived_unix_nano='),
}

/** A short name of a stream: what keeps records of equal time apart that other runs of a collector numbered alike. */
export const streamTag = (key: string): string => createHash('sha256').update(key).digest('hex').slice(0, 8)

const nothing: Buffer = Buffer.alloc(0)

/** Names of services as tags, each looked at once. There is a limit, because names may be anything. */
export class ServiceTags {
  readonly #limit: number
  readonly #found = new ByteInterner()
  readonly #names = new Set<string>()
  #tags: Buffer[] = []
  /** Records whose service is beyond the limit, since the last look. */
  overLimit = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Those that InfluxDB has already. A retry after a restart must come to the same tags as what it repeats. */
  load(names: Iterable<string>): void {
    for (const name of names) this.#names.add(name)
  }

  of(bytes: Buffer, start: number, end: number): Buffer {
    if (end <= start) return nothing
    const known = this.#found.find(bytes, start, end)
    const number = known >= 0 ? known : this.#add(bytes, start, end)
    if (number < 0) this.overLimit++
    return this.#tags[number] ?? nothing
  }

  #add(bytes: Buffer, start: number, end: number): number {
    const name = bytes.toString('utf8', start, end)
    const tag = tagOf('service.name', name)
    if (!this.#names.has(name) && this.#names.size >= this.#limit) return -1
    this.#names.add(name)
    if (this.#found.size >= 2 * this.#limit) {
      this.#found.clear()
      this.#tags = []
    }
    const number = this.#tags.push(Buffer.from(tag)) - 1
    this.#found.set(bytes, start, end, number)
    return number
  }
}

export class LogLines {
  readonly #services: ServiceTags
  readonly #cursor = new LogCursor()
  readonly #json = new JsonText()
  readonly #attributes: AttributeFields
  readonly #scratch = new Writer(64 * 1024)
  /** The field `resource` and what leads to the time, and its service, while the Resource stays the same. */
  #resource: Buffer = timeNames.time
  #service: Buffer = nothing
  #head: Buffer = nothing
  #record: Buffer = nothing
  #last = { service: nothing, severity: -1, prefix: nothing }

  constructor(services: ServiceTags) {
    this.#services = services
    this.#attributes = new AttributeFields(services)
  }

  /** Adds the records of a bare batch. */
  add(bytes: Uint8Array, place: LinePlace, lines: Lines): Stored {
    const { header } = place
    const cursor = this.#cursor.reset(bytes)
    const key = streamKey(header)
    this.#head = Buffer.from(`logs,dpulse.stream=${streamTag(key)}${tagOf('host.id', header.device)}`)
    this.#record = Buffer.from(` record="${key}/${header.seq}/`)
    this.#last.severity = NaN
    const first = firstNumber(header.produced, header.count)
    let stored = 0
    let seen = 0
    let resourceIndex = 0
    try {
      while (cursor.next()) {
        const index = seen++
        const mark = lines.out.position
        let hour = 0
        try {
          if (cursor.resourceIndex !== resourceIndex) {
            resourceIndex = cursor.resourceIndex
            this.#readResource(cursor)
          }
          hour = this.#line(lines.out, cursor, place, index, (first + index) % (numberMask + 1))
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

  #readResource({ bytes, resource }: LogCursor): void {
    const scratch = this.#scratch
    scratch.reset()
    this.#json.attributes(scratch, bytes, resource.start, resource.end, 1)
    const out = new Writer(scratch.position + 64)
    if (scratch.position > 2) {
      ascii(out, ',resource="')
      fieldText(out, scratch.buffer, 0, scratch.position)
      out.byte(0x22)
    }
    out.raw(timeNames.time)
    this.#resource = out.take()
    const name = attributesOf(bytes, resource.start, resource.end, 1)['service.name']
    const text = Buffer.from(typeof name === 'string' ? name : '')
    this.#service = this.#services.of(text, 0, text.length)
  }

  #line(out: Writer, cursor: LogCursor, place: LinePlace, index: number, number: number): number {
    const { bytes, attributes, observedLow, observedHigh } = cursor
    const times = timesOf(cursor, place)
    this.#attributes.read(bytes, attributes.start, attributes.end, times.suspect ? suspectText : undefined)
    const severity = cursor.severityNumber | 0
    out.raw(
      this.#prefix(this.#attributes.service.length > 0 ? this.#attributes.service : this.#service, severity),
    )
    integer(out, place.first + index, 0)
    severityField(out, severity)
    out.raw(this.#attributes.field)
    this.#body(out, cursor)
    quoted(out, names.severityText, bytes, cursor.severityText.start, cursor.severityText.end)
    quoted(out, names.eventName, bytes, cursor.eventName.start, cursor.eventName.end)
    hex(out, names.traceId, bytes, cursor.traceId)
    hex(out, names.spanId, bytes, cursor.spanId)
    if (cursor.flags !== 0) {
      out.raw(names.flags)
      integer(out, cursor.flags, 0)
      out.byte(0x69)
    }
    out.raw(this.#resource)
    const timeAt = out.position
    integer(out, times.low, times.high)
    out.byte(0x69)
    const wasObserved = observedLow !== 0 || observedHigh !== 0
    if (wasObserved && observedLow === times.low && observedHigh === times.high) {
      const timeEnd = out.position
      out.raw(timeNames.observed)
      out.raw(out.buffer, timeAt, timeEnd)
    } else if (wasObserved) time(out, timeNames.observed, observedLow, observedHigh)
    else time(out, timeNames.observed, place.arrivedLow, place.arrivedHigh)
    if (times.suspect) {
      time(out, timeNames.arrived, place.arrivedLow, place.arrivedHigh)
      return pointTime(out, place.arrivedLow, place.arrivedHigh, number)
    }
    return pointTime(out, times.low, times.high, number)
  }

  /** All before the number of the record: seldom another than that of the line before. */
  #prefix(service: Buffer, severity: number): Buffer {
    const last = this.#last
    if (last.service === service && last.severity === severity) return last.prefix
    const prefix = Buffer.concat([this.#head, service, severityTags[severity] ?? nothing, this.#record])
    this.#last = { service, severity, prefix }
    return prefix
  }

  #body(out: Writer, { bytes, body }: LogCursor): void {
    if (body.end <= body.start) return
    const text = textOf(bytes, body.start, body.end)
    if (text > 0) {
      quoted(out, names.body, bytes, text, body.end)
      return
    }
    const scratch = this.#scratch
    scratch.reset()
    this.#json.value(scratch, bytes, body.start, body.end)
    quoted(out, names.otherBody, scratch.buffer, 0, scratch.position)
  }
}

/** When a record happened, and whether its arrival counts instead. */
export function timesOf(
  cursor: { timeLow: number; timeHigh: number; observedLow?: number; observedHigh?: number },
  place: LinePlace,
): { low: number; high: number; suspect: boolean } {
  let { timeLow: low, timeHigh: high } = cursor
  if (low === 0 && high === 0) {
    low = cursor.observedLow ?? 0
    high = cursor.observedHigh ?? 0
  }
  if (low === 0 && high === 0) {
    low = place.arrivedLow
    high = place.arrivedHigh
  }
  return { low, high, suspect: isSuspect(nanoOf(low, high), nanoOf(place.arrivedLow, place.arrivedHigh)) }
}

function severityField(out: Writer, severity: number): void {
  const known = severityFields[severity]
  if (known) return out.raw(known)
  ascii(out, `",severity_number=${severity}i`)
}

/** A string field, left out where it is empty: so it is answered too. */
function quoted(out: Writer, name: Buffer, bytes: Uint8Array, start: number, end: number): void {
  if (end <= start) return
  out.raw(name)
  fieldText(out, bytes, start, end)
  out.byte(0x22)
}

function hex(out: Writer, name: Buffer, bytes: Buffer, { start, end }: Span): void {
  if (end <= start) return
  out.raw(name)
  ascii(out, bytes.toString('hex', start, end))
  out.byte(0x22)
}

/** A time as an integer field: the bits of the unsigned number, which is signed where it is read. */
export function time(out: Writer, name: Buffer, low: number, high: number): void {
  out.raw(name)
  integer(out, low, high)
  out.byte(0x69)
}
