// Whom foreign records are about: the device that their Resource names by `host.id`.
import { createHash } from 'node:crypto'
import { readAnyValue, readNested } from '../../contract/any-value.ts'
import { Reader } from '../../contract/wire.ts'

const key = Buffer.from('host.id')

/**
 * A device id from whatever a sender calls its host: lower case, other characters replaced; hashed where that is
 * too long or leaves nothing to tell hosts apart.
 */
export function deviceFromHostId(hostId: string): string {
  const cleaned = hostId.toLowerCase().replaceAll(/[^a-z0-9-]/g, '-')
  if (cleaned.length <= 64 && /[a-z0-9]/.test(cleaned)) return cleaned
  return createHash('sha256').update(hostId).digest('hex').slice(0, 32)
}

/** The device of a Resource message in `bytes[start, end)`; undefined where it has no `host.id`. */
export function deviceOfResource(bytes: Buffer, start: number, end: number): string | undefined {
  const reader = new Reader(bytes)
  reader.position = start
  reader.end = end
  while (!reader.done) {
    const tag = reader.key()
    if (tag !== 0x0a) {
      reader.skip(tag)
      continue
    }
    const hostId = readNested(reader, () => hostIdOf(reader))
    if (hostId !== undefined && hostId !== '') return deviceFromHostId(hostId)
  }
  return undefined
}

/**
 * The value of the KeyValue that the reader's bounds hold, where its key is `host.id`. The OpenTelemetry Collector
 * writes the value before the key.
 */
function hostIdOf(reader: Reader): string | undefined {
  const { end } = reader
  let named = false
  let value = -1
  while (!reader.done) {
    const at = reader.position
    const tag = reader.key()
    if (tag === 0x0a) named = reader.bytes().equals(key)
    else {
      if (tag === 0x12) value = at + 1
      reader.skip(tag)
    }
  }
  if (!named || value < 0) return undefined
  reader.position = value
  const found = readNested(reader, () => readAnyValue(reader))
  reader.position = end
  return typeof found === 'string' || typeof found === 'number' || typeof found === 'bigint'
    ? String(found)
    : undefined
}
