// Messages of the Fluent forward protocol, version 1 (github.com/fluent/fluentd, wiki "Forward Protocol Specification v1"), as
// log records.
//
//   Message       [tag, time, record, option?]
//   Forward       [tag, [[time, record], …], option?]
//   PackedForward [tag, binary of (time, record) arrays, option?]        with compressed: gzip in the option: gzip of it
//   option        { chunk: text to acknowledge, size: records, compressed: "gzip", fluent_signal: 0 logs | 1 metrics | 2 traces }
//   time          seconds | EventTime | [time, metadata] (Fluent Bit)
import type { Records } from '../../contract/batch.ts'
import { PermanentError } from '../../contract/errors.ts'
import { encodeKey } from '../../contract/values.ts'
import { decompress } from '../compression.ts'
import { LogGroups, severityOf } from '../records/log-groups.ts'
import type { MetricGroupsOptions } from '../records/metric-groups.ts'
import { MalformedPack, PackReader, isValidText } from './msgpack.ts'

export interface ForwardOptions extends Omit<MetricGroupsOptions, 'take'> {
  /** Keys of a record that hold its text, the preferred one first. */
  readonly messageKeys: readonly string[]
  /** Of a message, also decompressed. */
  readonly maxBytes: number
  nowUnixNano(): bigint
}

export interface ForwardMessage {
  /** Empty in a heartbeat. */
  readonly tag: string
  readonly records: Records[]
  /** What the sender wants to have acknowledged. */
  readonly chunk: string | undefined
  /** Records that could not be taken, and why the first. */
  readonly refused: number
  readonly reason: string | undefined
}

interface Option {
  chunk: string | undefined
  size: number
  isCompressed: boolean
  signal: number
}

/** With what it joins, a record stays below the largest batch. */
const longestRecord = 450_000
/** Tags and lengths of a value in OTLP, beyond those it has already. */
const bytesOfValue = 16
const depthLimit = 32
const longestTag = 1024
const tagKey = encodeKey('fluent.tag')
const levelKeys = ['level', 'severity', 'log_level', 'loglevel'].map((key) => Buffer.from(key))
const priorityKey = Buffer.from('PRIORITY')
/** Severity numbers of syslog's priorities. */
const priorities = [21, 19, 18, 17, 13, 10, 9, 5]

/** Reads messages one at a time. */
export class ForwardReader {
  readonly #options: ForwardOptions
  readonly #messageKeys: readonly Buffer[]

  constructor(options: ForwardOptions) {
    this.#options = options
    this.#messageKeys = options.messageKeys.map((key) => Buffer.from(key))
  }

  /** @throws MalformedPack where the message is none. */
  async read(bytes: Buffer): Promise<ForwardMessage> {
    const reader = new PackReader(bytes)
    // A heartbeat of old senders.
    if (reader.isNil) return { tag: '', records: [], chunk: undefined, refused: 0, reason: undefined }
    const parts = reader.array()
    if (parts < 2 || parts > 4) throw new MalformedPack(`a message of ${parts} parts`)
    const tag = reader.string().slice(0, longestTag)
    const taker = new Taker(this.#options, this.#messageKeys, tag)
    const entries = reader.position
    if (!reader.isText && !reader.isArray) {
      if (parts < 3) throw new MalformedPack('a message without a record')
      reader.skip()
      reader.skip()
      const option = parts > 3 ? readOption(reader) : noOption()
      taker.take(new PackReader(bytes, entries))
      return taker.finish(option)
    }
    reader.skip()
    const option = parts > 2 ? readOption(reader) : noOption()
    const start = new PackReader(bytes, entries)
    if (option.signal !== 0) {
      taker.refuse(
        option.size || 1,
        `telemetry of signal ${option.signal} in Fluent Bit's own format; send it as OTLP`,
      )
    } else if (start.isArray) taker.takeAll(start, start.array())
    else {
      start.text()
      await this.#takePacked(taker, option, bytes.subarray(start.start, start.stop))
    }
    return taker.finish(option)
  }

  async #takePacked(taker: Taker, { isCompressed, size }: Option, packed: Buffer): Promise<void> {
    try {
      const bare = isCompressed ? await decompress(packed, this.#options.maxBytes) : packed
      taker.takeAll(new PackReader(Buffer.from(bare.buffer, bare.byteOffset, bare.length)), Infinity)
    } catch (error) {
      // It would come again and again were it not acknowledged.
      if (!(error instanceof PermanentError)) throw error
      taker.refuse(size || 1, error.message)
    }
  }
}

const noOption = (): Option => ({ chunk: undefined, size: 0, isCompressed: false, signal: 0 })

function readOption(reader: PackReader): Option {
  const option = noOption()
  if (reader.isNil) return option
  for (let pairs = reader.map(); pairs > 0; pairs--) {
    const key = reader.string()
    if (key === 'chunk' && reader.isText) option.chunk = reader.string()
    else if (key === 'compressed' && reader.isText) option.isCompressed = reader.string() === 'gzip'
    else if (key === 'size' && !reader.isNil) option.size = Number(reader.number())
    else if (key === 'fluent_signal') option.signal = Number(reader.number())
    else reader.skip()
  }
  return option
}

/** Makes log records of the entries of one message. */
class Taker {
  readonly #messageKeys: readonly Buffer[]
  /** Of the keys that are looked for. */
  readonly #lengths: ReadonlySet<number>
  readonly #logs: LogGroups
  readonly #name: string
  readonly #tag: Buffer
  readonly #records: Records[] = []
  readonly #seconds: number
  readonly #nanos: number
  #refused = 0
  #values = 0
  #reason: string | undefined

  constructor(options: ForwardOptions, messageKeys: readonly Buffer[], tag: string) {
    this.#messageKeys = messageKeys
    this.#lengths = new Set([...messageKeys, ...levelKeys, priorityKey].map(({ length }) => length))
    this.#logs = new LogGroups({ ...options, take: (records) => void this.#records.push(records) })
    this.#name = tag
    this.#tag = Buffer.from(tag)
    const now = options.nowUnixNano()
    this.#seconds = Number(now / 1_000_000_000n)
    this.#nanos = Number(now % 1_000_000_000n)
  }

  refuse(count: number, reason: string): void {
    this.#refused += count
    this.#reason ??= reason
  }

  /** Entries one after another, each an array of time and record. What stands behind a malformed one cannot be found. */
  takeAll(reader: PackReader, count: number): void {
    try {
      for (let left = count; left > 0 && !reader.done; left--) {
        const start = reader.position
        reader.skip()
        const next = reader.position
        reader.position = start
        if (reader.isArray && reader.array() >= 2) this.take(reader)
        else this.refuse(1, 'an entry that is no array of time and record')
        reader.position = next
      }
    } catch (error) {
      if (!(error instanceof MalformedPack)) throw error
      this.refuse(1, error.message)
    }
  }

  /** A time and a record. */
  take(reader: PackReader): void {
    try {
      if (reader.isArray) {
        const parts = reader.array()
        reader.time()
        for (let left = parts - 1; left > 0; left--) reader.skip()
      } else reader.time()
      const start = reader.position
      this.#values = 0
      if (!reader.isMap) throw new MalformedPack('a record that is no map')
      this.#check(reader)
      const size = reader.position - start + this.#values * bytesOfValue
      if (size > longestRecord) {
        this.refuse(1, `a record of ${size} bytes, more than the ${longestRecord} that fit`)
        return
      }
      reader.position = start
      this.#write(reader)
    } catch (error) {
      if (!(error instanceof MalformedPack)) throw error
      this.refuse(1, error.message)
    }
  }

  #write(reader: PackReader): void {
    const { seconds, nanos, bytes } = reader
    const pairs = reader.map()
    const first = reader.position
    const found = this.#survey(reader, pairs)
    const record = this.#logs.begin(found.severity, seconds, nanos, this.#seconds, this.#nanos)
    const { out } = record
    if (found.message >= 0) {
      reader.position = found.message
      reader.text()
      const { start, stop } = reader
      if (isValidText(bytes, start, stop)) record.bodyBytes(bytes, start, stop)
      else record.body(bytes.toString('utf8', start, stop))
    }
    record.attributeBytes(tagKey, this.#tag, 0, this.#tag.length)
    reader.position = first
    for (let left = pairs; left > 0; left--) {
      const keyAt = reader.position
      reader.skip()
      if (reader.position === found.message) {
        reader.skip()
        continue
      }
      reader.position = keyAt
      reader.writePair(out, 6)
    }
    this.#logs.end(record)
  }

  /** Where the text of a record stands, and its severity. */
  #survey(reader: PackReader, pairs: number): { message: number; severity: number } {
    let message = -1
    let rank = Infinity
    let severity = 0
    for (let left = pairs; left > 0; left--) {
      const isNamed = reader.isText
      skipKey(reader)
      const { start, stop } = reader
      const valueAt = reader.position
      // Most keys have a length that none of those has.
      if (isNamed && this.#lengths.has(stop - start) && reader.isText) {
        const place = this.#messageKeys.findIndex((key) => isKey(reader.bytes, start, stop, key))
        if (place >= 0 && place < rank) {
          rank = place
          message = valueAt
        }
        if (levelKeys.some((key) => isKey(reader.bytes, start, stop, key)))
          severity = severityOf(reader.string())
        else if (isKey(reader.bytes, start, stop, priorityKey))
          severity = priorities[Number(reader.string())] ?? 0
        reader.position = valueAt
      }
      reader.skip()
    }
    return { message, severity }
  }

  /** Moves past a value that can be written, and counts what it holds. */
  #check(reader: PackReader, depth = 0): void {
    if (depth > depthLimit) throw new MalformedPack(`values nested more than ${depthLimit} deep`)
    this.#values++
    const isMap = reader.isMap
    if (!isMap && !reader.isArray) {
      reader.skip()
      return
    }
    for (let left = isMap ? reader.map() : reader.array(); left > 0; left--) {
      if (isMap) skipKey(reader)
      this.#check(reader, depth + 1)
    }
  }

  finish({ chunk }: Option): ForwardMessage {
    this.#logs.flush()
    return { tag: this.#name, records: this.#records, chunk, refused: this.#refused, reason: this.#reason }
  }
}

function skipKey(reader: PackReader): void {
  if (reader.isText) reader.text()
  else reader.number()
}

const isKey = (bytes: Buffer, start: number, stop: number, key: Buffer): boolean => {
  if (stop - start !== key.length) return false
  for (let at = 0; at < key.length; at++) if (bytes[start + at] !== key[at]) return false
  return true
}
