// The machine's clock, and timers on any clock: the wall clock for stamps, the monotonic one for everything that is
// measured or waited for, so that a step of the wall clock (NTP at boot) delays and hurries nothing.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../plugins/contract/index.ts'

/** Longer waits overflow a timer of Node; nothing here waits that long on purpose. */
const longestMs = 2 ** 31 - 1

/** Nanoseconds of the wall clock that `performance` began at, refreshed so that a step is followed. */
const nowUnixNano = (): bigint => {
  const milliseconds = Date.now()
  // Date.now() has whole milliseconds; the fraction comes from the monotonic clock, so that stamps keep their order.
  const fraction = Math.floor((performance.now() % 1) * 1e6)
  return BigInt(milliseconds) * 1_000_000n + BigInt(fraction)
}

export const systemClock: Clock = {
  nowUnixNano,
  elapsedMs: () => performance.now(),
  async every(intervalMs, signal, task) {
    let due = performance.now()
    while (!signal.aborted) {
      await task()
      // A late one is not made up for: the next is due one interval after this one was, or now.
      due = Math.max(due + intervalMs, performance.now())
      try {
        await systemClock.delay(due - performance.now(), signal)
      } catch {
        return
      }
    }
  },
  delay: (ms, signal) => sleep(Math.min(Math.max(0, ms), longestMs), undefined, { signal }),
}

/** One timer that can be moved to an earlier time: what is due soonest decides when `task` runs. */
export class Alarm {
  readonly #clock: Clock
  readonly #task: () => void
  #dueMs = Infinity
  #armed: AbortController | undefined

  constructor(clock: Clock, task: () => void) {
    this.#clock = clock
    this.#task = task
  }

  /** Runs the task at `dueMs` of the monotonic clock, or before, when it was already to run before. */
  at(dueMs: number): void {
    if (dueMs >= this.#dueMs) return
    this.cancel()
    this.#dueMs = dueMs
    const armed = new AbortController()
    this.#armed = armed
    this.#clock.delay(dueMs - this.#clock.elapsedMs(), armed.signal).then(
      () => {
        if (this.#armed !== armed) return
        this.#armed = undefined
        this.#dueMs = Infinity
        this.#task()
      },
      () => undefined, // cancelled
    )
  }

  cancel(): void {
    this.#armed?.abort()
    this.#armed = undefined
    this.#dueMs = Infinity
  }
}
