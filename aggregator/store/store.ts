// The store: queryable history. DuckDB by default, InfluxDB at scale; nothing above this interface knows which.
import type { Header } from '../../plugins/contract/batch.ts'
import type { Class } from '../../plugins/contract/signal.ts'
import type { Position } from '../journal/journal.ts'
import type { Queries } from '../query.ts'

/**
 * A batch that the writer wants stored: de-duplicated, with its header believed. One whose records were given several
 * classes comes in parts, which follow each other; `count` and `produced` of a part's header end with its last record.
 */
export interface StoreBatch {
  readonly header: Header
  /** Where its records are kept, and for how long, when it is not the class of the stream. */
  readonly class?: Class
  /** Records of the parts before it. */
  readonly first?: number
  readonly signal: 'logs' | 'metrics'
  /** Header and request; zstd, gzip or bare, as the journal had it. */
  readonly value: Uint8Array
  readonly arrivedUnixNano: bigint
}

/** What the writer knows and must find again after a crash: kept in the same transaction as the rows. */
export interface WriterState {
  readonly position: Position
  /** Rows that changed, by stream key; undefined deletes one. Opaque to the store. */
  readonly streams: ReadonlyMap<string, Uint8Array | undefined>
}

/** What became of each batch of a write, in order. `rejected`: records that the store cannot hold (NaN, no value). */
export interface StoreReceipt {
  readonly stored: number
  readonly rejected: number
}

/** What the store holds of a stream: counted from its rows, plus what retention removed. */
export interface StreamCount {
  /** `streamKey` of the contract. */
  readonly stream: string
  /** Rows that are there now, and those that retention removed. */
  readonly stored: number
  /** Of those, rows that are there now; absent where the store does not tell. */
  readonly kept?: number
  /** Records that `write` refused, kept in its transaction (as in the receipts). */
  readonly rejected: number
  /** Batches that were written whole and of which rows are missing now: sequence number, written, found. */
  readonly damaged: readonly { seq: number; written: number; found: number }[]
}

export interface Store extends AsyncDisposable {
  /**
   * False where the store cannot keep the writer's state in the transaction of the rows: then `load` and `count` are
   * empty, writes are idempotent, and the journal keeps the state, with what the receipts confirmed (keeper.ts; of a
   * shared journal `aggregator/handover.ts`).
   */
  readonly keepsState?: boolean
  /** The state of the last committed write; empty for a new store. */
  load(): Promise<{ position: Position; streams: Map<string, Uint8Array> }>
  /** One transaction: rows, position and stream state, all or nothing. Rejects with RetryableError when it may work later. */
  write(batches: readonly StoreBatch[], state: WriterState): Promise<readonly StoreReceipt[]>
  /**
   * Gives up the totals of those streams of which it holds no row any more, and says which they were; absent where it
   * keeps none. What stays counts on.
   */
  forget?(streams: readonly string[]): Promise<string[]>
  /** Counts rows; costs a scan of narrow columns. Of all devices, or one. */
  count(device?: string): Promise<StreamCount[]>
  readonly queries: Queries
  /** On disk, and the newest failure of sealing or retention, if any. */
  status(): Promise<{
    bytes: number
    rows: number
    files: number
    oldestUnixNano: bigint | undefined
    error?: string
  }>
}
