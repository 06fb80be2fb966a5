// The log records that sources hand over, for whoever looks on at this machine: the newest in a ring of few megabytes,
// and each as it comes. Records are kept as they are and decoded only when somebody asks.
import { ulid } from 'ulid'
import { LogCursor } from '../plugins/contract/index.ts'
import type { Clock, Records } from '../plugins/contract/index.ts'
import { eachLog, matches, rowOf, timeOf } from '../plugins/protocols/log-json.ts'
import type { LogFilter, LogRecordRow, Values } from '../plugins/protocols/log-json.ts'

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
    // Those that were let go hold their bytes until they are cut off: never more of them than there are others.
    if (this.#first > 16 + this.#ring.length / 2) {
      this.#ring = this.#ring.slice(this.#first)
      this.#first = 0
    }
    for (const [listener, filter] of this.#listeners)
      this.#walk(one, filter, (index, resource) => listener(this.#row(one, index, resource)))
  }

  get #isFull(): boolean {
    return this.#bytes > mostBytes || this.#ring.length - this.#first > mostKept
  }

  /** The newest that fit, oldest first. One request may be many Records by class, so the times decide the order. */
  recent({ since, until, limit, ...filter }: TailQuery): LogRecordRow[] {
    const found: { at: bigint; kept: Kept; index: number }[] = []
    for (const kept of this.#ring.slice(this.#first)) {
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

  /** Each record that fits from now on, until the returned function is called. */
  subscribe(filter: LogFilter, listener: Listener): () => void {
    this.#listeners.set(listener, filter)
    return () => void this.#listeners.delete(listener)
  }

  /** The records of one emit that fit; `at` is the claimed time, or the arrival when that is suspect. */
  #walk(
    { records, arrived }: Kept,
    filter: LogFilter,
    see: (index: number, resource: Values, at: bigint) => void,
  ): void {
    if (filter.device && !filter.device.includes(records.device)) return
    const cursor = this.#cursor
    eachLog(cursor, records.bytes, (index, resource) => {
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

/** A small part of a large request keeps the whole in memory. */
const heldBy = ({ bytes }: Records): number => bytes.buffer.byteLength
