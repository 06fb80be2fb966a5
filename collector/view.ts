// What a processor sees of a record: a window on the cursor, which decodes what is asked for and nothing else.
import {
  LogCursor,
  PointCursor,
  Reader,
  SpanCursor,
  readAnyValue,
  readNested,
} from '../plugins/contract/index.ts'
import { pointAttributesField } from '../plugins/contract/index.ts'
import type {
  AttributeValue,
  Attributes,
  Class,
  RecordView,
  Records,
  Signal,
} from '../plugins/contract/index.ts'
import type { RecordCursor } from '../plugins/contract/rewrite.ts'

const encodedKeys = new Map<string, Buffer>()
const mostKeys = 1000
const two32 = 4_294_967_296n

export class CursorView implements RecordView {
  signal: Signal = 'logs'
  class: Class = 'log'
  device = ''
  /** What processors before have set. */
  overlay: Attributes | undefined
  #cursor: RecordCursor = new LogCursor()
  #nameOf = -1
  #name = ''

  /** Looks through a cursor over these Records; it follows where the cursor goes. */
  over(records: Records, cursor: RecordCursor): this {
    this.signal = records.signal
    this.class = records.class
    this.device = records.device
    this.#cursor = cursor
    this.#nameOf = -1
    return this
  }

  get severityNumber(): number {
    return this.#cursor instanceof LogCursor ? this.#cursor.severityNumber : 0
  }

  get name(): string {
    const cursor = this.#cursor
    if (cursor instanceof LogCursor) return cursor.text(cursor.eventName)
    if (!(cursor instanceof PointCursor)) return ''
    if (this.#nameOf !== cursor.metricIndex) {
      this.#nameOf = cursor.metricIndex
      this.#name = cursor.text(cursor.name)
    }
    return this.#name
  }

  body(): string {
    if (!(this.#cursor instanceof LogCursor)) return ''
    const value = this.#cursor.bodyValue()
    if (typeof value === 'string') return value
    return value === undefined ? '' : JSON.stringify(value, exactly)
  }

  value(): number | bigint | undefined {
    const cursor = this.#cursor
    if (!(cursor instanceof PointCursor) || cursor.valueKind === 'none') return undefined
    if (cursor.valueKind === 'double') return cursor.double
    return BigInt.asIntN(64, BigInt(cursor.intHigh) * two32 + BigInt(cursor.intLow))
  }

  attribute(key: string): AttributeValue | undefined {
    if (this.overlay && Object.hasOwn(this.overlay, key)) return this.overlay[key]
    const cursor = this.#cursor
    if (cursor instanceof SpanCursor)
      return find(cursor.bytes, cursor.record.start, cursor.record.end, 9, key)
    const { start, end } = cursor.attributes
    const field = cursor instanceof PointCursor ? pointAttributesField[cursor.type] : 6
    return find(cursor.bytes, start, end, field, key)
  }

  resource(key: string): AttributeValue | undefined {
    const { bytes, resource } = this.#cursor
    return find(bytes, resource.start, resource.end, 1, key)
  }
}

const exactly = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? value.toString() : value)

/** The value of one KeyValue among the fields of a message; keys are compared as bytes. */
function find(
  bytes: Buffer,
  start: number,
  end: number,
  field: number,
  key: string,
): AttributeValue | undefined {
  const wanted = encodedKey(key)
  const reader = new Reader(bytes)
  reader.position = start
  reader.end = end
  while (!reader.done) {
    const tag = reader.key()
    if (tag !== field * 8 + 2) {
      reader.skip(tag)
      continue
    }
    // The OpenTelemetry Collector writes the value before the key.
    let isIt = false
    let valueAt = -1
    readNested(reader, () => {
      while (!reader.done) {
        const at = reader.position
        const inner = reader.key()
        if (inner === 0x0a) isIt = reader.bytes().equals(wanted)
        else {
          if (inner === 0x12) valueAt = at + 1
          reader.skip(inner)
        }
      }
    })
    if (!isIt) continue
    if (valueAt < 0) return undefined
    reader.position = valueAt
    return readNested(reader, () => readAnyValue(reader))
  }
  return undefined
}

function encodedKey(key: string): Buffer {
  let encoded = encodedKeys.get(key)
  if (!encoded) {
    if (encodedKeys.size >= mostKeys) encodedKeys.clear()
    encoded = Buffer.from(key)
    encodedKeys.set(key, encoded)
  }
  return encoded
}
