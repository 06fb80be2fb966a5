// What the encoders write, protobufjs with the official files reads: log records and readings of random data.
import { describe, expect, test } from 'vitest'
import * as fc from 'fast-check'
import { batchLimits } from '../../../plugins/contract/batch.ts'
import { LogsEncoder } from '../../../plugins/contract/encoder.ts'
import { Readings } from '../../../plugins/contract/readings.ts'
import { classOfMetric, classes } from '../../../plugins/contract/signal.ts'
import { encodeKey, encodeResource } from '../../../plugins/contract/values.ts'
import type { AttributeValue, Attributes } from '../../../plugins/contract/values.ts'
import { decodeOfficial } from '../protocols/otlp/official.ts'
import type { Plain } from '../protocols/otlp/official.ts'

const text = fc.string({ unit: 'grapheme', maxLength: 100 })
const scalar: fc.Arbitrary<AttributeValue> = fc.oneof(
  text,
  fc.boolean(),
  fc.maxSafeInteger(),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.double(),
  fc.uint8Array({ maxLength: 30 }),
)
const { value: anyValue } = fc.letrec<{ value: AttributeValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    scalar,
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(text, tie('value'), { maxKeys: 3, noNullPrototype: true }),
  ),
}))
const attributes: fc.Arbitrary<Attributes> = fc.dictionary(text, anyValue, {
  maxKeys: 4,
  noNullPrototype: true,
})

/** protobufjs leaves out what is at its default. */
const given = (value: Plain): Plain =>
  Object.fromEntries(Object.entries(value).filter(([, item]) => item !== '' && item !== '0' && item !== 0))

/** What protobufjs makes of a value. */
function expected(value: AttributeValue): Plain {
  if (typeof value === 'string') return { stringValue: value }
  if (typeof value === 'boolean') return { boolValue: value }
  if (typeof value === 'bigint') return { intValue: String(value) }
  if (typeof value === 'number') {
    const whole = Number.isSafeInteger(value) && !Object.is(value, -0)
    return whole ? { intValue: String(value) } : { doubleValue: value }
  }
  if (value instanceof Uint8Array) return { bytesValue: Buffer.from(value).toString('base64') }
  const list = Array.isArray(value) ? (value as AttributeValue[]) : undefined
  if (list) return { arrayValue: list.length > 0 ? { values: list.map(expected) } : {} }
  const pairs = keyValues(value as Attributes)
  return { kvlistValue: pairs.length > 0 ? { values: pairs } : {} }
}
const keyValues = (of: Attributes): Plain[] =>
  Object.entries(of).map(([key, value]) => given({ key, value: expected(value) }))
/** protobufjs leaves empty lists out. */
const some = (of: Attributes): Plain => (Object.keys(of).length > 0 ? { attributes: keyValues(of) } : {})

const instant = fc.record({ seconds: fc.nat({ max: 4_000_000_000 }), nanos: fc.nat({ max: 999_999_999 }) })
const nano = ({ seconds, nanos }: { seconds: number; nanos: number }): bigint =>
  BigInt(seconds) * 1_000_000_000n + BigInt(nanos)

const logs = fc.record({
  time: instant,
  observed: instant,
  severity: fc.nat({ max: 24 }),
  body: anyValue,
  attributes,
  raw: text,
  eventName: text,
})

describe('LogsEncoder', () => {
  test('writes what protobufjs reads as the same records', () => {
    fc.assert(
      fc.property(attributes, fc.array(logs, { minLength: 1, maxLength: 10 }), (resource, records) => {
        const encoder = new LogsEncoder({ name: 'test', version: '1' }, 16)
        encoder.begin(encodeResource(resource))
        for (const record of records) {
          const { time, observed } = record
          encoder.record(time.seconds, time.nanos, observed.seconds, observed.nanos, record.severity)
          encoder.severityText('sev')
          encoder.body(record.body)
          for (const [key, value] of Object.entries(record.attributes)) encoder.attribute(key, value)
          const source = Buffer.from(`<${record.raw}>`)
          encoder.attributeBytes(encodeKey('raw'), source, 1, source.length - 1)
          encoder.eventName(record.eventName)
          encoder.end()
        }
        const made = encoder.finish('d', 'log')
        const times = records.map(({ time }) => nano(time)).toSorted((a, b) => (a < b ? -1 : 1))
        expect(made).toMatchObject({
          count: records.length,
          from: times[0],
          to: times.at(-1),
          signal: 'logs',
        })
        expect(decodeOfficial('logs', made.bytes)).toEqual({
          resourceLogs: [
            {
              resource: some(resource),
              scopeLogs: [
                {
                  scope: { name: 'test', version: '1' },
                  logRecords: records.map((record) =>
                    given({
                      timeUnixNano: String(nano(record.time)),
                      observedTimeUnixNano: String(nano(record.observed)),
                      severityNumber: record.severity,
                      severityText: 'sev',
                      body: expected(record.body),
                      attributes: [
                        ...keyValues(record.attributes),
                        { key: 'raw', value: { stringValue: record.raw } },
                      ],
                      eventName: record.eventName,
                    }),
                  ),
                },
              ],
            },
          ],
        })
      }),
      { numRuns: 100 },
    )
  })

  test('a body given as bytes is that text', () => {
    const encoder = new LogsEncoder({ name: 'test' })
    encoder.begin(encodeResource({}))
    encoder.record(1, 2, 3, 4, 0)
    encoder.bodyBytes(Buffer.from('xxünïxx'), 2, 7)
    encoder.end()
    const { bytes } = encoder.finish('d', 'log')
    expect(JSON.stringify(decodeOfficial('logs', bytes))).toContain('"body":{"stringValue":"ünï"}')
  })
})

const declared = {
  'test.level': { kind: 'gauge', unit: 'Cel' },
  'test.total': { kind: 'counter', unit: 'By' },
  'test.used': { kind: 'updowncounter', unit: '{slot}' },
  'hw.errors': { kind: 'counter', unit: '{error}' },
} as const
const names = Object.keys(declared) as (keyof typeof declared)[]

describe('Readings', () => {
  test('are points that protobufjs reads as the same, sorted into classes', () => {
    const value = fc.oneof(fc.double(), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }))
    const points = fc.array(fc.tuple(fc.constantFrom(...names), value, attributes), {
      minLength: 1,
      maxLength: 30,
    })
    fc.assert(
      fc.property(points, (readings) => {
        const made = new Readings({
          scope: { name: 'test' },
          declared,
          device: 'd',
          resource: encodeResource({ 'host.id': 'd' }),
          timeUnixNano: 1_790_000_000_000_000_001n,
          startUnixNano: 1_780_000_000_000_000_002n,
        })
        for (const [name, reading, of] of readings) made.add(name, reading, of)
        const found = made.finish().flatMap((records) => {
          const metrics = scopeOf(decodeOfficial('metrics', records.bytes)).metrics as Plain[]
          return metrics.flatMap((metric) =>
            pointsOf(metric).map((point) => [records.class, metric.name, point]),
          )
        })
        const wanted = readings.map(([name, reading, of]) => [
          classOfMetric(name),
          name,
          pointOf(name, reading, of),
        ])
        const sorted = (all: unknown[][]): unknown[][] =>
          classesOf(all).flatMap((one) => all.filter(([name]) => name === one))
        expect(sorted(found)).toEqual(sorted(wanted))
      }),
      { numRuns: 100 },
    )
  })

  test('are cut where a batch is full', () => {
    const made = new Readings({
      scope: { name: 'test' },
      declared,
      device: 'd',
      resource: encodeResource({}),
      timeUnixNano: 1n,
    })
    for (let index = 0; index < 1200; index++) made.add('test.level', index)
    expect(made.finish().map(({ count }) => count)).toEqual([batchLimits.records, batchLimits.records, 200])
  })

  test('of a metric that was not declared are a bug of the source', () => {
    const made = new Readings({
      scope: { name: 'test' },
      declared,
      device: 'd',
      resource: encodeResource({}),
      timeUnixNano: 1n,
    })
    expect(() => made.add('test.other', 1)).toThrow('test.other is not declared')
  })
})

const classesOf = (all: unknown[][]): unknown[] => classes.filter((one) => all.some(([name]) => name === one))

function scopeOf(request: Plain): Plain {
  const [resource] = request.resourceMetrics as Plain[]
  const [scope = {}] = (resource ?? {}).scopeMetrics as Plain[]
  return scope
}

function pointsOf(metric: Plain): Plain[] {
  const data = (metric.gauge ?? metric.sum) as Plain
  const { dataPoints, ...rest } = data
  const kind = metric.gauge ? 'gauge' : 'sum'
  return (dataPoints as Plain[]).map((point) => ({ kind, ...rest, ...point, unit: metric.unit }))
}

function pointOf(name: keyof typeof declared, value: number | bigint, of: Attributes): Plain {
  const { kind, unit } = declared[name]
  return {
    kind: kind === 'gauge' ? 'gauge' : 'sum',
    unit,
    timeUnixNano: '1790000000000000001',
    ...(kind === 'gauge' ? {} : { aggregationTemporality: 2, startTimeUnixNano: '1780000000000000002' }),
    ...(kind === 'counter' ? { isMonotonic: true } : {}),
    ...(typeof value === 'bigint' ? { asInt: String(value) } : { asDouble: value }),
    ...some(of),
  }
}
