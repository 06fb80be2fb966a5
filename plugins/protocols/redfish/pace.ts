// How many requests a BMC gets at once, and when: a few slots, fewer where answers come late, none for a while where it
// asks for that or fails. BMCs are small; one that is hurried answers nobody.
import type { Clock } from '../../contract/define.ts'

const slowMs = 3000
const quickMs = 1000
const firstPauseMs = 1000
const longestPauseMs = 60_000

export class Pace {
  readonly #clock: Clock
  readonly #most: number
  #allowed: number
  #running = 0
  #failures = 0
  #resumeMs = 0
  readonly #waiting: (() => void)[] = []

  constructor(clock: Clock, most: number) {
    this.#clock = clock
    this.#most = most
    this.#allowed = most
  }

  /** How many requests it may have at once, as it stands. */
  get allowed(): number {
    return this.#allowed
  }

  /** Runs the task in a slot, after a pause where one was asked for. */
  async run<T>(signal: AbortSignal, task: () => Promise<T>): Promise<T> {
    while (this.#running >= this.#allowed) {
      const turn = Promise.withResolvers<void>()
      const give = () => turn.resolve()
      this.#waiting.push(give)
      signal.addEventListener('abort', give, { once: true })
      await turn.promise
      signal.removeEventListener('abort', give)
      if (!signal.aborted) continue
      const at = this.#waiting.indexOf(give)
      // Its turn, where it had come already, is the next one's.
      if (at >= 0) this.#waiting.splice(at, 1)
      else this.#wake()
      signal.throwIfAborted()
    }
    this.#running++
    try {
      const pauseMs = this.#resumeMs - this.#clock.elapsedMs()
      if (pauseMs > 0) await this.#clock.delay(pauseMs, signal)
      const beganMs = this.#clock.elapsedMs()
      const result = await task()
      this.#adapt(this.#clock.elapsedMs() - beganMs)
      return result
    } finally {
      this.#running--
      this.#wake()
    }
  }

  /** It did not answer, or asked to be left alone: one request at a time after a pause that grows. */
  backOff(retryAfterMs: number | undefined): void {
    this.#allowed = 1
    const pauseMs = Math.min(
      longestPauseMs,
      retryAfterMs ?? firstPauseMs * 2 ** Math.min(this.#failures++, 6),
    )
    this.#resumeMs = Math.max(this.#resumeMs, this.#clock.elapsedMs() + pauseMs)
  }

  #adapt(tookMs: number): void {
    if (tookMs > slowMs) this.#allowed = Math.max(1, Math.ceil(this.#allowed / 2))
    else if (tookMs < quickMs && this.#resumeMs <= this.#clock.elapsedMs()) {
      this.#failures = 0
      this.#allowed = Math.min(this.#most, this.#allowed + 1)
    }
  }

  #wake(): void {
    for (let free = this.#allowed - this.#running; free > 0; free--) this.#waiting.shift()?.()
  }
}
