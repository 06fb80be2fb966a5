// What tells one series of a metric from another: its kind, and what of its Resource identifies it. The same for the stores
// and for what a collector shows of the newest values.
import type { PointCursor } from '../contract/point-cursor.ts'
import type { Json } from './log-json.ts'

export const metricKinds = [
  'gauge',
  'counter',
  'sum',
  'histogram',
  'exponential_histogram',
  'summary',
] as const
/** `counter` is a monotonic sum, `sum` one that may fall. */
export type MetricKind = (typeof metricKinds)[number]

/** Of the metric where the cursor stands. */
export function kindOf(cursor: PointCursor): MetricKind {
  if (cursor.type !== 'sum') return cursor.type
  return cursor.monotonic ? 'counter' : 'sum'
}

const ulid = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/
const descriptive = /^(host|os|dpu|telemetry|deployment|cloud|process)\.|^service\.version$/

/**
 * What of a Resource tells one series from another. Names of machines and labels describe, they do not identify; nor
 * does the ULID of one run of our own collector, with which every restart would begin all series anew.
 */
export function identityOf(resource: Readonly<Record<string, Json>>): Record<string, Json> {
  return Object.fromEntries(
    Object.entries(resource).filter(([key, value]) => {
      if (key === 'process.pid') return true
      if (key === 'service.instance.id' && typeof value === 'string' && ulid.test(value)) return false
      return !descriptive.test(key)
    }),
  )
}

/** Keys in the order of their code units: equal values are then equal as text. */
export const sorted = <V>(values: Readonly<Record<string, V>>): Record<string, V> =>
  Object.fromEntries(Object.entries(values).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
