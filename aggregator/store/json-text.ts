// Attributes and bodies as JSON text, written from OTLP bytes into a slab without building objects. Integers beyond
// 2^53 become strings, bytes base64, NaN and infinities strings, as every answer of the store shows them.
import { Reader, WireError } from '../../plugins/contract/wire.ts'
import type { Writer } from '../../plugins/contract/wire.ts'

const depthLimit = 32
const appName = Buffer.from('syslog.appname')
const suspectName = Buffer.from('dpu.clock.suspect')
const hex = Buffer.from('0123456789abcdef')

/** The attribute by which a record says that its clock is more than a day from its arrival. */
export const suspectText = Buffer.from('"dpu.clock.suspect":true')

export { jsonObject, toJson } from '../../plugins/protocols/log-json.ts'

/** Writes JSON text; what it noticed on the way stays until the next call. */
export class JsonText {
  /** The text value of `syslog.appname`, as an extent of the input; empty when there was none. */
  appNameStart = 0
  appNameEnd = 0
  /** Whether the attribute `dpu.clock.suspect` was there. */
  suspect = false
  readonly #reader = new Reader()

  /**
   * `{"key":value,…}` of the KeyValues that stand as field `field` in `bytes[start, end)`; `extra`, encoded members,
   * is added unless the record says of itself that it is suspect.
   * @throws WireError where the bytes are malformed or nested too deeply.
   */
  attributes(
    out: Writer,
    bytes: Buffer,
    start: number,
    end: number,
    field: number,
    extra?: Uint8Array,
  ): void {
    const reader = this.#reader
    reader.buffer = bytes
    reader.position = start
    reader.end = end
    this.appNameStart = this.appNameEnd = 0
    this.suspect = false
    const wrote = this.#members(out, field, 0)
    if (extra && !this.suspect) {
      if (wrote) out.byte(0x2c)
      out.raw(extra)
    }
    out.byte(0x7d)
  }

  /** The JSON text of the AnyValue that is `bytes[start, end)`. */
  value(out: Writer, bytes: Buffer, start: number, end: number): void {
    const reader = this.#reader
    reader.buffer = bytes
    reader.position = start
    reader.end = end
    this.#value(out, 0)
  }

  /** All but the closing brace. */
  #members(out: Writer, field: number, depth: number): boolean {
    const reader = this.#reader
    const wanted = field * 8 + 2
    let wrote = false
    out.byte(0x7b)
    while (reader.position < reader.end) {
      const key = reader.key()
      if (key !== wanted) {
        reader.skip(key)
        continue
      }
      if (wrote) out.byte(0x2c)
      wrote = true
      const size = reader.length()
      const outer = reader.end
      reader.end = reader.position + size
      this.#member(out, depth)
      reader.position = reader.end
      reader.end = outer
    }
    return wrote
  }

  #member(out: Writer, depth: number): void {
    const reader = this.#reader
    let keyStart = 0
    let keyEnd = 0
    let valueStart = 0
    let valueEnd = 0
    while (reader.position < reader.end) {
      const key = reader.key()
      if (key !== 0x0a && key !== 0x12) {
        reader.skip(key)
        continue
      }
      const size = reader.length()
      if (key === 0x0a) {
        keyStart = reader.position
        keyEnd = keyStart + size
      } else {
        valueStart = reader.position
        valueEnd = valueStart + size
      }
      reader.position += size
    }
    const outer = reader.end
    const { buffer } = reader
    writeString(out, buffer, keyStart, keyEnd)
    out.byte(0x3a)
    reader.position = valueStart
    reader.end = valueEnd
    if (depth === 0) this.#notice(buffer, keyStart, keyEnd, valueStart, valueEnd)
    this.#value(out, depth)
    reader.position = reader.end = outer
  }

  #notice(buffer: Buffer, start: number, end: number, valueStart: number, valueEnd: number): void {
    const size = end - start
    if (size === appName.length && isAt(buffer, start, appName)) {
      // 0A, length in one byte: longer names are no names of programs.
      if (buffer[valueStart] === 0x0a && valueEnd - valueStart < 130) {
        this.appNameStart = valueStart + ((buffer[valueStart + 1] ?? 0) < 0x80 ? 2 : valueEnd - valueStart)
        this.appNameEnd = valueEnd
      }
    } else if (size === suspectName.length && isAt(buffer, start, suspectName)) this.suspect = true
  }

  /** The AnyValue that spans the reader's bounds; one without content is an empty string, as in `attributesOf`. */
  #value(out: Writer, depth: number): void {
    const reader = this.#reader
    if (depth > depthLimit) throw new WireError(`values nested more than ${depthLimit} deep`, reader.position)
    const began = out.position
    while (reader.position < reader.end) {
      const key = reader.key()
      if (key === 0x0a) {
        const size = reader.length()
        out.position = began
        writeString(out, reader.buffer, reader.position, reader.position + size)
        reader.position += size
      } else if (key === 0x10 || key === 0x18 || key === 0x21) {
        out.position = began
        this.#scalar(out, key)
      } else if (key === 0x2a || key === 0x32 || key === 0x3a) {
        out.position = began
        this.#composite(out, key, depth)
      } else reader.skip(key)
    }
    if (out.position === began) writeAscii(out, '""')
  }

  #scalar(out: Writer, key: number): void {
    const reader = this.#reader
    if (key === 0x10) return writeAscii(out, reader.varint() === 0 ? 'false' : 'true')
    if (key === 0x21) {
      const value = reader.double()
      return writeAscii(out, Number.isFinite(value) ? String(value) : `"${value}"`)
    }
    let size = 0
    while ((reader.buffer[reader.position + size] ?? 0) >= 0x80) size++
    if (size < 7) return writeAscii(out, String(reader.varint()))
    const exact = BigInt.asIntN(64, reader.varint64())
    const near = Number(exact)
    writeAscii(out, Number.isSafeInteger(near) ? String(near) : `"${exact}"`)
  }

  #composite(out: Writer, key: number, depth: number): void {
    const reader = this.#reader
    const size = reader.length()
    const outer = reader.end
    reader.end = reader.position + size
    if (key === 0x3a) {
      writeAscii(out, `"${reader.buffer.toString('base64', reader.position, reader.end)}"`)
    } else if (key === 0x32) {
      this.#members(out, 1, depth + 1)
      out.byte(0x7d)
    } else this.#items(out, depth + 1)
    reader.position = reader.end
    reader.end = outer
  }

  #items(out: Writer, depth: number): void {
    const reader = this.#reader
    let wrote = false
    out.byte(0x5b)
    while (reader.position < reader.end) {
      const key = reader.key()
      if (key !== 0x0a) {
        reader.skip(key)
        continue
      }
      if (wrote) out.byte(0x2c)
      wrote = true
      const size = reader.length()
      const outer = reader.end
      reader.end = reader.position + size
      this.#value(out, depth)
      reader.position = reader.end
      reader.end = outer
    }
    out.byte(0x5d)
  }
}

function isAt(buffer: Buffer, start: number, wanted: Buffer): boolean {
  for (let index = 0; index < wanted.length; index++) {
    if (buffer[start + index] !== wanted[index]) return false
  }
  return true
}

function writeAscii(out: Writer, text: string): void {
  out.ensure(text.length)
  out.position += out.buffer.write(text, out.position, 'latin1')
}

/** A JSON string of UTF-8 bytes: only quotes, backslashes and control characters need an escape. */
function writeString(out: Writer, bytes: Buffer, start: number, end: number): void {
  out.ensure((end - start) * 6 + 2)
  const { buffer } = out
  let at = out.position
  buffer[at++] = 0x22
  for (let index = start; index < end; index++) {
    const byte = bytes[index] ?? 0
    if (byte >= 0x20 && byte !== 0x22 && byte !== 0x5c) {
      buffer[at++] = byte
      continue
    }
    buffer[at++] = 0x5c
    if (byte === 0x22 || byte === 0x5c) buffer[at++] = byte
    else if (byte === 0x0a) buffer[at++] = 0x6e
    else if (byte === 0x0d) buffer[at++] = 0x72
    else if (byte === 0x09) buffer[at++] = 0x74
    else {
      buffer[at++] = 0x75
      buffer[at++] = 0x30
      buffer[at++] = 0x30
      buffer[at++] = hex[byte >>> 4] ?? 0x30
      buffer[at++] = hex[byte & 15] ?? 0x30
    }
  }
  buffer[at++] = 0x22
  out.position = at
}

/** Where the text begins in an AnyValue that is one string and nothing else; 0 where it is another value. */
export function textOf(bytes: Buffer, start: number, end: number): number {
  if (bytes[start] !== 0x0a) return 0
  let at = start + 1
  let size = 0
  for (let scale = 1; at < end; scale *= 128) {
    const byte = bytes[at++] ?? 0
    size += (byte & 0x7f) * scale
    if (byte < 0x80) break
  }
  return at + size === end ? at : 0
}
