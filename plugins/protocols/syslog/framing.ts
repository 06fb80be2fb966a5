// Frames of a syslog stream (RFC 6587), told apart one by one: `LENGTH SP <…` is counted, everything else ends at a
// newline or NUL. What a chunk leaves incomplete is kept, never more than the longest message.
//
//   SYSLOG-FRAME = MSG-LEN SP SYSLOG-MSG        MSG-LEN = 1-9 *DIGIT, and SYSLOG-MSG begins with `<`
//   LINE         = *OCTET (LF | NUL)
import { isUtf8 } from 'node:buffer'

/** Takes a frame: its bytes, valid only during the call; whether they are known as UTF-8; whether its end was cut off. */
export type TakeFrame = (
  bytes: Buffer,
  start: number,
  end: number,
  valid: boolean,
  truncated: boolean,
) => void

// Nobody announces a gigabyte in earnest; longer digits are the beginning of a line.
const mostDigits = 9

const noHeader = -1
const undecided = -2

/** The frames of one connection. */
export class Framer {
  readonly #take: TakeFrame
  readonly #longest: number
  #tail = Buffer.alloc(0)
  #size = 0
  #mode: 'start' | 'counted' | 'line' = 'start'
  /** Bytes that the counted frame still lacks. */
  #lacking = 0
  /** The rest of a frame that was cut: not kept. */
  #skipping = false
  /** Set by `#headerAt`. */
  #announced = 0

  constructor(longest: number, take: TakeFrame) {
    this.#longest = longest
    this.#take = take
  }

  push(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#mode === 'start') at = this.#size > 0 ? this.#decide(chunk, at) : this.#whole(chunk, at)
      else if (this.#mode === 'counted') at = this.#counted(chunk, at)
      else at = this.#line(chunk, at)
    }
  }

  /** The stream has ended: what is left is a frame. */
  end(): void {
    if (this.#size > 0 && !this.#skipping) this.#give(this.#mode === 'counted')
    this.#reset()
  }

  // All frames that lie whole within the chunk, without copying; the rest becomes the tail.
  #whole(chunk: Buffer, from: number): number {
    const { length } = chunk
    const valid = isUtf8(from === 0 ? chunk : chunk.subarray(from))
    let newline = -1
    let nul = chunk.indexOf(0, from)
    if (nul < 0) nul = length
    let at = from
    for (;;) {
      while (at < length && isDelimiter(chunk[at])) at++
      if (at >= length) return length
      const header = this.#headerAt(chunk, at, length)
      if (header > 0) {
        const end = header + this.#announced
        if (end > length) {
          this.#begin('counted', this.#announced)
          return header
        }
        this.#cut(chunk, header, end, valid)
        at = end
        continue
      }
      if (header === undecided) {
        this.#keep(chunk, at, length)
        return length
      }
      if (newline < at) newline = chunk.indexOf(0x0a, at)
      if (newline < 0) newline = length
      if (nul < at) nul = chunk.indexOf(0, at)
      if (nul < 0) nul = length
      const end = Math.min(newline, nul)
      if (end >= length) {
        this.#begin('line', 0)
        return at
      }
      this.#cut(chunk, at, end, valid)
      at = end + 1
    }
  }

  #cut(chunk: Buffer, start: number, end: number, valid: boolean): void {
    const tooLong = end - start > this.#longest
    this.#take(chunk, start, tooLong ? start + this.#longest : end, valid, tooLong)
  }

  #begin(mode: 'counted' | 'line', lacking: number): void {
    this.#mode = mode
    this.#lacking = lacking
  }

  // The tail holds digits, and perhaps a space: one byte more may say what they are.
  #decide(chunk: Buffer, start: number): number {
    for (let at = start; at < chunk.length; at++) {
      this.#keep(chunk, at, at + 1)
      const header = this.#headerAt(this.#tail, 0, this.#size)
      if (header === undecided) continue
      if (header > 0) {
        // The `<` that decided belongs to the message.
        this.#size = 0
        this.#begin('counted', this.#announced)
        return at
      }
      // That byte may be the newline itself, so it is looked at again.
      this.#size--
      this.#begin('line', 0)
      return at
    }
    return chunk.length
  }

  #counted(chunk: Buffer, start: number): number {
    const end = Math.min(chunk.length, start + this.#lacking)
    this.#keepBounded(chunk, start, end)
    // `#lacking` counts what the frame has beyond this chunk, kept or not.
    this.#lacking -= end - start
    if (this.#lacking === 0) this.#close()
    return end
  }

  #line(chunk: Buffer, start: number): number {
    let end = chunk.indexOf(0x0a, start)
    if (end < 0) end = chunk.length
    const nul = chunk.subarray(start, end).indexOf(0)
    if (nul >= 0) end = start + nul
    this.#keepBounded(chunk, start, end)
    if (end < chunk.length) {
      this.#close()
      return end + 1
    }
    return end
  }

  #close(): void {
    if (!this.#skipping) this.#give(false)
    this.#reset()
  }

  #reset(): void {
    this.#size = 0
    this.#skipping = false
    this.#mode = 'start'
    // A long message is rare: its room is not kept for the life of the connection.
    if (this.#tail.length > 64 * 1024) this.#tail = Buffer.alloc(0)
  }

  #give(truncated: boolean): void {
    this.#take(this.#tail, 0, this.#size, false, truncated)
  }

  #keepBounded(chunk: Buffer, start: number, end: number): void {
    if (this.#skipping) return
    const room = this.#longest - this.#size
    if (end - start <= room) return this.#keep(chunk, start, end)
    this.#keep(chunk, start, start + room)
    this.#give(true)
    this.#skipping = true
  }

  #keep(chunk: Buffer, start: number, end: number): void {
    const needed = this.#size + end - start
    if (needed > this.#tail.length) {
      const grown = Buffer.allocUnsafeSlow(
        Math.max(needed, Math.min(this.#longest, this.#tail.length * 2), 256),
      )
      this.#tail.copy(grown, 0, 0, this.#size)
      this.#tail = grown
    }
    chunk.copy(this.#tail, this.#size, start, end)
    this.#size = needed
  }

  // Where the counted message begins; `noHeader` for a line; `undecided` where bytes are missing.
  #headerAt(bytes: Buffer, start: number, end: number): number {
    let byte = bytes[start] ?? 0
    if (byte < 0x31 || byte > 0x39) return noHeader
    let length = 0
    let at = start
    for (; at < end; at++) {
      byte = bytes[at] ?? 0
      if (byte < 0x30 || byte > 0x39) break
      if (at - start >= mostDigits) return noHeader
      length = length * 10 + byte - 0x30
    }
    if (at >= end) return undecided
    if (byte !== 0x20) return noHeader
    if (at + 1 >= end) return undecided
    if (bytes[at + 1] !== 0x3c) return noHeader
    this.#announced = length
    return at + 1
  }
}

function isDelimiter(byte: number | undefined): boolean {
  return byte === 0x0a || byte === 0 || byte === 0x0d
}
