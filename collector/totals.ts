// What the log's table `<exporter>/streams` keeps of streams: where each stood when it was last written, and how far
// each class was read. A restart finds there the streams of earlier sessions, for the next birth and the backlog.
import * as z from 'zod'
import { classes, isClass, parseStreamKey, streamKey } from '../plugins/contract/index.ts'
import type { Class, Dropped, Header, StreamEnd, StreamHeld } from '../plugins/contract/index.ts'
import type { Log, Table } from '../plugins/protocols/log/index.ts'
import type { Mark } from './backlog.ts'
import { Stream, sumOf } from './stream.ts'

const rowSchema = z.object({
  seq: z.number(),
  produced: z.number(),
  dropped: z.record(z.string(), z.number()),
  onDisk: z.number(),
  spilledSeq: z.number(),
})
const markSchema = z.object({
  position: z.number(),
  scanned: z.number(),
  beyond: z.array(z.tuple([z.number(), z.number()])),
})

/** So many streams of earlier sessions are remembered; those of the oldest sessions go first. */
const mostOld = 1000

export interface TableSet {
  table: string
  key: string
  value: Uint8Array | undefined
}

export class Totals {
  readonly #table: Table
  readonly #old = new Map<string, Stream>()
  readonly #changed = new Set<Stream>()
  readonly #forgotten = new Set<string>()
  readonly #marks = new Map<Class, Mark>()
  /** Of what windows made: batches in the log, or gone from it, have it. */
  readonly #held = new Set<string>()

  constructor(log: Log, exporter: string) {
    this.#table = log.table(`${exporter}/streams`)
    for (const [key, value] of this.#table.entries()) this.#load(key, Buffer.from(value).toString())
    this.#bound()
  }

  mark(name: Class): Mark | undefined {
    return this.#marks.get(name)
  }

  hasMark(key: string): boolean {
    return this.#held.has(key)
  }

  marked(key: string): void {
    this.#held.add(key)
  }

  forgetMark(key: string): void {
    if (this.#held.delete(key)) this.#forgotten.add(`!${key}`)
  }

  markRows(keys: readonly string[]): TableSet[] {
    for (const key of keys) this.#held.add(key)
    return keys.map((key) => this.#set(`!${key}`, true))
  }

  /** Streams of earlier sessions. */
  get old(): Iterable<Stream> {
    return this.#old.values()
  }

  get hasOld(): boolean {
    return this.#old.size > 0
  }

  /** The stream of an earlier session that a batch of the backlog belongs to. */
  oldStream(header: Header): Stream {
    const key = streamKey(header)
    let stream = this.#old.get(key)
    if (!stream) {
      stream = new Stream(header, false)
      this.#old.set(key, stream)
    }
    if (header.seq > stream.seq) restore(stream, header)
    return stream
  }

  /** An entry was found that the rows may not know of, since a crash came between the two writes. */
  amend(header: Header): void {
    const stream = this.oldStream(header)
    if (header.seq <= stream.spilledSeq) return
    stream.spilledSeq = header.seq
    stream.onDisk += header.count
    stream.held += header.count
    this.#changed.add(stream)
  }

  changed(stream: Stream): void {
    this.#changed.add(stream)
  }

  /** All that the log has of a class is done: what rows still say to be held is a trace of a crash. */
  drained(name: Class): void {
    for (const stream of this.#old.values()) {
      if (stream.class !== name || stream.held === 0) continue
      stream.held = 0
      stream.onDisk = 0
      this.#changed.add(stream)
    }
  }

  ended(): StreamEnd[] {
    return [...this.#old.values()].map(({ session, device, class: name, seq, produced, dropped }) => ({
      session,
      device,
      class: name,
      seq,
      produced,
      dropped: { ...dropped },
    }))
  }

  held(): StreamHeld[] {
    const list: StreamHeld[] = []
    for (const { session, device, class: name, held } of this.#old.values()) {
      if (held > 0) list.push({ session, device, class: name, count: held })
    }
    return list
  }

  /** Rows for streams as they will be once the log has `extra` more batches of them. */
  rows(streams: Iterable<Stream>, extra: ReadonlyMap<Stream, { records: number; seq: number }>): TableSet[] {
    const sets: TableSet[] = []
    for (const stream of streams) {
      const more = extra.get(stream)
      const key = streamKey(stream)
      stream.hasRow = true
      this.#forgotten.delete(key)
      sets.push(
        this.#set(key, {
          seq: stream.seq,
          produced: stream.produced,
          dropped: stream.dropped,
          onDisk: stream.onDisk + (more?.records ?? 0),
          spilledSeq: Math.max(stream.spilledSeq, more?.seq ?? 0),
        }),
      )
    }
    return sets
  }

  markSet(name: Class, mark: Mark): TableSet {
    return this.#set(`@${name}`, mark)
  }

  /** What of the streams is to be written or removed now, current ones included. */
  due(current: readonly Stream[]): TableSet[] {
    const sets: TableSet[] = []
    for (const stream of current) {
      if (!stream.settled) sets.push(...this.rows([stream], new Map()))
      else if (stream.hasRow) {
        stream.hasRow = false
        sets.push(this.#remove(streamKey(stream)))
      }
    }
    sets.push(...this.rows(this.#changed, new Map()))
    for (const key of this.#forgotten) sets.push(this.#remove(key))
    this.#changed.clear()
    this.#forgotten.clear()
    return sets
  }

  /** Writing them failed: they are due again. */
  again(sets: readonly TableSet[]): void {
    for (const { key, value } of sets) {
      const stream = this.#old.get(key)
      if (stream) this.#changed.add(stream)
      else if (value === undefined) this.#forgotten.add(key)
    }
  }

  #set(key: string, value: unknown): TableSet {
    return { table: this.#table.name, key, value: Buffer.from(JSON.stringify(value)) }
  }

  #remove(key: string): TableSet {
    return { table: this.#table.name, key, value: undefined }
  }

  #load(key: string, json: string): void {
    if (key.startsWith('!')) return void this.#held.add(key.slice(1))
    const name = classes.find((name) => key === `@${name}`)
    const value = parseJson(json)
    if (name) {
      const mark = markSchema.safeParse(value)
      if (mark.success) this.#marks.set(name, mark.data)
      return
    }
    const row = rowSchema.safeParse(value)
    const id = parseStreamKey(key)
    // A row that cannot be read was not written by this version: what it says is unknown then.
    if (!row.success || !isClass(id.class)) return void this.#forgotten.add(key)
    const stream = new Stream(id, false)
    restore(stream, row.data)
    stream.spilledSeq = row.data.spilledSeq
    stream.held = stream.onDisk = row.data.onDisk
    stream.hasRow = true
    this.#old.set(key, stream)
  }

  #bound(): void {
    if (this.#old.size <= mostOld) return
    const oldest = [...this.#old.entries()].sort(([, one], [, other]) =>
      one.session < other.session ? -1 : 1,
    )
    for (const [key, stream] of oldest) {
      if (this.#old.size <= mostOld) return
      if (stream.onDisk > 0) continue
      this.#old.delete(key)
      this.#forgotten.add(key)
    }
  }
}

/** Totals only grow, so the greater ones are the newer ones. */
function restore(stream: Stream, from: { seq: number; produced: number; dropped: Dropped }): void {
  stream.seq = Math.max(stream.seq, from.seq)
  stream.produced = Math.max(stream.produced, from.produced)
  if (sumOf(from.dropped) > sumOf(stream.dropped)) Object.assign(stream.dropped, from.dropped)
}

function parseJson(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return undefined
  }
}
