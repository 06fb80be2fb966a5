// By what rules tell records apart: keys that a rule names, and series of readings. Hashes are of what is meant, not of
// how it is encoded, so that every collector comes to the same.
import type { RequestCursor } from '../../contract/cursor.ts'
import { AttributeWalk, textOf } from './record.ts'
import type { RecordFacts } from './record.ts'

/** Text of the fields that a rule names, of a record and its Resource. */
export type KeyOf = (record: RecordFacts, cursor: RequestCursor) => string

export function keyOf(fields: readonly string[]): KeyOf {
  if (fields.length === 0) return () => ''
  const parts = fields.map(fieldOf)
  const [only] = parts
  if (parts.length === 1 && only) return only
  return (record, cursor) => parts.map((part) => part(record, cursor)).join('\0')
}

function fieldOf(field: string): KeyOf {
  if (field.startsWith('attributes.')) {
    const key = Buffer.from(field.slice('attributes.'.length))
    const walk = new AttributeWalk()
    return (record) => attributeText(record, walk, key)
  }
  if (field.startsWith('resource.')) {
    const key = field.slice('resource.'.length)
    return (_, cursor) => {
      const attributes = cursor.resourceAttributes()
      const value = Object.hasOwn(attributes, key) ? attributes[key] : ''
      return typeof value === 'object' ? JSON.stringify(value) : String(value)
    }
  }
  switch (field) {
    case 'name':
      return (record) => record.name
    case 'body':
      return (record) => record.body
    case 'device':
      return (record) => record.device
    case 'class':
      return (record) => record.class
    case 'severity':
      return (record) => String(record.severity)
    default:
      return ({ bytes, traceStart, traceEnd }) => bytes.toString('hex', traceStart, traceEnd)
  }
}

function attributeText(record: RecordFacts, walk: AttributeWalk, key: Buffer): string {
  const { bytes, attributesStart, attributesEnd, layout } = record
  walk.over(bytes, attributesStart, attributesEnd, layout.attributes)
  while (walk.next()) {
    if (key.compare(bytes, walk.keyStart, walk.keyEnd) === 0)
      return textOf(bytes, walk.valueStart, walk.valueEnd)
  }
  return ''
}

/** 32 bits of a text, spread evenly (FNV-1a, and the end of MurmurHash3). */
export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  return spread(hash)
}

export function hashBytes(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0x811c9dc5
  for (let at = start; at < end; at++) hash = Math.imul(hash ^ (bytes[at] ?? 0), 0x01000193)
  return spread(hash)
}

function spread(hash: number): number {
  let mixed = hash ^ (hash >>> 16)
  mixed = Math.imul(mixed, 0x85ebca6b)
  mixed ^= mixed >>> 13
  mixed = Math.imul(mixed, 0xc2b2ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}

/** 53 bits for the series of a reading: device, Resource, metric and attributes. Two of a million are the same once in ten thousand years. */
export class SeriesKey {
  #low = 0
  #high = 0
  #resourceLow = 0
  #resourceHigh = 0

  /** Another Resource holds from here on. */
  resource(device: string, cursor: RequestCursor): void {
    this.#low = hashText(device)
    this.#high = 0x9e3779b9 ^ this.#low
    this.#add(cursor.bytes, cursor.resource.start, cursor.resource.end)
    this.#add(cursor.bytes, cursor.scope.start, cursor.scope.end)
    this.#resourceLow = this.#low
    this.#resourceHigh = this.#high
  }

  of(record: RecordFacts): number {
    this.#low = this.#resourceLow ^ hashText(record.metricName)
    this.#high = Math.imul(this.#resourceHigh, 31) ^ this.#low
    const { bytes, attributeCount: count, attributeStarts: starts, attributeEnds: ends } = record
    if (count > starts.length) this.#add(bytes, record.attributesStart, record.attributesEnd)
    else for (let at = 0; at < count; at++) this.#add(bytes, starts[at] ?? 0, ends[at] ?? 0)
    return spread(this.#high) * 0x200000 + (spread(this.#low) >>> 11)
  }

  #add(bytes: Uint8Array, start: number, end: number): void {
    let low = this.#low
    let high = this.#high
    for (let at = start; at < end; at++) {
      const byte = bytes[at] ?? 0
      low = Math.imul(low ^ byte, 0x01000193)
      high = (Math.imul(high, 33) + byte) | 0
    }
    this.#low = low
    this.#high = high ^ (low >>> 7)
  }
}
