// Follows files as they grow, are renamed, truncated, copied and compressed. Every record is given once, in the order of
// its file; a position is kept only when all before it is safe.
import { open, stat } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import type { Log } from '../../contract/index.ts'
import { Content, OpenFile } from './content.ts'
import type { Entry, ReadingOptions } from './content.ts'
import { findFiles } from './find.ts'
import { firstBytes, headOf, headSize, isHead, noHead } from './fingerprint.ts'
import { fileKey, ownFiles } from './own.ts'
import { firstOf, readRotated, rotationsOf } from './rotated.ts'
import type { Rotated } from './rotated.ts'

export interface TailOptions extends ReadingOptions {
  readonly include: readonly string[]
  readonly exclude: readonly string[]
  readonly most: number
  /** Where files that are there at the very first start are begun. */
  readonly from: 'beginning' | 'end'
  /** How long a record of several lines waits for more, and a renamed file for its last writers. */
  readonly waitMs: number
  readonly log: Log
  readonly elapsedMs: () => number
  /** Whether as much waits as should be emitted together. */
  readonly isFull: () => boolean
  /** Makes all that was given safe. */
  readonly emit: () => Promise<void>
  readonly save: (entries: readonly Entry[]) => Promise<void>
}

const chunkBytes = 64 * 1024
/** What one file may bring before the next is looked at. */
const bytesPerTurn = 1024 * 1024
/** Searches in which a file that is gone is looked for. */
const mostSearches = 6

export class Tail {
  readonly #options: TailOptions
  readonly #files = new Map<string, OpenFile>()
  /** Contents being read from rotated files. */
  readonly #rotated = new Set<Content>()
  #missing: { entry: Entry; searches: number }[] = []
  /** What was rotated and read to its end in this run. */
  readonly #finished: Entry[] = []
  readonly #told = new Set<string>()
  readonly #buffer = Buffer.allocUnsafe(chunkBytes)
  #changed = false
  #isFirstStart = false

  constructor(options: TailOptions) {
    this.#options = options
  }

  get count(): number {
    return this.#files.size
  }

  /** Finds the files again that an earlier run read. */
  async begin(saved: readonly Entry[] | undefined, signal: AbortSignal): Promise<void> {
    this.#isFirstStart = saved === undefined
    this.#missing = (saved ?? []).map((entry) => ({ entry, searches: 0 }))
    await this.search(signal)
    this.#isFirstStart = false
    this.#changed ||= saved === undefined
  }

  /** Looks for files that came, and for what rotation made of those that went. */
  async search(signal: AbortSignal): Promise<void> {
    const { include, exclude, most } = this.#options
    const { paths, left } = await findFiles({ include, exclude, most, signal })
    if (left > 0) this.#tell('more files than are followed', { followed: most, left })
    const own = ownFiles()
    for (const path of paths) {
      if (signal.aborted) return
      await this.#open(path, own)
    }
    for (const one of this.#missing) {
      if (signal.aborted) return
      const isDone = await this.#recover(one.entry, signal)
      if (signal.aborted) return
      if (!isDone && ++one.searches < mostSearches) continue
      if (!isDone) {
        const { path, offset } = one.entry
        this.#options.log.warn('a file is gone, and what was not read of it', { path, readUpTo: offset })
      }
      this.#missing = this.#missing.filter((other) => other !== one)
      this.#finished.push(one.entry)
      this.#changed = true
    }
  }

  /** Reads what is new, in all files; whether there may be more at once. */
  async round(signal: AbortSignal): Promise<boolean> {
    let more = false
    for (const opened of this.#files.values()) {
      if (signal.aborted) break
      try {
        more = (await this.#follow(opened, signal)) || more
      } catch (error) {
        if (signal.aborted) throw error
        this.#tell('a file cannot be read', { path: opened.content.path, error })
      }
      if (this.#options.isFull()) await this.#flush()
    }
    await this.#flush()
    return more
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#files.values()].map(({ file }) => file.close()))
    this.#files.clear()
  }

  async #open(path: string, own: ReadonlySet<string>): Promise<void> {
    let file: FileHandle | undefined
    try {
      const { dev, ino } = await stat(path)
      const key = fileKey({ dev, ino })
      if (this.#files.has(key) || this.#files.size >= this.#options.most * 2) return
      if (own.has(key)) return this.#tell('a file that we write ourselves is not read', { path })
      file = await open(path, 'r')
      const { size, mtimeMs } = await file.stat()
      const first = await firstBytes(file, headSize)
      const known = this.#missing.find(
        ({ entry }) =>
          entry.dev === dev && entry.ino === ino && isHead(entry.head, first) && entry.offset <= size,
      )
      if (known) this.#missing = this.#missing.filter((one) => one !== known)
      const from = this.#isFirstStart && this.#options.from === 'end' ? size : 0
      const offset = known?.entry.offset ?? from
      const content = new Content({ path, dev, ino, head: headOf(first), mtimeMs, offset }, this.#options)
      this.#files.set(key, new OpenFile(file, content, this.#options.elapsedMs()))
      file = undefined
      this.#changed = true
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        this.#tell('a file cannot be opened', { path, error: (error as Error).message })
    } finally {
      await file?.close()
    }
  }

  /** Whether there may be more of it at once. */
  async #follow(opened: OpenFile, signal: AbortSignal): Promise<boolean> {
    const nowMs = this.#options.elapsedMs()
    if (await opened.wasReplaced()) await this.#replaced(opened, signal)
    let read = 0
    while (read < bytesPerTurn && !this.#options.isFull()) {
      const got = await opened.read(this.#buffer)
      read += got
      if (got < chunkBytes) break
    }
    if (read > 0) {
      opened.newsMs = nowMs
      return read >= bytesPerTurn || this.#options.isFull()
    }
    const isQuiet = nowMs - opened.newsMs >= this.#options.waitMs
    if (opened.content.holdsRecord && isQuiet) opened.content.flush()
    await this.#looksLeft(opened, nowMs, isQuiet)
    return false
  }

  /** A file whose path names another one is read to its end, and a while longer for those who still write to it. */
  async #looksLeft(opened: OpenFile, nowMs: number, isQuiet: boolean): Promise<void> {
    const { content } = opened
    const at = await stat(content.path).catch(() => undefined)
    if (at?.dev === content.dev && at.ino === content.ino) {
      opened.leftMs = undefined
      return
    }
    if (opened.leftMs === undefined) {
      opened.leftMs = nowMs
      if (at) await this.#open(content.path, ownFiles())
    }
    if (!isQuiet || nowMs - opened.leftMs < this.#options.waitMs) return
    content.end()
    await this.#flush()
    this.#files.delete(fileKey(content))
    this.#changed = true
    await opened.file.close()
  }

  /** The file was truncated: the end of what it held may be in a copy; then it begins anew. */
  async #replaced(opened: OpenFile, signal: AbortSignal): Promise<void> {
    const { content } = opened
    const copy = await this.#copyOf(content.entry, await rotationsOf(content.path))
    if (copy) await this.#readOn(content, copy, signal)
    else content.end()
    await this.#flush()
    await opened.begin(new Content({ ...content.entry, head: noHead, offset: 0 }, this.#options))
    this.#changed = true
  }

  /** Reads the rest of a file that went while nobody looked, and the files that came and went after it. */
  async #recover(entry: Entry, signal: AbortSignal): Promise<boolean> {
    const rotations = await rotationsOf(entry.path)
    const copy = await this.#copyOf(entry, rotations)
    // One that was empty has nothing to be known by, and nothing that was read of it.
    if (copy === undefined && entry.head.size > 0) return false
    const content = new Content(entry, this.#options)
    this.#rotated.add(content)
    try {
      if (copy) await this.#readOn(content, copy, signal)
      await this.#flush()
      const missing = this.#missing.map((one) => one.entry)
      const known = [...missing, ...this.#finished, ...this.#entries()]
      for (const one of rotations) {
        if (signal.aborted) return false
        if (one === copy || one.mtimeMs <= (copy ?? entry).mtimeMs) continue
        await this.#readUnseen(entry.path, one, known, signal)
      }
      return true
    } catch (error) {
      if (signal.aborted) throw error
      this.#tell('a rotated file cannot be read', { path: entry.path, error: (error as Error).message })
      return false
    } finally {
      this.#rotated.delete(content)
    }
  }

  async #readUnseen(path: string, one: Rotated, known: readonly Entry[], signal: AbortSignal): Promise<void> {
    const first = await firstOf(one, headSize)
    const isKnown = known.some((entry) => entry.head.size > 0 && isHead(entry.head, first))
    if (first.length === 0 || isKnown || this.#files.has(fileKey(one))) return
    const { dev, ino, mtimeMs } = one
    const content = new Content({ path, dev, ino, head: headOf(first), mtimeMs, offset: 0 }, this.#options)
    this.#rotated.add(content)
    try {
      await this.#readOn(content, one, signal)
      await this.#flush()
      this.#finished.push(content.entry)
    } finally {
      this.#rotated.delete(content)
    }
  }

  /** The rotated file that holds what was read: the same one, renamed, or a copy that begins alike and is as long. */
  async #copyOf(entry: Entry, rotations: readonly Rotated[]): Promise<Rotated | undefined> {
    const same = rotations.find((one) => one.dev === entry.dev && one.ino === entry.ino)
    if (entry.head.size === 0) return same
    const sorted = [
      ...(same ? [same] : []),
      ...rotations.filter((one) => !one.isCompressed).toReversed(),
      ...rotations.filter((one) => one.isCompressed).toReversed(),
    ]
    for (const one of sorted) {
      if (!one.isCompressed && one.size < entry.offset) continue
      const first = await firstOf(one, headSize)
      if (first.length > 0 && isHead(entry.head, first)) return one
    }
    return undefined
  }

  async #readOn(content: Content, from: Rotated, signal: AbortSignal): Promise<void> {
    for await (const chunk of readRotated(from, content.position)) {
      signal.throwIfAborted()
      content.push(chunk)
      if (this.#options.isFull()) await this.#flush()
    }
    content.end()
  }

  /** Makes all that was given safe, and keeps the positions. */
  async #flush(): Promise<void> {
    await this.#options.emit()
    for (const { content } of this.#files.values()) this.#changed = content.acknowledged() || this.#changed
    for (const content of this.#rotated) this.#changed = content.acknowledged() || this.#changed
    if (!this.#changed) return
    this.#changed = false
    const missing = this.#missing
      .map(({ entry }) => entry)
      .filter((entry) => ![...this.#rotated].some((one) => one.dev === entry.dev && one.ino === entry.ino))
    await this.#options.save([...this.#entries(), ...missing])
  }

  #entries(): Entry[] {
    const all = [...[...this.#files.values()].map(({ content }) => content), ...this.#rotated]
    return all.map(({ entry }) => entry)
  }

  /** Once for each thing that can be wrong. */
  #tell(message: string, fields: { path?: string; [key: string]: unknown }): void {
    const key = `${message} ${fields.path ?? ''}`
    if (this.#told.has(key) || this.#told.size >= 1000) return
    this.#told.add(key)
    this.#options.log.warn(message, fields)
  }
}
