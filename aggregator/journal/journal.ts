// The journal: durable, ordered, partitioned topics between ingest and writer, and compacted tables. Our durable log
// by default, Kafka at scale; nothing above this interface knows which.

import type { Class } from '../../plugins/contract/signal.ts'

/** One partitioned topic for each signal, as DESIGN §6 names them. */
export const signalTopics = { logs: 'otlp_logs', metrics: 'otlp_metrics', traces: 'otlp_spans' } as const
export type SignalTopic = (typeof signalTopics)[keyof typeof signalTopics]

/**
 * Compacted tables: the newest value for each key. `dpulse_retained` holds the embedded broker's retained messages,
 * `dpulse_writer` the writer's state where the store cannot keep it.
 */
export type TableName =
  | 'dpulse_ledger'
  | 'dpulse_registry'
  | 'dpulse_operations'
  | 'dpulse_retained'
  | 'dpulse_writer'

export interface JournalEntry {
  topic: SignalTopic
  partition: number
  offset: number
  /** The device. */
  key: string
  /** A batch with its header; compressed or not, as it came (`plugins/protocols/compression.ts` tells). */
  value: Uint8Array
  /** When the journal took it. All records of a batch share it; storage and retention go by it. */
  arrivedUnixNano: bigint
}

/** Where to read on: next offset by `topic/partition`. */
export type Position = Readonly<Record<string, number>>

export const positionKey = (topic: SignalTopic, partition: number): string => `${topic}/${partition}`

/** Entries that were promised and cannot be read any more. */
export interface JournalDamage {
  topic: string
  partition: number
  /** Offsets [from, to). */
  from: number
  to: number
}

export interface AppendEntry {
  topic: SignalTopic
  /** A journal that can keeps classes apart, so that a flood of one does not stand before another; `log` where absent. */
  class?: Class
  key: string
  value: Uint8Array
}

export interface JournalTable {
  get(key: string): Uint8Array | undefined
  entries(): IterableIterator<[string, Uint8Array]>
  /** Resolves when on disk. Undefined deletes. */
  set(key: string, value: Uint8Array | undefined): Promise<void>
}

export interface Journal extends AsyncDisposable {
  /**
   * Resolves when entries and then `account` (rows of the table `dpulse_ledger`) are on disk, all or, on rejection,
   * perhaps some. @throws RetryableError DISK_FULL
   */
  append(entries: readonly AppendEntry[], account: readonly (readonly [string, Uint8Array])[]): Promise<void>
  /** Waits until there is something at `from` or `signal` aborts (then: nothing). Damage is skipped and told. */
  read(
    from: Position,
    limit: { entries: number; bytes: number },
    signal: AbortSignal,
  ): Promise<{ entries: JournalEntry[]; next: Position; damage: JournalDamage[] }>
  /** One past the newest durable entry of each partition. */
  end(): Position
  table(name: TableName): JournalTable
  /** Everything before the position has been stored and may be forgotten. */
  stored(position: Position): Promise<void>
  /** On disk; 0 where it is on someone else's. */
  readonly bytes: number
}
