// Streams of senders that have none: records of others get a header where they enter, under the name of the sender, in a
// session of this run of the aggregator.
import { ulid } from 'ulid'
import { sealRecords } from '../plugins/contract/batch.ts'
import type { Batch, Records } from '../plugins/contract/batch.ts'
import type { Class } from '../plugins/contract/signal.ts'
import { deviceFromHostId } from '../plugins/protocols/otlp/device.ts'

interface Totals {
  session: string
  seq: number
  produced: number
  invalid: number
}

/** Senders times devices times classes that are remembered; the one that was silent longest goes first. */
const streamLimit = 20_000

export class OwnStreams {
  #session = ulid()
  readonly #streams = new Map<string, Totals>()

  /** The sender of an OTLP request, from the address of its connection. */
  static collectorOf(peer: string): string {
    return deviceFromHostId(`otlp-${peer.replace(/^::ffff:/, '')}`)
  }

  /** Numbers and seals records; `invalid` ones could not be kept, and count as produced and dropped. */
  seal(collector: string, records: readonly Records[], invalid: number, device: string): Batch[] {
    if (records.length === 0 && invalid > 0) {
      return [this.#next(collector, emptyRecords(device), invalid)]
    }
    return records.map((one, index) => this.#next(collector, one, index === 0 ? invalid : 0))
  }

  /**
   * A commit failed: nobody can say which batches of it are on disk. Their numbers must never mean other records, so
   * all streams begin anew, in another session.
   */
  abandon(): void {
    this.#streams.clear()
    this.#session = ulid()
  }

  #next(collector: string, records: Records, invalid: number): Batch {
    const { device, class: name, count, from, to } = records
    const totals = this.#totals(`${collector}/${device}/${name}`)
    totals.seq++
    totals.produced += count + invalid
    totals.invalid += invalid
    const { session, seq, produced } = totals
    const dropped = totals.invalid > 0 ? { invalid: totals.invalid } : {}
    const header = { collector, device, session, class: name, seq, count, from, to, produced, dropped }
    return sealRecords(header, records)
  }

  #totals(key: string): Totals {
    let totals = this.#streams.get(key)
    if (totals) this.#streams.delete(key)
    else totals = { session: this.#session, seq: 0, produced: 0, invalid: 0 }
    this.#streams.set(key, totals)
    if (this.#streams.size > streamLimit) {
      const [oldest] = this.#streams.keys()
      if (oldest !== undefined) this.#streams.delete(oldest)
      // If it speaks again, it must not repeat numbers.
      this.#session = ulid()
    }
    return totals
  }
}

const emptyRecords = (device: string, name: Class = 'log'): Records => ({
  device,
  signal: 'logs',
  class: name,
  count: 0,
  from: 0n,
  to: 0n,
  bytes: new Uint8Array(0),
})
