// One file of a topic: its place on disk, how much of it is valid, and where in it to look for an offset.
import { join } from 'node:path'
import { format } from './files.ts'
import type { FileName } from './files.ts'

/** A seek reads this much at most before it finds its entry. */
const INDEX_STEP_BYTES = 256 * 1024

export class Segment {
  readonly ordinal: number
  /** No entry of this file has a lower offset. */
  readonly base: number
  readonly salt: number
  readonly file: string
  readonly path: string
  /** On disk and acknowledged. */
  size: number
  readonly #offsets: number[] = []
  readonly #positions: number[] = []

  constructor(directory: string, name: FileName, size: number) {
    this.ordinal = name.ordinal
    this.base = name.base
    this.salt = name.salt
    this.file = format(name)
    this.path = join(directory, this.file)
    this.size = size
  }

  /** Remembers where an entry stands, if that is far enough behind the last that is known. */
  note(offset: number, position: number): void {
    if (position < (this.#positions.at(-1) ?? 0) + INDEX_STEP_BYTES) return
    this.#offsets.push(offset)
    this.#positions.push(position)
  }

  /** A place at or before the entry, and the offset that should stand there. */
  locate(offset: number): { position: number; expected: number } {
    let low = 0
    let high = this.#offsets.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#offsets[middle] ?? 0) <= offset) low = middle + 1
      else high = middle
    }
    return low === 0
      ? { position: 0, expected: this.base }
      : { position: this.#positions[low - 1] ?? 0, expected: this.#offsets[low - 1] ?? this.base }
  }
}
