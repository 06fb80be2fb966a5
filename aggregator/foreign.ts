// Records that others wrote to Kafka without a header: an OpenTelemetry Collector's exporter, or anybody who knows the
// topics. They form a stream of their sender, or of the partition where nothing names one, and are numbered as they are
// read. The numbers go on from the account, which is saved with the position: reading again numbers them the same.
import { createHash } from 'node:crypto'
import { findHeader, isDeviceId, sealRecords, streamKey } from '../plugins/contract/batch.ts'
import type { Batch, Header, Records } from '../plugins/contract/batch.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import type { Class, Signal } from '../plugins/contract/signal.ts'
import { believedHeader, splitRequest } from '../plugins/protocols/otlp/split.ts'
import { signalTopics } from './journal/journal.ts'
import type { JournalEntry, SharedJournal, SignalTopic } from './journal/journal.ts'

export const signalOf = Object.fromEntries(
  Object.entries(signalTopics).map(([signal, topic]) => [topic, signal]),
) as Record<SignalTopic, Signal>

/**
 * The header of a message, where it has one that is believed; believed where its device belongs: a stream that lay in
 * two partitions would have two owners.
 */
export function headerIn(
  { topic, partition, value }: Pick<JournalEntry, 'topic' | 'partition' | 'value'>,
  { partitionOf }: Pick<SharedJournal, 'partitionOf'>,
): Header | undefined {
  // Ours stands first, and ingest has looked into it.
  const isOurs = value[0] === 0x82 && value[1] === 0xc2 && value[2] === 0x03
  try {
    const header = isOurs ? findHeader(value) : believedHeader(signalOf[topic], value)
    return header && partitionOf(header.device) === partition ? header : undefined
  } catch {
    return undefined
  }
}

export interface ForeignOptions {
  /** That of records without `host.id`. */
  device: string
  partition: number
  /** What the account of a stream has, as it was last saved or recorded. */
  totals(key: string): { lastSeq: number; produced: number; dropped: { invalid?: number } } | undefined
}

interface Totals {
  seq: number
  produced: number
  invalid: number
}

/** A stream's session, which is the place where it is read: the same for every owner. */
function sessionOf(topic: string, partition: number): string {
  const digest = createHash('sha256').update(`${topic}/${partition}`).digest('hex').toUpperCase()
  return `0${digest.slice(0, 25)}`
}

export class ForeignStreams {
  readonly #options: ForeignOptions
  /** Numbers that were given out and are perhaps not saved yet. */
  readonly #totals = new Map<string, Totals>()

  constructor(options: ForeignOptions) {
    this.#options = options
  }

  /** The batches of a message; what cannot be read or fits no batch is counted as `invalid` in one of them. */
  adopt(
    signal: Signal,
    { topic, partition, key, value }: JournalEntry,
  ): { batches: Batch[]; failure?: string } {
    const { device } = this.#options
    const place = `kafka-${topic.replaceAll('_', '-')}-${partition}`
    // A key names a sender only where it reads as a name. Traces are often keyed by their id: a stream for each.
    const collector = signal !== 'traces' && isDeviceId(key) ? key : place
    const session = sessionOf(topic, partition)
    try {
      const { records, rejected } = splitRequest(signal, value, { device })
      const invalid = rejected.reduce((sum, { count }) => sum + count, 0)
      if (records.length === 0 && invalid > 0) {
        return { batches: [this.#seal(collector, session, emptyRecords(device, signal), invalid)] }
      }
      return {
        batches: records.map((one, index) => this.#seal(collector, session, one, index === 0 ? invalid : 0)),
      }
    } catch (error) {
      return {
        batches: [this.#seal(collector, session, emptyRecords(device, signal), 1)],
        failure: messageOf(error).slice(0, 500),
      }
    }
  }

  /** Its account is closed: whatever comes is numbered from the beginning. */
  forget(key: string): void {
    this.#totals.delete(key)
  }

  #seal(collector: string, session: string, records: Records, invalid: number): Batch {
    const { device, class: name, count, from, to } = records
    const key = streamKey({ collector, session, device, class: name })
    let totals = this.#totals.get(key)
    if (!totals) {
      const known = this.#options.totals(key)
      totals = {
        seq: known?.lastSeq ?? 0,
        produced: known?.produced ?? 0,
        invalid: known?.dropped.invalid ?? 0,
      }
      this.#totals.set(key, totals)
    }
    totals.seq++
    totals.produced += count + invalid
    totals.invalid += invalid
    const { seq, produced } = totals
    const dropped = totals.invalid > 0 ? { invalid: totals.invalid } : {}
    const header = { collector, device, session, class: name, seq, count, from, to, produced, dropped }
    return sealRecords(header, records)
  }
}

const emptyRecords = (device: string, signal: Signal, name: Class = 'log'): Records => ({
  device,
  signal,
  class: name,
  count: 0,
  from: 0n,
  to: 0n,
  bytes: new Uint8Array(0),
})
