// MessagePack (github.com/msgpack/msgpack, spec.md), read in place: where a value ends without waiting for all of it,
// and values turned into OTLP attributes without building them.
import { isUtf8 } from 'node:buffer'
import { writeAnyValue } from '../../contract/values.ts'
import type { Writer } from '../../contract/wire.ts'

export class MalformedPack extends Error {}

const depthLimit = 32

/** Finds the end of one value in bytes that come piece by piece; nothing is looked at twice. */
export class PackScanner {
  #at = 0
  /** Values that are still to come. */
  #pending = 1

  /** The bytes have moved towards the beginning. */
  moved(by: number): void {
    this.#at -= by
  }

  /**
   * Where the value that began at the last `reset` ends, or -1 where more bytes are needed.
   * @throws MalformedPack where they are no MessagePack.
   */
  scan(bytes: Buffer, end: number): number {
    while (this.#pending > 0) {
      const at = this.#at
      if (at >= end) return -1
      const type = bytes[at] ?? 0
      const head = headBytes(type)
      if (head < 0) throw new MalformedPack('a byte that begins no value')
      if (at + head > end) return -1
      const next = at + head + contentBytes(bytes, at, type)
      if (next > end) return -1
      this.#pending += childrenOf(bytes, at, type) - 1
      this.#at = next
    }
    return this.#at
  }

  /** The next value begins there. */
  reset(at: number): void {
    this.#at = at
    this.#pending = 1
  }
}

/** Bytes before the content of a value, its length among them; -1 for the one type that does not exist. */
function headBytes(type: number): number {
  if (type < 0xc0 || type >= 0xe0) return 1
  if (type === 0xc1) return -1
  return heads[type - 0xc0] ?? 1
}

//             c0       c2       c4 bin  8 16 32  c7 ext  ca f32 f64  cc u8…u64   d0 i8…i64   d4 fixext    d9 str    dc array, map
const heads = [1, 1, 1, 1, 2, 3, 5, 3, 4, 6, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 5, 3, 5, 3, 5]

/** Bytes of a value that holds no others; `at` is where it begins, and its head is there. */
function contentBytes(bytes: Buffer, at: number, type: number): number {
  if (type < 0xa0 || type >= 0xe0) return 0
  if (type < 0xc0) return type & 0x1f
  switch (type) {
    case 0xc4:
    case 0xd9:
    case 0xc7:
      return bytes[at + 1] ?? 0
    case 0xc5:
    case 0xda:
    case 0xc8:
      return bytes.readUInt16BE(at + 1)
    case 0xc6:
    case 0xdb:
    case 0xc9:
      return bytes.readUInt32BE(at + 1)
    case 0xcc:
    case 0xd0:
      return 1
    case 0xcd:
    case 0xd1:
      return 2
    case 0xca:
    case 0xce:
    case 0xd2:
      return 4
    case 0xcb:
    case 0xcf:
    case 0xd3:
      return 8
    default:
      return type >= 0xd4 && type <= 0xd8 ? 1 << (type - 0xd4) : 0
  }
}

/** Values within a value. */
function childrenOf(bytes: Buffer, at: number, type: number): number {
  if (type >= 0x80 && type < 0x90) return (type & 0x0f) * 2
  if (type >= 0x90 && type < 0xa0) return type & 0x0f
  if (type === 0xdc) return bytes.readUInt16BE(at + 1)
  if (type === 0xdd) return bytes.readUInt32BE(at + 1)
  if (type === 0xde) return bytes.readUInt16BE(at + 1) * 2
  if (type === 0xdf) return bytes.readUInt32BE(at + 1) * 2
  return 0
}

/** Reads values of one buffer in order. Everything throws MalformedPack where the bytes are something else. */
export class PackReader {
  bytes: Buffer
  position: number
  end: number
  /** Bounds of the last text or binary. */
  start = 0
  stop = 0
  /** Set by `time`. */
  seconds = 0
  nanos = 0

  constructor(bytes: Buffer, position = 0, end = bytes.length) {
    this.bytes = bytes
    this.position = position
    this.end = end
  }

  get done(): boolean {
    return this.position >= this.end
  }

  get isArray(): boolean {
    const type = this.#type()
    return (type >= 0x90 && type < 0xa0) || type === 0xdc || type === 0xdd
  }

  get isMap(): boolean {
    const type = this.#type()
    return (type >= 0x80 && type < 0x90) || type === 0xde || type === 0xdf
  }

  /** Text or binary: old senders write both alike. */
  get isText(): boolean {
    const type = this.#type()
    return (type >= 0xa0 && type < 0xc0) || (type >= 0xd9 && type <= 0xdb) || (type >= 0xc4 && type <= 0xc6)
  }

  get isNil(): boolean {
    return this.#type() === 0xc0
  }

  array(): number {
    if (!this.isArray) throw new MalformedPack('expected an array')
    return this.#children()
  }

  /** Pairs of a map. */
  map(): number {
    if (!this.isMap) throw new MalformedPack('expected a map')
    return this.#children() / 2
  }

  /** Moves past a text or binary, whose bounds are `start` and `stop` then. */
  text(): void {
    if (!this.isText) throw new MalformedPack('expected text')
    const at = this.position
    this.#step()
    this.start = at + headBytes(this.bytes[at] ?? 0)
    this.stop = this.position
  }

  string(): string {
    this.text()
    return this.bytes.toString('utf8', this.start, this.stop)
  }

  /** EventTime, whole seconds, or seconds with a fraction. */
  time(): void {
    const type = this.#type()
    const at = this.position
    if ((type === 0xd7 && this.bytes[at + 1] === 0) || (type === 0xc7 && this.bytes[at + 2] === 0)) {
      this.#step()
      if (this.position - at < 10) throw new MalformedPack('a time of the wrong size')
      this.seconds = this.bytes.readUInt32BE(this.position - 8)
      this.nanos = Math.min(999_999_999, this.bytes.readUInt32BE(this.position - 4))
      return
    }
    const value = Number(this.number())
    if (!(value >= 0 && value < 9_223_372_036)) throw new MalformedPack('a time that is none')
    this.seconds = Math.floor(value)
    this.nanos = Math.min(999_999, Math.round((value - this.seconds) * 1e6)) * 1000
  }

  number(): number | bigint {
    const at = this.position
    const type = this.#type()
    this.#step()
    const { bytes } = this
    if (type < 0x80) return type
    if (type >= 0xe0) return type - 256
    switch (type) {
      case 0xca:
        return bytes.readFloatBE(at + 1)
      case 0xcb:
        return bytes.readDoubleBE(at + 1)
      case 0xcc:
        return bytes.readUInt8(at + 1)
      case 0xcd:
        return bytes.readUInt16BE(at + 1)
      case 0xce:
        return bytes.readUInt32BE(at + 1)
      case 0xcf:
        return bytes.readBigUInt64BE(at + 1)
      case 0xd0:
        return bytes.readInt8(at + 1)
      case 0xd1:
        return bytes.readInt16BE(at + 1)
      case 0xd2:
        return bytes.readInt32BE(at + 1)
      case 0xd3:
        return bytes.readBigInt64BE(at + 1)
      default:
        throw new MalformedPack('expected a number')
    }
  }

  /** Moves past a value, whatever it holds. */
  skip(): void {
    for (let pending = 1; pending > 0; pending--) pending += this.#children()
  }

  /** Moves past a value, or only into an array or map; how many values it holds. */
  #children(): number {
    const at = this.position
    const type = this.#type()
    this.#step()
    return childrenOf(this.bytes, at, type)
  }

  #type(): number {
    if (this.position >= this.end) throw new MalformedPack('the value is cut off')
    return this.bytes[this.position] ?? 0
  }

  #step(): void {
    const at = this.position
    const type = this.#type()
    const head = headBytes(type)
    if (head < 0) throw new MalformedPack('a byte that begins no value')
    if (at + head > this.end) throw new MalformedPack('the value is cut off')
    const next = at + head + contentBytes(this.bytes, at, type)
    if (next > this.end) throw new MalformedPack('the value is cut off')
    this.position = next
  }

  /** Writes the next value as the content of an AnyValue; nil as none. */
  writeValue(out: Writer, depth = 0): void {
    if (depth > depthLimit) throw new MalformedPack(`values nested more than ${depthLimit} deep`)
    const type = this.#type()
    if (this.isText) this.#writeText(out)
    else if (this.isArray || this.isMap) this.#writeComposite(out, depth)
    else if (type === 0xc0) this.#step()
    else if (type === 0xc2 || type === 0xc3) {
      this.#step()
      writeAnyValue(out, type === 0xc3)
    } else if ((type >= 0xd4 && type <= 0xd8) || (type >= 0xc7 && type <= 0xc9)) {
      const at = this.position
      this.#step()
      writeAnyValue(out, this.bytes.subarray(at + headBytes(type), this.position))
    } else this.#writeNumber(out, type)
  }

  #writeNumber(out: Writer, type: number): void {
    const value = this.number()
    // OTLP's integers end at 2^63 - 1: what is larger is kept as text.
    if (typeof value === 'bigint' && value >= 2n ** 63n) writeAnyValue(out, String(value))
    else if (type === 0xca || type === 0xcb) {
      out.byte(0x21)
      out.double(Number(value))
    } else writeAnyValue(out, value)
  }

  #writeText(out: Writer): void {
    const isBinary = (this.bytes[this.position] ?? 0) < 0xc7 && (this.bytes[this.position] ?? 0) >= 0xc4
    this.text()
    const { bytes, start, stop } = this
    if (isValidText(bytes, start, stop)) {
      out.byte(0x0a)
      out.bytes(bytes, start, stop)
    } else writeAnyValue(out, isBinary ? bytes.subarray(start, stop) : bytes.toString('utf8', start, stop))
  }

  #writeComposite(out: Writer, depth: number): void {
    const isMap = this.isMap
    const count = isMap ? this.map() : this.array()
    out.byte(isMap ? 0x32 : 0x2a)
    const mark = out.openSmall()
    for (let index = 0; index < count; index++) {
      if (isMap) this.writePair(out, 1, depth + 1)
      else {
        out.byte(0x0a)
        const inner = out.openSmall()
        this.writeValue(out, depth + 1)
        out.closeSmall(inner)
      }
    }
    out.closeSmall(mark)
  }

  /** Writes the next key and value as a KeyValue, field `field` of the message that is open. */
  writePair(out: Writer, field: number, depth = 0): void {
    out.byte(field * 8 + 2)
    const mark = out.openSmall()
    out.byte(0x0a)
    if (this.isText) {
      this.text()
      if (isValidText(this.bytes, this.start, this.stop)) out.bytes(this.bytes, this.start, this.stop)
      else out.string(this.bytes.toString('utf8', this.start, this.stop))
    } else out.string(String(this.number()))
    out.byte(0x12)
    const inner = out.openSmall()
    this.writeValue(out, depth)
    out.closeSmall(inner)
    out.closeSmall(mark)
  }
}

/** ASCII is found out here; only what is none is worth a call. */
export function isValidText(bytes: Buffer, start: number, stop: number): boolean {
  for (let at = start; at < stop; at++) if ((bytes[at] ?? 0) >= 0x80) return isUtf8(bytes.subarray(at, stop))
  return true
}
