// What a rule lets through of what it matches: a part, so many a second, or what changed. What is remembered has a
// limit; time is the monotonic clock's.
import type { PointCursor, RequestCursor } from '../../contract/cursor.ts'
import { hashBytes, hashText, keyOf } from './keys.ts'
import type { RecordFacts } from './record.ts'
import type { RuleSettings } from './settings.ts'

/** Whether a record passes. */
export type Gate = (record: RecordFacts, cursor: RequestCursor, nowMs: number) => boolean

const two32 = 4_294_967_296

export function sampleGate({ ratio, by }: NonNullable<RuleSettings['sample']>): Gate {
  const below = ratio * two32
  if (!by) return ({ bytes, start, end }) => hashBytes(bytes, start, end) < below
  const key = keyOf(by)
  return (record, cursor) => hashText(key(record, cursor)) < below
}

interface Bucket {
  tokens: number
  atMs: number
}

/** A bucket of tokens for each key. */
export function rateGate(settings: NonNullable<RuleSettings['rate']>): Gate {
  const { per_second: perSecond, burst = Math.max(1, perSecond), by, max_keys: mostKeys } = settings
  const key = keyOf(by)
  const buckets = new Map<string, Bucket>()
  return (record, cursor, nowMs) => {
    const text = key(record, cursor)
    const known = buckets.get(text)
    const bucket = known ?? { tokens: burst, atMs: nowMs }
    bucket.tokens = Math.min(burst, bucket.tokens + ((nowMs - bucket.atMs) * perSecond) / 1000)
    bucket.atMs = nowMs
    remember(buckets, text, bucket, mostKeys, known !== undefined)
    if (bucket.tokens < 1) return false
    bucket.tokens--
    return true
  }
}

interface LastKept {
  value: number
  kind: string
  low: number
  high: number
  atMs: number
}

export type ChangeSettings = NonNullable<RuleSettings['deadband']> | NonNullable<RuleSettings['on_change']>

/** Readings of gauges that differ from the one kept last. */
export function changeGate(
  settings: ChangeSettings,
): (series: number, point: PointCursor, nowMs: number) => boolean {
  const { resend, max_series: mostSeries } = settings
  const step = 'by' in settings ? (settings.by ?? 0) : 0
  const part = 'percent' in settings ? (settings.percent ?? 0) / 100 : 0
  const kept = new Map<number, LastKept>()
  return (series, point, nowMs) => {
    const value = numberOf(point)
    const last = kept.get(series)
    if (last && (resend === undefined || nowMs - last.atMs < resend) && isNear(last, value, point)) {
      remember(kept, series, last, mostSeries, true)
      return false
    }
    const { valueKind: kind, intLow: low, intHigh: high } = point
    remember(kept, series, { value, kind, low, high, atMs: nowMs }, mostSeries, last !== undefined)
    return true
  }

  function isNear(last: LastKept, value: number, point: PointCursor): boolean {
    if (last.kind === point.valueKind) {
      // Integers beyond 2^53 are compared exactly.
      const same =
        point.valueKind === 'int'
          ? last.low === point.intLow && last.high === point.intHigh
          : Object.is(last.value, value)
      if (same) return true
    }
    return Math.abs(value - last.value) < Math.max(step, Math.abs(last.value) * part)
  }
}

/** Of an int beyond 2^53 the nearest. */
export const numberOf = (point: PointCursor): number =>
  point.valueKind === 'int' ? (point.intHigh | 0) * two32 + (point.intLow >>> 0) : point.double

/** A map keeps the order in which keys came: the one used last goes to its end, and the first goes when there are too many. */
function remember<K, V>(map: Map<K, V>, key: K, value: V, most: number, isKnown: boolean): void {
  if (isKnown) map.delete(key)
  else if (map.size >= most) {
    const [oldest] = map.keys()
    if (oldest !== undefined) map.delete(oldest)
  }
  map.set(key, value)
}
