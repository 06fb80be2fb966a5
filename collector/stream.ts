// The account of one stream: what was produced, delivered, dropped, and what is held. Sealer, buffer and sender all
// write into it, and only through the methods here, so that this always holds:
//
//     produced = delivered + dropped + held
import type { Class, Dropped, DropReason, Header, Signal, StreamId } from '../plugins/contract/index.ts'

export const sumOf = (dropped: Dropped): number => {
  let total = 0
  for (const reason in dropped) total += dropped[reason as DropReason] ?? 0
  return total
}

export class Stream implements StreamId {
  readonly collector: string
  readonly session: string
  readonly device: string
  readonly class: Class
  /** Of this run of the exporter; others are found in the buffer and only become less. */
  readonly current: boolean
  seq = 0
  produced = 0
  readonly dropped: Dropped = {}
  delivered = 0
  /** Records that are sealed and neither delivered nor dropped. */
  held = 0
  /** Those of them that the log has. */
  onDisk = 0
  /** Batches that are sealed and neither delivered nor dropped. */
  batchesHeld = 0
  /** Number of the last batch that went to the log. */
  spilledSeq = 0
  /** Whether the log's table has a row of this stream. */
  hasRow = false
  /** Of which signal the last batch was: the one with the totals alone takes the same way. */
  signal: Signal = 'logs'
  #toldDropped = 0
  /** Since when totals are untold, as far as anyone looked. */
  #untoldMs: number | undefined
  #tellAfterMs = firstTellMs

  constructor(id: StreamId, current: boolean) {
    this.collector = id.collector
    this.session = id.session
    this.device = id.device
    this.class = id.class
    this.current = current
  }

  /** The header of the next batch, whose records thereby count as produced. */
  seal(count: number, from: bigint, to: bigint, signal: Signal): Header {
    this.seq++
    this.produced += count
    this.held += count
    this.batchesHeld++
    this.signal = signal
    this.#untoldMs = undefined
    this.#toldDropped = sumOf(this.dropped)
    if (count > 0) this.#tellAfterMs = firstTellMs
    const { collector, device, session, seq, produced } = this
    const dropped = { ...this.dropped }
    return { collector, device, session, class: this.class, seq, count, from, to, produced, dropped }
  }

  /** Records that were dropped before they came into a batch. */
  dropUnsealed(reason: DropReason, count: number): void {
    this.produced += count
    this.dropped[reason] = (this.dropped[reason] ?? 0) + count
  }

  /** What a processor made of several: they were produced, and all but these few were aggregated. */
  aggregated(consumed: number, made: number): void {
    if (consumed > made) this.dropUnsealed('aggregated', consumed - made)
  }

  /** A sealed batch left the buffer: so many of its records the peer has, and the others are lost for the reason. */
  settle(header: Header, lost: number, reason: DropReason, wasOnDisk: boolean): void {
    const dropped = Math.min(header.count, Math.max(0, lost))
    this.held -= header.count
    this.batchesHeld--
    if (wasOnDisk) this.onDisk -= header.count
    if (!this.current) this.#clamp()
    this.delivered += header.count - dropped
    if (dropped > 0) this.dropped[reason] = (this.dropped[reason] ?? 0) + dropped
  }

  /** What the log should still have and has not is lost; `batchesLeft` are in memory. */
  loseRest(batchesLeft: number): number {
    const lost = this.onDisk
    this.held -= lost
    this.onDisk = 0
    this.batchesHeld = batchesLeft
    this.dropped.corrupted = (this.dropped.corrupted ?? 0) + lost
    return lost
  }

  /** The totals that a dropped batch carried must be told again. */
  forgetTold(): void {
    this.#toldDropped = -1
    this.#tellAfterMs = Math.min(this.#tellAfterMs * 2, longestTellMs)
  }

  /** What a crash left of rows of earlier sessions may be a little behind. */
  #clamp(): void {
    this.held = Math.max(0, this.held)
    this.onDisk = Math.max(0, this.onDisk)
    this.batchesHeld = 0
  }

  /** Whether totals changed since the last header. */
  get untold(): boolean {
    return this.#toldDropped !== sumOf(this.dropped)
  }

  /** When a batch with the totals alone is due; undefined where all is told. */
  tellDueMs(nowMs: number): number | undefined {
    if (!this.untold) return undefined
    this.#untoldMs ??= nowMs
    return this.#untoldMs + this.#tellAfterMs
  }

  /** Whether the aggregator knows all that a row of the table could tell of this stream. */
  get settled(): boolean {
    return this.batchesHeld === 0 && (!this.current || !this.untold)
  }
}

/** Totals wait this long for the next batch to carry them. */
const firstTellMs = 1000
/** A peer that refuses them is asked less and less often. */
const longestTellMs = 60_000
