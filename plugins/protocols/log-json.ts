// Log records as every HTTP API shows them, and which of them an asker wants: shared by the aggregator's live tail and
// the collector's own. Integers beyond 2^53 become strings, bytes base64, NaN and infinities strings.
import type { LogCursor } from '../contract/log-cursor.ts'
import type { PointCursor } from '../contract/point-cursor.ts'
import type { AttributeValue } from '../contract/values.ts'
import { WireError } from '../contract/wire.ts'

/** A JSON value. Integers beyond 2^53 are strings, bytes are base64. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json }

/** RFC 3339, UTC, nine decimals: `2026-11-21T09:55:00.000000000Z`. */
export type Time = string

/** An attribute of the record or, where it has none of that name, of its Resource, compared with its text form. */
export interface Match {
  key: string
  value: string
}

/** Which log records: shared by the search and the live tail. */
export interface LogFilter {
  /** Case-insensitive substring of the body. */
  text?: string
  /** Any of these; absent means every device. Never empty. */
  device?: readonly string[]
  /** Lowest OTel severity number, 1 to 24; a record without severity (0) passes only when this is absent. */
  severity?: number
  /** All must match. */
  where: readonly Match[]
}

export interface LogRecordRow {
  /** Stable and unique where it was asked: the same record has the same id in every answer and in the live tail. */
  id: string
  time: Time
  observedTime: Time
  device: string
  severityNumber: number
  severityText: string
  body: Json
  attributes: Record<string, Json>
  resource: Record<string, Json>
  /** Empty when the record is no event. */
  eventName: string
}

export function formatTime(unixNano: bigint): Time {
  const seconds = unixNano / 1_000_000_000n
  const nanos = unixNano % 1_000_000_000n
  const [whole = ''] = new Date(Number(seconds) * 1000).toISOString().split('.')
  return `${whole}.${String(nanos).padStart(9, '0')}Z`
}

/** A decoded value as JSON. */
export function toJson(value: AttributeValue): Json {
  switch (typeof value) {
    case 'bigint':
      return Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
    case 'number':
      return Number.isFinite(value) ? value : String(value)
    case 'string':
    case 'boolean':
      return value
    default:
      if (value instanceof Uint8Array) return Buffer.from(value).toString('base64')
      if (Array.isArray(value)) return (value as readonly AttributeValue[]).map(toJson)
      return jsonObject(value as Readonly<Record<string, AttributeValue>>)
  }
}

export function jsonObject(values: Readonly<Record<string, AttributeValue>>): { [key: string]: Json } {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, toJson(value)]))
}

/** Decoded attributes. */
export type Values = Readonly<Record<string, AttributeValue>>

const dayNano = 86_400_000_000_000n
const nanoOf = (high: number, low: number): bigint => (BigInt(high) << 32n) | BigInt(low)

/** When the cursor's record happened, and whether that is more than a day from its arrival. */
export function timeOf(cursor: LogCursor, arrived: bigint): { time: bigint; isSuspect: boolean } {
  const observed = nanoOf(cursor.observedHigh, cursor.observedLow)
  const time = nanoOf(cursor.timeHigh, cursor.timeLow) || observed || arrived
  return { time, isSuspect: (time > arrived ? time - arrived : arrived - time) > dayNano }
}

/**
 * Walks a request: `see` looks at each record where the cursor stands. Who only looks on must fail nobody, so a record
 * that cannot be read is left out, as the store leaves it out.
 */
export function eachRecord(
  cursor: LogCursor | PointCursor,
  request: Uint8Array,
  see: (index: number, resource: Values) => void,
): void {
  let resource: Values | undefined
  let resourceIndex = -1
  cursor.reset(request)
  for (let index = 0; quietly(() => cursor.next()) === true; index++) {
    if (cursor.resourceIndex !== resourceIndex) {
      resourceIndex = cursor.resourceIndex
      resource = quietly(() => cursor.resourceAttributes())
    }
    const known = resource
    if (known) quietly(() => see(index, known))
  }
}

function quietly<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof WireError)) throw error
    return undefined
  }
}

/** The record where the cursor stands. */
export function rowOf(
  cursor: LogCursor,
  about: { id: string; device: string; arrived: bigint; resource: Values },
): LogRecordRow {
  const { id, device, arrived, resource } = about
  const { time, isSuspect } = timeOf(cursor, arrived)
  const attributes = jsonObject(cursor.recordAttributes())
  if (isSuspect) attributes['dpu.clock.suspect'] = true
  return {
    id,
    time: formatTime(time),
    observedTime: formatTime(nanoOf(cursor.observedHigh, cursor.observedLow) || arrived),
    device,
    severityNumber: cursor.severityNumber,
    severityText: cursor.text(cursor.severityText),
    body: toJson(cursor.bodyValue() ?? ''),
    attributes,
    resource: jsonObject(resource),
    eventName: cursor.text(cursor.eventName),
  }
}

/** Whether the record where the cursor stands is wanted; of its device the caller has seen to. */
export function matches(filter: LogFilter, cursor: LogCursor, resource: Values): boolean {
  if (filter.severity !== undefined && cursor.severityNumber < filter.severity) return false
  if (filter.text !== undefined && filter.text !== '') {
    const body = textOf(cursor.bodyValue())
    if (!body.toLowerCase().includes(filter.text.toLowerCase())) return false
  }
  return filter.where.length === 0 || holds(filter.where, cursor.recordAttributes(), resource)
}

/** Whether all attributes that are asked for are so. */
export const holds = (where: readonly Match[], attributes: Values, resource: Values): boolean =>
  where.every(({ key, value }) => textOf(attributes[key] ?? resource[key]) === value)

/** As `where` and the search see a value: text is itself, large integers and bytes too, anything else its JSON. */
function textOf(value: AttributeValue | undefined): string {
  if (value === undefined) return ''
  const json = toJson(value)
  return typeof json === 'string' ? json : JSON.stringify(json)
}
