// Line protocol, written straight into bytes:
//
//   measurement,tag=value,tag=value field="text",field=1i,field=1.5 1700000000000000000\n
//
// The client's own Point refuses the largest int64 and lets a trailing backslash of a tag swallow the comma behind it.
import { Writer } from '../../../plugins/contract/wire.ts'

const two32 = 4_294_967_296
/** Of a stored time, what the number of the record takes the place of: two records never share a point. */
export const numberBits = 20
export const numberMask = 2 ** numberBits - 1

/** Lines on their way to one bucket, with the batch that each is of. */
export class Lines {
  readonly out = new Writer(256 * 1024)
  /** Where each line ends. */
  #ends = new Uint32Array(4096)
  /** Number of the batch in the write, or -1 for what is of none. */
  #owners = new Int32Array(4096)
  /** The hour since 1970 of its stored time. */
  #hours = new Uint32Array(4096)
  count = 0

  /** Ends the line that was written. */
  end(owner: number, hour = 0): void {
    this.out.byte(0x0a)
    if (this.count === this.#ends.length) {
      this.#ends = grown(this.#ends, new Uint32Array(this.count * 2))
      this.#owners = grown(this.#owners, new Int32Array(this.count * 2))
      this.#hours = grown(this.#hours, new Uint32Array(this.count * 2))
    }
    this.#ends[this.count] = this.out.position
    this.#hours[this.count] = hour
    this.#owners[this.count++] = owner
  }

  get bytes(): number {
    return this.out.position
  }

  owner(line: number): number {
    return this.#owners[line] ?? -1
  }

  hour(line: number): number {
    return this.#hours[line] ?? 0
  }

  line(index: number): Buffer {
    return this.out.buffer.subarray(index === 0 ? 0 : this.#ends[index - 1], this.#ends[index])
  }

  clear(): void {
    this.count = 0
    this.out.reset()
  }
}

function grown<T extends Uint32Array | Int32Array>(from: T, into: T): T {
  into.set(from)
  return into
}

/** `,key=value` as bytes; nothing where either is empty, which InfluxDB refuses with the whole body. */
export function tagOf(key: string, value: string): string {
  const name = tagText(key)
  const text = tagText(value)
  return name === '' || text === '' ? '' : `,${name}=${text}`
}

const longestTag = 1024

/**
 * A key or value of a tag. What line protocol cannot say there (line feeds; a backslash, which takes the next character
 * with it) is replaced: tags are for finding, the exact text stands in the fields.
 */
export function tagText(text: string): string {
  const short = text.length > longestTag ? text.slice(0, longestTag).toWellFormed() : text
  return (
    short
      // oxlint-disable-next-line no-control-regex -- control characters are what is replaced
      .replaceAll(/[\u0000-\u001f\u007f]/g, ' ')
      .replaceAll('\\', '/')
      .replaceAll(/[ ,=]/g, String.raw`\$&`)
  )
}

/** A measurement, with the same replacements; it may hold an equals sign. */
export const measurementText = (text: string): string => tagText(text).replaceAll(String.raw`\=`, '=')

export function ascii(out: Writer, text: string): void {
  out.ensure(text.length)
  out.position += out.buffer.write(text, out.position, 'latin1')
}

export function utf8(out: Writer, text: string): void {
  out.ensure(text.length * 3)
  out.position += out.buffer.write(text, out.position, 'utf8')
}

/** The text of a string field, without its quotes. */
export function fieldText(out: Writer, bytes: Uint8Array, start: number, end: number): void {
  out.ensure((end - start) * 2)
  const { buffer } = out
  let at = out.position
  for (let index = start; index < end; index++) {
    const byte = bytes[index] as number
    if (byte === 0x22 || byte === 0x5c) buffer[at++] = 0x5c
    buffer[at++] = byte
  }
  out.position = at
}

/** A 64-bit integer from its halves; unsigned unless `signed`. No BigInt: times are beyond 2^53. */
export function integer(out: Writer, low: number, high: number, signed = true): void {
  out.ensure(24)
  let lower = low >>> 0
  let upper = high >>> 0
  if (signed && upper >= 0x80000000) {
    out.buffer[out.position++] = 0x2d
    lower = (~lower + 1) >>> 0
    upper = (~upper + (lower === 0 ? 1 : 0)) >>> 0
  }
  if (upper === 0) return digits(out, lower, 1)
  // A double finds the quotient but for one; 32 bits of the remainder tell which.
  let quotient = Math.floor((upper * two32 + lower) / 1e9)
  let rest = (lower - Math.imul(quotient, 1e9)) | 0
  if (rest < 0) {
    quotient--
    rest += 1e9
  } else if (rest >= 1e9) {
    quotient++
    rest -= 1e9
  }
  digits(out, quotient, 1)
  digits(out, rest, 9)
}

const powers = [1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11]
/** The two digits of each number below 100. */
const pairs = Buffer.from(
  Array.from({ length: 100 }, (_, number) => String(number).padStart(2, '0')).join(''),
)

/** Decimal digits of a number below 10^11, at least `least` of them. */
function digits(out: Writer, value: number, least: number): void {
  let size = least
  while (size < 11 && value >= (powers[size] ?? 0)) size++
  const { buffer, position } = out
  let rest = value
  let at = position + size
  while (at - position >= 2) {
    const next = Math.floor(rest / 100)
    const pair = (rest - next * 100) * 2
    buffer[--at] = pairs[pair + 1] ?? 0
    buffer[--at] = pairs[pair] ?? 0
    rest = next
  }
  if (at > position) buffer[position] = 0x30 + rest
  out.position = position + size
}

export const hourNano = 3_600_000_000_000n

/** The text of one time, kept for the next: points of a reading share theirs. */
export class Stamp {
  readonly #text = Buffer.alloc(24)
  #size = 0
  #low = 0
  #high = 0

  write(out: Writer, low: number, high: number): void {
    if (this.#size === 0 || low !== this.#low || high !== this.#high) {
      const start = out.position
      integer(out, low, high)
      this.#size = out.position - start
      this.#low = low
      this.#high = high
      for (let index = 0; index < this.#size; index++) this.#text[index] = out.buffer[start + index] as number
    } else out.raw(this.#text, 0, this.#size)
  }
}

/** The time of a point: that of the record with its low bits replaced by `number`. Its hour since 1970. */
export function pointTime(out: Writer, low: number, high: number, number: number, stamp?: Stamp): number {
  out.byte(0x20)
  // Beyond what InfluxDB can hold nothing is stored: such times are suspect, and go by their arrival.
  const numbered = ((low & ~numberMask) | number) >>> 0
  if (stamp) stamp.write(out, numbered, high)
  else integer(out, numbered, high)
  // Without its low bits a time is exact as a double.
  return Math.floor(nanoOf((low & ~numberMask) >>> 0, high) / 3.6e12)
}

/** The number of a batch's first record in its stream. What comes after it adds its place. */
export const firstNumber = (produced: number, count: number): number => Math.max(0, produced - count)

/** Whole numbers of a time in halves, for what is compared as a double. */
export const nanoOf = (low: number, high: number): number => high * two32 + low
