// Reading attributes and bodies in place (opentelemetry-proto common/v1): AnyValue and KeyValue by offsets.
import { Reader, WireError, bytesType } from './wire.ts'
import type { AttributeValue } from './values.ts'

const depthLimit = 32

/**
 * Decodes an AnyValue whose message spans the reader's current bounds. Integers within 2^53 become numbers,
 * others stay bigint; an AnyValue without content is undefined.
 * @throws WireError with the byte offset; also where values are nested more than 32 deep.
 */
export function readAnyValue(reader: Reader, depth = 0): AttributeValue | undefined {
  if (depth > depthLimit) throw new WireError(`values nested more than ${depthLimit} deep`, reader.position)
  let value: AttributeValue | undefined
  while (!reader.done) {
    const key = reader.key()
    switch (key) {
      case 0x0a:
        value = reader.string()
        break
      case 0x10:
        value = reader.varint() !== 0
        break
      case 0x18: {
        const exact = BigInt.asIntN(64, reader.varint64())
        const near = Number(exact)
        value = Number.isSafeInteger(near) ? near : exact
        break
      }
      case 0x21:
        value = reader.double()
        break
      case 0x2a:
        value = readNested(reader, () => readArray(reader, depth + 1))
        break
      case 0x32:
        value = readNested(reader, () => {
          const entries: [string, AttributeValue][] = []
          readKeyValues(reader, 1, depth + 1, (name, item) => entries.push([name, item ?? '']))
          return Object.fromEntries(entries)
        })
        break
      case 0x3a:
        value = reader.bytes()
        break
      default:
        reader.skip(key)
    }
  }
  return value
}

/** Reads a length, runs `read` within that message, and comes back to the outer one. */
export function readNested<T>(reader: Reader, read: () => T): T {
  const size = reader.length()
  const outer = reader.end
  reader.end = reader.position + size
  const result = read()
  reader.position = reader.end
  reader.end = outer
  return result
}

function readArray(reader: Reader, depth: number): AttributeValue[] {
  const items: AttributeValue[] = []
  while (!reader.done) {
    const key = reader.key()
    if (key === 0x0a) items.push(readNested(reader, () => readAnyValue(reader, depth)) ?? '')
    else reader.skip(key)
  }
  return items
}

/** Calls `each` for every KeyValue that stands as field `field` in the reader's current message. */
export function readKeyValues(
  reader: Reader,
  field: number,
  depth: number,
  each: (key: string, value: AttributeValue | undefined) => void,
): void {
  const wanted = field * 8 + bytesType
  while (!reader.done) {
    const key = reader.key()
    if (key !== wanted) {
      reader.skip(key)
      continue
    }
    readNested(reader, () => {
      let name = ''
      let value: AttributeValue | undefined
      while (!reader.done) {
        const inner = reader.key()
        if (inner === 0x0a) name = reader.string()
        else if (inner === 0x12) value = readNested(reader, () => readAnyValue(reader, depth))
        else reader.skip(inner)
      }
      each(name, value)
    })
  }
}

/** The attributes of a message in `bytes[start, end)` that has them as field `field`, as an object. */
export function attributesOf(
  bytes: Uint8Array,
  start: number,
  end: number,
  field: number,
): Record<string, AttributeValue> {
  const reader = new Reader(bytes)
  reader.position = start
  reader.end = end
  const entries: [string, AttributeValue][] = []
  readKeyValues(reader, field, 0, (key, value) => entries.push([key, value ?? '']))
  return Object.fromEntries(entries)
}
