// The batches of one class that are in memory and were sealed by this run, in the order of their sealing, each until it
// is delivered, dropped or left to the log. Cursors over one array: nothing is moved or searched per batch.
import type { Held } from './held.ts'

export class Lane {
  #items: Held[] = []
  /** First that was not offered to the sender, to the log, and to be left to the log alone. */
  #sendAt = 0
  #spillAt = 0
  #evictAt = 0
  /** All before it are gone. */
  #goneAt = 0
  /** Where `#sendAt` stood when those that are gone were last taken out. */
  #compactedAt = 0
  readonly #retry: Held[] = []

  get isEmpty(): boolean {
    return this.#items.length === 0
  }

  add(held: Held): void {
    if (this.#sendAt - this.#compactedAt > 64 + this.#items.length / 4) this.#compact()
    this.#items.push(held)
  }

  /** The next to send: those that failed before, then the others in their order. */
  take(nowMs: number): Held | undefined {
    if (this.#retry.length > 0) {
      const index = this.#retry.findIndex((held) => held.notBeforeMs <= nowMs)
      if (index >= 0) return this.#retry.splice(index, 1)[0]
    }
    while (this.#sendAt < this.#items.length) {
      const held = this.#items[this.#sendAt++]
      if (held?.state === 'queued') return held
    }
    if (this.#sendAt > this.#compactedAt) this.#compact()
    return undefined
  }

  /** Whether `take` would find one. */
  hasNext(nowMs: number): boolean {
    if (this.#retry.length > 0 && this.#retry.some((held) => held.notBeforeMs <= nowMs)) return true
    while (this.#sendAt < this.#items.length) {
      if (this.#items[this.#sendAt]?.state === 'queued') return true
      this.#sendAt++
    }
    this.#forgetGone()
    return false
  }

  /** When the first of those that wait for their time is due. */
  retryDueMs(nowMs: number): number {
    let due = Infinity
    for (const { notBeforeMs } of this.#retry) if (notBeforeMs > nowMs) due = Math.min(due, notBeforeMs)
    return due
  }

  /** An attempt failed: it keeps its place before all that was never tried. */
  giveBack(held: Held): void {
    held.state = 'retry'
    const index = this.#retry.findIndex((other) => other.batch.header.seq > held.batch.header.seq)
    if (index < 0) this.#retry.push(held)
    else this.#retry.splice(index, 0, held)
  }

  /** Batches for the log, oldest first, sealed before `untilMs`; calls `take` until it says no. */
  eachToSpill(untilMs: number, take: (held: Held) => boolean): void {
    while (this.#spillAt < this.#items.length) {
      const held = this.#items[this.#spillAt]
      if (held && held.state !== 'gone' && held.offset < 0 && !held.writing) {
        if (held.sinceMs > untilMs || !take(held)) return
      }
      this.#spillAt++
    }
  }

  /** When the next batch gets old enough for the log. */
  spillDueMs(afterMs: number): number {
    for (; this.#spillAt < this.#items.length; this.#spillAt++) {
      const held = this.#items[this.#spillAt]
      if (held && held.state !== 'gone' && held.offset < 0 && !held.writing) return held.sinceMs + afterMs
    }
    return Infinity
  }

  /** The log refused: it is offered again from the oldest that it has not. */
  respill(): void {
    this.#spillAt = 0
  }

  /** Batches that the log has, nobody sends now and that are older than `untilMs`. */
  eachToEvict(untilMs: number, evict: (held: Held) => void): void {
    while (this.#evictAt < this.#items.length) {
      const held = this.#items[this.#evictAt]
      const isQueued = held?.state === 'queued'
      if (isQueued && (held.offset < 0 || held.sinceMs > untilMs)) return
      this.#evictAt++
      if (isQueued) evict(held)
    }
  }

  evictDueMs(afterMs: number): number {
    for (; this.#evictAt < this.#items.length; this.#evictAt++) {
      const held = this.#items[this.#evictAt]
      if (held?.state !== 'queued') continue
      return held.offset < 0 ? Infinity : held.sinceMs + afterMs
    }
    return Infinity
  }

  /** The oldest that was never tried and that the log neither has nor writes: what may be dropped when all is full. */
  oldestIdle(): Held | undefined {
    for (let at = this.#sendAt; at < this.#items.length; at++) {
      const held = this.#items[at]
      if (held?.state === 'queued' && held.offset < 0 && !held.writing && held.attempts === 0) return held
    }
    return undefined
  }

  *[Symbol.iterator](): Iterator<Held> {
    for (const held of this.#items) if (held.state !== 'gone') yield held
  }

  /**
   * Where all are gone none stays listed until others come: on a healthy link that is after each acknowledgement, and what
   * goes at once costs the garbage collector next to nothing.
   */
  #forgetGone(): void {
    const { length } = this.#items
    if (length === 0) return
    while (this.#items[this.#goneAt]?.state === 'gone') this.#goneAt++
    if (this.#goneAt < length) return
    this.#items = []
    this.#goneAt = this.#sendAt = this.#spillAt = this.#evictAt = this.#compactedAt = 0
  }

  /** Takes out what is gone, wherever it stands: one batch that waits long must not keep those behind it listed. */
  #compact(): void {
    const items: Held[] = []
    let [sendAt, spillAt, evictAt] = [0, 0, 0]
    for (const [at, held] of this.#items.entries()) {
      if (held.state === 'gone') continue
      if (at < this.#sendAt) sendAt++
      if (at < this.#spillAt) spillAt++
      if (at < this.#evictAt) evictAt++
      items.push(held)
    }
    this.#items = items
    this.#goneAt = 0
    this.#sendAt = this.#compactedAt = sendAt
    this.#spillAt = spillAt
    this.#evictAt = evictAt
  }
}
