// Writing attribute values, Resources and scopes (opentelemetry-proto common/v1, resource/v1).
import { Writer, bytesType } from './wire.ts'

/** What an attribute may hold. Integers beyond 2^53 are bigint; a number with a fraction becomes a double. */
export type AttributeValue =
  | string
  | number
  | bigint
  | boolean
  | Uint8Array
  | readonly AttributeValue[]
  | { readonly [key: string]: AttributeValue }
export type Attributes = Readonly<Record<string, AttributeValue>>

/** Instrumentation scope: the plugin that wrote the records. */
export interface Scope {
  readonly name: string
  readonly version?: string
}

/** Writes an AnyValue's content (without its own length). */
export function writeAnyValue(out: Writer, value: AttributeValue): void {
  switch (typeof value) {
    case 'string':
      out.byte(0x0a)
      out.string(value)
      return
    case 'boolean':
      out.byte(0x10)
      out.byte(value ? 1 : 0)
      return
    case 'bigint':
      out.byte(0x18)
      out.varint64(value)
      return
    case 'number':
      if (Number.isSafeInteger(value) && !Object.is(value, -0)) {
        out.byte(0x18)
        if (value >= 0) out.varint(value)
        else out.varint64(BigInt(value))
      } else {
        out.byte(0x21)
        out.double(value)
      }
      return
    default:
      writeComposite(out, value)
  }
}

function writeComposite(
  out: Writer,
  value: Exclude<AttributeValue, string | number | bigint | boolean>,
): void {
  if (value instanceof Uint8Array) {
    out.byte(0x3a)
    out.bytes(value)
    return
  }
  const list = Array.isArray(value) ? (value as readonly AttributeValue[]) : undefined
  out.byte(list ? 0x2a : 0x32)
  const mark = out.openSmall()
  if (list) {
    for (const item of list) {
      out.byte(0x0a)
      const inner = out.openSmall()
      writeAnyValue(out, item)
      out.closeSmall(inner)
    }
  } else {
    for (const [key, item] of Object.entries(value)) writeKeyValue(out, 1, key, item)
  }
  out.closeSmall(mark)
}

/** Writes a KeyValue as field `field` of the message that is open. */
export function writeKeyValue(out: Writer, field: number, key: string, value: AttributeValue): void {
  out.tag(field, bytesType)
  const mark = out.openSmall()
  out.byte(0x0a)
  out.string(key)
  out.byte(0x12)
  const inner = out.openSmall()
  writeAnyValue(out, value)
  out.closeSmall(inner)
  out.closeSmall(mark)
}

/** A Resource message; undefined attributes are left out. Encode it once and give it to every encoder. */
export function encodeResource(attributes: Readonly<Record<string, AttributeValue | undefined>>): Uint8Array {
  const out = new Writer(512)
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined) writeKeyValue(out, 1, key, value)
  }
  return out.take()
}

export function encodeScope(scope: Scope): Uint8Array {
  const out = new Writer(64)
  out.byte(0x0a)
  out.string(scope.name)
  if (scope.version !== undefined) {
    out.byte(0x12)
    out.string(scope.version)
  }
  return out.take()
}

/** An attribute key encoded once, for `LogsEncoder.attributeBytes`. */
export type EncodedKey = Uint8Array
export function encodeKey(key: string): EncodedKey {
  const out = new Writer(key.length + 8)
  out.byte(0x0a)
  out.string(key)
  return out.take()
}
