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
  /** What the owner of a partition knows of it; only where several share the journal. */
  | 'dpulse_state'

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
  /** At once and in this order: after a crash the first of them may be there. Only where nobody shares the journal. */
  setAll?(rows: readonly TableRow[]): Promise<void>
  /** Hears of each change, whoever made it; only where several share the journal. */
  watch?(listener: (key: string, value: Uint8Array | undefined) => void): void
}

/** A row of a table; undefined deletes it. */
export type TableRow = readonly [key: string, value: Uint8Array | undefined]

/** What a partition's last owner knew: from now on it is ours to write. */
export interface GainedPartition {
  partition: number
  /** Where to read on. */
  position: Position
  /** Rows of the writer, by stream. */
  streams: readonly (readonly [string, Uint8Array])[]
  /** Rows of `dpulse_ledger`. */
  accounts: readonly (readonly [string, Uint8Array])[]
}

/** Partitions change hands only between two reads. */
export interface Moves {
  lost: readonly number[]
  gained: readonly GainedPartition[]
}

export interface JournalRead {
  entries: JournalEntry[]
  next: Position
  damage: JournalDamage[]
  /** Then there are no entries: everything that was read before is to be finished first. */
  moved?: Moves
}

/** What the owner of a partition knows once the store has all before `position`. */
export interface PartitionSave {
  partition: number
  position: Position
  streams: readonly TableRow[]
  accounts: readonly TableRow[]
}

/**
 * What a journal offers that several aggregators share: each partition has one owner, and what it knows goes to the next
 * one through the journal. Who consumes a partition de-duplicates and keeps the accounts of its devices.
 */
export interface SharedJournal {
  readonly partitions: number
  partitionOf(device: string): number
  /**
   * One transaction for each partition. Answers with the partitions that took it: another aggregator owns the rest, or
   * nobody can say, and they will be told as lost.
   */
  save(states: readonly PartitionSave[]): Promise<ReadonlySet<number>>
  /** As the owners of all partitions saved it last. */
  position(): Position
  /** Entries not yet read, by topic, of the partitions that are ours. */
  lag(): ReadonlyMap<SignalTopic, number>
  owned(): ReadonlySet<number>
  /**
   * Hears of what anybody appends to the log topic from now on, and of what the store has not yet; until the function
   * that is returned is called. Costs nothing while nobody listens.
   */
  tail(listener: TailListener): () => void
}

/** Who looks on at the newest end of a topic. Must not wait. */
export interface TailListener {
  onEntry(entry: JournalEntry): void
  /** So many entries were left out, because they came faster than they were read. */
  onMissed(entries: number): void
}

export interface ReadLimit {
  entries: number
  bytes: number
  /** False: answers at once, with nothing where nothing is at hand. */
  wait?: boolean
}

export interface Journal extends AsyncDisposable {
  /**
   * Resolves when entries and then `account` (rows of the table `dpulse_ledger`) are on disk, all or, on rejection,
   * perhaps some. @throws RetryableError DISK_FULL
   */
  append(entries: readonly AppendEntry[], account: readonly (readonly [string, Uint8Array])[]): Promise<void>
  /** Waits until there is something at `from` or `signal` aborts (then: nothing). Damage is skipped and told. */
  read(from: Position, limit: ReadLimit, signal: AbortSignal): Promise<JournalRead>
  /** One past the newest durable entry of each partition. */
  end(): Position
  table(name: TableName): JournalTable
  /** Everything before the position has been stored and may be forgotten. */
  stored(position: Position): Promise<void>
  /** Present where several aggregators share it. */
  readonly shared?: SharedJournal
  /** On disk; 0 where it is on someone else's. */
  readonly bytes: number
}
