// Clocks for tests: one that moves only when told, and the machine's own. Both implement the contract's Clock.
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { every } from '../../plugins/contract/every.ts'
import type { Clock } from '../../plugins/contract/index.ts'

interface Waiting {
  at: number
  wake: () => void
}

/** Stands still until `advance`; timers fire in order, each at its own time. */
export class FakeClock implements Clock {
  #wallUnixNano: bigint
  #elapsedMs = 0
  readonly #waiting: Waiting[] = []

  constructor(startUnixNano = 1_790_000_000_000_000_000n) {
    this.#wallUnixNano = startUnixNano
  }

  nowUnixNano(): bigint {
    return this.#wallUnixNano + BigInt(Math.round(this.#elapsedMs * 1e6))
  }

  elapsedMs(): number {
    return this.#elapsedMs
  }

  /** How many delays are under way. */
  get waiting(): number {
    return this.#waiting.length
  }

  every(intervalMs: number, signal: AbortSignal, task: () => Promise<void> | void): Promise<void> {
    return every(this, intervalMs, signal, task)
  }

  delay(ms: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const abort = () => {
      const at = this.#waiting.indexOf(waiting)
      if (at >= 0) this.#waiting.splice(at, 1)
      reject(signal.reason as Error)
    }
    const wake = () => {
      signal.removeEventListener('abort', abort)
      resolve()
    }
    const waiting: Waiting = { at: this.#elapsedMs + Math.max(0, ms), wake }
    if (signal.aborted) {
      reject(signal.reason as Error)
      return promise
    }
    signal.addEventListener('abort', abort, { once: true })
    this.#waiting.push(waiting)
    return promise
  }

  /** Lets time pass; what a timer sets off gets a few turns of the event loop before the next one fires. */
  async advance(ms: number): Promise<void> {
    const until = this.#elapsedMs + ms
    for (;;) {
      await settle()
      const next = this.#waiting.reduce<Waiting | undefined>(
        (first, one) => (!first || one.at < first.at ? one : first),
        undefined,
      )
      if (!next || next.at > until) break
      this.#waiting.splice(this.#waiting.indexOf(next), 1)
      this.#elapsedMs = Math.max(this.#elapsedMs, next.at)
      next.wake()
    }
    this.#elapsedMs = until
  }

  /** The wall clock jumps, as when NTP sets it; monotonic time does not. */
  step(toUnixNano: bigint): void {
    this.#wallUnixNano = toUnixNano - BigInt(Math.round(this.#elapsedMs * 1e6))
  }
}

/** A few turns of the event loop: enough for promises and immediate callbacks, not for real I/O. */
export async function settle(turns = 10): Promise<void> {
  for (let left = turns; left > 0; left--) await turn()
}

/** The machine's clock, for tests against real peers. */
export const realClock: Clock = {
  nowUnixNano: () => BigInt(Date.now()) * 1_000_000n,
  elapsedMs: () => performance.now(),
  every: (intervalMs, signal, task) => every(realClock, intervalMs, signal, task),
  delay: (ms, signal) => sleep(ms, undefined, { signal }),
}
