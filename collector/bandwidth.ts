// The bytes that all exporters together may send: one account, filled at the configured rate, charged before an attempt
// with what its batch is thought to come to on the wire, and set right by what the exporter says it came to.
import { classes, rank } from '../plugins/contract/index.ts'
import type { Class, Clock } from '../plugins/contract/index.ts'

const burstSeconds = 1
/** Batches compress alike: what the last ones came to tells of the next. */
const memory = 0.1

export class Bandwidth {
  readonly #clock: Clock
  #rate: number | undefined
  #credit = 0
  #filledMs = 0
  /** Bytes on the wire for one of a batch. */
  #ratio = 1
  #heldBackMs = -Infinity

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Bytes a second; undefined for all there is. */
  configure(rate: number | undefined): void {
    this.#rate = rate
    this.#credit = (rate ?? 0) * burstSeconds
    this.#filledMs = this.#clock.elapsedMs()
  }

  get used(): number {
    if (this.#rate === undefined) return 0
    this.#fill(this.#rate)
    return 1 - this.#credit / (this.#rate * burstSeconds)
  }

  /** Whether it kept batches back lately. */
  get isShort(): boolean {
    return this.#clock.elapsedMs() - this.#heldBackMs < 10_000
  }

  /** 0 where a batch of that class may go now, else in how many milliseconds to ask again: precious ones may go ahead. */
  waitMs(name: Class): number {
    const rate = this.#rate
    if (rate === undefined) return 0
    this.#fill(rate)
    const worth = (classes.length - 1 - rank[name]) / (classes.length - 1)
    const lacking = -rate * burstSeconds * worth - this.#credit
    if (lacking < 0) return 0
    this.#heldBackMs = this.#clock.elapsedMs()
    return Math.max(10, (lacking / rate) * 1000)
  }

  /** A batch goes out; what it is charged with. */
  take(bytes: number): number {
    if (this.#rate === undefined) return 0
    const charged = bytes * this.#ratio
    this.#credit -= charged
    return charged
  }

  /** It came to so many bytes on the wire. */
  settle(bytes: number, charged: number, wire: number): void {
    if (bytes > 0) this.#ratio += (Math.min(1, wire / bytes) - this.#ratio) * memory
    if (this.#rate !== undefined && charged > 0) this.#credit += charged - wire
  }

  #fill(rate: number): void {
    const nowMs = this.#clock.elapsedMs()
    const full = rate * burstSeconds
    this.#credit = Math.min(full, this.#credit + ((nowMs - this.#filledMs) / 1000) * rate)
    this.#filledMs = nowMs
  }
}
