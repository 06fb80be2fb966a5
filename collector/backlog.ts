// What the log holds of one class for one exporter: read in order, acknowledged in any order, forgotten from the front.
//
//   offsets   first … position … readNext … known
//             gone    done, taken  to be read
//
// `done` are delivered or dropped out of order; `taken` are in memory (queued, being sent, or read ahead). The position
// is the lowest that is not done; a crash repeats what was done beyond it, which the aggregator drops.
import { findHeader } from '../plugins/contract/index.ts'
import type { Batch, Header } from '../plugins/contract/index.ts'
import type { LogEntry, Topic } from '../plugins/protocols/log/index.ts'
import type { Held } from './held.ts'

export interface BacklogEntry {
  offset: number
  header: Header
  entry: LogEntry
}

/** The state that is kept in the log's table: it is small, so the ranges done beyond the position are cut. */
export interface Mark {
  position: number
  /** Entries from here on may be unknown to the rows of the streams. */
  scanned: number
  beyond: [number, number][]
}

const mostRanges = 200
/** So many done beyond an undone one stop the reading. */
const mostDone = 100_000

export class Backlog {
  readonly topic: Topic
  readonly #done = new Set<number>()
  /** What memory has too; undefined while it is being read. */
  readonly #taken = new Map<number, Held | undefined>()
  #position: number
  #readNext: number
  /** One past the newest entry of which the buffer knows what it is. */
  #known: number
  #reading = false
  /** The lowest that was left to the log while a read was under way. */
  #lowered = Infinity
  #saved: number
  /** When entries of this run were written, by the monotonic clock: of the first of each while. Ascending. */
  readonly #written: { offset: number; elapsedMs: number }[] = []
  /** Entries were lost; what they held shows when all others are done. */
  damaged = false

  constructor(topic: Topic, mark: Mark | undefined) {
    this.topic = topic
    this.#known = topic.next
    this.#position = Math.min(Math.max(mark?.position ?? 0, topic.first), topic.next)
    this.#readNext = this.#position
    this.#saved = this.#position
    for (const [from, to] of mark?.beyond ?? []) {
      for (let offset = Math.max(from, this.#position); offset < Math.min(to, this.#known); offset++) {
        this.#done.add(offset)
      }
    }
    this.#advance()
    this.#readNext = this.#position
  }

  get position(): number {
    return this.#position
  }

  /** Entries that are neither done nor in memory. */
  get waiting(): number {
    return this.#known - this.#position - this.#done.size - this.#taken.size
  }

  /** Entries that are not done. */
  get entries(): number {
    return this.#known - this.#position - this.#done.size
  }

  get isReading(): boolean {
    return this.#reading
  }

  get isDirty(): boolean {
    return this.#saved !== this.#position || this.#done.size > 0
  }

  get canTruncate(): boolean {
    return this.#position > this.topic.first
  }

  /** The log has a batch that is still in memory. */
  written(offset: number, held: Held, elapsedMs: number, whileMs: number): void {
    this.#taken.set(offset, held)
    this.#known = Math.max(this.#known, offset + 1)
    const last = this.#written.at(-1)
    if (!last || elapsedMs - last.elapsedMs >= whileMs) this.#written.push({ offset, elapsedMs })
  }

  /** What became of an entry that was read. */
  took(offset: number, held: Held): void {
    this.#taken.set(offset, held)
  }

  /** What stands at the position, where memory has it: nothing behind it can be given back to the disk. */
  get front(): Held | undefined {
    return this.#taken.get(this.#position)
  }

  /** When an entry was written, or a while before; undefined where an earlier run wrote it. */
  writtenMs(offset: number): number | undefined {
    return this.#written.findLast((mark) => mark.offset <= offset)?.elapsedMs
  }

  /** A batch left memory and is to be read again. */
  leave(offset: number): void {
    this.#taken.delete(offset)
    if (this.#reading) this.#lowered = Math.min(this.#lowered, offset)
    else this.#readNext = Math.min(this.#readNext, offset)
  }

  done(offset: number): void {
    this.#taken.delete(offset)
    if (offset < this.#position) return
    this.#done.add(offset)
    this.#advance()
  }

  /** As it stands, or as it will once `also` is done. */
  mark(also?: number): Mark {
    const done = new Set(this.#done)
    if (also !== undefined) done.add(also)
    let position = this.#position
    while (done.delete(position)) position++
    const beyond: [number, number][] = []
    for (const offset of [...done].sort((one, other) => one - other)) {
      const last = beyond.at(-1)
      if (last?.[1] === offset) last[1] = offset + 1
      else if (beyond.length < mostRanges) beyond.push([offset, offset + 1])
      else break
    }
    this.#saved = position
    return { position, scanned: this.#known, beyond }
  }

  /** Reads on, and takes what it returns. One at a time. Entries that cannot be understood are done with. */
  async read(limit: { entries: number; bytes: number }): Promise<BacklogEntry[]> {
    if (this.#reading || this.#done.size > mostDone) return []
    this.#reading = true
    this.#lowered = Infinity
    const found: BacklogEntry[] = []
    try {
      let expected = Math.max(this.#readNext, this.#position)
      const entries = await this.topic.read(expected, limit)
      if (entries.length === 0) this.#lost(expected, this.#known)
      for (const entry of entries) {
        if (entry.offset >= this.#known) break
        this.#lost(expected, entry.offset)
        expected = entry.offset + 1
        if (this.#done.has(entry.offset) || this.#taken.has(entry.offset) || entry.offset < this.#position)
          continue
        const header = readHeader(entry.value)
        if (header) {
          this.#taken.set(entry.offset, undefined)
          found.push({ offset: entry.offset, header, entry })
        } else this.#lost(entry.offset, entry.offset + 1)
      }
      if (entries.length === 0) expected = this.#known
      this.#readNext = expected
    } finally {
      this.#reading = false
      this.#readNext = Math.min(this.#readNext, this.#lowered)
    }
    return found
  }

  #lost(from: number, to: number): void {
    for (let offset = from; offset < to; offset++) {
      if (offset < this.#position || this.#done.has(offset) || this.#taken.has(offset)) continue
      this.damaged = true
      this.done(offset)
    }
  }

  #advance(): void {
    while (this.#done.delete(this.#position)) this.#position++
    if (this.#readNext < this.#position) this.#readNext = this.#position
    while ((this.#written[1]?.offset ?? Infinity) <= this.#position) this.#written.shift()
  }
}

/** The key of an entry: its signal, then the marks of what it holds. */
export const keyOf = ({ signal }: Batch, marks: readonly string[]): string => [signal, ...marks].join(' ')

/** Undefined where the entry is none of ours: its bytes passed the log's checks, so it was written as such. */
export function readHeader(value: Uint8Array): Header | undefined {
  try {
    return findHeader(value)
  } catch {
    return undefined
  }
}
