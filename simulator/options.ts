// What `dpulse simulate` is asked for, and what that means for the time of the run.
import type { Pace } from './timeline.ts'

export interface SimulateOptions {
  /** How many devices, of all kinds; or how many of which. */
  readonly devices: number | ReadonlyMap<string, number>
  readonly seed: number
  /** Simulated seconds in a second; to a file it is as fast as the machine allows. */
  readonly speed: number
  /** Between readings, in simulated milliseconds. */
  readonly interval: number
  readonly faults: string
  /** Simulated milliseconds; for ever where absent. */
  readonly duration?: number
  /** When the run begins, in Unix milliseconds. */
  readonly start?: number
  readonly to?: string
  readonly truth?: string
  /** Where each device has a buffer on disk. */
  readonly data?: string
  /** First port of the BMCs; none where absent. */
  readonly bmc?: number
  readonly portOffset: number
}

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
