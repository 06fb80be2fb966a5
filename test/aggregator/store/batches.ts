// Batches for tests and benchmarks of the store, made as a collector makes them.
import { sealBatch } from '../../../plugins/contract/batch.ts'
import type { Header } from '../../../plugins/contract/batch.ts'
import { LogsEncoder } from '../../../plugins/contract/encoder.ts'
import { Readings, timeParts } from '../../../plugins/contract/readings.ts'
import type { MetricDeclarations } from '../../../plugins/contract/readings.ts'
import type { Class } from '../../../plugins/contract/signal.ts'
import { encodeResource } from '../../../plugins/contract/values.ts'
import type { Attributes, AttributeValue } from '../../../plugins/contract/values.ts'
import type { Log } from '../../../plugins/contract/define.ts'
import type { StoreBatch } from '../../../aggregator/store/store.ts'

export const session = '01JDABCDEFGHJKMNPQRSTVWXYZ'
export const hourNano = 3_600_000_000_000n
export const secondNano = 1_000_000_000n

/** A whole second near now, so that nothing is suspect or expired. */
export const nowNano = (): bigint => BigInt(Math.floor(Date.now() / 1000)) * secondNano

export interface TestLog {
  time: bigint
  observed?: bigint
  severity?: number
  body: AttributeValue
  attributes?: Attributes
  eventName?: string
}

export interface Place {
  device?: string
  seq: number
  class?: Class
  arrived?: bigint
  resource?: Attributes
  collector?: string
}

export function headerOf(
  { device = 'dpu-1', seq, class: name = 'log', collector }: Place,
  count: number,
): Header {
  const stream = { collector: collector ?? device, device, session, class: name }
  // Room for a thousand in each batch: `produced` tells how many came before, and no two share a number.
  return { ...stream, seq, count, from: 0n, to: 0n, produced: (seq - 1) * 1000 + count, dropped: {} }
}

const scope = { name: 'test' }

export function logBatch(place: Place, records: readonly TestLog[]): StoreBatch {
  const encoder = new LogsEncoder(scope)
  const { device = 'dpu-1', class: name = 'log' } = place
  encoder.begin(encodeResource(place.resource ?? { 'host.name': device, 'service.name': 'test' }))
  for (const { time, observed, severity, body, attributes, eventName } of records) {
    const at = timeParts(time)
    const seen = timeParts(observed ?? 0n)
    encoder.record(at.seconds, at.nanos, seen.seconds, seen.nanos, severity ?? 9)
    encoder.body(body)
    for (const [key, value] of Object.entries(attributes ?? {})) encoder.attribute(key, value)
    if (eventName !== undefined) encoder.eventName(eventName)
    encoder.end()
  }
  const header = headerOf(place, records.length)
  const { bytes } = encoder.finish(device, name)
  const value = sealBatch(header, 'logs', [bytes]).bytes
  return { header, signal: 'logs', value, arrivedUnixNano: place.arrived ?? nowNano() }
}

export interface TestPoint {
  time: bigint
  name: string
  value: number | bigint
  attributes?: Attributes
}

/** Points of one class; those of equal time in one reading. */
export function pointBatch(
  place: Place,
  declared: MetricDeclarations,
  points: readonly TestPoint[],
  start = 0n,
): StoreBatch {
  const { device = 'dpu-1', class: name = 'resource' } = place
  const resource = encodeResource(place.resource ?? { 'host.name': device, 'service.name': 'test' })
  const parts: Uint8Array[] = []
  const sameClass = Object.fromEntries(
    Object.entries(declared).map(([metric, each]) => [metric, { ...each, class: name }]),
  )
  for (const point of points) {
    const readings = new Readings({
      scope,
      declared: sameClass,
      device,
      resource,
      timeUnixNano: point.time,
      ...(start > 0n ? { startUnixNano: start } : {}),
    })
    readings.add(point.name, point.value, point.attributes)
    for (const { bytes } of readings.finish()) parts.push(bytes)
  }
  const header = headerOf({ ...place, class: name }, points.length)
  const value = sealBatch(header, 'metrics', parts).bytes
  return { header, signal: 'metrics', value, arrivedUnixNano: place.arrived ?? nowNano() }
}

export const noState = { position: {}, streams: new Map<string, Uint8Array | undefined>() }

export interface RecordedLog extends Log {
  readonly lines: { level: string; message: string; fields: unknown }[]
}

/** A log that can be looked at. */
export function recordLog(): RecordedLog {
  const lines: RecordedLog['lines'] = []
  const at = (level: string) => (message: string, fields?: unknown) =>
    void lines.push({ level, message, fields })
  return { lines, error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug') }
}
