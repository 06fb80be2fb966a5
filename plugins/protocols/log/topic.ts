// A topic: a row of segments, of which the last is written. Reading is in reader.ts.
import { join } from 'node:path'
import type { KeyValue, LogEntry, Topic } from './api.ts'
import { encode, entryBytes } from './entry.ts'
import type { Writable } from './entry.ts'
import { systemCode } from './errors.ts'
import type { LogError } from './errors.ts'
import { format, newSalt } from './files.ts'
import type { FileName } from './files.ts'
import type { Appendable } from './group.ts'
import { writable } from './place.ts'
import type { Place } from './place.ts'
import { Reader } from './reader.ts'
import { Segment } from './segment.ts'
import type { State } from './state.ts'
import { walk, Window } from './scan.ts'
import type { End } from './scan.ts'

const SCAN_BYTES = 1024 * 1024
/** A last segment with nothing to keep is given back when it is at least this large. */
const IDLE_BYTES = 1024 * 1024
const NOTHING: Pick<End, 'expected' | 'tail'> = { expected: 0, tail: { bytes: 0, lostTo: 0, kind: 'none' } }
const CONSUMER = /^[\x21-\x7e]{1,200}$/

export class TopicFiles implements Topic, Appendable {
  readonly name: string
  readonly #place: Place
  readonly #state: State
  readonly #reader: Reader
  #segments: Segment[] = []
  #ordinal = 0
  #next = 0
  #first = 0
  #bytes = 0
  #staged: { segment: Segment; entries: readonly Writable[]; bytes: number } | undefined
  /** A sync of the last segment failed: nothing more is written to it. */
  #suspect = false
  /** The last segment's name is perhaps not on disk. */
  #unnamed = false
  /** Offsets in which a read found nothing, up to the end: nobody needs to be woken for them. */
  #hollow = { from: 0, to: 0 }
  #truncatingTo = 0
  #refusal: LogError | undefined
  #waiting = new Set<() => void>()

  constructor(place: Place, state: State, name: string) {
    this.name = name
    this.#place = place
    this.#state = state
    this.#reader = new Reader(place, name, () => ({ segments: this.#segments, next: this.#next }))
  }

  get first(): number {
    return this.#first
  }

  get next(): number {
    return this.#next
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Whether there is anything of it on disk. */
  get exists(): boolean {
    return this.#segments.length > 0 || this.#next > 0
  }

  async append(key: string, value: Uint8Array): Promise<number> {
    return this.appendAll([{ key, value }])
  }

  async appendAll(entries: readonly KeyValue[]): Promise<number> {
    const additions = entries.map(({ key, value }) => ({ to: this, entry: this.addition(key, value) }))
    this.#place.checkRoom(additions.reduce((sum, { entry }) => sum + entryBytes(entry), 0))
    const offsets = await this.#place.committer.request(additions, [])
    return offsets[0] ?? this.#next
  }

  /** Checks an entry against the limits, but not whether there is room. */
  addition(key: string, value: Uint8Array): Writable {
    return writable(key, value, this.#place.limits)
  }

  async read(from: number, limit: { entries: number; bytes: number }): Promise<LogEntry[]> {
    if (!Number.isSafeInteger(from) || from < 0) throw new RangeError(`${from} is no offset`)
    if (!(limit.entries >= 1 && limit.bytes >= 1)) throw new RangeError('a limit of less than one')
    this.check()
    const start = Math.max(from, this.#first)
    const next = this.#next
    const entries = await this.#reader.read(start, limit)
    if (entries.length === 0 && start < next && this.#next === next) this.#hollow = { from: start, to: next }
    return entries
  }

  async wait(from: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    for (;;) {
      this.check()
      const isHollow = from >= this.#hollow.from && this.#next === this.#hollow.to
      if (this.#next > from && !isHollow) return
      const woken = Promise.withResolvers<void>()
      const abort = (): void => woken.reject(signal.reason)
      this.#waiting.add(woken.resolve)
      signal.addEventListener('abort', abort)
      try {
        await woken.promise
      } finally {
        this.#waiting.delete(woken.resolve)
        signal.removeEventListener('abort', abort)
      }
    }
  }

  async truncate(before: number): Promise<number> {
    if (!Number.isSafeInteger(before) || before < 0) throw new RangeError(`${before} is no offset`)
    this.check()
    const first = Math.min(before, this.#next)
    if (first <= this.#first) return 0
    this.#truncatingTo = Math.max(this.#truncatingTo, first) // of two at a time the smaller must not be kept
    await this.#state.set('first', this.name, this.#truncatingTo) // before the files go: else a crash shows a hole
    this.#first = Math.max(this.#first, first)
    const old = this.#bytes
    const last = this.#segments.at(-1)
    if (
      first === this.#next &&
      last !== undefined &&
      last.size >= Math.min(IDLE_BYTES, this.#place.limits.segmentBytes)
    ) {
      await this.#place.committer.exclusive(() => this.#closeIdle(last))
    }
    await this.#unlinkForgotten()
    const freed = Math.max(0, old - this.#bytes)
    if (freed > 0) await this.#place.freed()
    return freed
  }

  position(consumer: string): number | undefined {
    return this.#state.get('position', this.name, consumer)
  }

  async setPosition(consumer: string, offset: number): Promise<void> {
    if (!CONSUMER.test(consumer)) throw new RangeError(`${JSON.stringify(consumer)} is no name of a consumer`)
    if (!Number.isSafeInteger(offset) || offset < 0 || offset > this.#next) {
      throw new RangeError(`a position of ${offset}: the topic ${this.name} ends at ${this.#next}`)
    }
    this.check()
    await this.#state.set('position', this.name, offset, consumer)
  }

  check(): void {
    if (this.#refusal !== undefined) throw this.#refusal
  }

  async stage(entries: readonly Writable[], unixNano: bigint): Promise<void> {
    const bytes = entries.reduce((sum, entry) => sum + entryBytes(entry), 0)
    const segment = await this.#writable(bytes)
    const buffers = encode(entries, this.#next, unixNano, segment.salt)
    this.#staged = { segment, entries, bytes }
    await this.#place.files.use(segment.path, async (file) => {
      await file.write(buffers, segment.size)
      this.#suspect = true
      await file.sync()
      this.#suspect = false
    })
    if (this.#unnamed) await this.#place.fs.syncDirectory(this.#place.directory)
    this.#unnamed = false
  }

  publish(): void {
    if (this.#staged === undefined) return
    const { segment, entries, bytes } = this.#staged
    for (const entry of entries) {
      segment.note(this.#next++, segment.size)
      segment.size += entryBytes(entry)
    }
    this.#count(bytes)
    this.#staged = undefined
    this.#wake()
  }

  async undo(): Promise<void> {
    const staged = this.#staged
    this.#staged = undefined
    if (staged === undefined) return
    try {
      await this.#place.files.use(staged.segment.path, async (file) => {
        await file.truncate(staged.segment.size)
        await file.sync()
      })
    } catch {
      this.#suspect = true
    }
  }

  /** Takes the segments that a listing found. Only the last is read, and those beside which a file is missing. */
  async load(found: readonly FileName[], reached: number): Promise<void> {
    this.#first = this.#state.get('first', this.name) ?? 0
    for (const name of found.toSorted((a, b) => a.ordinal - b.ordinal)) {
      const size = await this.#place.fs.size(join(this.#place.directory, format(name)))
      const segment = new Segment(this.#place.directory, name, size)
      this.#count(size)
      if (name.base < (this.#segments.at(-1)?.base ?? 0))
        this.#report(name.base, name.base, size, segment.file)
      else this.#segments.push(segment)
    }
    await this.#unlinkForgotten()
    const last = this.#segments.at(-1)
    this.#ordinal = last?.ordinal ?? 0
    const oldest = this.#segments[0]?.base ?? 0
    if (oldest > this.#first) this.#report(this.#first, oldest, 0, '')
    for (const [index, segment] of this.#segments.slice(0, -1).entries()) {
      const after = this.#segments[index + 1]
      if (after !== undefined && after.ordinal > segment.ordinal + 1)
        await this.#reader.checkEnd(segment, after)
    }
    const { expected, tail } = last === undefined ? NOTHING : await this.#loadLast(last)
    const end = Math.max(expected, this.#first)
    this.#next = Math.max(end, tail.lostTo, reached)
    if (tail.kind === 'damaged' || this.#next > end)
      this.#report(end, this.#next, tail.bytes, last?.file ?? '')
    this.#hollow = { from: end, to: this.#next }
  }

  /** Nothing is taken any more, and whoever waits is told why. */
  refuse(reason: LogError | undefined): void {
    this.#refusal = reason
    this.#wake()
  }

  /** For a topic that is to go: its files, whatever they hold. */
  async remove(): Promise<void> {
    const { files, fs, directory } = this.#place
    for (let segment = this.#segments[0]; segment !== undefined; segment = this.#segments[0]) {
      await files.release(segment.path)
      await fs.unlink(segment.path)
      this.#count(-segment.size)
      this.#segments.shift()
    }
    await fs.syncDirectory(directory)
  }

  async #loadLast(segment: Segment): Promise<End> {
    const { files } = this.#place
    return files.use(segment.path, async (file) => {
      const onDisk = segment.size
      const part = {
        file,
        start: 0,
        end: onDisk,
        salt: segment.salt,
        expected: segment.base,
        below: Infinity,
      }
      const end = await walk(part, new Window(file, onDisk, SCAN_BYTES, true), {
        full: () => false,
        entry: (header, _window, _at, position) => segment.note(header.offset, position),
        gap: (from, to, bytes) => this.#report(from, to, bytes, segment.file),
      })
      if (end.tail.bytes > 0) await file.truncate(end.position)
      this.#count(-end.tail.bytes)
      segment.size = end.position
      await file.sync() // a killed process may have left entries in memory only: what is read must not vanish
      return end
    })
  }

  /** The segment that has room for so many bytes more. */
  async #writable(bytes: number): Promise<Segment> {
    const last = this.#segments.at(-1)
    const isFull = last !== undefined && last.size > 0 && last.size + bytes > this.#place.limits.segmentBytes
    return last === undefined || isFull || this.#suspect ? this.#addSegment() : last
  }

  async #addSegment(): Promise<Segment> {
    const { directory, files } = this.#place
    const last = this.#segments.at(-1)
    const name: FileName = {
      kind: 'topic',
      name: this.name,
      ordinal: this.#ordinal + 1,
      base: this.#next,
      salt: newSalt(),
    }
    const segment = new Segment(directory, name, 0)
    await files.use(segment.path, async () => undefined, 'create')
    this.#ordinal++
    this.#segments.push(segment)
    this.#unnamed = true
    this.#suspect = false
    if (last?.size === 0) {
      this.#segments.splice(this.#segments.indexOf(last), 1)
      await this.#unlink(last) // a disk that fails every sync must not leave a file for each attempt
    }
    return segment
  }

  /** Only the name of the next segment remains, which keeps the count. */
  async #closeIdle(last: Segment): Promise<void> {
    if (this.#refusal !== undefined || this.#segments.at(-1) !== last || this.#first !== this.#next) return
    await this.#addSegment()
    await this.#place.fs.syncDirectory(this.#place.directory)
    this.#unnamed = false
  }

  async #unlinkForgotten(): Promise<void> {
    const kept = this.#segments.findIndex((_, index) => {
      const after = this.#segments[index + 1]
      return after === undefined || after.base > this.#first
    })
    for (const segment of this.#segments.splice(0, Math.max(0, kept))) await this.#unlink(segment)
  }

  async #unlink(segment: Segment): Promise<void> {
    await this.#place.files.release(segment.path)
    this.#count(-segment.size)
    try {
      await this.#place.fs.unlink(segment.path)
    } catch (error) {
      // One that stays is found when the log is opened again.
      if (systemCode(error) !== 'ENOENT') this.#count(segment.size)
    }
  }

  #wake(): void {
    for (const wake of this.#waiting) wake()
  }

  #count(bytes: number): void {
    this.#bytes += bytes
    this.#place.grow(bytes)
  }

  #report(from: number, to: number, bytes: number, file: string): void {
    this.#place.damage.report({ topic: this.name, from, to, bytes, file })
  }
}
