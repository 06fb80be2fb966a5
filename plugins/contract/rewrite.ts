// Builds a request out of records of another one: which are kept is decided record by record, what stands around them
// (Resource, scope, metric, fields that we do not know) comes along. Bytes are copied, nothing is decoded.
import type { Records } from './batch.ts'
import { LogCursor, PointCursor, SpanCursor, pointAttributesField } from './cursor.ts'
import type { RequestCursor } from './cursor.ts'
import type { Span } from './request-cursor.ts'
import type { Class, Signal } from './signal.ts'
import { writeKeyValue } from './values.ts'
import type { Attributes } from './values.ts'
import { Reader, Writer } from './wire.ts'

export type RecordCursor = LogCursor | PointCursor | SpanCursor

export const cursorFor = (signal: Signal): RecordCursor =>
  signal === 'logs' ? new LogCursor() : signal === 'metrics' ? new PointCursor() : new SpanCursor()

/** Writes what `keep` is called with, in the order of the source. */
export class Rewriter {
  readonly #out = new Writer(64 * 1024)
  readonly #reader = new Reader()
  #container = -1
  #scope = -1
  #metric = -1
  #name: string | undefined
  #containerMark = 0
  /** What is to be looked through for other fields once the records are read, and lie near. */
  readonly #containerRest: Span = { start: 0, end: 0 }
  readonly #scopeRest: Span = { start: 0, end: 0 }
  #scopeMark = 0
  #metricMark = 0
  #dataMark = 0
  count = 0

  get size(): number {
    return this.#out.position
  }

  begin(bytes: Uint8Array): void {
    this.#reader.reset(bytes)
    this.#out.reset()
    this.#container = this.#scope = this.#metric = -1
    this.count = 0
  }

  /** Keeps the record at which the cursor stands; `set` replaces attributes of it. */
  keep(cursor: RecordCursor, set?: Attributes): void {
    this.#enter(cursor)
    this.count++
    const out = this.#out
    if (cursor instanceof PointCursor) {
      const field = pointAttributesField[cursor.type]
      out.byte(0x0a)
      this.#record(cursor.point.start, cursor.point.end, field, set)
      return
    }
    out.byte(0x12)
    // Log records and spans have their attributes as fields 6 and 9.
    this.#record(cursor.record.start, cursor.record.end, cursor instanceof LogCursor ? 6 : 9, set)
  }

  /** What `copy` writes next stands where the cursor does. */
  at(cursor: RecordCursor): void {
    this.#enter(cursor)
  }

  /** Keeps `count` whole records as they stand together in the source, tags included. */
  copy(from: number, to: number, count: number): void {
    this.count += count
    this.#out.raw(this.#reader.buffer, from, to)
  }

  /** Writes a changed record in the place of the one at which the cursor stands; `name` renames its metric. */
  item(cursor: RecordCursor, bytes: Uint8Array, start: number, end: number, name?: string): void {
    this.#enter(cursor, name)
    this.count++
    this.#out.byte(cursor instanceof PointCursor ? 0x0a : 0x12)
    this.#out.bytes(bytes, start, end)
  }

  finish(): Uint8Array {
    this.#leaveContainer()
    return this.#out.take()
  }

  #record(start: number, end: number, field: number, set: Attributes | undefined): void {
    const out = this.#out
    const { buffer } = this.#reader
    if (!set) return out.bytes(buffer, start, end)
    const mark = out.open()
    const reader = this.#reader
    reader.position = start
    reader.end = end
    while (reader.position < end) {
      const began = reader.position
      const key = reader.key()
      reader.skip(key)
      if (key === field * 8 + 2 && Object.hasOwn(set, keyOf(buffer, began, reader.position))) continue
      out.raw(buffer, began, reader.position)
    }
    for (const [key, value] of Object.entries(set)) writeKeyValue(out, field, key, value)
    out.close(mark)
  }

  #enter(cursor: RequestCursor, name?: string): void {
    if (cursor.container.start !== this.#container) {
      this.#leaveContainer()
      this.#container = cursor.container.start
      this.#out.byte(0x0a)
      this.#containerMark = this.#out.open()
      this.#copyFront(cursor.container, this.#containerRest)
    }
    if (cursor.scopeContainer.start !== this.#scope) {
      this.#leaveScope()
      this.#scope = cursor.scopeContainer.start
      this.#out.byte(0x12)
      this.#scopeMark = this.#out.open()
      this.#copyFront(cursor.scopeContainer, this.#scopeRest)
    }
    if (!(cursor instanceof PointCursor)) return
    if (cursor.metric.start === this.#metric && name === this.#name) return
    this.#leaveMetric()
    this.#metric = cursor.metric.start
    this.#name = name
    this.#out.byte(0x12)
    this.#metricMark = this.#out.open()
    if (name !== undefined) {
      this.#out.byte(0x0a)
      this.#out.string(name)
    }
    const { metric, data } = cursor
    const dataKey = this.#copyOthers(metric.start, metric.end, name === undefined ? -1 : 0x0a, data.start)
    this.#out.varint(dataKey)
    this.#dataMark = this.#out.open()
    this.#copyOthers(cursor.data.start, cursor.data.end, 0x0a)
  }

  #leaveContainer(): void {
    if (this.#container < 0) return
    this.#leaveScope()
    this.#copyOthers(this.#containerRest.start, this.#containerRest.end, 0x12)
    this.#out.close(this.#containerMark)
    this.#container = -1
  }

  #leaveScope(): void {
    if (this.#scope < 0) return
    this.#leaveMetric()
    this.#copyOthers(this.#scopeRest.start, this.#scopeRest.end, 0x12)
    this.#out.close(this.#scopeMark)
    this.#scope = -1
  }

  #leaveMetric(): void {
    if (this.#metric < 0) return
    this.#out.close(this.#dataMark)
    this.#out.close(this.#metricMark)
    this.#metric = -1
  }

  /** Copies the fields that stand before the first record, or scope; where the `rest` begins. */
  #copyFront({ start, end }: Span, rest: Span): void {
    const reader = this.#reader
    reader.position = start
    reader.end = end
    rest.start = rest.end = end
    while (reader.position < end) {
      const began = reader.position
      const key = reader.key()
      if (key === 0x12) {
        rest.start = began
        return
      }
      reader.skip(key)
      this.#out.raw(reader.buffer, began, reader.position)
    }
  }

  /** Copies the fields of a message but those with one key, or the one that ends where `dataStart` begins; its key. */
  #copyOthers(start: number, end: number, except: number, dataStart = -1): number {
    const reader = this.#reader
    let dataKey = 0
    reader.position = start
    reader.end = end
    while (reader.position < end) {
      const began = reader.position
      const key = reader.key()
      if (key === except) {
        reader.skip(key)
        continue
      }
      if (dataStart >= 0 && (key & 7) === 2) {
        const size = reader.length()
        if (reader.position === dataStart) {
          dataKey = key
          reader.position += size
          continue
        }
        reader.position += size
      } else reader.skip(key)
      this.#out.raw(reader.buffer, began, reader.position)
    }
    return dataKey
  }
}

/** The key of the KeyValue whose field begins at `start`. */
function keyOf(buffer: Buffer, start: number, end: number): string {
  const reader = new Reader(buffer)
  reader.position = start
  reader.end = end
  reader.key()
  reader.end = reader.length() + reader.position
  while (!reader.done) {
    const key = reader.key()
    if (key === 0x0a) return reader.string()
    reader.skip(key)
  }
  return ''
}

/** The same Records with other bytes. Times stay those of the whole: they bound what is left. */
export const replaced = (
  records: Records,
  bytes: Uint8Array,
  count: number,
  name: Class = records.class,
): Records => ({
  device: records.device,
  signal: records.signal,
  class: name,
  from: records.from,
  to: records.to,
  count,
  bytes,
})
