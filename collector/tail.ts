// The log records that sources hand over, for whoever looks on at this machine: the newest in a ring of few megabytes,
// and each as it comes. Records are kept as they are and decoded only when somebody asks.
import { ulid } from 'ulid'
import { LogCursor } from '../plugins/contract/index.ts'
import type { Clock, Records } from '../plugins/contract/index.ts'
import { eachLog, matches, rowOf, timeOf } from '../plugins/protocols/log-json.ts'
import type { LogFilter, LogRecordRow } from '../plugins/protocols/log-json.ts'

interface Kept {
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

type Listener = (record: LogRecordRow) => void

const mostBytes = 4 * 1024 * 1024
const mostKept = 2000

export class Tail {
  readonly #clock: Clock
  readonly #cursor = new LogCursor()
  readonly #run = ulid()
  readonly #listeners = new Map<Listener, LogFilter>()
  #ring: Kept[] = []
  #first = 0
  #bytes = 0
  #number = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Called for all that sources emit; must cost next to nothing. */
  see(records: Records): void {
    if (records.signal !== 'logs') return
    const one = { number: ++this.#number, records, arrived: this.#clock.nowUnixNano() }
    this.#ring.push(one)
    this.#bytes += heldBy(records)
    while (this.#ring.length - this.#first > 1 && this.#isFull) {
      const oldest = this.#ring[this.#first++]
      if (oldest) this.#bytes -= heldBy(oldest.records)
    }
    if (this.#first > mostKept) {
      this.#ring = this.#ring.slice(this.#first)
      this.#first = 0
    }
    for (const [listener, filter] of this.#listeners) this.#walk(one, filter, listener)
  }

  get #isFull(): boolean {
    return this.#bytes > mostBytes || this.#ring.length - this.#first > mostKept
  }

  /** The newest that fit, oldest first. */
  recent(query: TailQuery): LogRecordRow[] {
    const pages: LogRecordRow[][] = []
    let left = query.limit
    for (let at = this.#ring.length - 1; at >= this.#first && left > 0; at--) {
      const kept = this.#ring[at]
      if (!kept) break
      const page: LogRecordRow[] = []
      this.#walk(kept, query, (record) => page.push(record), query)
      pages.push(page.slice(-left))
      left -= Math.min(left, page.length)
    }
    return pages.reverse().flat()
  }

  /** Each record that fits from now on, until the returned function is called. */
  subscribe(filter: LogFilter, listener: Listener): () => void {
    this.#listeners.set(listener, filter)
    return () => void this.#listeners.delete(listener)
  }

  #walk(
    { number, records, arrived }: Kept,
    filter: LogFilter,
    found: Listener,
    { since, until }: Pick<TailQuery, 'since' | 'until'> = {},
  ): void {
    const { device } = records
    if (filter.device && !filter.device.includes(device)) return
    const cursor = this.#cursor
    eachLog(cursor, records.bytes, (index, resource) => {
      const { time, isSuspect } = timeOf(cursor, arrived)
      const at = isSuspect ? arrived : time
      if ((since !== undefined && at < since) || (until !== undefined && at >= until)) return
      if (!matches(filter, cursor, resource)) return
      found(rowOf(cursor, { id: `${this.#run}/${number}/${index}`, device, arrived, resource }))
    })
  }
}

/** A small part of a large request keeps the whole in memory. */
const heldBy = ({ bytes }: Records): number => bytes.buffer.byteLength
