// Canonical OTel JSON of Records, for `toMatchFileSnapshot`: one request each, keys in the order of the protocol,
// 64-bit integers as strings, two spaces of indentation. Reviewed as code.
import type { AttributeValue, Records } from '../../plugins/contract/index.ts'
import { collectLogs, collectPoints } from './records.ts'
import type { PlainLog, PlainPoint } from './records.ts'

function anyValue(value: AttributeValue): unknown {
  switch (typeof value) {
    case 'string':
      return { stringValue: value }
    case 'boolean':
      return { boolValue: value }
    case 'bigint':
      return { intValue: String(value) }
    case 'number':
      return Number.isSafeInteger(value) && !Object.is(value, -0)
        ? { intValue: String(value) }
        : { doubleValue: double(value) }
    default:
  }
  if (value instanceof Uint8Array) return { bytesValue: Buffer.from(value).toString('base64') }
  if (Array.isArray(value))
    return { arrayValue: { values: value.map((one: AttributeValue) => anyValue(one)) } }
  return { kvlistValue: { values: keyValues(value as Record<string, AttributeValue>) } }
}
/** JSON has no NaN; protobuf's JSON mapping writes these as text. */
const double = (value: number): unknown => (Number.isFinite(value) ? value : String(value))
const keyValues = (attributes: Record<string, AttributeValue>): unknown[] =>
  Object.entries(attributes).map(([key, value]) => ({ key, value: anyValue(value) }))
const some = (attributes: Record<string, AttributeValue>): unknown[] | undefined =>
  Object.keys(attributes).length > 0 ? keyValues(attributes) : undefined
const time = (unixNano: bigint): string | undefined => (unixNano === 0n ? undefined : String(unixNano))

const logRecord = (log: PlainLog): unknown => ({
  timeUnixNano: time(log.time),
  observedTimeUnixNano: time(log.observedTime),
  severityNumber: log.severityNumber || undefined,
  severityText: log.severityText || undefined,
  body: log.body === undefined ? undefined : anyValue(log.body),
  attributes: some(log.attributes),
  traceId: log.traceId || undefined,
  spanId: log.spanId || undefined,
  eventName: log.eventName || undefined,
})

const dataPoint = (point: PlainPoint): unknown => ({
  attributes: some(point.attributes),
  startTimeUnixNano: time(point.start),
  timeUnixNano: time(point.time),
  ...(typeof point.value === 'bigint'
    ? { asInt: String(point.value) }
    : point.value === undefined
      ? {}
      : { asDouble: double(point.value) }),
})

const metric = ([first, ...more]: readonly [PlainPoint, ...PlainPoint[]]): unknown => ({
  name: first.name,
  unit: first.unit,
  [first.type === 'exponential_histogram' ? 'exponentialHistogram' : first.type]: {
    aggregationTemporality: first.temporality || undefined,
    isMonotonic: first.monotonic || undefined,
    dataPoints: [first, ...more].map((one) => dataPoint(one)),
  },
})

/** Neighbours with an equal key, together. */
function runs<T>(items: readonly T[], key: (item: T) => string): [T, ...T[]][] {
  const found: [T, ...T[]][] = []
  let last = ''
  for (const item of items) {
    const current = key(item)
    const open = found.at(-1)
    if (open && current === last) open.push(item)
    else found.push([item])
    last = current
  }
  return found
}
const plain = (value: unknown): string =>
  JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? `${item}n` : item))
const origin = (one: PlainLog | PlainPoint): string => plain([one.resource, one.scope])

function request(records: Records): unknown {
  if (records.signal === 'traces') throw new Error('golden: traces pass through, they have no golden form')
  if (records.signal === 'logs') {
    return {
      resourceLogs: runs(collectLogs(records), origin).map((group) => ({
        resource: { attributes: keyValues(group[0].resource) },
        scopeLogs: [{ scope: { name: group[0].scope }, logRecords: group.map((one) => logRecord(one)) }],
      })),
    }
  }
  return {
    resourceMetrics: runs(collectPoints(records), origin).map((group) => ({
      resource: { attributes: keyValues(group[0].resource) },
      scopeMetrics: [
        {
          scope: { name: group[0].scope },
          metrics: runs(group, (point) => plain([point.name, point.unit, point.type])).map((one) =>
            metric(one),
          ),
        },
      ],
    })),
  }
}

/** One request, or an array of requests where several Records are given; ends with a newline. */
export function golden(records: Records | readonly Records[]): string {
  const whole = Array.isArray(records)
    ? (records as readonly Records[]).map((one) => request(one))
    : request(records as Records)
  return `${JSON.stringify(whole, undefined, 2)}\n`
}
