// What others write, the cursors read: protobufjs with the official files on random data, and the serializers of
// the OpenTelemetry SDK.
import { describe, expect, test } from 'vitest'
import * as fc from 'fast-check'
import { SpanKind, SpanStatusCode, ValueType } from '@opentelemetry/api'
import {
  JsonLogsSerializer,
  JsonMetricsSerializer,
  ProtobufLogsSerializer,
  ProtobufMetricsSerializer,
  ProtobufTraceSerializer,
} from '@opentelemetry/otlp-transformer'
import { LogCursor, PointCursor, countRecords } from '../../../plugins/contract/cursor.ts'
import { signals } from '../../../plugins/contract/signal.ts'
import type { AttributeValue } from '../../../plugins/contract/values.ts'
import { WireError } from '../../../plugins/contract/wire.ts'
import { jsonToRequest } from '../../../plugins/protocols/otlp/json.ts'
import { collectLogs, collectPoints } from '../../support/records.ts'
import {
  arbitraryMessage,
  decodeOfficial,
  encodeOfficial,
  officialRequest,
} from '../protocols/otlp/official.ts'
import type { Plain } from '../protocols/otlp/official.ts'

const list = (value: unknown): Plain[] => (value ?? []) as Plain[]

/** A value as the cursors give it. */
function valueOf(value: Plain | undefined): AttributeValue | undefined {
  const { stringValue, boolValue, intValue, doubleValue, arrayValue, kvlistValue, bytesValue } = value ?? {}
  if (intValue !== undefined) {
    const exact = BigInt(intValue as string)
    return Number.isSafeInteger(Number(exact)) ? Number(exact) : exact
  }
  if (bytesValue !== undefined) return Buffer.from(bytesValue as string, 'base64')
  if (arrayValue) return list((arrayValue as Plain).values).map((item) => valueOf(item) ?? '')
  if (kvlistValue) return pairsOf(list((kvlistValue as Plain).values))
  return (stringValue ?? boolValue ?? doubleValue) as AttributeValue | undefined
}
const pairsOf = (pairs: Plain[]): Record<string, AttributeValue> =>
  Object.fromEntries(pairs.map(({ key, value }) => [key ?? '', valueOf(value as Plain) ?? '']))

const time = (value: unknown): bigint => BigInt((value ?? 0) as string)
const hex = (value: unknown): string => Buffer.from((value ?? '') as string, 'base64').toString('hex')

function* scopes(
  request: Plain,
  resources: string,
  scopes: string,
): Generator<{ around: Plain; scope: Plain }> {
  for (const resource of list(request[resources])) {
    const attributes = pairsOf(list((resource.resource as Plain | undefined)?.attributes))
    for (const scope of list(resource[scopes])) {
      yield { around: { resource: attributes, scope: (scope.scope as Plain | undefined)?.name ?? '' }, scope }
    }
  }
}

function expectedLogs(request: Plain): unknown[] {
  return [...scopes(request, 'resourceLogs', 'scopeLogs')].flatMap(({ around, scope }) =>
    list(scope.logRecords).map((log) => ({
      signal: 'logs',
      ...around,
      time: time(log.timeUnixNano),
      observedTime: time(log.observedTimeUnixNano),
      severityNumber: log.severityNumber ?? 0,
      severityText: log.severityText ?? '',
      body: valueOf(log.body as Plain | undefined),
      attributes: pairsOf(list(log.attributes)),
      eventName: log.eventName ?? '',
      traceId: hex(log.traceId),
      spanId: hex(log.spanId),
    })),
  )
}

const kinds = ['gauge', 'sum', 'histogram', 'exponentialHistogram', 'summary'] as const

function expectedPoints(request: Plain): unknown[] {
  return [...scopes(request, 'resourceMetrics', 'scopeMetrics')].flatMap(({ around, scope }) =>
    list(scope.metrics).flatMap((metric) => {
      const kind = kinds.find((name) => metric[name] !== undefined)
      const data = (kind === undefined ? {} : metric[kind]) as Plain
      return list(data.dataPoints).map((point) => ({
        signal: 'metrics',
        ...around,
        name: metric.name ?? '',
        unit: metric.unit ?? '',
        type: kind === 'exponentialHistogram' ? 'exponential_histogram' : kind,
        temporality: data.aggregationTemporality ?? 0,
        monotonic: data.isMonotonic ?? false,
        start: time(point.startTimeUnixNano),
        time: time(point.timeUnixNano),
        value: point.asInt === undefined ? point.asDouble : BigInt(point.asInt as string),
        attributes: pairsOf(list(point.attributes)),
      }))
    }),
  )
}

describe('the cursors', () => {
  test('read the log records that protobufjs wrote', () => {
    fc.assert(
      fc.property(arbitraryMessage(officialRequest('logs')), (value) => {
        const bytes = encodeOfficial('logs', value)
        const wanted = expectedLogs(decodeOfficial('logs', bytes))
        expect(collectLogs(bytes)).toEqual(wanted)
        expect(countRecords('logs', bytes)).toBe(wanted.length)
      }),
      { numRuns: 200 },
    )
  })

  test('read the points of all five metric types that protobufjs wrote', () => {
    const seen = new Set<string>()
    fc.assert(
      fc.property(arbitraryMessage(officialRequest('metrics')), (value) => {
        const bytes = encodeOfficial('metrics', value)
        const wanted = expectedPoints(decodeOfficial('metrics', bytes))
        const found = collectPoints(bytes)
        expect(found).toEqual(wanted)
        expect(countRecords('metrics', bytes)).toBe(wanted.length)
        for (const { type } of found) seen.add(type)
      }),
      { numRuns: 300 },
    )
    expect(seen.size).toBe(5)
  })

  test('read requests that follow each other as one', () => {
    const type = officialRequest('logs')
    fc.assert(
      fc.property(arbitraryMessage(type), arbitraryMessage(type), (one, other) => {
        const parts = [encodeOfficial('logs', one), encodeOfficial('logs', other)]
        expect(collectLogs(Buffer.concat(parts))).toEqual(parts.flatMap((part) => collectLogs(part)))
      }),
      { numRuns: 100 },
    )
  })

  test.each(signals)('refuse %s that are cut off with an offset within them, or read fewer', (signal) => {
    fc.assert(
      fc.property(arbitraryMessage(officialRequest(signal)), fc.nat(), (value, at) => {
        const bytes = encodeOfficial(signal, value)
        const cut = bytes.subarray(0, at % (bytes.length + 1))
        try {
          expect(countRecords(signal, cut)).toBeLessThanOrEqual(countRecords(signal, bytes))
        } catch (error) {
          expect(error).toBeInstanceOf(WireError)
          expect((error as WireError).offset).toBeLessThanOrEqual(cut.length)
        }
      }),
      { numRuns: 200 },
    )
  })

  test('can be used again for another request', () => {
    const logs = jsonToRequest(
      'logs',
      '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":9}]}]}]}',
    )
    const cursor = new LogCursor()
    for (let round = 0; round < 3; round++) {
      cursor.reset(logs)
      expect([cursor.next(), cursor.severityNumber, cursor.next()]).toEqual([true, 9, false])
    }
    expect(new PointCursor().reset(logs).next()).toBe(false)
  })
})

// The SDK's own classes, reduced to what its serializers read.
const resource = { attributes: { 'host.id': 'dpu-1', 'host.cores': 16 }, schemaUrl: 'https://example.org/1' }
const scope = { name: 'sdk', version: '2' }
const hrTime: [number, number] = [1_790_000_000, 123_456_789]
const start: [number, number] = [1_780_000_000, 1]
const traceId = '0af7651916cd43dd8448eb211c80319c'
const spanId = 'b7ad6b7169203331'

describe('what the OpenTelemetry SDK serializes', () => {
  const records = [
    {
      hrTime,
      hrTimeObserved: start,
      severityNumber: 17,
      severityText: 'ERROR',
      body: { reason: 'link down', ports: [0, 1], nested: { level: -3, ratio: 0.5 } },
      eventName: 'link.down',
      attributes: { 'network.interface.name': 'p0', up: false, tags: ['a', 'b'] },
      droppedAttributesCount: 0,
      spanContext: { traceId, spanId, traceFlags: 1 },
      resource,
      instrumentationScope: scope,
    },
  ]
  const log = {
    signal: 'logs',
    resource: resource.attributes,
    scope: 'sdk',
    time: 1_790_000_000_123_456_789n,
    observedTime: 1_780_000_000_000_000_001n,
    severityNumber: 17,
    severityText: 'ERROR',
    body: { reason: 'link down', ports: [0, 1], nested: { level: -3, ratio: 0.5 } },
    attributes: { 'network.interface.name': 'p0', up: false, tags: ['a', 'b'] },
    eventName: 'link.down',
    traceId,
    spanId,
  }

  test('log records are read, from protobuf and from JSON', () => {
    // The serializers ask for whole SDK objects; these have what is read of them.
    const given = records as unknown as Parameters<typeof ProtobufLogsSerializer.serializeRequest>[0]
    expect(collectLogs(ProtobufLogsSerializer.serializeRequest(given) ?? Buffer.of())).toEqual([log])
    const json = JsonLogsSerializer.serializeRequest(given) ?? Buffer.of()
    expect(collectLogs(jsonToRequest('logs', json))).toEqual([log])
  })

  const point = (value: unknown) => ({ startTime: start, endTime: hrTime, attributes: { port: 'p0' }, value })
  const metric = (name: string, dataPointType: number, value: unknown, valueType = ValueType.DOUBLE) => ({
    descriptor: { name, unit: '1', description: 'd', valueType },
    dataPointType,
    aggregationTemporality: 1,
    isMonotonic: true,
    dataPoints: [point(value)],
  })
  const buckets = { offset: -1, bucketCounts: [1, 2] }
  // DataPointType of the SDK: 0 histogram, 1 exponential histogram, 2 gauge, 3 sum.
  const metrics = [
    metric('level', 2, 21.5),
    metric('total', 3, 9_007_199_254_740_991, ValueType.INT),
    metric('sizes', 0, { count: 3, sum: 6, min: 1, max: 3, buckets: { counts: [1, 2], boundaries: [2] } }),
    metric('spread', 1, { count: 4, sum: 6, scale: 2, zeroCount: 1, positive: buckets, negative: buckets }),
  ]

  test('points of gauges, sums, histograms and exponential histograms are read', () => {
    const given = { resource, scopeMetrics: [{ scope, metrics }] } as unknown as Parameters<
      typeof ProtobufMetricsSerializer.serializeRequest
    >[0]
    const wanted = [
      { name: 'level', type: 'gauge', value: 21.5, temporality: 0 },
      { name: 'total', type: 'sum', value: 9_007_199_254_740_991n, temporality: 2, monotonic: true },
      { name: 'sizes', type: 'histogram', value: undefined, temporality: 2 },
      { name: 'spread', type: 'exponential_histogram', value: undefined, temporality: 2 },
    ].map((one) => ({
      ...one,
      start: 1_780_000_000_000_000_001n,
      time: 1_790_000_000_123_456_789n,
      attributes: { port: 'p0' },
      unit: '1',
    }))
    const bytes = ProtobufMetricsSerializer.serializeRequest(given) ?? Buffer.of()
    expect(collectPoints(bytes)).toMatchObject(wanted)
    const json = JsonMetricsSerializer.serializeRequest(given) ?? Buffer.of()
    expect(collectPoints(jsonToRequest('metrics', json))).toEqual(collectPoints(bytes))
  })

  test('spans are counted', () => {
    const span = {
      name: 'op',
      kind: SpanKind.CLIENT,
      spanContext: () => ({ traceId, spanId, traceFlags: 1 }),
      startTime: start,
      endTime: hrTime,
      status: { code: SpanStatusCode.OK },
      attributes: {},
      links: [],
      events: [],
      duration: [1, 0],
      ended: true,
      resource,
      instrumentationScope: scope,
      droppedAttributesCount: 0,
      droppedEventsCount: 0,
      droppedLinksCount: 0,
    }
    const given = [span, span] as unknown as Parameters<typeof ProtobufTraceSerializer.serializeRequest>[0]
    expect(countRecords('traces', ProtobufTraceSerializer.serializeRequest(given) ?? Buffer.of())).toBe(2)
  })
})
