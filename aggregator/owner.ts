// What the writer asks when several aggregators share its journal, and what the rest of an aggregator asks of that:
// handover.ts is both.
import type { Clock, Log } from '../plugins/contract/define.ts'
import type { Status } from '../plugins/protocols/topics.ts'
import type { Accounts } from './account.ts'
import type { GainedPartition, Journal, Moves, Position, SharedJournal } from './journal/journal.ts'

export interface HandoverOptions {
  journal: Journal
  shared: SharedJournal
  /** The aggregator's own device: that of foreign records without `host.id`. */
  device: string
  /** The store keeps the writer's rows in its own transaction; then the journal need not. */
  storeKeepsState: boolean
  clock: Clock
  log: Log
}

/** What the writer asks when its journal is shared. */
export interface Handover {
  /** Reads the journal; every entry has a header. */
  read: Journal['read']
  /**
   * Where to read on, and the rows that the owner before left; `forgotten` are streams that are not ours any more, and
   * `isMoved` says which devices have come or gone.
   */
  move(
    moves: Moves,
    position: Position,
  ): {
    position: Position
    streams: GainedPartition['streams']
    forgotten: string[]
    isMoved: (device: string) => boolean
  }
  /**
   * The store has all before `position`. Answers which rows may be counted as written. Where writing twice changes
   * nothing, the journal hears of it within a second: an owner that dies repeats what its successor cannot know. What is
   * `urgent` it has heard when this resolves.
   */
  save(
    position: Position,
    rows: ReadonlyMap<string, Uint8Array | undefined>,
    urgent: boolean,
  ): Promise<(key: string) => boolean>
}

export interface RunningHandover extends Handover {
  /** The accounts of what is ours. */
  readonly accounts: Accounts
  readonly counters: Readonly<{ foreign: number; unreadable: number; unaccounted: number }>
  /** What a birth says of earlier sessions; every owner hears it through the journal. */
  onStatus(status: Status): void
  /**
   * Closes the books of streams that are ours and of which nothing is on its way: account and row of the writer in one
   * transaction of their partition. Answers which those were.
   */
  forget(keys: readonly string[]): Promise<string[]>
  /** Saves what has changed, now and then, until aborted. */
  run(signal: AbortSignal): Promise<void>
  /** Saves whatever is not saved yet. */
  flush(): Promise<void>
}
