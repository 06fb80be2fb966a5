// What the options of `dpulse simulate` mean for the time of a run.
import type { SimulateOptions } from '../plugins/contract/options.ts'
import type { Pace } from './timeline.ts'

/** Where nobody says otherwise a file begins here, so that two runs are the same on any day: a Thursday. */
const fileEpochMs = Date.UTC(2026, 0, 1)
const hourMs = 3_600_000

export interface Times extends Pace {
  readonly epochMs: number
  /** Simulated milliseconds. */
  readonly untilMs: number
}

export const isFile = ({ to }: Pick<SimulateOptions, 'to'>): boolean => to?.startsWith('file:') === true

/**
 * Where the simulation is faster than the clock it replays the past: it ends now, or, where it has no end, begins an hour
 * ago and goes on with the clock once it has caught up. So nothing is stamped with a time that is yet to come.
 */
export function timesOf(options: SimulateOptions, nowMs: number): Times {
  const { speed, duration, start } = options
  if (isFile(options)) {
    return { speed, behindMs: Infinity, epochMs: start ?? fileEpochMs, untilMs: duration ?? hourMs }
  }
  const untilMs = duration ?? Infinity
  const replayed = duration === undefined ? hourMs : duration - duration / speed
  const epochMs = start ?? (speed > 1 ? nowMs - replayed : nowMs)
  return { speed, behindMs: Math.max(0, nowMs - epochMs), epochMs, untilMs }
}
