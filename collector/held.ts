// A sealed batch on its way through buffer and sender, and what is known of it there.
import type { Batch, Dropped } from '../plugins/contract/index.ts'
import type { Stream } from './stream.ts'

/** `queued` → `sending` → `gone`, or back by `retry`; `gone` also when only the log still has it. */
export type HeldState = 'queued' | 'sending' | 'retry' | 'gone'

export type Answer = (error?: Error) => void

/**
 * Records that the log holds otherwise until a batch has them (what a window made): the batch is written before it is
 * sent, together with the mark, so that after a crash they are handed over again only where no batch has them.
 */
export interface Mark {
  readonly key: string
  /** What is counted with them. */
  readonly dropped: Dropped
}

export interface Held {
  batch: Batch
  readonly stream: Stream
  readonly bytes: number
  /** Monotonic: when it was sealed, or read from the log. */
  readonly sinceMs: number
  /** Whether all sources of its records can wait. */
  readonly mayWait: boolean
  /** It was read from the log, so its turn is behind fresh ones. */
  readonly fromLog: boolean
  /** Of what it holds. It is written first then, and sent from the log. */
  readonly marks: readonly string[]
  state: HeldState
  /** Where the log has it; -1 while it has not. */
  offset: number
  /** The log is writing it. */
  writing: boolean
  /** Delivered or dropped, and counted. */
  settled: boolean
  attempts: number
  /** Attempts that ended in an error that nobody throws on purpose. */
  unexpected: number
  notBeforeMs: number
  /** Tells the sources that their records are safe, or why they are not. */
  safe: Answer | undefined
}

export function hold(
  batch: Batch,
  stream: Stream,
  sinceMs: number,
  from: { mayWait?: boolean; offset?: number; safe?: Answer; marks?: readonly string[] },
): Held {
  return {
    batch,
    stream,
    bytes: batch.bytes.length + overhead,
    sinceMs,
    mayWait: from.mayWait ?? true,
    fromLog: from.offset !== undefined,
    marks: from.marks ?? [],
    state: 'queued',
    offset: from.offset ?? -1,
    writing: false,
    settled: false,
    attempts: 0,
    unexpected: 0,
    notBeforeMs: 0,
    safe: from.safe,
  }
}

/** It is no longer in memory: whoever still lists it must not keep its bytes. */
export function letGo(held: Held): void {
  const { header, signal } = held.batch
  held.state = 'gone'
  held.batch = { header, signal, bytes: nothing }
}

const nothing = new Uint8Array(0)

/** What a batch occupies besides its bytes, so that many small ones are counted for what they are. */
const overhead = 1024
