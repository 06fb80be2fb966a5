// From chunks of bytes to lines, and from lines to records of several. Both keep at most one record of bounded length,
// and say with each record where in the input it ends, so that a cursor never stands inside one.
import { RE2JS } from 're2js'
import { cutUtf8 } from '../syslog/text.ts'

/** `bytes` from `start` to `end` without the line's end; `next` is the position in the input after it. */
export type TakeLine = (bytes: Buffer, start: number, end: number, wasCut: boolean, next: number) => void

const newline = 0x0a
const carriageReturn = 0x0d

export class LineSplitter {
  readonly #longest: number
  readonly #take: TakeLine
  #held: Buffer[] = []
  #heldBytes = 0
  /** Bytes of the unfinished line, those beyond the limit included. */
  #unfinished = 0
  /** Where in the input the next chunk begins. */
  position: number

  constructor(options: { longest: number; position: number; take: TakeLine }) {
    this.#longest = options.longest
    this.position = options.position
    this.#take = options.take
  }

  /** Where the unfinished line begins. */
  get lineStart(): number {
    return this.position - this.#unfinished
  }

  push(chunk: Buffer): void {
    const base = this.position
    this.position += chunk.length
    let from = 0
    for (;;) {
      const at = chunk.indexOf(newline, from)
      if (at < 0) break
      if (this.#unfinished === 0) this.#give(chunk, from, at, base + at + 1)
      else {
        this.#hold(chunk, from, at)
        this.#giveHeld(base + at + 1)
      }
      from = at + 1
    }
    if (from < chunk.length) this.#hold(chunk, from, chunk.length)
  }

  /** The end of the input: what has no newline is a line too. */
  end(): void {
    if (this.#unfinished > 0) this.#giveHeld(this.position)
  }

  /** Forgets the unfinished line. */
  reset(position: number): void {
    this.#held = []
    this.#heldBytes = 0
    this.#unfinished = 0
    this.position = position
  }

  #hold(chunk: Buffer, start: number, end: number): void {
    // One byte more than is kept shows that there was more.
    const room = Math.max(0, this.#longest + 1 - this.#heldBytes)
    // Chunks are read into one buffer again and again.
    if (room > 0 && end > start)
      this.#held.push(Buffer.from(chunk.subarray(start, Math.min(end, start + room))))
    this.#heldBytes += Math.min(room, end - start)
    this.#unfinished += end - start
  }

  #giveHeld(next: number): void {
    const line = this.#held.length === 1 ? this.#held[0] : Buffer.concat(this.#held)
    this.#held = []
    this.#heldBytes = 0
    this.#unfinished = 0
    if (line !== undefined) this.#give(line, 0, line.length, next)
  }

  #give(bytes: Buffer, start: number, lineEnd: number, next: number): void {
    const end = lineEnd > start && bytes[lineEnd - 1] === carriageReturn ? lineEnd - 1 : lineEnd
    if (end - start <= this.#longest) return this.#take(bytes, start, end, false, next)
    this.#take(bytes, start, cutUtf8(bytes, start, start + this.#longest), true, next)
  }
}

export interface JoinOptions {
  /** A line that matches begins a record. */
  readonly start: string | undefined
  /** A line that matches belongs to the record before it. */
  readonly continuation: string | undefined
  readonly mostLines: number
  readonly longest: number
  readonly take: TakeLine
}

/** Joins lines into records by expressions of RE2, which no line can make slow. */
export class LineJoiner {
  readonly #options: JoinOptions
  readonly #start: RE2JS | undefined
  readonly #continuation: RE2JS | undefined
  #parts: Buffer[] = []
  #bytes = 0
  #lines = 0
  #wasCut = false
  #next = 0

  constructor(options: JoinOptions) {
    this.#options = options
    this.#start = options.start === undefined ? undefined : RE2JS.compile(options.start)
    this.#continuation = options.continuation === undefined ? undefined : RE2JS.compile(options.continuation)
  }

  get isEmpty(): boolean {
    return this.#lines === 0
  }

  line(bytes: Buffer, start: number, end: number, wasCut: boolean, next: number): void {
    const { mostLines, longest } = this.#options
    if (this.#lines > 0 && (this.#begins(bytes, start, end) || this.#lines >= mostLines)) this.flush()
    const room = Math.max(0, longest - this.#bytes - (this.#lines > 0 ? 1 : 0))
    if (this.#lines > 0 && room > 0) this.#parts.push(Buffer.from('\n'))
    const last = end - start <= room ? end : cutUtf8(bytes, start, start + room)
    if (last > start) this.#parts.push(Buffer.from(bytes.subarray(start, last)))
    this.#bytes += last - start + (this.#lines > 0 ? 1 : 0)
    this.#wasCut ||= wasCut || last < end
    this.#lines++
    this.#next = next
  }

  /** Gives what there is. */
  flush(): void {
    if (this.#lines === 0) return
    const record = Buffer.concat(this.#parts)
    const wasCut = this.#wasCut
    this.reset()
    this.#options.take(record, 0, record.length, wasCut, this.#next)
  }

  reset(): void {
    this.#parts = []
    this.#bytes = 0
    this.#lines = 0
    this.#wasCut = false
  }

  #begins(bytes: Buffer, start: number, end: number): boolean {
    const line = bytes.toString('utf8', start, Math.min(end, start + 4096))
    if (this.#start !== undefined) return this.#start.test(line)
    return this.#continuation === undefined || !this.#continuation.test(line)
  }
}
