// Where those look on who read at this machine: all that sources hand over, as it comes, and the newest log records in a
// ring of few megabytes. Records are kept as they are and decoded only when somebody asks.
import { ulid } from 'ulid'
import { LogCursor } from '../plugins/contract/index.ts'
import type { Clock, Records } from '../plugins/contract/index.ts'
import { eachRecord, matches, rowOf, timeOf } from '../plugins/protocols/log-json.ts'
import type { LogFilter, LogRecordRow, Values } from '../plugins/protocols/log-json.ts'
import { Fifo } from './fifo.ts'

/** What a source handed over at once. */
export interface Kept {
  readonly number: number
  readonly records: Records
  readonly arrived: bigint
}

export interface TailQuery extends LogFilter {
  /** Inclusive; compared with the claimed time, or the arrival when that is suspect. */
  since?: bigint
  /** Exclusive. */
  until?: bigint
  limit: number
}

/** Called in the middle of the pipeline: must cost next to nothing, and never throw. */
export type Listener = (kept: Kept) => void

const usualBytes = 4 * 1024 * 1024
const mostKept = 2000

export class Tail {
  readonly #clock: Clock
  readonly #mostBytes: number
  readonly #cursor = new LogCursor()
  readonly #run = ulid()
  #listeners: readonly Listener[] = []
  readonly #ring = new Fifo<Kept>()
  #bytes = 0
  #number = 0

  /** Keeps so many bytes, four megabytes unless told otherwise. */
  constructor(clock: Clock, mostBytes?: number) {
    this.#clock = clock
    this.#mostBytes = mostBytes ?? usualBytes
  }

  /** Called for all that sources emit; must cost next to nothing. */
  see(records: Records): void {
    if (records.signal !== 'logs' && this.#listeners.length === 0) return
    const one = { number: ++this.#number, records, arrived: this.#clock.nowUnixNano() }
    if (records.signal === 'logs') this.#keep(one)
    for (const listener of this.#listeners) listener(one)
  }

  #keep(one: Kept): void {
    this.#ring.push(one)
    this.#bytes += heldBy(one.records)
    while (this.#ring.size > 1 && this.#isFull) {
      const oldest = this.#ring.shift()
      if (oldest) this.#bytes -= heldBy(oldest.records)
    }
  }

  get #isFull(): boolean {
    return this.#bytes > this.#mostBytes || this.#ring.size > mostKept
  }

  /** The newest that fit, oldest first. One request may be many Records by class, so the times decide the order. */
  recent({ since, until, limit, ...filter }: TailQuery): LogRecordRow[] {
    const found: { at: bigint; kept: Kept; index: number }[] = []
    for (const kept of this.#ring) {
      this.#walk(kept, filter, (index, _, at) => {
        const isWithin = (since === undefined || at >= since) && (until === undefined || at < until)
        if (isWithin) found.push({ at, kept, index })
      })
    }
    found.sort((one, other) => (one.at < other.at ? -1 : one.at > other.at ? 1 : 0))
    const chosen = new Map(found.slice(-limit).map(({ kept, index }) => [`${kept.number}/${index}`, kept]))
    const rows = new Map<string, LogRecordRow>()
    // Only these become objects.
    for (const kept of new Set(chosen.values())) {
      this.#walk(kept, { where: [] }, (index, resource) => {
        const key = `${kept.number}/${index}`
        if (chosen.has(key)) rows.set(key, this.#row(kept, index, resource))
      })
    }
    return [...chosen.keys()].flatMap((key) => rows.get(key) ?? [])
  }

  /** Hears of all from now on, until the returned function is called. */
  listen(listener: Listener): () => void {
    this.#listeners = [...this.#listeners, listener]
    return () => {
      this.#listeners = this.#listeners.filter((one) => one !== listener)
    }
  }

  /** Those of one emit that fit, as they are shown; `fits` is asked before anything is built. */
  rows(
    kept: Kept,
    filter: LogFilter,
    fits: (cursor: LogCursor) => boolean,
    see: (row: LogRecordRow) => void,
  ): void {
    this.#walk(kept, filter, (index, resource) => {
      if (fits(this.#cursor)) see(this.#row(kept, index, resource))
    })
  }

  /** The records of one emit that fit; `at` is the claimed time, or the arrival when that is suspect. */
  #walk(
    { records, arrived }: Kept,
    filter: LogFilter,
    see: (index: number, resource: Values, at: bigint) => void,
  ): void {
    if (filter.device && !filter.device.includes(records.device)) return
    const cursor = this.#cursor
    eachRecord(cursor, records.bytes, (index, resource) => {
      if (!matches(filter, cursor, resource)) return
      const { time, isSuspect } = timeOf(cursor, arrived)
      see(index, resource, isSuspect ? arrived : time)
    })
  }

  /** The record where the cursor stands. */
  #row({ number, records, arrived }: Kept, index: number, resource: Values): LogRecordRow {
    const id = `${this.#run}/${number}/${index}`
    return rowOf(this.#cursor, { id, device: records.device, arrived, resource })
  }
}

/** What Records keep in memory: a small part of a large request keeps the whole. */
export const heldBy = ({ bytes }: Records): number => bytes.buffer.byteLength
