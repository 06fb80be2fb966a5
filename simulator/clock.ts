// A device's clock: the contract's Clock on the simulated time line, with the error of the device's own oscillator in what
// it takes for the time.
import { every } from '../plugins/contract/every.ts'
import type { Clock } from '../plugins/contract/index.ts'
import type { Timeline } from './timeline.ts'

/** How far a clock is from the simulated time; changes while it runs. */
export interface ClockError {
  readonly offsetMs: number
}

/** Whole microseconds: they are exact in a double. */
export const unixNano = (unixMs: number): bigint => BigInt(Math.round(unixMs * 1000)) * 1000n

export function clockOf(timeline: Timeline, error: ClockError): Clock {
  const clock: Clock = {
    nowUnixNano: () => unixNano(timeline.epochMs + timeline.nowMs + error.offsetMs),
    elapsedMs: () => timeline.nowMs,
    every: (intervalMs, signal, task) => every(clock, intervalMs, signal, task),
    delay: (ms, signal) => delay(timeline, ms, signal),
  }
  return clock
}

function delay(timeline: Timeline, ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  if (signal.aborted) {
    reject(signal.reason as Error)
    return promise
  }
  const abort = () => {
    timeline.remove(timer)
    reject(signal.reason as Error)
  }
  const timer = timeline.add(timeline.nowMs + Math.max(0, ms), () => {
    signal.removeEventListener('abort', abort)
    resolve()
  })
  signal.addEventListener('abort', abort, { once: true })
  return promise
}
