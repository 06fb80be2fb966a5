// Protobuf → OTLP/JSON text, straight from the bytes. Unknown fields, the header of a batch among them, are left out.
//
//   64-bit integers are decimal strings, enums numbers, trace and span ids hex, other bytes base64; a field at
//   its default is left out unless its presence means something; NaN and infinities are strings.
import { Reader, WireError, bytesType } from '../../contract/wire.ts'
import { depthLimit } from './check.ts'
import type { Field, Message, ScalarType } from './schema.ts'

/**
 * The JSON text of an encoded message.
 * @throws WireError with the byte offset.
 */
export function messageToJson(message: Message, bytes: Uint8Array): string {
  return read(new Reader(bytes), message, 0)
}

/** Reads the message that the reader's bounds hold. */
function read(reader: Reader, message: Message, depth: number): string {
  if (depth > depthLimit) throw new WireError(`messages nested more than ${depthLimit} deep`, reader.position)
  const values: (string | undefined)[] = []
  const bodies: (Buffer | undefined)[] = []
  while (!reader.done) {
    const key = reader.key()
    const field = message.byNumber[key >>> 3]
    const type = key & 7
    if (!field) {
      reader.skip(key)
    } else if (type === field.wireType) {
      const value = field.message
        ? readMessage(reader, field, bodies, depth)
        : scalar(reader, field.type as ScalarType)
      put(values, field, value)
      for (const other of field.siblings) values[other] = bodies[other] = undefined
    } else if (field.repeated && type === bytesType && field.wireType !== bytesType) {
      readPacked(reader, field, values)
    } else reader.skip(key)
  }
  return render(message, values)
}

function readMessage(reader: Reader, field: Field, bodies: (Buffer | undefined)[], depth: number): string {
  const message = field.message as Message
  const size = reader.length()
  const start = reader.position
  const outer = reader.end
  reader.end = start + size
  let value: string
  const before = field.repeated ? undefined : bodies[field.index]
  const body = reader.buffer.subarray(start, reader.end)
  if (before) {
    // Protobuf merges a message that stands twice, which is the same as joining its bytes.
    const joined = Buffer.concat([before, body])
    bodies[field.index] = joined
    value = read(new Reader(joined), message, depth + 1)
  } else {
    if (!field.repeated) bodies[field.index] = body
    value = read(reader, message, depth + 1)
  }
  reader.position = start + size
  reader.end = outer
  return value
}

function readPacked(reader: Reader, field: Field, values: (string | undefined)[]): void {
  const size = reader.length()
  const outer = reader.end
  reader.end = reader.position + size
  while (!reader.done) put(values, field, scalar(reader, field.type as ScalarType))
  reader.end = outer
}

function put(values: (string | undefined)[], field: Field, value: string): void {
  const before = field.repeated ? values[field.index] : undefined
  values[field.index] = before === undefined ? value : `${before},${value}`
}

function render(message: Message, values: readonly (string | undefined)[]): string {
  let text = ''
  for (const field of message.fields) {
    const value = values[field.index]
    if (value === undefined) continue
    if (!field.repeated && !field.presence && !field.message && isDefault(field, value)) continue
    if (text !== '') text += ','
    text += field.label
    text += field.repeated ? `[${value}]` : value
  }
  return `{${text}}`
}

/** By the type: `"0"` is the default of an integer, and text like any other. */
function isDefault({ wireType }: Field, value: string): boolean {
  if (wireType === bytesType) return value === '""'
  return value === '0' || value === '"0"' || value === 'false'
}

function scalar(reader: Reader, type: ScalarType): string {
  switch (type) {
    case 'string':
      return JSON.stringify(reader.string())
    case 'bytes':
      return `"${reader.bytes().toString('base64')}"`
    case 'hex':
      return `"${reader.bytes().toString('hex')}"`
    case 'bool':
      return isSmall(reader) ? String(reader.varint() !== 0) : String(reader.varint64() !== 0n)
    case 'int32':
      return String(BigInt.asIntN(32, wide(reader)))
    case 'uint32':
      return String(BigInt.asUintN(32, wide(reader)))
    case 'sint32': {
      const raw = Number(BigInt.asUintN(32, wide(reader)))
      return String((raw >>> 1) ^ -(raw & 1))
    }
    case 'int64':
      return isSmall(reader) ? `"${reader.varint()}"` : `"${BigInt.asIntN(64, reader.varint64())}"`
    case 'uint64':
      return isSmall(reader) ? `"${reader.varint()}"` : `"${reader.varint64()}"`
    case 'fixed32':
      return String(reader.fixed32())
    case 'fixed64':
      return `"${reader.fixed64Big()}"`
    case 'sfixed64':
      return `"${BigInt.asIntN(64, reader.fixed64Big())}"`
    case 'double':
      return double(reader.double())
    default:
      return type satisfies never
  }
}

/** Whether the varint that follows is below 2^49, and so exact as a number. */
function isSmall({ buffer, position }: Reader): boolean {
  for (let index = 0; index < 7; index++) if ((buffer[position + index] ?? 0) < 0x80) return true
  return false
}

const wide = (reader: Reader): bigint => (isSmall(reader) ? BigInt(reader.varint()) : reader.varint64())

function double(value: number): string {
  if (Number.isFinite(value)) return Object.is(value, -0) ? '-0' : String(value)
  return `"${value}"`
}
