// What of the limit of memory is used, looked at while records come in and not only now and then: a flood fills what is
// free within a fraction of a second. PSS is what counts, and dear to find out; the resident size is not, and moves as it
// does, so that one is corrected by the other.
import process from 'node:process'
import type { Clock } from '../plugins/contract/index.ts'
import { pssBytes } from './footprint.ts'
import type { Heap } from './heap.ts'

/** From here on garbage is collected, and from here on memory is short. */
const [tidyShare, shortShare] = [0.8, 0.9]
/** Below this part of the limit, shared pages counted wholly, nobody asks for the PSS. */
const nearShare = 0.7
/** It is asked for so often at most, and takes at most this part of the CPU that there is. */
const exactEveryMs = 500
const mostTime = 0.02
/** Looks follow each other so fast at most; what is let in between two of them is charged ahead, as often as it is copied. */
const lookEveryMs = 10
const copies = 3

export interface MemoryOptions {
  clock: Clock
  heap: Heap
  /** Bytes that are resident, of this process. */
  resident?: () => number
  /** Proportional bytes of a process. */
  proportional?: (pid: number) => number
}

export class Memory {
  readonly #clock: Clock
  readonly #heap: Heap
  readonly #resident: () => number
  readonly #proportional: (pid: number) => number
  #limit = Infinity
  #mostTime = mostTime
  /** What is to be added to the resident size: shared pages off, other processes on. */
  #correction = 0
  #exactDueMs = 0
  #lookedMs = -Infinity
  #looked = 0
  #ahead = 0
  /** Processes that belong to us, without this one. */
  others: readonly number[] = []

  constructor({ clock, heap, resident, proportional }: MemoryOptions) {
    this.#clock = clock
    this.#heap = heap
    this.#resident = resident ?? (() => process.memoryUsage.rss())
    this.#proportional = proportional ?? pssBytes
  }

  configure(limit: number | undefined, cpu: number | undefined): void {
    this.#limit = limit ?? Infinity
    this.#mostTime = mostTime * Math.min(1, cpu ?? 1)
    this.#lookedMs = -Infinity
    this.#exactDueMs = 0
    this.#ahead = 0
    if (limit !== undefined) this.look()
  }

  /** Bytes, as far as is known. */
  get used(): number {
    return this.#looked + this.#ahead
  }

  /** How short it is: 0 while there is enough, 1 where the limit is reached. */
  get short(): number {
    if (this.#limit === Infinity) return 0
    return Math.max(0, Math.min(1, (this.used / this.#limit - shortShare) / (1 - shortShare)))
  }

  /** Records of so many bytes are let in. */
  letIn(bytes: number): void {
    if (this.#limit === Infinity) return
    this.#ahead += bytes * copies
    this.look()
  }

  /** Where the last look was not just now. */
  look(): void {
    const nowMs = this.#clock.elapsedMs()
    if (this.#limit === Infinity || nowMs - this.#lookedMs < lookEveryMs) return
    this.#measure(nowMs)
    if (this.#looked <= this.#limit * tidyShare) return
    const isShort = this.#looked > this.#limit * shortShare
    if (this.#heap.collect(isShort ? 'short' : 'near')) this.#measure(this.#clock.elapsedMs())
  }

  #measure(nowMs: number): void {
    const resident = this.#resident()
    if (nowMs >= this.#exactDueMs && (resident > this.#limit * nearShare || this.others.length > 0)) {
      const own = this.#proportional(process.pid) || resident
      const exact = this.others.reduce((sum, pid) => sum + this.#proportional(pid), own)
      this.#correction = exact - resident
      const tookMs = this.#clock.elapsedMs() - nowMs
      this.#exactDueMs = nowMs + Math.max(exactEveryMs, tookMs / this.#mostTime)
    }
    this.#looked = resident + this.#correction
    this.#lookedMs = nowMs
    this.#ahead = 0
  }
}
