// What one file holds, as far as it was read: where in it the last whole record ended, up to where records are safe,
// and by what the file is known again. The bytes may come from the file itself, or from a rotated copy of it.
import type { FileHandle } from 'node:fs/promises'
import { LineJoiner, LineSplitter } from '../lines/splitter.ts'
import { firstBytes, headOf, headSize, isHead } from './fingerprint.ts'
import type { Head } from './fingerprint.ts'

/** A file in the checkpoint. */
export interface Entry {
  readonly path: string
  readonly dev: number
  readonly ino: number
  readonly head: Head
  /** When it had last been written. */
  readonly mtimeMs: number
  /** Everything before it is safe. */
  readonly offset: number
}

export interface ReadingOptions {
  readonly longest: number
  readonly multiline:
    | {
        readonly start?: string | undefined
        readonly continuation?: string | undefined
        readonly most_lines: number
      }
    | undefined
  /** A whole record of the file with this path. */
  readonly take: (path: string, bytes: Buffer, start: number, end: number, wasCut: boolean) => void
}

export class Content {
  readonly path: string
  readonly dev: number
  readonly ino: number
  head: Head
  mtimeMs: number
  #taken: number
  #safe: number
  readonly #splitter: LineSplitter
  readonly #joiner: LineJoiner | undefined

  constructor({ path, dev, ino, head, mtimeMs, offset }: Entry, options: ReadingOptions) {
    this.path = path
    this.dev = dev
    this.ino = ino
    this.head = head
    this.mtimeMs = mtimeMs
    this.#taken = offset
    this.#safe = offset
    const { longest, multiline } = options
    const take = (bytes: Buffer, start: number, end: number, wasCut: boolean, next: number): void => {
      this.#taken = next
      // An empty line says nothing; within a record of several lines it is kept.
      if (end > start) options.take(path, bytes, start, end, wasCut)
    }
    const joiner =
      multiline &&
      new LineJoiner({
        start: multiline.start,
        continuation: multiline.continuation,
        mostLines: multiline.most_lines,
        longest,
        take,
      })
    this.#joiner = joiner
    this.#splitter = new LineSplitter({
      longest,
      position: offset,
      take: joiner ? joiner.line.bind(joiner) : take,
    })
  }

  /** Where to go on reading. */
  get position(): number {
    return this.#splitter.position
  }

  get entry(): Entry {
    const { path, dev, ino, head, mtimeMs } = this
    return { path, dev, ino, head, mtimeMs, offset: this.#safe }
  }

  /** Whether a record waits for lines that may belong to it. */
  get holdsRecord(): boolean {
    return this.#joiner?.isEmpty === false
  }

  push(chunk: Buffer): void {
    this.#splitter.push(chunk)
  }

  /** The record that waits is whole. */
  flush(): void {
    this.#joiner?.flush()
  }

  /** No more will come. */
  end(): void {
    this.#splitter.end()
    this.#joiner?.flush()
  }

  /** Everything that was taken has been acknowledged; whether that is more than before. */
  acknowledged(): boolean {
    const moved = this.#safe !== this.#taken
    this.#safe = this.#taken
    return moved
  }
}

/** A file that is followed where it lies. */
export class OpenFile {
  readonly file: FileHandle
  content: Content
  /** When its path began to name another file, on the monotonic clock. */
  leftMs: number | undefined
  /** When it last had something new. */
  newsMs: number
  #mtimeMs = -1

  constructor(file: FileHandle, content: Content, nowMs: number) {
    this.file = file
    this.content = content
    this.newsMs = nowMs
  }

  /** Whether what was read of it is no longer what it holds: it was truncated, or written anew. */
  async wasReplaced(): Promise<boolean> {
    const { size, mtimeMs } = await this.file.stat()
    const { content } = this
    if (size < content.position) return true
    if (mtimeMs === this.#mtimeMs) return false
    this.#mtimeMs = mtimeMs
    content.mtimeMs = mtimeMs
    const first = await firstBytes(this.file, headSize)
    if (!isHead(content.head, first)) return true
    if (first.length > content.head.size) content.head = headOf(first)
    return false
  }

  /** Begins anew. */
  async begin(content: Content): Promise<void> {
    this.content = content
    this.#mtimeMs = -1
    await this.wasReplaced() // takes the new head
  }

  /** Reads on; the number of bytes. */
  async read(buffer: Buffer): Promise<number> {
    const { bytesRead } = await this.file.read(buffer, 0, buffer.length, this.content.position)
    if (bytesRead > 0) this.content.push(buffer.subarray(0, bytesRead))
    return bytesRead
  }
}
