// Attributes of the header of a message (facility, host, program, process, message id), encoded once for as long as
// lines repeat them: most lines of a machine come from few programs, and copying is much cheaper than encoding.
import { encodeKey, writeKeyValue } from '../../contract/values.ts'
import { Writer } from '../../contract/wire.ts'
import type { AttributeValue } from '../../contract/values.ts'

const slots = 512
const longestSpan = 256

/** An attribute of a log record, encoded once. */
export function encodeAttribute(key: string, value: AttributeValue): Uint8Array {
  const out = new Writer(64)
  writeKeyValue(out, 6, key, value)
  return out.take()
}

const keys = {
  hostname: encodeKey('syslog.hostname'),
  appname: encodeKey('syslog.appname'),
  procid: encodeKey('syslog.procid'),
  msgid: encodeKey('syslog.msgid'),
}
const facilities = Array.from({ length: 24 }, (_, index) => encodeAttribute('syslog.facility', index))
const versionOne = encodeAttribute('syslog.version', 1)

/** Where the fields of a message are; -1 where one is absent. */
export interface HeaderSpans {
  facility: number
  /** 0 for RFC 3164. */
  version: number
  hostStart: number
  hostEnd: number
  appStart: number
  appEnd: number
  procStart: number
  procEnd: number
  idStart: number
  idEnd: number
}

interface Known {
  /** The bytes from the first field to the end of the last. */
  readonly span: Uint8Array
  /** What else the encoding depends on: which bytes are which field. */
  readonly shape: number
  readonly encoded: Uint8Array
}

export class HeaderAttributes {
  readonly #known: (Known | undefined)[] = Array.from({ length: slots }, () => undefined)
  readonly #out = new Writer(1024)

  /** The encoded attributes of a header; valid until the next call. */
  of(bytes: Uint8Array, at: HeaderSpans): Uint8Array {
    const start = at.hostStart >= 0 ? at.hostStart : at.appStart
    const end = at.idStart >= 0 ? at.idEnd : Math.max(at.procStart >= 0 ? at.procEnd : 0, hostOrApp(at))
    if (start < 0 && at.version <= 1) return facilities[at.facility] ?? facilities[1] ?? bytes
    const length = end - start
    if (length > longestSpan || at.version > 1) return this.#encode(bytes, at)
    let shape = at.facility * 2 + at.version
    shape = shape * 256 + (at.hostStart >= 0 ? at.hostEnd - at.hostStart : 0)
    shape = shape * 256 + (at.appStart >= 0 ? at.appEnd - at.appStart : 0)
    shape = shape * 256 + (at.procStart >= 0 ? at.procEnd - at.procStart : 0)
    let hash = shape | 0
    for (let index = start; index < end; index++) hash = (Math.imul(hash, 31) + (bytes[index] ?? 0)) | 0
    const slot = (hash ^ (hash >>> 9) ^ (hash >>> 18)) & (slots - 1)
    const known = this.#known[slot]
    if (known !== undefined && known.shape === shape && same(known.span, bytes, start, length)) {
      return known.encoded
    }
    const encoded = this.#encode(bytes, at)
    this.#known[slot] = {
      span: Uint8Array.from(bytes.subarray(start, end)),
      shape,
      encoded: Uint8Array.from(encoded),
    }
    return encoded
  }

  #encode(bytes: Uint8Array, at: HeaderSpans): Uint8Array {
    const out = this.#out
    out.reset()
    out.raw(facilities[at.facility] ?? versionOne)
    if (at.version === 1) out.raw(versionOne)
    else if (at.version > 1) writeKeyValue(out, 6, 'syslog.version', at.version)
    write(out, keys.hostname, bytes, at.hostStart, at.hostEnd)
    write(out, keys.appname, bytes, at.appStart, at.appEnd)
    write(out, keys.procid, bytes, at.procStart, at.procEnd)
    write(out, keys.msgid, bytes, at.idStart, at.idEnd)
    return out.buffer.subarray(0, out.position)
  }
}

const hostOrApp = (at: HeaderSpans): number => (at.appStart >= 0 ? at.appEnd : at.hostEnd)

// The NILVALUE is an absent attribute.
function write(out: Writer, key: Uint8Array, bytes: Uint8Array, start: number, end: number): void {
  if (start < 0 || (end - start === 1 && bytes[start] === 0x2d)) return
  out.byte(0x32)
  const mark = out.openSmall()
  out.raw(key)
  out.byte(0x12)
  const inner = out.openSmall()
  out.byte(0x0a)
  out.bytes(bytes, start, end)
  out.closeSmall(inner)
  out.closeSmall(mark)
}

function same(span: Uint8Array, bytes: Uint8Array, start: number, length: number): boolean {
  if (span.length !== length) return false
  for (let index = 0; index < length; index++) if (span[index] !== bytes[start + index]) return false
  return true
}
