// The machine's clock, and timers on any clock: the wall clock for stamps, the monotonic one for everything that is
// measured or waited for, so that a step of the wall clock (NTP at boot) delays and hurries nothing.
import { setTimeout as sleep } from 'node:timers/promises'
import { every } from '../plugins/contract/every.ts'
import type { Clock } from '../plugins/contract/index.ts'

/** Longer waits overflow a timer of Node; nothing here waits that long on purpose. */
const longestMs = 2 ** 31 - 1

/** The wall clock when the monotonic one was 0; follows the wall clock once the two are this far apart. */
let originMs = performance.timeOrigin
const apartMs = 2
let lastNano = 0n

/** Nanoseconds of the wall clock, finer than its milliseconds: stamps keep their order except where it is set back. */
function nowUnixNano(): bigint {
  const wallMs = Date.now()
  const monotonicMs = performance.now()
  if (Math.abs(wallMs - (originMs + monotonicMs)) > apartMs) {
    originMs = wallMs - monotonicMs
    if (BigInt(wallMs + 2 * apartMs) * 1_000_000n < lastNano) lastNano = 0n
  }
  const originWhole = Math.floor(originMs)
  const nano = Math.floor((originMs - originWhole + monotonicMs) * 1e6)
  const now = BigInt(originWhole) * 1_000_000n + BigInt(nano)
  // What drift moved back by less than a few milliseconds waits for the clock to pass it.
  if (now > lastNano) lastNano = now
  return lastNano
}

export const systemClock: Clock = {
  nowUnixNano,
  elapsedMs: () => performance.now(),
  every: (intervalMs, signal, task) => every(systemClock, intervalMs, signal, task),
  delay: (ms, signal) => sleep(Math.min(Math.max(0, ms), longestMs), undefined, { signal }),
}

/** Made once: an abort without a reason makes an error, with its stack, each time. */
const cancelled = new Error('cancelled')

/** One timer that can be moved to an earlier time: what is due soonest decides when `task` runs. */
export class Alarm {
  readonly #clock: Clock
  readonly #task: () => void
  #dueMs = Infinity
  #armed: AbortController | undefined
  /** Its task asks for many times and means the soonest of them. */
  #isRunning = false

  constructor(clock: Clock, task: () => void) {
    this.#clock = clock
    this.#task = task
  }

  /** Runs the task at `dueMs` of the monotonic clock, or before, when it was already to run before. */
  at(dueMs: number): void {
    if (dueMs >= this.#dueMs) return
    this.cancel()
    this.#dueMs = dueMs
    if (!this.#isRunning && dueMs < Infinity) this.#arm(dueMs)
  }

  cancel(): void {
    this.#armed?.abort(cancelled)
    this.#armed = undefined
    this.#dueMs = Infinity
  }

  #arm(dueMs: number): void {
    const armed = new AbortController()
    this.#armed = armed
    this.#clock.delay(dueMs - this.#clock.elapsedMs(), armed.signal).then(
      () => {
        if (this.#armed === armed) this.#run()
      },
      () => undefined, // cancelled
    )
  }

  #run(): void {
    this.#armed = undefined
    this.#dueMs = Infinity
    this.#isRunning = true
    try {
      this.#task()
    } finally {
      this.#isRunning = false
      if (this.#dueMs < Infinity) this.#arm(this.#dueMs)
    }
  }
}
