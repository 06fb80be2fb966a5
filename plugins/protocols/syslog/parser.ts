// One syslog message, from its bytes straight into OTLP log records: no string and no object per record. A message is
// first read into offsets, then written, so that one that turns out malformed is written whole instead.
//
//   RFC 5424   <PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA [SP [BOM] MSG]
//   RFC 3164   <PRI>Mmm dd hh:mm:ss HOSTNAME TAG[PID]: CONTENT       and what devices leave out of it or add to it
import { isUtf8 } from 'node:buffer'
import { batchLimits } from '../../contract/batch.ts'
import { LogsEncoder } from '../../contract/encoder.ts'
import { PermanentError } from '../../contract/errors.ts'
import { errorSeverity } from '../../contract/signal.ts'
import { Writer } from '../../contract/wire.ts'
import type { Records } from '../../contract/batch.ts'
import type { SenderQuota } from '../../contract/define.ts'
import type { Class } from '../../contract/signal.ts'
import { HeaderAttributes, encodeAttribute } from './attributes.ts'
import type { HeaderSpans } from './attributes.ts'
import { StructuredData } from './structured-data.ts'
import { Header3164, isDigit } from './header.ts'
import { kernelEventOf } from '../kernel/events.ts'
import type { KernelEvent } from '../kernel/events.ts'
import { cutUtf8, isContinuation } from './text.ts'
import { TimeReader } from './time.ts'
import { zoneOf } from './zone.ts'

/** Name and OTel severity of each syslog severity (log data model, appendix). */
const severities = [
  ['emerg', 21],
  ['alert', 19],
  ['crit', 18],
  ['err', 17],
  ['warning', 13],
  ['notice', 10],
  ['info', 9],
  ['debug', 5],
] as const

const severityNumbers = new Uint8Array(severities.map(([, number]) => number))
const severityTexts = severities.map(([text]) => {
  const out = new Writer(16)
  out.byte(0x1a)
  out.string(text)
  return out.take()
})

const malformedAttribute = encodeAttribute('dpulse.malformed', true)
const truncatedAttribute = encodeAttribute('dpulse.truncated', true)
const suspectAttribute = encodeAttribute('dpulse.clock.suspect', true)

/** user.notice (RFC 3164 §4.3.3). */
const defaultPriority = 13
const day = 86_400
/** A record with its body, its original bytes and its structured data must fit into a batch, three times this. */
export const longestMessage = 256 * 1024
/** Priorities of facility 0 are less. */
const kernelPriorities = 8
/** Bytes of a line of the kernel in which is looked for what it is; its own are shorter than 1 KiB. */
const kernelLength = 2048
/** Beyond this a message may not join what its encoder holds already. */
const roomyMessage = 16 * 1024
const roomyEncoder = 128 * 1024

/** Where messages come from. */
export interface Origin {
  /** `encodeAttribute('network.peer.address', …)`, where there is a peer. */
  readonly peer?: Uint8Array | undefined
  /** Its account, where senders have quotas. */
  readonly sender?: SenderQuota | undefined
  /** Whether the kernel sheds its lines before they come here. */
  readonly isShed?: () => boolean
  /** A program of this machine, which writes no HOSTNAME into RFC 3164 lines. */
  readonly local: boolean
  /** Whether its lines of the kernel are made events. */
  readonly kernelEvents?: boolean | undefined
}

export interface SyslogOptions {
  readonly device: string
  readonly resource: Uint8Array
  /** Longer messages are cut; at most `longestMessage`. */
  readonly maxLength: number
  /** For timestamps without a zone: `local`, `UTC`, `+02:00` or an IANA name. */
  readonly timezone: string
}

/**
 * The class of a message, from its PRI alone: what a receiver counts that had no room for it. Undefined where `parse`
 * would make no record.
 */
export function classOf(bytes: Uint8Array, start: number, end: number): Class | undefined {
  let last = end
  while (last > start && isTrailer(bytes[last - 1])) last--
  if (last === start) return undefined
  const priority = priorityAt(bytes, start + bomAt(bytes, start, last), last)
  const severity = (priority < 0 ? defaultPriority : priority >> 8) & 7
  return (severityNumbers[severity] ?? 0) >= errorSeverity ? 'log_error' : 'log'
}

/** Length of a byte order mark at `at`. */
function bomAt(bytes: Uint8Array, at: number, end: number): number {
  return at + 3 <= end && bytes[at] === 0xef && bytes[at + 1] === 0xbb && bytes[at + 2] === 0xbf ? 3 : 0
}

/** PRI * 256 + its length, or -1. */
function priorityAt(bytes: Uint8Array, start: number, end: number): number {
  if (bytes[start] !== 0x3c) return -1
  let value = 0
  let at = start + 1
  while (at < end && at - start <= 3 && isDigit(bytes[at])) value = value * 10 + (bytes[at++] ?? 0) - 0x30
  if (at === start + 1 || at >= end || bytes[at] !== 0x3e || value > 191) return -1
  return value * 256 + at + 1 - start
}

/** Turns messages into Records of the classes `log`, `log_error` and `event`; hands them over when full and at `flush`. */
export class SyslogParser {
  readonly #options: SyslogOptions
  readonly #deliver: (records: Records) => void
  readonly #log = new LogsEncoder({ name: 'dpulse.syslog' })
  readonly #error = new LogsEncoder({ name: 'dpulse.syslog' })
  readonly #event = new LogsEncoder({ name: 'dpulse.syslog' }, 4096)
  readonly #time: TimeReader
  readonly #data = new StructuredData()
  readonly #header: Header3164
  #observed = 0
  #observedNanos = 0
  // The message at hand, as offsets.
  readonly #attributes = new HeaderAttributes()
  readonly #spans: HeaderSpans = {
    facility: 0,
    version: 0,
    hostStart: -1,
    hostEnd: 0,
    appStart: -1,
    appEnd: 0,
    procStart: -1,
    procEnd: 0,
    idStart: -1,
    idEnd: 0,
  }
  #bodyStart = 0
  #bodyEnd = 0
  #length = 0
  #original: Uint8Array | undefined

  /** @throws PermanentError CONFIG_INVALID where there is no such time zone. */
  constructor(options: SyslogOptions, deliver: (records: Records) => void) {
    const zone = zoneOf(options.timezone)
    if (zone === undefined)
      throw new PermanentError('CONFIG_INVALID', `there is no time zone ${options.timezone}`)
    this.#options = options
    this.#deliver = deliver
    this.#time = new TimeReader(zone)
    this.#header = new Header3164(this.#time)
    this.#log.begin(options.resource)
    this.#error.begin(options.resource)
  }

  /** The time at which what follows arrived. */
  observedAt(unixNano: bigint): void {
    this.#observed = Number(unixNano / 1_000_000_000n)
    this.#observedNanos = Number(unixNano % 1_000_000_000n)
  }

  /**
   * Takes one message. `valid` says that a region which holds it is known to be UTF-8, `truncated` that its end was
   * cut off already. NULs and newlines at the end do not count; a message of nothing else is none.
   */
  parse(bytes: Buffer, start: number, end: number, origin: Origin, valid: boolean, truncated: boolean): void {
    let last = end
    let cut = truncated
    while (last > start && isTrailer(bytes[last - 1])) last--
    if (last === start) return
    if (last - start > this.#options.maxLength) {
      last = start + this.#options.maxLength
      cut = true
    }
    if (cut) last = cutUtf8(bytes, start, last)
    // A region may be UTF-8 while a frame with a wrong count cuts a character of it in two.
    if (!valid || isContinuation(bytes[start]) || isContinuation(bytes[end])) {
      if (!isUtf8(bytes.subarray(start, last))) return this.#repair(bytes, start, last, origin, cut)
    }
    this.#write(bytes, start, last, origin, cut)
  }

  /** Whether one message more of that class fits into a batch. */
  holdsRoom(name: Class): boolean {
    const encoder = name === 'log_error' ? this.#error : this.#log
    return encoder.count < batchLimits.records - 1 && encoder.size < batchLimits.bytes / 2
  }

  get isEmpty(): boolean {
    return this.#error.count === 0 && this.#log.count === 0 && this.#event.count === 0
  }

  /** Hands over what is held. */
  flush(): void {
    if (this.#event.count > 0) this.#finish(this.#event, 'event')
    if (this.#error.count > 0) this.#finish(this.#error, 'log_error')
    if (this.#log.count > 0) this.#finish(this.#log, 'log')
  }

  // Invalid UTF-8 becomes U+FFFD, and the record keeps the exact bytes beside it.
  #repair(bytes: Buffer, start: number, end: number, origin: Origin, truncated: boolean): void {
    this.#original = bytes.subarray(start, end)
    const repaired = Buffer.from(bytes.toString('utf8', start, end))
    // One bad byte becomes three.
    const tooLong = repaired.length > this.#options.maxLength
    const last = tooLong ? cutUtf8(repaired, 0, this.#options.maxLength) : repaired.length
    this.#write(repaired, 0, last, origin, truncated || tooLong)
    this.#original = undefined
  }

  #write(bytes: Buffer, start: number, end: number, origin: Origin, truncated: boolean): void {
    this.#clear()
    const first = bomAt(bytes, start, end)
    const found = priorityAt(bytes, start + first, end)
    const priority = found < 0 ? defaultPriority : found >> 8
    const at = start + first + (found < 0 ? 0 : found & 255)
    this.#length = end - start
    this.#bodyEnd = end
    const malformed = !this.#read(bytes, at, end, origin.local, found >= 0)
    if (malformed) {
      this.#clear()
      this.#bodyStart = start
    }
    this.#spans.facility = priority >> 3
    this.#encode(bytes, priority, origin, malformed, truncated)
  }

  #clear(): void {
    const spans = this.#spans
    spans.hostStart = spans.appStart = spans.procStart = spans.idStart = -1
    spans.version = 0
    this.#header.sequence = -1
    this.#data.clear()
    this.#time.seconds = this.#observed
    this.#time.nanos = this.#observedNanos
  }

  #read(bytes: Buffer, at: number, end: number, local: boolean, hasPriority: boolean): boolean {
    if (hasPriority && isDigit(bytes[at]) && bytes[at] !== 0x30) {
      let behind = at
      let version = 0
      while (behind < end && behind - at < 3 && isDigit(bytes[behind]))
        version = version * 10 + (bytes[behind++] ?? 0) - 0x30
      if (bytes[behind] === 0x20 && behind < end) {
        this.#spans.version = version
        return this.#read5424(bytes, behind + 1, end)
      }
    }
    return this.#read3164(bytes, at, end, local, hasPriority)
  }

  #read5424(bytes: Buffer, start: number, end: number): boolean {
    const spans = this.#spans
    let at = start
    if (bytes[at] === 0x2d) {
      at++
    } else {
      at = this.#time.iso(bytes, start, end, this.#observed, false)
      if (at < 0) {
        // Unix time behind the version, then the layout of RFC 3164.
        at = this.#time.epoch(bytes, start, end)
        return at >= 0 && bytes[at] === 0x20 && this.#read3164Rest(bytes, at, end, false)
      }
    }
    if (at >= end || bytes[at] !== 0x20) return false
    spans.hostStart = at + 1
    at = spans.hostEnd = tokenEnd(bytes, at + 1, end)
    if (at >= end || at === spans.hostStart) return false
    spans.appStart = at + 1
    at = spans.appEnd = tokenEnd(bytes, at + 1, end)
    if (at >= end || at === spans.appStart) return false
    spans.procStart = at + 1
    at = spans.procEnd = tokenEnd(bytes, at + 1, end)
    if (at >= end || at === spans.procStart) return false
    spans.idStart = at + 1
    at = spans.idEnd = tokenEnd(bytes, at + 1, end)
    if (at >= end || at === spans.idStart) return false
    at++
    if (at >= end) return false
    at = bytes[at] === 0x2d ? at + 1 : bytes[at] === 0x5b ? this.#data.scan(bytes, at, end) : -1
    if (at < 0 || (at < end && bytes[at] !== 0x20)) return false
    at = Math.min(at + 1, end)
    at += bomAt(bytes, at, end)
    this.#bodyStart = at
    return true
  }

  #read3164(bytes: Buffer, at: number, end: number, local: boolean, hasPriority: boolean): boolean {
    if (!this.#header.read(bytes, at, end, this.#observed, local, hasPriority)) return false
    this.#takeHeader()
    return true
  }

  #read3164Rest(bytes: Buffer, at: number, end: number, local: boolean): boolean {
    this.#header.readRest(bytes, at, end, local)
    this.#takeHeader()
    return true
  }

  #takeHeader(): void {
    const header = this.#header
    const spans = this.#spans
    spans.hostStart = header.hostStart
    spans.hostEnd = header.hostEnd
    spans.appStart = header.appStart
    spans.appEnd = header.appEnd
    spans.procStart = header.procStart
    spans.procEnd = header.procEnd
    this.#bodyStart = header.bodyStart
  }

  #encode(bytes: Buffer, priority: number, origin: Origin, malformed: boolean, truncated: boolean): void {
    const severity = priority & 7
    let number = severityNumbers[severity] ?? 0
    let encoder = number >= errorSeverity ? this.#error : this.#log
    let name: Class = number >= errorSeverity ? 'log_error' : 'log'
    let event: KernelEvent | undefined
    if (priority < kernelPriorities && origin.kernelEvents === true) {
      event = this.#kernelEvent(bytes)
      if (event !== undefined) [number, encoder, name] = [event.severity ?? number, this.#event, 'event']
    }
    if (this.#length > roomyMessage && encoder.size > roomyEncoder) this.#finish(encoder, name)
    // Again: it may have stood ready since before the labels changed.
    if (encoder.count === 0) encoder.begin(this.#options.resource)
    const { seconds, nanos } = this.#time
    encoder.record(seconds, nanos, this.#observed, this.#observedNanos, number)
    encoder.field(severityTexts[severity] ?? malformedAttribute)
    if (this.#bodyEnd > this.#bodyStart) encoder.bodyBytes(bytes, this.#bodyStart, this.#bodyEnd)
    else encoder.body('')
    encoder.field(this.#attributes.of(bytes, this.#spans))
    this.#data.write(bytes, encoder)
    if (origin.peer !== undefined) encoder.field(origin.peer)
    if (malformed) encoder.field(malformedAttribute)
    if (truncated) encoder.field(truncatedAttribute)
    if (Math.abs(seconds - this.#observed) > day) encoder.field(suspectAttribute)
    if (this.#header.sequence >= 0) {
      encoder.attribute('syslog.sequence', this.#header.sequence)
    }
    if (event !== undefined) writeEvent(encoder, event)
    if (this.#original !== undefined) encoder.attribute('log.record.original', this.#original)
    encoder.end()
    if (encoder.full) this.#finish(encoder, name)
  }

  #kernelEvent(bytes: Buffer): KernelEvent | undefined {
    const end = Math.min(this.#bodyEnd, this.#bodyStart + kernelLength)
    return kernelEventOf(bytes.toString('utf8', this.#bodyStart, end))
  }

  #finish(encoder: LogsEncoder, name: Class): void {
    this.#deliver(encoder.finish(this.#options.device, name))
    encoder.begin(this.#options.resource)
  }
}

function writeEvent(encoder: LogsEncoder, { name, attributes }: KernelEvent): void {
  encoder.eventName(name)
  for (const [key, value] of Object.entries(attributes)) encoder.attribute(key, value)
}

function isTrailer(byte: number | undefined): boolean {
  return byte === 0x0a || byte === 0 || byte === 0x0d
}

function tokenEnd(bytes: Uint8Array, start: number, end: number): number {
  let at = start
  while (at < end && bytes[at] !== 0x20) at++
  return at
}
