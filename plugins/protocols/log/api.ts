// What the durable log offers. The collector's disk buffer and the aggregator's embedded journal stand on these
// interfaces; how they are kept on disk is told in log.ts.
import type { LogFileSystem } from './disk.ts'

export interface LogEntry {
  /** 0, 1, 2 … in each topic, never reused. */
  offset: number
  key: string
  /** A view of a buffer that a whole `read` shares: copy what is kept for long. */
  value: Uint8Array
  appendedUnixNano: bigint
}

/** Entries [from, to) of a topic are lost; `from === to` when bytes were unreadable and nothing tells what they held. */
export interface Damage {
  /** The topic's name, or `table:<name>`, whose offsets count changes in its file. */
  topic: string
  from: number
  to: number
  bytes: number
  file: string
}

export interface LogOptions {
  /** A segment is closed when it would grow beyond this; 16 MiB. */
  segmentBytes?: number
  /** Of the whole directory: what would exceed it is refused with LogFullError. Deleting always works. */
  maxBytes?: number
  /** The largest value; 64 MiB. */
  maxValueBytes?: number
  /** Of keys and values that one table may hold, all in memory; 64 MiB. */
  maxTableBytes?: number
  /** A table's file is rewritten when more than this, and more than half of it, is out of date; 1 MiB. */
  rewriteBytes?: number
  /** Of entries that wait for the disk; more are refused with LogBusyError; 256 MiB. */
  maxPendingBytes?: number
  onDamage?: (damage: Damage) => void
  fs?: LogFileSystem
  now?: () => bigint
}

export interface KeyValue {
  key: string
  value: Uint8Array
}

/** `undefined` removes the key. */
export interface TableChange {
  key: string
  value: Uint8Array | undefined
}

export interface Commit {
  append?: readonly { topic: string; key: string; value: Uint8Array }[]
  set?: readonly { table: string; key: string; value: Uint8Array | undefined }[]
}

export interface Log extends AsyncDisposable {
  readonly directory: string
  /** On disk, everything. */
  readonly bytes: number
  /** The newest 1,000 found, at open and while reading. */
  readonly damage: readonly Damage[]
  /** Names match `[a-z0-9_./-]{1,200}`. The topic is made by its first append. */
  topic(name: string): Topic
  /** Compacted: key → newest value, whole in memory. Names as of topics. */
  table(name: string): Table
  topics(): string[]
  /**
   * Appends to several topics and changes tables in one group commit; resolves with the offsets, in the order given, when
   * all of it is on disk. When it rejects, nothing of it is visible. It is not a transaction: after a crash in between,
   * some of it may be there and some not; but the tables are written only after the appends are on disk, so that a
   * table never speaks of an entry that is missing. Values must not change until it settles.
   */
  commit(work: Commit): Promise<number[]>
  /** Everything that was asked for before this is on disk, or was rejected. */
  flush(): Promise<void>
  /** Forgets a topic, its files and its positions; appended to again, it begins at 0. */
  remove(topic: string): Promise<void>
  close(): Promise<void>
}

export interface Topic {
  readonly name: string
  /** The oldest offset that is kept, and the one that the next append gets. */
  readonly first: number
  readonly next: number
  readonly bytes: number
  /** Resolves with the offset when the entry is on disk. The value must not change until then. */
  append(key: string, value: Uint8Array): Promise<number>
  /** The offset of the first; the others follow it without a gap. */
  appendAll(entries: readonly KeyValue[]): Promise<number>
  /**
   * Entries from `from` on that are on disk, within the limits, but at least one where there is one. Damaged entries are
   * passed over (the offsets show it) and reported. Empty at the end.
   */
  read(from: number, limit: { entries: number; bytes: number }): Promise<LogEntry[]>
  /** Resolves when there is an entry at `from` or later to read; rejects with the signal's reason, or when the log closes. */
  wait(from: number, signal: AbortSignal): Promise<void>
  /** Forgets all entries before `before`, durably; resolves with the bytes given back to the file system. */
  truncate(before: number): Promise<number>
  /** Where a consumer goes on: the first offset that it has not done with. */
  position(consumer: string): number | undefined
  setPosition(consumer: string, offset: number): Promise<void>
}

export interface Table {
  readonly name: string
  readonly size: number
  /** What is on disk: a change shows when its promise resolves. */
  get(key: string): Uint8Array | undefined
  keys(): IterableIterator<string>
  entries(): IterableIterator<[string, Uint8Array]>
  set(key: string, value: Uint8Array | undefined): Promise<void>
  setAll(changes: readonly TableChange[]): Promise<void>
}
