// Reads a topic's entries, over its segments, and says what is missing between them.
import type { LogEntry } from './api.ts'
import { keyOf, unixNanoOf, valueOf } from './entry.ts'
import { systemCode } from './errors.ts'
import type { Place } from './place.ts'
import { walk, Window } from './scan.ts'
import type { End } from './scan.ts'
import type { Segment } from './segment.ts'

const MAX_WINDOW_BYTES = 1024 * 1024
const MAX_CURSORS = 16

export class Reader {
  readonly #place: Place
  readonly #topic: string
  readonly #now: () => { segments: readonly Segment[]; next: number }
  /** Where the last reads ended, so that one that goes on from there seeks nothing. */
  readonly #cursors = new Map<number, { segment: Segment; position: number }>()

  constructor(place: Place, topic: string, now: () => { segments: readonly Segment[]; next: number }) {
    this.#place = place
    this.#topic = topic
    this.#now = now
  }

  async read(from: number, limit: { entries: number; bytes: number }): Promise<LogEntry[]> {
    const entries: LogEntry[] = []
    let room = limit.bytes
    const take = (entry: LogEntry, bytes: number): void => {
      entries.push(entry)
      room -= bytes
    }
    const full = (bytes: number): boolean =>
      entries.length >= limit.entries || (entries.length > 0 && bytes > room)
    const windowBytes = Math.min(MAX_WINDOW_BYTES, Math.max(4096, limit.bytes + 4096), limit.entries * 65536)
    let offset = from
    while (offset < this.#now().next && !full(0)) {
      const { segments, next } = this.#now()
      const index = Math.max(
        0,
        segments.findLastIndex((segment) => segment.base <= offset),
      )
      const segment = segments[index]
      if (segment === undefined) break
      const below = segments[index + 1]?.base ?? next
      const end = await this.#walk(segment, offset, below, windowBytes, take, full)
      if (end !== undefined && !end.atEnd) break
      offset = Math.max(below, offset + 1)
    }
    return entries
  }

  /** Reads a segment whose successor is not the one that was made after it. */
  async checkEnd(segment: Segment, after: Segment): Promise<void> {
    await this.#walk(
      segment,
      segment.base,
      after.base,
      MAX_WINDOW_BYTES,
      () => undefined,
      () => false,
    )
  }

  async #walk(
    segment: Segment,
    from: number,
    below: number,
    windowBytes: number,
    take: (entry: LogEntry, bytes: number) => void,
    full: (bytes: number) => boolean,
  ): Promise<End | undefined> {
    const { position, expected } = this.#locate(segment, from)
    const end = segment.size
    try {
      return await this.#place.files.use(segment.path, async (file) => {
        const part = { file, start: position, end, salt: segment.salt, expected, below }
        const result = await walk(part, new Window(file, end, windowBytes, false), {
          full: (header) =>
            full(header === undefined || header.offset < from ? 0 : header.keyBytes + header.valueBytes),
          entry: (header, window, at, position) => {
            segment.note(header.offset, position)
            if (header.offset < from) return
            take(
              {
                offset: header.offset,
                key: keyOf(header, window, at),
                value: valueOf(header, window, at),
                appendedUnixNano: unixNanoOf(window, at),
              },
              header.keyBytes + header.valueBytes,
            )
          },
          gap: (lost, to, bytes) => this.#report(lost, to, bytes, segment.file),
        })
        this.#keep(result.expected, { segment, position: result.position })
        if (result.atEnd && result.expected < below) {
          this.#report(result.expected, below, result.tail.bytes, segment.file)
        }
        return result
      })
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error
      // Unlinked by `truncate` while this waited, or by somebody else: then it is a loss.
      if (this.#now().segments.includes(segment)) this.#report(expected, below, end, segment.file)
      return undefined
    }
  }

  #locate(segment: Segment, offset: number): { position: number; expected: number } {
    const kept = this.#cursors.get(offset)
    if (kept?.segment === segment && kept.position <= segment.size) {
      return { position: kept.position, expected: offset }
    }
    return segment.locate(offset)
  }

  #keep(offset: number, cursor: { segment: Segment; position: number }): void {
    this.#cursors.delete(offset)
    this.#cursors.set(offset, cursor)
    const [oldest] = this.#cursors.keys()
    if (this.#cursors.size > MAX_CURSORS && oldest !== undefined) this.#cursors.delete(oldest)
  }

  #report(from: number, to: number, bytes: number, file: string): void {
    this.#place.damage.report({ topic: this.#topic, from, to, bytes, file })
  }
}
