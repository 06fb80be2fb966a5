// Dividing foreign requests: nothing lost, nothing twice, order kept, each part a request of one device and class.
import { describe, expect, test } from 'vitest'
import * as fc from 'fast-check'
import type protobuf from 'protobufjs'
import { encodeHeader, isDeviceId, sealBatch } from '../../../../plugins/contract/batch.ts'
import type { Header, Records } from '../../../../plugins/contract/batch.ts'
import { countRecords } from '../../../../plugins/contract/cursor.ts'
import { PermanentError } from '../../../../plugins/contract/errors.ts'
import { classOfLog, classOfMetric, signals } from '../../../../plugins/contract/signal.ts'
import type { Signal } from '../../../../plugins/contract/signal.ts'
import { deviceFromHostId } from '../../../../plugins/protocols/otlp/device.ts'
import { jsonToRequest, requestToJson } from '../../../../plugins/protocols/otlp/json.ts'
import { maxPartBytes } from '../../../../plugins/protocols/otlp/parts.ts'
import { believedHeader, splitRequest } from '../../../../plugins/protocols/otlp/split.ts'
import {
  arbitraryMessage,
  decodeOfficial,
  encodeOfficial,
  officialRequest,
  withUnknownFields,
} from './official.ts'
import type { Plain } from './official.ts'

const own = { device: 'the-collector' }
const names = {
  logs: ['resourceLogs', 'scopeLogs', 'logRecords'],
  metrics: ['resourceMetrics', 'scopeMetrics', 'metrics'],
  traces: ['resourceSpans', 'scopeSpans', 'spans'],
} as const
const dataNames = ['gauge', 'sum', 'histogram', 'exponentialHistogram', 'summary']

interface Flat {
  device: string
  class: string
  record: unknown
}

const without = (value: Plain, ...keys: string[]): Plain =>
  Object.fromEntries(Object.entries(value).filter(([key]) => !keys.includes(key)))
const list = (value: unknown): Plain[] => (value ?? []) as Plain[]

function deviceOf(resource: Plain): string {
  const attributes = list((resource.resource as Plain | undefined)?.attributes)
  for (const { key, value } of attributes) {
    const hostId = (value as Plain | undefined)?.stringValue ?? (value as Plain | undefined)?.intValue
    if (key === 'host.id' && typeof hostId === 'string' && hostId !== '') return deviceFromHostId(hostId)
  }
  return own.device
}

/** Every record with all that stands around it, in order: the model of what a request says. */
function flatten(signal: Signal, request: Plain): Flat[] {
  const [resources, scopes, items] = names[signal]
  const flat: Flat[] = []
  for (const resource of list(request[resources])) {
    const device = deviceOf(resource)
    for (const scope of list(resource[scopes])) {
      const around = [without(request, resources), without(resource, scopes), without(scope, items)]
      for (const item of list(scope[items])) {
        if (signal !== 'metrics') {
          const name =
            signal === 'traces'
              ? 'log'
              : classOfLog(Number(item.severityNumber ?? 0), Boolean(item.eventName))
          flat.push({ device, class: name, record: [...around, item] })
          continue
        }
        const kind = dataNames.find((name) => item[name] !== undefined)
        const data = kind === undefined ? {} : (item[kind] as Plain)
        for (const point of list(data.dataPoints)) {
          const shell = [...around, without(item, kind ?? ''), kind, without(data, 'dataPoints')]
          flat.push({ device, class: classOfMetric(item.name as string), record: [...shell, point] })
        }
      }
    }
  }
  return flat
}

const byStream = (flat: readonly Flat[]): Map<string, unknown[]> =>
  Map.groupBy(flat, (one) => `${one.device} ${one.class}`) as Map<string, unknown[]>

/** Host ids and metric names that meet each other, so that requests have several parts. */
function spiced(signal: Signal, type: protobuf.Type): fc.Arbitrary<Plain> {
  const hosts = fc.constantFrom(undefined, '', 'dpu-1', 'DPU_1', 'fe80::1', 'x'.repeat(70), '主机')
  const metricNames = fc.constantFrom('hw.errors', 'hw.temperature', 'system.cpu.time', 'x.dropped')
  return fc
    .tuple(arbitraryMessage(type), fc.array(hosts, { minLength: 4 }), fc.array(metricNames, { minLength: 4 }))
    .map(([request, ids, metrics]) => {
      const [resources, scopes, items] = names[signal]
      for (const [index, resource] of list(request[resources]).entries()) {
        const id = ids[index % ids.length]
        if (id !== undefined) {
          resource.resource = { attributes: [{ key: 'host.id', value: { stringValue: id } }] }
        }
        if (signal !== 'metrics') continue
        for (const scope of list(resource[scopes])) {
          for (const [at, metric] of list(scope[items]).entries()) metric.name = metrics[at % metrics.length]
        }
      }
      return request
    })
}

const refusal = (run: () => unknown): string => {
  try {
    run()
  } catch (error) {
    if (error instanceof PermanentError) return `${error.code} ${error.message}`
    throw error
  }
  return 'accepted'
}

describe('splitRequest', () => {
  test.each(signals)('neither loses nor repeats nor reorders %s, unknown fields included', (signal) => {
    const type = withUnknownFields(signal)
    fc.assert(
      fc.property(spiced(signal, type), (value) => {
        const bytes = Buffer.from(type.encode(type.fromObject(value)).finish())
        const read = (part: Uint8Array): Plain =>
          type.toObject(type.decode(part), { longs: String, bytes: String, enums: Number })
        const { records, rejected } = splitRequest(signal, bytes, own)
        expect(rejected).toEqual([])
        const parts = records.flatMap((part) => {
          const flat = flatten(signal, read(part.bytes))
          expect(flat.length).toBe(part.count)
          return flat.map(({ record }) => ({ device: part.device, class: part.class, record }))
        })
        expect(byStream(parts)).toEqual(byStream(flatten(signal, read(bytes))))
      }),
      { numRuns: 200 },
    )
  })

  const log = (fields: Plain): Plain => ({ body: { stringValue: 'x' }, ...fields })
  const logs = (host: string | undefined, records: Plain[]): Plain => ({
    resource: {
      attributes: host === undefined ? [] : [{ key: 'host.id', value: { stringValue: host } }],
    },
    scopeLogs: [{ scope: { name: 'test' }, logRecords: records }],
  })
  const request = (...resourceLogs: Plain[]): Buffer => encodeOfficial('logs', { resourceLogs })
  const summary = (records: readonly Records[]): unknown[] =>
    records.map((part) => [part.device, part.class, part.count])

  test('a request of one device and class passes as the very same bytes', () => {
    const bytes = request(logs('dpu-1', [log({ timeUnixNano: '5' }), log({ timeUnixNano: '3' })]))
    const { records } = splitRequest('logs', bytes, own)
    expect(records).toMatchObject([
      { device: 'dpu-1', signal: 'logs', class: 'log', count: 2, from: 3n, to: 5n },
    ])
    expect(records[0]?.bytes).toBe(bytes)
  })

  test('records without a time take the time of observation, else now', () => {
    const before = BigInt(Date.now()) * 1_000_000n
    const observed = request(logs('a', [log({ observedTimeUnixNano: '18446744073709551615' })]))
    expect(splitRequest('logs', observed, own).records[0]).toMatchObject({ from: 2n ** 64n - 1n })
    const [part] = splitRequest('logs', request(logs('a', [log({})])), own).records
    expect(part?.from).toBeGreaterThanOrEqual(before)
    expect(part?.to).toBe(part?.from)
  })

  test('events, errors and other lines go to their classes, hosts to their devices', () => {
    const bytes = request(
      logs('DPU:1', [log({ severityNumber: 17 }), log({ eventName: 'boot' }), log({ severityNumber: 16 })]),
      logs(undefined, [log({}), log({ severityNumber: 24 })]),
    )
    expect(summary(splitRequest('logs', bytes, own).records)).toEqual([
      ['dpu-1', 'log_error', 1],
      ['dpu-1', 'event', 1],
      ['dpu-1', 'log', 1],
      ['the-collector', 'log', 1],
      ['the-collector', 'log_error', 1],
    ])
  })

  test('traces travel as log, by their start', () => {
    const bytes = encodeOfficial('traces', {
      resourceSpans: [{ scopeSpans: [{ spans: [{ startTimeUnixNano: '9' }, { startTimeUnixNano: '7' }] }] }],
    })
    expect(splitRequest('traces', bytes, own).records).toMatchObject([
      { class: 'log', count: 2, from: 7n, to: 9n },
    ])
  })

  test('more records than a batch holds are cut in order', () => {
    const many = Array.from({ length: 1201 }, (_, index) => log({ timeUnixNano: String(index + 1) }))
    const { records } = splitRequest('logs', request(logs('a', many)), own)
    expect(records.map(({ count, from, to }) => [count, from, to])).toEqual([
      [500, 1n, 500n],
      [500, 501n, 1000n],
      [201, 1001n, 1201n],
    ])
  })

  test('large records are cut by size; one that fits no batch is rejected alone, with its size', () => {
    const text = (size: number): Plain => log({ body: { stringValue: 'x'.repeat(size) } })
    const bytes = request(logs('a', [text(400_000), text(400_000), text(950_000), text(890_000), log({})]))
    const { records, rejected } = splitRequest('logs', bytes, own)
    expect(records.map(({ count }) => count)).toEqual([1, 1, 1, 1])
    for (const part of records) expect(part.bytes.length).toBeLessThanOrEqual(maxPartBytes)
    expect(rejected).toEqual([
      { class: 'log', count: 1, reason: expect.stringMatching(/950\d\d\d bytes/) as string },
    ])
  })

  test('a Resource too large to be copied into every part rejects its records, not those of others', () => {
    const large = logs('big', [log({}), log({})])
    const attributes = [{ key: 'k', value: { stringValue: 'x'.repeat(70_000) } }]
    const bytes = request({ ...large, resource: { attributes } }, logs('small', [log({})]))
    const { records, rejected } = splitRequest('logs', bytes, own)
    expect(summary(records)).toEqual([['small', 'log', 1]])
    expect(rejected).toMatchObject([{ count: 2 }])
  })

  test('a header that nobody believed is taken off', () => {
    const inner = request(logs('a', [log({})]))
    const { records } = splitRequest('logs', sealBatch(header(7), 'logs', [inner]).bytes, own)
    expect(Buffer.compare(records[0]?.bytes ?? Buffer.of(), inner)).toBe(0)
  })

  test('a request without records makes none', () => {
    expect(splitRequest('logs', new Uint8Array(0), own)).toEqual({ records: [], rejected: [] })
    expect(
      splitRequest('metrics', jsonToRequest('metrics', '{"resourceMetrics":[{}]}'), own).records,
    ).toEqual([])
  })

  test.each(signals)(
    '%s cut off anywhere, or with a byte changed, are refused with an offset or read',
    (signal) => {
      fc.assert(
        fc.property(arbitraryMessage(officialRequest(signal)), fc.nat(), fc.nat(255), (value, at, byte) => {
          const bytes = encodeOfficial(signal, value)
          if (bytes.length === 0) return
          const damaged = Buffer.from(bytes)
          damaged[at % bytes.length] = byte
          for (const input of [bytes.subarray(0, at % bytes.length), damaged]) {
            const said = refusal(() => splitRequest(signal, input, own))
            if (said !== 'accepted') expect(said).toMatch(/^INPUT_INVALID malformed .* at byte \d+$/)
            // Whatever is let in can be read to its last leaf, and by protobufjs alike.
            else expect(refusal(() => requestToJson(signal, input))).toBe('accepted')
          }
        }),
        { numRuns: 300 },
      )
    },
  )

  test('an attribute that is cut off inside a whole record is refused with its offset', () => {
    // LogRecord { attributes: KeyValue { key: "a", value: AnyValue of 9 bytes in a message with 1 left } }
    const record = [0x32, 6, 0x0a, 1, 0x61, 0x12, 9, 0]
    const bytes = Buffer.from([0x0a, 12, 0x12, 10, 0x12, 8, ...record])
    expect(refusal(() => splitRequest('logs', bytes, own))).toBe(
      'INPUT_INVALID malformed logs request of 14 bytes: field of 9 bytes in a message with 1 left at byte 12',
    )
  })

  test.each([
    ['a last count that is cut off', [1, 0x80], 'truncated varint at byte 15'],
    [
      'a count that never ends',
      Array.from({ length: 12 }, () => 0x80),
      'varint of more than ten bytes at byte 14',
    ],
  ])('buckets with %s are refused with its offset', (_, counts, reason) => {
    // Metric { exponentialHistogram: { dataPoints: { positive: Buckets { bucketCounts } } } }
    let message: number[] = counts
    for (const key of [0x12, 0x42, 0x0a, 0x52, 0x12, 0x12, 0x0a]) message = [key, message.length, ...message]
    expect(refusal(() => splitRequest('metrics', Buffer.from(message), own))).toContain(reason)
  })

  test('a metric with two sets of points is refused, since only one of them would be read', () => {
    const gauge = [0x2a, 2, 0x0a, 0]
    const bytes = Buffer.from([0x0a, 12, 0x12, 10, 0x12, 8, ...gauge, ...gauge])
    expect(refusal(() => splitRequest('metrics', bytes, own))).toContain('Metric with gauge twice at byte 10')
  })

  test('requests that follow each other are one request', () => {
    const first = request(logs('a', [log({ timeUnixNano: '1' })]))
    const second = request(logs('a', [log({ timeUnixNano: '2' })]))
    expect(splitRequest('logs', Buffer.concat([first, second]), own).records).toMatchObject([
      { device: 'a', count: 2, from: 1n, to: 2n },
    ])
    const merged = decodeOfficial('logs', Buffer.concat([first, second]))
    expect(list(merged.resourceLogs).length).toBe(2)
  })
})

const header = (count: number): Header => ({
  collector: 'c-1',
  device: 'd-1',
  session: '01JCS3X0000000000000000000',
  class: 'log',
  seq: 3,
  count,
  from: 1n,
  to: 2n,
  produced: 10,
  dropped: { overflow: 2 },
})

describe('believedHeader', () => {
  const three = jsonToRequest('logs', '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{},{},{}]}]}]}')

  test('is the header of a batch, in front of the records or behind them', () => {
    expect(countRecords('logs', three)).toBe(3)
    expect(believedHeader('logs', sealBatch(header(3), 'logs', [three]).bytes)).toEqual(header(3))
    expect(believedHeader('logs', Buffer.concat([three, encodeHeader(header(3))]))).toEqual(header(3))
  })

  test('is none where records were added, removed or merged, or where it is damaged', () => {
    const batch = sealBatch(header(3), 'logs', [three]).bytes
    expect(believedHeader('logs', three)).toBeUndefined()
    expect(believedHeader('logs', sealBatch(header(2), 'logs', [three]).bytes)).toBeUndefined()
    expect(believedHeader('logs', Buffer.concat([batch, three]))).toBeUndefined()
    expect(believedHeader('logs', Buffer.concat([batch, batch]))).toBeUndefined()
    expect(believedHeader('logs', batch.subarray(0, batch.length - 1))).toBeUndefined()
    const damaged = Buffer.from(batch)
    damaged[6] = 0x21 // the first character of the collector's id becomes "!"
    expect(believedHeader('logs', damaged)).toBeUndefined()
  })
})

describe('deviceFromHostId', () => {
  test('makes a device id of whatever a sender says', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (id) => isDeviceId(deviceFromHostId(id))))
    expect(deviceFromHostId('MT2334X00123')).toBe('mt2334x00123')
    expect(deviceFromHostId('4c4c4544-0042.Local')).toBe('4c4c4544-0042-local')
  })

  test('tells apart hosts whose names have nothing that an id may have, or are long', () => {
    expect(deviceFromHostId('主机')).not.toBe(deviceFromHostId('电脑'))
    expect(deviceFromHostId(`${'a'.repeat(64)}1`)).not.toBe(deviceFromHostId(`${'a'.repeat(64)}2`))
    expect(deviceFromHostId('a'.repeat(64))).toBe('a'.repeat(64))
  })
})
