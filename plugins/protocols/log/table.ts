// A table: a Map in memory, and a file of its changes that is rewritten when more than half of it is out of date.
import { join } from 'node:path'
import type { Table, TableChange } from './api.ts'
import type { LogFile } from './disk.ts'
import { encode, entryBytes, HEADER_BYTES, keyOf, valueOf } from './entry.ts'
import type { Writable } from './entry.ts'
import { LogError, LogFullError } from './errors.ts'
import { format, NEW, newSalt } from './files.ts'
import type { FileName } from './files.ts'
import type { Appendable } from './group.ts'
import { writable } from './place.ts'
import type { Place } from './place.ts'
import { walk, Window } from './scan.ts'

const CHUNK_BYTES = 1024 * 1024

export class TableFile implements Table, Appendable {
  readonly name: string
  readonly #place: Place
  readonly #map = new Map<string, Uint8Array>()
  #name: FileName
  #path = ''
  /** Of the file: changes that are on disk and acknowledged. */
  #fileBytes = 0
  #exists = false
  #liveBytes = 0
  #next = 0
  #staged: readonly Writable[] = []
  #stagedBytes = 0
  /** A sync failed: nothing more is written to this file. */
  #suspect = false
  /** Changes since the rewriting under way began. */
  #meanwhile: Map<string, Uint8Array | undefined> | undefined
  #rewriteAbove: number
  #rewriting: Promise<void> | undefined
  #ordinal = 0
  /** Renamed, but perhaps not yet on disk by that name: the file before it, which must stay until then. */
  #replaced: string[] | undefined

  constructor(place: Place, name: string) {
    this.name = name
    this.#place = place
    this.#rewriteAbove = place.limits.rewriteBytes
    this.#name = { kind: 'table', name, ordinal: 0, base: 0, salt: newSalt() }
    this.#path = join(place.directory, format(this.#name))
  }

  get size(): number {
    return this.#map.size
  }

  get next(): number {
    return this.#next
  }

  get(key: string): Uint8Array | undefined {
    return this.#map.get(key)
  }

  keys(): IterableIterator<string> {
    return this.#map.keys()
  }

  entries(): IterableIterator<[string, Uint8Array]> {
    return this.#map.entries()
  }

  set(key: string, value: Uint8Array | undefined): Promise<void> {
    return this.setAll([{ key, value }])
  }

  async setAll(changes: readonly TableChange[]): Promise<void> {
    const sets = changes.map(({ key, value }) => ({ to: this, entry: this.change(key, value) }))
    await this.#place.committer.request([], sets)
  }

  /** Checks a change against the limits; what only the log writes and what removes is never refused for want of room. */
  change(key: string, value: Uint8Array | undefined): Writable {
    const entry = writable(key, value, this.#place.limits)
    if (value === undefined || this.name.startsWith('$')) return entry
    if (this.#liveBytes + entryBytes(entry) > this.#place.limits.maxTableBytes) {
      throw new LogFullError(`the table ${this.name} holds ${this.#liveBytes} bytes, its limit is reached`)
    }
    this.#place.checkRoom(entryBytes(entry))
    return entry
  }

  check(): void {
    // tables are never removed
  }

  async stage(entries: readonly Writable[], unixNano: bigint): Promise<void> {
    if (this.#suspect || !this.#exists) await this.#replace()
    await this.#settleRename()
    const buffers = encode(entries, this.#next, unixNano, this.#name.salt)
    this.#staged = entries
    this.#stagedBytes = entries.reduce((sum, entry) => sum + entryBytes(entry), 0)
    await this.#place.files.use(this.#path, async (file) => {
      await file.write(buffers, this.#fileBytes)
      this.#suspect = true
      await file.sync()
      this.#suspect = false
    })
  }

  publish(): void {
    for (const { key, value } of this.#staged) {
      this.#apply(key, value === undefined ? undefined : new Uint8Array(value))
      this.#meanwhile?.set(key, this.#map.get(key))
    }
    this.#fileBytes += this.#stagedBytes
    this.#place.grow(this.#stagedBytes)
    this.#next += this.#staged.length
    this.#staged = []
    const dead = this.#fileBytes - this.#liveBytes
    if (dead > this.#rewriteAbove && dead > this.#liveBytes) this.#rewriting ??= this.#rewrite()
  }

  async undo(): Promise<void> {
    this.#staged = []
    if (!this.#exists) return
    try {
      await this.#place.files.use(this.#path, async (file) => {
        await file.truncate(this.#fileBytes)
        await file.sync()
      })
    } catch {
      this.#suspect = true
    }
  }

  /** No rewriting is under way any more. */
  async settled(): Promise<void> {
    await this.#rewriting
  }

  /** Reads the newest file of the table; the others are left over from a rewriting, and go. */
  async load(found: readonly FileName[]): Promise<void> {
    const newest = found.toSorted((a, b) => a.ordinal - b.ordinal).at(-1)
    if (newest === undefined) return
    this.#name = newest
    this.#ordinal = newest.ordinal
    this.#path = join(this.#place.directory, format(newest))
    this.#exists = true
    const onDisk = await this.#place.fs.size(this.#path)
    await this.#place.files.use(this.#path, (file) => this.#loadFrom(file, onDisk))
    this.#place.grow(this.#fileBytes)
    for (const old of found) if (old !== newest) await this.#discard(join(this.#place.directory, format(old)))
  }

  async #loadFrom(file: LogFile, onDisk: number): Promise<void> {
    const part = { file, start: 0, end: onDisk, salt: this.#name.salt, expected: 0, below: Infinity }
    const end = await walk(part, new Window(file, onDisk, CHUNK_BYTES, true), {
      full: () => false,
      entry: (header, window, at) => {
        const value = header.removed ? undefined : new Uint8Array(valueOf(header, window, at))
        this.#apply(keyOf(header, window, at), value)
      },
      gap: (from, to, bytes) => this.#report(from, to, bytes),
    })
    if (end.tail.kind === 'damaged') this.#report(end.expected, end.tail.lostTo, end.tail.bytes)
    this.#fileBytes = end.position
    this.#next = end.tail.lostTo
    if (end.tail.bytes > 0) await file.truncate(end.position)
    await file.sync() // what is shown from now on must not vanish
  }

  #report(from: number, to: number, bytes: number): void {
    this.#place.damage.report({ topic: `table:${this.name}`, from, to, bytes, file: format(this.#name) })
  }

  #apply(key: string, value: Uint8Array | undefined): void {
    const old = this.#map.get(key)
    const keyBytes = Buffer.byteLength(key)
    if (old !== undefined) this.#liveBytes -= HEADER_BYTES + keyBytes + old.length
    if (value === undefined) {
      this.#map.delete(key)
      return
    }
    this.#liveBytes += HEADER_BYTES + keyBytes + value.length
    this.#map.set(key, value)
  }

  /** Beside the commits that go on: the bulk first, then between two groups what changed meanwhile, and the rename. */
  async #rewrite(): Promise<void> {
    const snapshot = [...this.#map]
    const meanwhile = new Map<string, Uint8Array | undefined>()
    this.#meanwhile = meanwhile
    const draft = this.#draft()
    try {
      await draft.write(snapshot)
      await this.#place.committer.exclusive(async () => {
        // A file that could not be synced was replaced meanwhile; the newest must have the highest number.
        if (this.#name.ordinal > draft.name.ordinal) throw new LogError('the table was rewritten meanwhile')
        await draft.write(meanwhile)
        await this.#adopt(draft)
        await this.#settleRename()
      })
      this.#rewriteAbove = this.#place.limits.rewriteBytes
    } catch {
      // Nothing is lost: the old file is whole. A full disk is asked again when it has grown by another step.
      this.#rewriteAbove = this.#fileBytes - this.#liveBytes + this.#place.limits.rewriteBytes
      await draft.discard()
    } finally {
      this.#meanwhile = undefined
      this.#rewriting = undefined
    }
  }

  /** Within a commit: makes the first file, or one in place of a file that could not be synced. */
  async #replace(): Promise<void> {
    const draft = this.#draft()
    try {
      await draft.write(this.#map)
      await this.#adopt(draft)
    } catch (error) {
      await draft.discard()
      throw error
    }
  }

  async #adopt(draft: Draft): Promise<void> {
    const { fs, files, grow, directory } = this.#place
    await draft.finish()
    await fs.rename(draft.path, draft.path.slice(0, -NEW.length))
    // From here on the new file is the one that a restart may find, so that changes must go there.
    this.#replaced ??= []
    if (this.#exists) this.#replaced.push(this.#path)
    await files.release(this.#path)
    this.#name = draft.name
    this.#path = join(directory, format(draft.name))
    grow(draft.bytes - this.#fileBytes)
    this.#fileBytes = draft.bytes
    this.#next = draft.count
    this.#exists = true
    this.#suspect = false
  }

  async #settleRename(): Promise<void> {
    if (this.#replaced === undefined) return
    await this.#place.fs.syncDirectory(this.#place.directory)
    const old = this.#replaced
    this.#replaced = undefined
    for (const path of old) await this.#discard(path)
  }

  #draft(): Draft {
    const name: FileName = { ...this.#name, ordinal: ++this.#ordinal, salt: newSalt() }
    return new Draft(this.#place, name)
  }

  /** A file left behind is older than the newest, and goes when the log is opened again. */
  #discard(path: string): Promise<void> {
    return this.#place.fs.unlink(path).catch(() => undefined)
  }
}

/** A table's next file, until it is renamed to its name. */
class Draft {
  readonly name: FileName
  readonly path: string
  bytes = 0
  count = 0
  readonly #place: Place
  #made = false

  constructor(place: Place, name: FileName) {
    this.#place = place
    this.name = name
    this.path = join(place.directory, format(name) + NEW)
  }

  async write(entries: Iterable<[string, Uint8Array | undefined]>): Promise<void> {
    let chunk: Writable[] = []
    let bytes = 0
    for (const [key, value] of entries) {
      const entry = { key, keyBytes: Buffer.byteLength(key), value }
      chunk.push(entry)
      bytes += entryBytes(entry)
      if (bytes < CHUNK_BYTES) continue
      await this.#put(chunk, bytes)
      chunk = []
      bytes = 0
    }
    await this.#put(chunk, bytes)
  }

  async finish(): Promise<void> {
    await this.#place.files.use(this.path, (file) => file.sync())
    await this.#place.files.release(this.path) // it is opened again by its new name
  }

  async discard(): Promise<void> {
    await this.#place.files.release(this.path)
    await this.#place.fs.unlink(this.path).catch(() => undefined)
  }

  async #put(entries: readonly Writable[], bytes: number): Promise<void> {
    const buffers = encode(entries, this.count, 0n, this.name.salt)
    const mode = this.#made ? 'update' : 'create'
    await this.#place.files.use(this.path, (file) => file.write(buffers, this.bytes), mode)
    this.#made = true
    this.bytes += bytes
    this.count += entries.length
  }
}
