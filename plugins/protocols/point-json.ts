// Data points as an HTTP API shows them as they come, and which of them an asker wants. Integers beyond 2^53 become
// strings, NaN and infinities strings.
import type { PointCursor } from '../contract/point-cursor.ts'
import { formatTime, holds, jsonObject, toJson } from './log-json.ts'
import type { Json, Match, Time, Values } from './log-json.ts'
import { readDetail } from './point-detail.ts'
import { kindOf } from './series.ts'
import type { MetricKind } from './series.ts'

export interface PointRow {
  time: Time
  device: string
  metric: string
  unit: string
  kind: MetricKind
  attributes: Record<string, Json>
  resource: Record<string, Json>
  /** Of gauges, counters and sums. */
  value?: Json
  /** Of the others: count, sum, buckets, quantiles. */
  detail?: Json
}

/** The point where the cursor stands. */
export function pointRow(cursor: PointCursor, device: string, resource: Values): PointRow {
  const row: PointRow = {
    time: formatTime((BigInt(cursor.timeHigh) << 32n) | BigInt(cursor.timeLow)),
    device,
    metric: cursor.text(cursor.name),
    unit: cursor.text(cursor.unit),
    kind: kindOf(cursor),
    attributes: jsonObject(cursor.pointAttributes()),
    resource: jsonObject(resource),
  }
  const value = numberOf(cursor)
  if (value !== undefined) row.value = toJson(value)
  const { text } = readDetail(cursor)
  if (text !== '') row.detail = JSON.parse(text) as Json
  return row
}

/** The value of a gauge or sum; undefined where there is none. */
export function numberOf(cursor: PointCursor): number | bigint | undefined {
  if (cursor.valueKind === 'double') return cursor.double
  if (cursor.valueKind !== 'int') return undefined
  return BigInt.asIntN(64, (BigInt(cursor.intHigh) << 32n) | BigInt(cursor.intLow))
}

/** Whether the point where the cursor stands is wanted. */
export function pointFits(
  where: readonly Match[],
  name: ((text: string) => boolean) | undefined,
  cursor: PointCursor,
  resource: Values,
): boolean {
  if (name && !name(cursor.text(cursor.name))) return false
  return where.length === 0 || holds(where, cursor.pointAttributes(), resource)
}
