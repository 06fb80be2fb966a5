// Records for tests: decoded to plain objects through the contract's cursors, made to order, and seen as a processor
// sees them.
import {
  LogCursor,
  LogsEncoder,
  PointCursor,
  Readings,
  SpanCursor,
  batchLimits,
  classOfLog,
  classOfMetric,
  encodeResource,
  sealBatch,
} from '../../plugins/contract/index.ts'
import type {
  AttributeValue,
  Attributes,
  Batch,
  Class,
  Header,
  MetricType,
  RecordView,
  Records,
} from '../../plugins/contract/index.ts'
import { resourceOf } from './context.ts'

type Decoded = Record<string, AttributeValue>

export interface PlainLog {
  signal: 'logs'
  resource: Decoded
  scope: string
  /** Unix ns; 0n is absent. */
  time: bigint
  observedTime: bigint
  severityNumber: number
  severityText: string
  body: AttributeValue | undefined
  attributes: Decoded
  eventName: string
  traceId: string
  spanId: string
}
export interface PlainPoint {
  signal: 'metrics'
  resource: Decoded
  scope: string
  name: string
  unit: string
  type: MetricType
  /** 1 delta, 2 cumulative. */
  temporality: number
  monotonic: boolean
  start: bigint
  time: bigint
  /** A bigint where the wire holds an integer; undefined for histograms and summaries. */
  value: number | bigint | undefined
  attributes: Decoded
}
export type PlainRecord = PlainLog | PlainPoint

type Encoded = Uint8Array | Pick<Records, 'bytes'>
const bytesOf = (of: Encoded): Uint8Array => (of instanceof Uint8Array ? of : of.bytes)
const listOf = (of: Encoded | readonly Encoded[]): readonly Encoded[] =>
  Array.isArray(of) ? (of as readonly Encoded[]) : [of as Encoded]
const nano = (low: number, high: number): bigint => (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)

export function collectLogs(of: Encoded | readonly Encoded[]): PlainLog[] {
  const found: PlainLog[] = []
  const at = new LogCursor()
  for (const one of listOf(of)) {
    at.reset(bytesOf(one))
    while (at.next()) {
      found.push({
        signal: 'logs',
        resource: at.resourceAttributes(),
        scope: at.scopeName(),
        time: nano(at.timeLow, at.timeHigh),
        observedTime: nano(at.observedLow, at.observedHigh),
        severityNumber: at.severityNumber,
        severityText: at.text(at.severityText),
        body: at.bodyValue(),
        attributes: at.recordAttributes(),
        eventName: at.text(at.eventName),
        traceId: at.bytes.toString('hex', at.traceId.start, at.traceId.end),
        spanId: at.bytes.toString('hex', at.spanId.start, at.spanId.end),
      })
    }
  }
  return found
}

export function collectPoints(of: Encoded | readonly Encoded[]): PlainPoint[] {
  const found: PlainPoint[] = []
  const at = new PointCursor()
  for (const one of listOf(of)) {
    at.reset(bytesOf(one))
    while (at.next()) {
      const integer = BigInt.asIntN(64, nano(at.intLow, at.intHigh))
      found.push({
        signal: 'metrics',
        resource: at.resourceAttributes(),
        scope: at.scopeName(),
        name: at.text(at.name),
        unit: at.text(at.unit),
        type: at.type,
        temporality: at.temporality,
        monotonic: at.monotonic,
        start: nano(at.startLow, at.startHigh),
        time: nano(at.timeLow, at.timeHigh),
        value: at.valueKind === 'none' ? undefined : at.valueKind === 'int' ? integer : at.double,
        attributes: at.pointAttributes(),
      })
    }
  }
  return found
}

/** Every log record and data point, in order; spans are left out. */
export const collect = (of: Records | readonly Records[]): PlainRecord[] =>
  (Array.isArray(of) ? (of as readonly Records[]) : [of as Records]).flatMap((records): PlainRecord[] =>
    records.signal === 'logs'
      ? collectLogs(records)
      : records.signal === 'metrics'
        ? collectPoints(records)
        : [],
  )

/** How many spans a request holds. */
export function countSpans(bytes: Uint8Array): number {
  const at = new SpanCursor().reset(bytes)
  let count = 0
  while (at.next()) count++
  return count
}

/** The class that DESIGN §4 gives to a record. */
export const classOf = (record: PlainRecord): Class =>
  record.signal === 'logs'
    ? classOfLog(record.severityNumber, record.eventName !== '')
    : classOfMetric(record.name)

/** As a processor sees a record. */
export function viewOf(record: PlainRecord, device = 'dpu-under-test'): RecordView {
  const log = record.signal === 'logs' ? record : undefined
  const body = log?.body
  return {
    signal: record.signal,
    class: classOf(record),
    device,
    severityNumber: log?.severityNumber ?? 0,
    name: record.signal === 'logs' ? record.eventName : record.name,
    body: () => (body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body)),
    value: () => (record.signal === 'metrics' ? record.value : undefined),
    attribute: (key) => record.attributes[key],
    resource: (key) => record.resource[key],
  }
}
export const viewsOf = (records: Records | readonly Records[]): RecordView[] =>
  collect(records).map((one) => viewOf(one))

const sampleTime = 1_790_000_000_000_000_000n

/** Log records to order: body, severity, attributes; one millisecond apart. */
export function sampleLogs(
  of: readonly { body?: AttributeValue; severity?: number; attributes?: Attributes; eventName?: string }[],
  device = 'dpu-under-test',
): Records {
  const encoder = new LogsEncoder({ name: 'test' })
  encoder.begin(encodeResource({ ...resourceOf(device), 'service.name': 'test' }))
  for (const [
    index,
    { body = `line ${index + 1}`, severity = 9, attributes = {}, eventName },
  ] of of.entries()) {
    const seconds = Number(sampleTime / 1_000_000_000n) + Math.floor(index / 1000)
    const nanos = (index % 1000) * 1_000_000
    encoder.record(seconds, nanos, seconds, nanos, severity)
    encoder.body(body)
    for (const [key, value] of Object.entries(attributes)) encoder.attribute(key, value)
    if (eventName !== undefined) encoder.eventName(eventName)
    encoder.end()
  }
  const first = of[0]
  return encoder.finish(device, classOfLog(first?.severity ?? 9, first?.eventName !== undefined))
}

/** `count` points of one gauge and one counter each, integers beyond 2^53 among them. */
export function samplePoints(count: number, device = 'dpu-under-test'): Records {
  const readings = new Readings({
    scope: { name: 'test' },
    declared: {
      'test.level': { kind: 'gauge', unit: '1' },
      'test.total': { kind: 'counter', unit: '{item}' },
    },
    device,
    resource: encodeResource({ ...resourceOf(device), 'service.name': 'test' }),
    timeUnixNano: sampleTime,
    startUnixNano: sampleTime - 60_000_000_000n,
  })
  for (let index = 0; index < count; index++) {
    if (index % 2 === 0) readings.add('test.level', index + 0.5, { 'test.index': index })
    else readings.add('test.total', 9_007_199_254_740_993n + BigInt(index), { 'test.index': index })
  }
  const [records] = readings.finish()
  if (!records || count > batchLimits.records)
    throw new Error(`samplePoints: 1 to ${batchLimits.records} points`)
  return records
}

/** Records with a header in front, as a sealer makes them. */
export function sampleBatch(records: Records, header: Partial<Header> = {}): Batch {
  return sealBatch(
    {
      collector: records.device,
      device: records.device,
      session: '01K00000000000000000000001',
      class: records.class,
      seq: 1,
      count: records.count,
      from: records.from,
      to: records.to,
      produced: records.count,
      dropped: {},
      ...header,
    },
    records.signal,
    [records.bytes],
  )
}
