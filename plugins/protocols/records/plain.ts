// Records as plain objects, for exporters whose peers know nothing of OTLP and take records one by one.
import type { Batch } from '../../contract/batch.ts'
import { LogCursor, PointCursor } from '../../contract/cursor.ts'
import type { AttributeValue, Attributes } from '../../contract/values.ts'

export interface PlainRecord {
  readonly seconds: number
  readonly nanos: number
  /** 1 to 24, or 0. */
  readonly severity: number
  /** `INFO`; empty where there is no severity. */
  readonly level: string
  readonly text: string
  readonly eventName: string
  readonly attributes: Attributes
  /** With the device as `host.id` where the sender left it out. */
  readonly resource: Attributes
}

/** Every record of a batch, in order; spans are left out. */
export function* plainRecords({ signal, bytes, header }: Batch): Generator<PlainRecord> {
  if (signal === 'logs') yield* plainLogs(bytes, header.device)
  else if (signal === 'metrics') yield* plainPoints(bytes, header.device)
}

function* plainLogs(bytes: Uint8Array, device: string): Generator<PlainRecord> {
  const cursor = new LogCursor().reset(bytes)
  let resource: Attributes = {}
  let resourceIndex = 0
  while (cursor.next()) {
    if (cursor.resourceIndex !== resourceIndex) {
      resourceIndex = cursor.resourceIndex
      resource = { 'host.id': device, ...cursor.resourceAttributes() }
    }
    const isTimed = cursor.timeLow !== 0 || cursor.timeHigh !== 0
    const [seconds, nanos] = isTimed
      ? timeOf(cursor.timeLow, cursor.timeHigh)
      : timeOf(cursor.observedLow, cursor.observedHigh)
    const body = cursor.bodyValue()
    yield {
      seconds,
      nanos,
      severity: cursor.severityNumber,
      level: cursor.text(cursor.severityText) || severityText(cursor.severityNumber),
      text: body === undefined ? '' : textOf(body),
      eventName: cursor.text(cursor.eventName),
      attributes: cursor.recordAttributes(),
      resource,
    }
  }
}

function* plainPoints(bytes: Uint8Array, device: string): Generator<PlainRecord> {
  const cursor = new PointCursor().reset(bytes)
  let resource: Attributes = {}
  let resourceIndex = 0
  while (cursor.next()) {
    if (cursor.resourceIndex !== resourceIndex) {
      resourceIndex = cursor.resourceIndex
      resource = { 'host.id': device, ...cursor.resourceAttributes() }
    }
    const [seconds, nanos] = timeOf(cursor.timeLow, cursor.timeHigh)
    const name = cursor.text(cursor.name)
    const unit = cursor.text(cursor.unit)
    const value = valueOf(cursor)
    const metric: Record<string, AttributeValue> = { 'metric.name': name, 'metric.kind': kindOf(cursor) }
    if (unit !== '') metric['metric.unit'] = unit
    if (value !== undefined) metric['metric.value'] = value
    yield {
      seconds,
      nanos,
      severity: 0,
      level: '',
      text: value === undefined ? name : `${name}=${value}`,
      eventName: '',
      attributes: { ...cursor.pointAttributes(), ...metric },
      resource,
    }
  }
}

const levels = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'] as const
const severityText = (severity: number): string => levels[Math.floor((severity - 1) / 4)] ?? ''

const kindOf = ({ type, monotonic }: PointCursor): string =>
  type === 'sum' ? (monotonic ? 'counter' : 'updowncounter') : type

function valueOf(cursor: PointCursor): number | bigint | undefined {
  if (cursor.valueKind === 'double') return cursor.double
  if (cursor.valueKind === 'none') return undefined
  const exact = BigInt.asIntN(64, (BigInt(cursor.intHigh) << 32n) | BigInt(cursor.intLow))
  return Number.isSafeInteger(Number(exact)) ? Number(exact) : exact
}

function timeOf(low: number, high: number): [seconds: number, nanos: number] {
  const whole = (BigInt(high) << 32n) | BigInt(low)
  return [Number(whole / 1_000_000_000n), Number(whole % 1_000_000_000n)]
}

/** A text as it is, anything else as JSON. */
export const textOf = (value: AttributeValue): string =>
  typeof value === 'string'
    ? value
    : typeof value === 'object'
      ? JSON.stringify(value, (_, item: unknown) =>
          typeof item === 'bigint'
            ? String(item)
            : item instanceof Uint8Array
              ? Buffer.from(item).toString('base64')
              : item,
        )
      : String(value)
