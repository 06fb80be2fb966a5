// Log records of a batch into columns: OTLP bytes in, a chunk of DuckDB's out, no object per record.
import { LogCursor } from '../../plugins/contract/log-cursor.ts'
import { attributesOf } from '../../plugins/contract/any-value.ts'
import type { Span } from '../../plugins/contract/request-cursor.ts'
import { WireError } from '../../plugins/contract/wire.ts'
import type { Writer } from '../../plugins/contract/wire.ts'
import { Chunk } from './columns.ts'
import type { TextColumn } from './columns.ts'
import type { Dictionaries } from './dictionaries.ts'
import { JsonText, suspectText, textOf } from './json-text.ts'
import { bodyForm, columnIndex, logLayout } from './schema.ts'

const two32 = 4_294_967_296
const dayNano = 86_400e9
const column = (name: keyof typeof logLayout): number => columnIndex(logLayout, name)

/** What a batch tells of each of its rows. */
export interface BatchPlace {
  readonly device: number
  readonly stream: number
  readonly seq: number
  /** Number of its first record in the batch. */
  readonly first: number
  /** Records that the header announces. */
  readonly count: number
  readonly arrivedLow: number
  readonly arrivedHigh: number
}

export interface Stored {
  stored: number
  rejected: number
}

/** Column buffers of one segment's rows, and the times that they span. */
export abstract class Rows {
  readonly chunk: Chunk
  /** Effective times since `clearSpan`, in nanoseconds as doubles: exact to a microsecond. */
  from = Infinity
  to = -Infinity

  constructor(chunk: Chunk) {
    this.chunk = chunk
  }

  clearSpan(): void {
    this.from = Infinity
    this.to = -Infinity
  }

  protected seen(atNano: number): void {
    if (atNano < this.from) this.from = atNano
    if (atNano > this.to) this.to = atNano
  }

  /** Adds the records of a bare batch; `flush` empties the chunk when it is full. */
  abstract add(bytes: Uint8Array, place: BatchPlace, flush: () => void): Stored
}

/** True where a claimed time is more than a day from the arrival. */
export const isSuspect = (timeNano: number, arrivedNano: number): boolean =>
  Math.abs(timeNano - arrivedNano) > dayNano

/** The halves of one row's `seq`, a number up to 2^53. */
export function setSeq(words: Uint32Array, row: number, seq: number): void {
  words[row * 2] = seq % two32
  words[row * 2 + 1] = Math.floor(seq / two32)
}

export class LogRows extends Rows {
  readonly #dictionaries: Dictionaries
  readonly #cursor = new LogCursor()
  readonly #json = new JsonText()
  readonly #serviceOf = new Map<number, number>()
  readonly #at: Uint32Array
  readonly #arrival: Uint32Array
  readonly #claimed: Uint32Array
  readonly #observed: Uint32Array
  readonly #device: Int32Array
  readonly #service: Int32Array
  readonly #resource: Int32Array
  readonly #severity: Int32Array
  readonly #flags: Int32Array
  readonly #stream: Int32Array
  readonly #seq: Uint32Array
  readonly #idx: Int32Array
  readonly #form: Uint8Array
  readonly #body: TextColumn
  readonly #severityText: TextColumn
  readonly #attributes: TextColumn
  readonly #eventName: TextColumn
  readonly #traceId: TextColumn
  readonly #spanId: TextColumn

  constructor(dictionaries: Dictionaries) {
    const chunk = new Chunk(logLayout)
    super(chunk)
    this.#dictionaries = dictionaries
    this.#at = chunk.words(column('ts'))
    this.#arrival = chunk.words(column('arrival'))
    this.#claimed = chunk.words(column('claimed'))
    this.#observed = chunk.words(column('observed'))
    this.#device = chunk.integers(column('device'))
    this.#service = chunk.integers(column('service'))
    this.#resource = chunk.integers(column('resource'))
    this.#severity = chunk.integers(column('severity'))
    this.#flags = chunk.integers(column('flags'))
    this.#stream = chunk.integers(column('stream'))
    this.#seq = chunk.words(column('seq'))
    this.#idx = chunk.integers(column('idx'))
    this.#form = chunk.bytes(column('body_form'))
    this.#body = chunk.text(column('body'))
    this.#severityText = chunk.text(column('severity_text'))
    this.#attributes = chunk.text(column('attributes'))
    this.#eventName = chunk.text(column('event_name'))
    this.#traceId = chunk.text(column('trace_id'))
    this.#spanId = chunk.text(column('span_id'))
  }

  add(bytes: Uint8Array, place: BatchPlace, flush: () => void): Stored {
    const cursor = this.#cursor.reset(bytes)
    const { slab } = this.chunk
    let stored = 0
    let seen = 0
    let resourceIndex = 0
    let resource = 0
    let service = 0
    try {
      while (cursor.next()) {
        const index = seen++
        if (cursor.resourceIndex !== resourceIndex) {
          resourceIndex = cursor.resourceIndex
          resource = this.#dictionaries.resources.intern(
            cursor.bytes,
            cursor.resource.start,
            cursor.resource.end,
          )
          service = this.#serviceOfResource(resource)
        }
        const mark = slab.position
        try {
          this.#row(cursor, place, index, resource, service)
        } catch (error) {
          if (!(error instanceof WireError)) throw error
          slab.position = mark
          continue
        }
        this.chunk.rows++
        stored++
        if (this.chunk.full) flush()
      }
    } catch (error) {
      // Malformed from here on: what was read stays, the rest cannot be held.
      if (!(error instanceof WireError)) throw error
    }
    return { stored, rejected: Math.max(place.count, seen) - stored }
  }

  #row(cursor: LogCursor, place: BatchPlace, index: number, resource: number, service: number): void {
    const row = this.chunk.rows
    const { bytes } = cursor
    const suspect = this.#times(cursor, place, row)
    this.#text(bytes, cursor.severityText, this.#severityText, row)
    this.#text(bytes, cursor.eventName, this.#eventName, row)
    this.#setBody(bytes, cursor.body, row)
    this.#hex(bytes, cursor.traceId, this.#traceId, row)
    this.#hex(bytes, cursor.spanId, this.#spanId, row)
    const { slab } = this.chunk
    const start = slab.position
    const { attributes } = cursor
    this.#json.attributes(slab, bytes, attributes.start, attributes.end, 6, suspect ? suspectText : undefined)
    this.#attributes.starts[row] = start
    this.#attributes.lengths[row] = slab.position - start
    const { appNameStart, appNameEnd } = this.#json
    this.#service[row] =
      appNameEnd > appNameStart
        ? this.#dictionaries.services.intern(bytes, appNameStart, appNameEnd)
        : service
    this.#device[row] = place.device
    this.#resource[row] = resource
    this.#severity[row] = cursor.severityNumber
    this.#flags[row] = cursor.flags
    this.#stream[row] = place.stream
    setSeq(this.#seq, row, place.seq)
    this.#idx[row] = place.first + index
  }

  /** Sets the times of a row; true where the claimed one is suspect. */
  #times(cursor: LogCursor, place: BatchPlace, row: number): boolean {
    const low = row * 2
    const high = low + 1
    const arrivedNano = place.arrivedHigh * two32 + place.arrivedLow
    let timeLow = cursor.timeLow
    let timeHigh = cursor.timeHigh
    if (timeLow === 0 && timeHigh === 0) {
      timeLow = cursor.observedLow
      timeHigh = cursor.observedHigh
    }
    if (timeLow === 0 && timeHigh === 0) {
      timeLow = place.arrivedLow
      timeHigh = place.arrivedHigh
    }
    const timeNano = timeHigh * two32 + timeLow
    const suspect = isSuspect(timeNano, arrivedNano)
    this.#arrival[low] = place.arrivedLow
    this.#arrival[high] = place.arrivedHigh
    this.#observed[low] = cursor.observedLow
    this.#observed[high] = cursor.observedHigh
    this.#at[low] = suspect ? place.arrivedLow : timeLow
    this.#at[high] = suspect ? place.arrivedHigh : timeHigh
    this.#claimed[low] = suspect ? timeLow : 0
    this.#claimed[high] = suspect ? timeHigh : 0
    this.seen(suspect ? arrivedNano : timeNano)
    return suspect
  }

  #text(bytes: Buffer, span: Span, into: TextColumn, row: number): void {
    into.starts[row] = this.chunk.slab.position
    into.lengths[row] = span.end - span.start
    if (span.end > span.start) put(this.chunk.slab, bytes, span.start, span.end)
  }

  #setBody(bytes: Buffer, span: Span, row: number): void {
    const { slab } = this.chunk
    const start = slab.position
    this.#body.starts[row] = start
    this.#body.lengths[row] = 0
    this.#form[row] = bodyForm.none
    if (span.end <= span.start) return
    const text = textOf(bytes, span.start, span.end)
    if (text > 0) {
      this.#form[row] = bodyForm.text
      put(slab, bytes, text, span.end)
    } else {
      this.#form[row] = bodyForm.json
      this.#json.value(slab, bytes, span.start, span.end)
    }
    this.#body.lengths[row] = slab.position - start
  }

  #hex(bytes: Buffer, span: Span, into: TextColumn, row: number): void {
    const { slab } = this.chunk
    const size = span.end - span.start
    into.starts[row] = slab.position
    into.lengths[row] = size * 2
    if (size === 0) return
    slab.ensure(size * 2)
    slab.position += slab.buffer.write(bytes.toString('hex', span.start, span.end), slab.position, 'latin1')
  }

  #serviceOfResource(resource: number): number {
    const known = this.#serviceOf.get(resource)
    if (known !== undefined) return known
    const { resource: span, bytes } = this.#cursor
    const name = attributesOf(bytes, span.start, span.end, 1)['service.name']
    const text = Buffer.from(typeof name === 'string' ? name : '')
    const id = this.#dictionaries.services.intern(text, 0, text.length)
    if (this.#serviceOf.size >= 10_000) this.#serviceOf.clear()
    this.#serviceOf.set(resource, id)
    return id
  }
}

function put(slab: Writer, bytes: Buffer, start: number, end: number): void {
  slab.ensure(end - start)
  const { buffer } = slab
  let at = slab.position
  if (end - start > 32) {
    bytes.copy(buffer, at, start, end)
    slab.position = at + end - start
    return
  }
  for (let index = start; index < end; index++) buffer[at++] = bytes[index] ?? 0
  slab.position = at
}
