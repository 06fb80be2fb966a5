// One record as the rules look at it: offsets into its bytes, found in one walk over its fields. A record that a rule
// changed is bytes again, elsewhere, and is walked over anew. Nothing is allocated.
import { readAnyValue } from '../../contract/any-value.ts'
import { pointAttributesField } from '../../contract/point-cursor.ts'
import type { MetricType } from '../../contract/point-cursor.ts'
import type { Class, Signal } from '../../contract/signal.ts'
import { Reader, WireError } from '../../contract/wire.ts'

/** Tags of what the rules look at; 0 where a record of that kind has none. */
export interface Layout {
  readonly attributes: number
  readonly severity: number
  readonly body: number
  readonly name: number
  readonly traceId: number
}

export const logLayout: Layout = { attributes: 0x32, severity: 0x10, body: 0x2a, name: 0x62, traceId: 0x4a }
export const spanLayout: Layout = { attributes: 0x4a, severity: 0, body: 0, name: 0x2a, traceId: 0x0a }
/** The name of a data point stands with its metric. */
export const pointLayouts = Object.fromEntries(
  Object.entries(pointAttributesField).map(([type, field]) => [
    type,
    { attributes: field * 8 + 2, severity: 0, body: 0, name: 0, traceId: 0 },
  ]),
) as Readonly<Record<MetricType, Layout>>

/** Attributes beyond so many are walked over. */
export const mostPlaces = 64

export class RecordFacts {
  signal: Signal = 'logs'
  /** As rules have changed it. */
  class: Class = 'log'
  device = ''
  layout: Layout = logLayout
  bytes: Buffer = Buffer.alloc(0)
  start = 0
  end = 0
  severity = 0
  /** The AnyValue message of the body. */
  bodyStart = 0
  bodyEnd = 0
  /** Of log records and spans. */
  nameStart = 0
  nameEnd = 0
  traceStart = 0
  traceEnd = 0
  attributesStart = 0
  attributesEnd = 0
  /** How many attributes it has, and where the first of them stand: [start, end) of each KeyValue. */
  attributeCount = 0
  readonly attributeStarts = new Int32Array(mostPlaces)
  readonly attributeEnds = new Int32Array(mostPlaces)
  /** Over all of `bytes`, for four at once. */
  view: DataView = new DataView(new ArrayBuffer(0))
  /** Of a data point: what its metric is called. */
  metricName = ''
  /** Whether `metricName` is not what the metric was called. */
  isRenamed = false
  /** Changed by a rule: it no longer stands among its neighbours. */
  isEdited = false
  /** Whether the literals were looked for in the body, and whether one was there. */
  literals: 'unknown' | 'none' | 'some' = 'unknown'
  readonly #reader = new Reader()
  #before: { bytes: Buffer; view: DataView } = { bytes: this.bytes, view: this.view }

  /** Looks through a record; what does not depend on its bytes is set by the caller. */
  read(bytes: Buffer, start: number, end: number): void {
    if (bytes !== this.bytes) this.#turnTo(bytes)
    this.start = start
    this.end = end
    this.literals = 'unknown'
    this.severity = this.attributesStart = this.attributesEnd = this.attributeCount = 0
    this.bodyStart = this.bodyEnd = this.nameStart = this.nameEnd = this.traceStart = this.traceEnd = 0
    const { attributes } = this.layout
    let at = start
    while (at < end) {
      const began = at
      const tag = bytes[at++] ?? 0
      const type = tag & 7
      if (tag >= 0x80 || (type !== 2 && type !== 1)) at = this.#other(bytes, began, end, tag)
      else if (type === 1) at += 8
      else {
        let size = bytes[at++] ?? 0
        if (size >= 0x80) {
          const second = bytes[at] ?? 0
          const third = bytes[at + 1] ?? 0
          if (second >= 0x80 && third < 0x80) {
            size = (size & 0x7f) | ((second & 0x7f) << 7) | (third << 14)
            at += 2
          } else {
            size = longSize(bytes, at - 1, end)
            at += sizeWidth
          }
        }
        if (tag === attributes) {
          const count = this.attributeCount++
          if (count === 0) this.attributesStart = began
          if (count < mostPlaces) {
            this.attributeStarts[count] = at
            this.attributeEnds[count] = at + size
          }
          this.attributesEnd = at + size
        } else this.#take(tag, at, at + size)
        at += size
      }
      if (at > end) throw new WireError('truncated field', began)
    }
  }

  /** A record that a rule changed lies elsewhere, and the next one where the others do. */
  #turnTo(bytes: Buffer): void {
    const before = { bytes: this.bytes, view: this.view }
    const known = this.#before.bytes === bytes ? this.#before.view : undefined
    this.bytes = bytes
    this.view = known ?? new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#before = before
  }

  get name(): string {
    if (this.signal === 'metrics') return this.metricName
    return this.nameEnd > this.nameStart ? this.bytes.toString('utf8', this.nameStart, this.nameEnd) : ''
  }

  /** The body as text; empty where there is none. */
  get body(): string {
    return this.bodyEnd > this.bodyStart ? textOf(this.bytes, this.bodyStart, this.bodyEnd) : ''
  }

  #take(tag: number, start: number, end: number): void {
    const { layout } = this
    if (tag === layout.body) {
      this.bodyStart = start
      this.bodyEnd = end
    } else if (tag === layout.name) {
      this.nameStart = start
      this.nameEnd = end
    } else if (tag === layout.traceId) {
      this.traceStart = start
      this.traceEnd = end
    }
  }

  /** Numbers, and what we know nothing of. */
  #other(bytes: Buffer, began: number, end: number, tag: number): number {
    const next = bytes[began + 1] ?? 0
    if (tag === this.layout.severity && next < 0x80) {
      this.severity = next
      return began + 2
    }
    const reader = this.#reader
    reader.buffer = bytes
    reader.position = began
    reader.end = end
    const key = reader.key()
    reader.skip(key)
    return reader.position
  }
}

/** How many bytes `longSize` went on. */
let sizeWidth = 0

/** A length of more than one byte, whose first is at `at`. */
function longSize(bytes: Uint8Array, at: number, end: number): number {
  let size = (bytes[at] ?? 0) & 0x7f
  let shift = 128
  for (let more = 1; more < 5; more++) {
    const byte = bytes[at + more] ?? 0
    size += (byte & 0x7f) * shift
    if (byte < 0x80) {
      sizeWidth = more
      if (at + more >= end) break
      return size
    }
    shift *= 128
  }
  throw new WireError('invalid length', at)
}

/** Goes over the attributes of a record. */
export class AttributeWalk {
  bytes: Buffer = Buffer.alloc(0)
  keyStart = 0
  keyEnd = 0
  /** The AnyValue message; empty where there is none. */
  valueStart = 0
  valueEnd = 0
  /** The whole field. */
  fieldStart = 0
  fieldEnd = 0
  #end = 0
  #tag = 0
  readonly #reader = new Reader()

  over(bytes: Buffer, start: number, end: number, tag: number): this {
    this.bytes = bytes
    this.fieldEnd = start
    this.#end = end
    this.#tag = tag
    return this
  }

  next(): boolean {
    const { bytes } = this
    const last = this.#end
    for (let at = this.fieldEnd; at < last;) {
      this.fieldStart = at
      const tag = bytes[at++] ?? 0
      if (tag !== this.#tag) {
        at = this.fieldEnd = this.#skip(this.fieldStart)
        continue
      }
      let size = bytes[at++] ?? 0
      if (size >= 0x80) {
        size = longSize(bytes, at - 1, last)
        at += sizeWidth
      }
      const end = (this.fieldEnd = at + size)
      if (end > last) throw new WireError('truncated attribute', at)
      // Key, then value, both with a length of one byte or three, as nearly everyone writes them.
      if (bytes[at] === 0x0a && (bytes[at + 1] ?? 0x80) < 0x80) {
        this.keyStart = at + 2
        this.keyEnd = at + 2 + (bytes[at + 1] ?? 0)
        if (this.keyEnd < end && bytes[this.keyEnd] === 0x12) {
          let length = bytes[this.keyEnd + 1] ?? 0
          this.valueStart = this.keyEnd + 2
          if (length >= 0x80) {
            length = longSize(bytes, this.keyEnd + 1, end)
            this.valueStart += sizeWidth
          }
          this.valueEnd = this.valueStart + length
          if (this.valueEnd === end) return true
        }
      }
      this.#readSlowly(at, end)
      return true
    }
    return false
  }

  keyText(): string {
    return this.bytes.toString('utf8', this.keyStart, this.keyEnd)
  }

  #skip(at: number): number {
    const reader = this.#reader
    reader.buffer = this.bytes
    reader.position = at
    reader.end = this.#end
    reader.skip(reader.key())
    return reader.position
  }

  /** One KeyValue, however it is written. */
  read(bytes: Buffer, start: number, end: number): void {
    this.bytes = bytes
    this.#readSlowly(start, end)
  }

  #readSlowly(start: number, end: number): void {
    const reader = this.#reader
    reader.buffer = this.bytes
    reader.position = start
    reader.end = end
    this.keyStart = this.keyEnd = this.valueStart = this.valueEnd = end
    while (!reader.done) {
      const tag = reader.key()
      if (tag !== 0x0a && tag !== 0x12) {
        reader.skip(tag)
        continue
      }
      const size = reader.length()
      if (tag === 0x0a) {
        this.keyStart = reader.position
        this.keyEnd = reader.position + size
      } else {
        this.valueStart = reader.position
        this.valueEnd = reader.position + size
      }
      reader.position += size
    }
  }
}

/** Where the text of an AnyValue stands when it is a text and nothing else: [start, its end), or -1. */
export function textStart(bytes: Uint8Array, start: number, end: number): number {
  if (bytes[start] !== 0x0a) return -1
  let at = start + 1
  let size = bytes[at] ?? 0
  if (size >= 0x80) {
    size = longSize(bytes, at, end)
    at += sizeWidth
  }
  return at + 1 + size === end ? at + 1 : -1
}

/** What conditions look at: texts as they are, numbers in decimal, true and false, everything else as JSON. */
export function textOf(bytes: Buffer, start: number, end: number): string {
  const text = textStart(bytes, start, end)
  if (text >= 0) return bytes.toString('utf8', text, end)
  const reader = new Reader()
  reader.buffer = bytes
  reader.position = start
  reader.end = end
  const value = readAnyValue(reader)
  if (value === undefined) return ''
  if (typeof value === 'string') return value
  return typeof value === 'object' ? JSON.stringify(value, exactly) : String(value)
}

const exactly = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? value.toString() : value)
