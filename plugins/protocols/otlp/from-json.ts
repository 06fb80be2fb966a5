// OTLP/JSON → protobuf. 64-bit integers are taken as strings or numbers, exactly; unknown keys are ignored; what
// does not fit is refused with its path, such as `resourceLogs[0].scopeLogs[2].logRecords[5].timeUnixNano`.
import { PermanentError } from '../../contract/errors.ts'
import { Writer, bytesType } from '../../contract/wire.ts'
import { depthLimit } from './check.ts'
import type { Field, Message, ScalarType } from './schema.ts'

type Path = (string | number)[]

/**
 * Encodes a value of the shape that JSON has. Numbers beyond 2^53 may be bigint.
 * @throws PermanentError INPUT_INVALID that names the path.
 */
export function objectToMessage(message: Message, value: unknown): Buffer {
  const out = new Writer(1024)
  const path: Path = []
  if (!isObject(value)) throw wrong(path, 'an object', value)
  writeFields(out, message, value, path, 0)
  return out.take()
}

/**
 * Encodes JSON text.
 * @throws PermanentError INPUT_INVALID where it is no JSON, or with the path of what does not fit.
 */
export const jsonToMessage = (message: Message, text: string): Buffer => objectToMessage(message, parse(text))

// JSON.parse rounds integers beyond 2^53. Where digits enough stand in the text, integers keep their source.
const longDigits = /[:[,\s]-?\d{16}/
const integer = /^-?\d+$/

function parse(text: string): unknown {
  try {
    if (!longDigits.test(text)) return JSON.parse(text)
    // The third argument is newer than TypeScript's own declaration of JSON.parse.
    const exact = (_key: string, value: unknown, { source }: { source?: string } = {}): unknown =>
      typeof value === 'number' &&
      !Number.isSafeInteger(value) &&
      source !== undefined &&
      integer.test(source)
        ? BigInt(source)
        : value
    return JSON.parse(text, exact)
  } catch (cause) {
    throw new PermanentError('INPUT_INVALID', `not JSON: ${(cause as Error).message}`, { cause })
  }
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function describe(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 60))
  if (typeof value === 'number' || typeof value === 'bigint') return `the number ${value}`
  return typeof value === 'boolean' ? String(value) : 'an object'
}

function wrong(path: Path, expected: string, value: unknown): PermanentError {
  const where = path
    .map((step) => (typeof step === 'number' ? `[${step}]` : `.${step}`))
    .join('')
    .slice(1)
  return new PermanentError(
    'INPUT_INVALID',
    `${where || 'the document'}: expected ${expected}, got ${describe(value)}`,
  )
}

function writeFields(
  out: Writer,
  message: Message,
  value: Readonly<Record<string, unknown>>,
  path: Path,
  depth: number,
): void {
  if (depth > depthLimit) throw wrong(path, `at most ${depthLimit} levels`, value)
  for (const key in value) {
    const field = message.byName.get(key)
    const item = value[key]
    // null is an absent field, as in protobuf's own JSON mapping.
    if (!field || item === null || item === undefined) continue
    path.push(key)
    if (!field.repeated) writeField(out, field, item, path, depth)
    else if (!Array.isArray(item)) throw wrong(path, 'an array', item)
    else if (field.message || field.wireType === bytesType) {
      for (let index = 0; index < item.length; index++) {
        path.push(index)
        writeField(out, field, item[index] as unknown, path, depth)
        path.pop()
      }
    } else writePacked(out, field, item, path)
    path.pop()
  }
}

function writeField(out: Writer, field: Field, value: unknown, path: Path, depth: number): void {
  if (!field.message) {
    if (!field.presence && !field.repeated && isDefault(field, value)) return
    out.varint(field.number * 8 + field.wireType)
    scalar(out, field.type as ScalarType, value, path)
    return
  }
  if (!isObject(value)) throw wrong(path, 'an object', value)
  out.varint(field.number * 8 + bytesType)
  // The outer levels are large: a padded length there; the inner ones are small, and move when they are not.
  if (depth < 3) {
    const mark = out.open()
    writeFields(out, field.message, value, path, depth + 1)
    out.close(mark)
    return
  }
  out.byte(0)
  const start = out.position
  writeFields(out, field.message, value, path, depth + 1)
  closeExact(out, start)
}

function isDefault({ wireType, type }: Field, value: unknown): boolean {
  if (wireType === bytesType) return value === ''
  return type === 'bool' ? value === false : Object.is(value, 0)
}

function writePacked(out: Writer, field: Field, values: readonly unknown[], path: Path): void {
  if (values.length === 0) return
  out.varint(field.number * 8 + bytesType)
  out.byte(0)
  const start = out.position
  for (let index = 0; index < values.length; index++) {
    path.push(index)
    scalar(out, field.type as ScalarType, values[index], path)
    path.pop()
  }
  closeExact(out, start)
}

/** Writes the length of what stands behind `start` into the byte before it, moving it on where one is too few. */
function closeExact(out: Writer, start: number): void {
  const size = out.position - start
  if (size < 0x80) {
    out.buffer[start - 1] = size
    return
  }
  const more = size < 0x4000 ? 1 : size < 0x200000 ? 2 : size < 0x10000000 ? 3 : 4
  out.ensure(more)
  out.buffer.copyWithin(start + more, start, out.position)
  out.position = start - 1
  out.varint(size)
  out.position += size
}

function scalar(out: Writer, type: ScalarType, value: unknown, path: Path): void {
  switch (type) {
    case 'string':
      if (typeof value !== 'string') throw wrong(path, 'a string', value)
      return out.string(value)
    case 'bytes':
      if (typeof value !== 'string' || !/^[\w+/-]*={0,2}$/.test(value)) throw wrong(path, 'base64', value)
      return out.bytes(Buffer.from(value, 'base64'))
    case 'hex':
      if (typeof value !== 'string' || !/^([0-9a-fA-F]{2})*$/.test(value))
        throw wrong(path, 'hex digits', value)
      return out.bytes(Buffer.from(value, 'hex'))
    case 'bool':
      if (typeof value !== 'boolean') throw wrong(path, 'true or false', value)
      return out.byte(value ? 1 : 0)
    case 'double':
      return out.double(number(value, path))
    case 'fixed64':
      return fixed64(out, value, path)
    case 'sfixed64':
      return out.fixed64Big(exact(value, path, -(2n ** 63n), 2n ** 63n - 1n))
    case 'int64':
      return int64(out, value, path)
    case 'uint64':
      return out.varint64(exact(value, path, 0n, 2n ** 64n - 1n))
    case 'int32':
      return int64(out, small(value, path, -(2 ** 31), 2 ** 31 - 1), path)
    case 'uint32':
      return out.varint(small(value, path, 0, 2 ** 32 - 1))
    case 'fixed32':
      return out.fixed32(small(value, path, 0, 2 ** 32 - 1))
    case 'sint32': {
      const signed = small(value, path, -(2 ** 31), 2 ** 31 - 1)
      return out.varint(((signed << 1) ^ (signed >> 31)) >>> 0)
    }
    default:
      return type satisfies never
  }
}

const specials: Readonly<Record<string, number>> = { NaN, Infinity, '-Infinity': -Infinity }

function number(value: unknown, path: Path): number {
  if (typeof value === 'number') return value
  if (typeof value === 'bigint') return Number(value)
  if (typeof value === 'string') {
    const special = specials[value]
    if (special !== undefined) return special
    if (value.trim() === value && value !== '' && Number.isFinite(Number(value))) return Number(value)
  }
  throw wrong(path, 'a number', value)
}

function exact(value: unknown, path: Path, least: bigint, most: bigint): bigint {
  let whole: bigint | undefined
  if (typeof value === 'bigint') whole = value
  else if (typeof value === 'number' && Number.isInteger(value)) whole = BigInt(value)
  else if (typeof value === 'string' && value.length <= 21 && integer.test(value)) whole = BigInt(value)
  if (whole !== undefined && whole >= least && whole <= most) return whole
  throw wrong(path, least < 0n ? 'a signed 64-bit integer' : 'an unsigned 64-bit integer', value)
}

function small(value: unknown, path: Path, least: number, most: number): number {
  const whole = typeof value === 'string' && integer.test(value) ? Number(value) : value
  if (typeof whole === 'number' && Number.isInteger(whole) && whole >= least && whole <= most) return whole
  throw wrong(path, `an integer from ${least} to ${most}`, value)
}

/** Small ones, which most are, without a bigint. */
function int64(out: Writer, value: unknown, path: Path): void {
  const near = typeof value === 'string' && value.length < 16 && /^\d+$/.test(value) ? Number(value) : value
  if (typeof near === 'number' && near >= 0 && Number.isSafeInteger(near)) return out.varint(near)
  return out.varint64(exact(near, path, -(2n ** 63n), 2n ** 63n - 1n))
}

/** Times are decimal strings of 19 digits: cut into seconds and nanoseconds they need no bigint. */
function fixed64(out: Writer, value: unknown, path: Path): void {
  if (typeof value === 'string' && value.length > 9 && value.length < 20 && /^\d+$/.test(value)) {
    return out.fixed64Time(Number(value.slice(0, -9)), Number(value.slice(-9)))
  }
  return out.fixed64Big(exact(value, path, 0n, 2n ** 64n - 1n))
}
