// OTLP of every form, to the collector and to the aggregator, from the request to every answer: real programs,
// requests as others encode them (protobufjs with the official files, JSON by hand, grpc-js).
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { decodeOfficial, encodeOfficial, officialResponse } from '../plugins/protocols/otlp/official.ts'
import { askingOf } from '../support/asking.ts'
import type { Account } from '../support/asking.ts'
import { apiUrl, eventually } from '../support/programs.ts'
import { callGrpc, post } from '../support/senders.ts'
import { inBothWorlds, startInWorld } from '../support/world.ts'

const portOffset = 9_200
const collectorHttp = 4318 + portOffset
const collectorGrpc = 4317 + portOffset
const aggregatorHttp = 4328 + portOffset
const aggregatorGrpc = 4327 + portOffset
inBothWorlds('OTLP', (world) => {
  const { get, logged, queried, settled } = askingOf(portOffset, world.seconds)

  let own = ''
  let programs: Awaited<ReturnType<typeof startInWorld>>
  beforeAll(async () => {
    programs = await startInWorld(world, portOffset)
    own = await eventually('the own device is known', 60, async () => {
      const [device] = await get<{ device: string }[]>('/api/devices')
      return device?.device
    })
  })
  afterAll(() => programs.stop())

  const protobuf = { 'content-type': 'application/x-protobuf' }
  const nowNano = (): string => `${Date.now()}000000`
  const text = (value: string) => ({ stringValue: value })
  const resourceOf = (host: string) => ({ attributes: [{ key: 'host.id', value: text(host) }] })

  /** A request of one log record for each body, all of one host; without a host, of nobody. */
  const logsOf = (bodies: readonly string[], host?: string, more: object = {}) => ({
    resourceLogs: [
      {
        ...(host === undefined ? {} : { resource: resourceOf(host) }),
        scopeLogs: [
          {
            logRecords: bodies.map((body) => ({
              timeUnixNano: nowNano(),
              severityNumber: 9,
              body: text(body),
              ...more,
            })),
          },
        ],
      },
    ],
  })
  const metricsOf = (host: string, ...metrics: object[]) => ({
    resourceMetrics: [{ resource: resourceOf(host), scopeMetrics: [{ metrics }] }],
  })
  const gauge = (name: string, ...dataPoints: object[]) => ({
    name,
    unit: '1',
    gauge: { dataPoints: dataPoints.map((one) => ({ timeUnixNano: nowNano(), ...one })) },
  })
  const sendJson = (request: object, path = '/v1/logs', port = collectorHttp) =>
    post(port, path, JSON.stringify(request))
  const accountOf = async (device: string): Promise<Account> => {
    const { produced, stored, inFlight, dropped, unknown, balanced } = await settled(device)
    return { produced, stored, inFlight, dropped, unknown, balanced }
  }
  const whole = (count: number): Account => ({
    produced: count,
    stored: count,
    inFlight: 0,
    dropped: {},
    unknown: 0,
    balanced: true,
  })

  describe.each([
    { program: 'collector', http: collectorHttp, grpc: collectorGrpc },
    { program: 'aggregator', http: aggregatorHttp, grpc: aggregatorGrpc },
  ])('logs to the $program', ({ program, http, grpc }) => {
    test('come in as JSON and protobuf, bare, in gzip and in zstd, over HTTP and gRPC', async () => {
      const device = `ways-${program}`
      const ways = ['json', 'json-gzip', 'json-zstd', 'bare', 'gzip', 'zstd', 'grpc', 'grpc-gzip']
      const requests = ways.map((way) => logsOf([`way ${program} ${way}.`], device))
      const [json = '', jsonGzip = '', jsonZstd = ''] = requests.map((request) => JSON.stringify(request))
      const bytes = requests.map((request) => encodeOfficial('logs', request))
      const bytesOf = (way: string): Buffer => bytes[ways.indexOf(way)] ?? Buffer.alloc(0)
      const answers = [
        await post(http, '/v1/logs', json),
        await post(http, '/v1/logs', gzipSync(jsonGzip), { 'content-encoding': 'gzip' }),
        await post(http, '/v1/logs', zstdCompressSync(jsonZstd), { 'content-encoding': 'zstd' }),
        await post(http, '/v1/logs', bytesOf('bare'), protobuf),
        await post(http, '/v1/logs', gzipSync(bytesOf('gzip')), { ...protobuf, 'content-encoding': 'gzip' }),
        await post(http, '/v1/logs', zstdCompressSync(bytesOf('zstd')), {
          ...protobuf,
          'content-encoding': 'zstd',
        }),
      ]
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200])
      expect(await callGrpc(grpc, 'logs', bytesOf('grpc'))).toBeInstanceOf(Buffer)
      expect(await callGrpc(grpc, 'logs', bytesOf('grpc-gzip'), 'gzip')).toBeInstanceOf(Buffer)
      const records = await logged(`way ${program} `, 8, { device })
      expect(new Set(records.map(({ body }) => body))).toEqual(
        new Set(ways.map((way) => `way ${program} ${way}.`)),
      )
      expect(await accountOf(device)).toEqual(whole(8))
    })

    test('every kind of value is told exactly, 64 bits included', async () => {
      const device = `exact-${program}`
      const value = (key: string, of: object) => ({ key, value: of })
      const more = {
        observedTimeUnixNano: nowNano(),
        severityText: 'Information',
        traceId: '0af7651916cd43dd8448eb211c80319c',
        spanId: 'b7ad6b7169203331',
        attributes: [
          value('most', { intValue: '9223372036854775807' }),
          value('least', { intValue: '-9223372036854775808' }),
          value('beyond', { intValue: '9007199254740993' }),
          value('safe', { intValue: 9007199254740991 }),
          value('half', { doubleValue: 0.5 }),
          value('yes', { boolValue: true }),
          value('bytes', { bytesValue: 'AP8=' }),
          value('list', { arrayValue: { values: [{ intValue: '-9007199254740993' }, text('ü\u0000')] } }),
          value('map', { kvlistValue: { values: [value('deep', { intValue: '9007199254740993' })] } }),
          value('empty', {}),
        ],
      }
      await sendJson(logsOf([`exact ${program}`], device, more), '/v1/logs', http)
      const [record] = await logged(`exact ${program}`)
      expect(record).toMatchObject({ device, severityNumber: 9, severityText: 'Information', eventName: '' })
      expect(record?.attributes).toEqual({
        most: '9223372036854775807',
        least: '-9223372036854775808',
        beyond: '9007199254740993',
        safe: 9007199254740991,
        half: 0.5,
        yes: true,
        bytes: 'AP8=',
        list: ['-9007199254740993', 'ü\u0000'],
        map: { deep: '9007199254740993' },
        empty: '',
      })
      for (const [key, written] of [
        ['most', '9223372036854775807'],
        ['half', '0.5'],
        ['yes', 'true'],
        ['host.id', device],
      ]) {
        expect(await logged(`exact ${program}`, 1, { where: `${key}=${written}` })).toEqual([record])
      }
    })

    test('a record from 1970 is found by its arrival, and marked', async () => {
      await sendJson(
        logsOf([`old ${program}`], `old-${program}`, { timeUnixNano: '1500000001' }),
        '/v1/logs',
        http,
      )
      const [record] = await logged(`old ${program}`, 1, { since: '1m' })
      expect(record?.time).toBe('1970-01-01T00:00:01.500000001Z')
      expect(record?.attributes).toEqual({ 'dpu.clock.suspect': true })
    })

    test('several hosts in one request become devices of their own, whatever they are called', async () => {
      const hosts = [`MT-${program}.Example_1`, `x${program}`.repeat(20), '////', `plain-${program}`]
      const resourceLogs = [...hosts, undefined].flatMap(
        (host) => logsOf([`host ${program}`], host).resourceLogs,
      )
      await sendJson({ resourceLogs }, '/v1/logs', http)
      const records = await logged(`host ${program}`, 5)
      const devices = records.map(({ device }) => device)
      expect(devices).toContain(`mt-${program}-example-1`)
      expect(devices).toContain(`plain-${program}`)
      expect(devices).toContain(own)
      expect(devices.filter((device) => /^[0-9a-f]{32}$/.test(device))).toHaveLength(2)
      expect(await accountOf(`plain-${program}`)).toEqual(whole(1))
    })

    test('what is malformed is refused with a sentence, and nothing else is', async () => {
      const status = async (body: string | Uint8Array, headers = {}, path = '/v1/logs') => {
        const answer = await post(http, path, body, headers)
        return [answer.status, answer.body.toString()] as const
      }
      expect(await status('{"resourceLogs":[{"scopeLogs":')).toEqual([400, expect.stringMatching(/JSON/)])
      expect(await status('{"resourceLogs":7}')).toEqual([400, expect.stringMatching(/resourceLogs/)])
      expect(await status(Buffer.of(0x0a, 0xff, 0xff, 0x01), protobuf)).toEqual([
        400,
        expect.stringMatching(/byte|offset/),
      ])
      const bad = { ...protobuf, 'content-encoding': 'gzip' }
      expect((await status('no gzip', bad))[0]).toBe(400)
      expect((await status('x', { 'content-encoding': 'br' }))[0]).toBe(415)
      expect((await status('x', { 'content-type': 'text/plain' }))[0]).toBe(415)
      expect((await status('{}', {}, '/v1/nothing'))[0]).toBe(404)
      const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024))
      expect((await status(bomb, { ...protobuf, 'content-encoding': 'zstd' }))[0]).toBe(413)
      expect(await callGrpc(grpc, 'logs', Buffer.of(0x0a, 0xff, 0xff, 0x01))).toMatchObject({ code: 3 })
      await sendJson(logsOf([`after the bad ${program}`], `after-${program}`), '/v1/logs', http)
      await logged(`after the bad ${program}`)
    })

    test('a record nested too deep to be stored is counted, also while somebody looks on', async () => {
      const leaving = new AbortController()
      const tail = await fetch(`${apiUrl(portOffset)}/api/live`, { signal: leaving.signal })
      expect(tail.status).toBe(200)
      let deep: object = text('x')
      for (let depth = 0; depth < 40; depth++) deep = { arrayValue: { values: [deep] } }
      const device = `deep-${program}`
      const [before, after] = [`deep ${program} before`, `deep ${program} after`]
      const request = logsOf([before, '', after], device)
      Object.assign(request.resourceLogs[0]?.scopeLogs[0]?.logRecords[1] ?? {}, { body: deep })
      expect((await sendJson(request, '/v1/logs', http)).status).toBe(200)
      await logged(`deep ${program} `, 2)
      leaving.abort()
      expect(await accountOf(device)).toEqual({ ...whole(3), stored: 2, dropped: { rejected: 1 } })
    })

    test('a record that fits no batch is refused by partial success, the others of its request are stored', async () => {
      const device = `partial-${program}`
      const bodies = [`partial ${program} one`, 'x'.repeat(2_000_000), `partial ${program} two`]
      const { status, body } = await post(
        http,
        '/v1/logs',
        encodeOfficial('logs', logsOf(bodies, device)),
        protobuf,
      )
      expect(status).toBe(200)
      expect(officialResponse('logs').decode(body).toJSON()).toEqual({
        partialSuccess: { rejectedLogRecords: '1', errorMessage: expect.stringMatching(/bytes/) },
      })
      await logged(`partial ${program} `, 2)
      await eventually('the refused record is in the account', 30, async () => {
        const { dropped, balanced } = await settled()
        return balanced && (dropped.invalid ?? 0) >= (program === 'collector' ? 1 : 2)
      })
    })
  })

  describe.each([
    { program: 'collector', http: collectorHttp, grpc: collectorGrpc },
    { program: 'aggregator', http: aggregatorHttp, grpc: aggregatorGrpc },
  ])('metrics to the $program', ({ program, http, grpc }) => {
    const device = `metrics-${program}`
    const name = (what: string): string => `in.${program}.${what}`

    test('gauges and sums keep kind, unit, attributes and 64-bit integers', async () => {
      const point = (value: object) => ({ timeUnixNano: nowNano(), startTimeUnixNano: nowNano(), ...value })
      const request = metricsOf(
        device,
        gauge(name('gauge'), {
          asInt: '-9223372036854775808',
          attributes: [{ key: 'n', value: { intValue: '7' } }],
        }),
        gauge(name('double'), { asDouble: 36.6 }),
        {
          name: name('counter'),
          unit: 'By',
          sum: {
            aggregationTemporality: 2,
            isMonotonic: true,
            dataPoints: [point({ asInt: '9223372036854775807' })],
          },
        },
        { name: name('sum'), sum: { aggregationTemporality: 1, dataPoints: [point({ asDouble: -2.5 })] } },
      )
      expect(await callGrpc(grpc, 'metrics', encodeOfficial('metrics', request), 'gzip')).toBeInstanceOf(
        Buffer,
      )
      const [least] = await queried(name('gauge'), 1)
      expect(least).toMatchObject({
        metric: name('gauge'),
        unit: '1',
        kind: 'gauge',
        device,
        attributes: { n: 7 },
      })
      expect(least?.points[0]).toEqual([expect.stringMatching(/\.\d{9}Z$/), '-9223372036854775808'])
      const [counter] = await queried(name('counter'), 1)
      expect(counter).toMatchObject({ unit: 'By', kind: 'counter' })
      expect(counter?.points[0]?.[1]).toBe('9223372036854775807')
      expect((await queried(name('double'), 1))[0]?.points[0]?.[1]).toBe(36.6)
      expect(await queried(name('sum'), 1)).toMatchObject([
        { kind: 'sum', points: [[expect.anything(), -2.5]] },
      ])
    })

    test('histograms of both kinds and summaries are stored, listed and counted', async () => {
      const point = { timeUnixNano: nowNano(), startTimeUnixNano: nowNano(), count: '4', sum: 10 }
      const request = metricsOf(
        device,
        {
          name: name('histogram'),
          unit: 's',
          histogram: {
            aggregationTemporality: 2,
            dataPoints: [
              { ...point, bucketCounts: ['1', '2', '1'], explicitBounds: [1, 5], min: 0.5, max: 6 },
            ],
          },
        },
        {
          name: name('exponential'),
          exponentialHistogram: {
            aggregationTemporality: 2,
            dataPoints: [
              { ...point, scale: -2, zeroCount: '1', positive: { offset: -3, bucketCounts: ['1', '2'] } },
            ],
          },
        },
        {
          name: name('summary'),
          summary: { dataPoints: [{ ...point, quantileValues: [{ quantile: 0.5, value: 2 }] }] },
        },
      )
      await sendJson(request, '/v1/metrics', http)
      for (const [what, kind] of [
        ['histogram', 'histogram'],
        ['exponential', 'exponential_histogram'],
        ['summary', 'summary'],
      ] as const) {
        const [series] = await queried(name(what), 1)
        expect(series).toMatchObject({ kind, device, points: [[expect.anything(), 2.5]] })
      }
      const listed = await get<{ name: string; kind: string; unit: string; series: number }[]>(
        '/api/metrics',
        {
          device,
        },
      )
      expect(listed.map(({ name: one }) => one)).toContain(name('exponential'))
      expect(listed.find((one) => one.name === name('histogram'))).toMatchObject({ unit: 's', series: 1 })
      expect(await accountOf(device)).toEqual(whole(7))
    })

    test('what is no number is counted as rejected, and the rest of the request is stored', async () => {
      const nan = `nan-${program}`
      const request = metricsOf(
        nan,
        gauge(name('nan'), { asDouble: 'NaN' }, { asDouble: 1.5 }, { asDouble: '-Infinity' }, {}),
      )
      await sendJson(request, '/v1/metrics', http)
      expect((await queried(name('nan'), 1))[0]?.points[0]?.[1]).toBe(1.5)
      expect(await accountOf(nan)).toEqual({ ...whole(4), stored: 1, dropped: { rejected: 3 } })
    })

    test('a point from 1970 is found by its arrival', async () => {
      await sendJson(
        metricsOf(`early-${program}`, gauge(name('early'), { asInt: '3', timeUnixNano: '86400000000000' })),
        '/v1/metrics',
        http,
      )
      const [series] = await queried(name('early'), 1, { since: '1m' })
      expect(series?.points[0]?.[1]).toBe(3)
    })

    test('traces are passed on and counted as forwarded, outside the sum', async () => {
      const span = {
        traceId: '0af7651916cd43dd8448eb211c80319c',
        spanId: 'b7ad6b7169203331',
        name: 'boot',
        startTimeUnixNano: nowNano(),
        endTimeUnixNano: nowNano(),
      }
      const traced = `traced-${program}`
      const request = {
        resourceSpans: [{ resource: resourceOf(traced), scopeSpans: [{ spans: [span, span] }] }],
      }
      const bytes = encodeOfficial('traces', request)
      expect(decodeOfficial('traces', bytes).resourceSpans).toHaveLength(1)
      expect(await callGrpc(grpc, 'traces', bytes)).toBeInstanceOf(Buffer)
      expect((await post(http, '/v1/traces', bytes, protobuf)).status).toBe(200)
      const account = await eventually('spans are forwarded', 30, async () => {
        const report = await settled(traced)
        return report.forwarded === 4 && report
      })
      expect(account).toMatchObject({ produced: 0, stored: 0, dropped: {}, balanced: true })
    })
  })

  test('the ledger of everything balances, and nothing is unknown or lost', async () => {
    const { balanced, unknown, dropped, streams } = await settled()
    expect({ balanced, unknown, dropped }).toEqual({
      balanced: true,
      unknown: 0,
      dropped: { invalid: 2, rejected: 8 },
    })
    expect(streams.filter(({ missing }) => missing.length > 0)).toEqual([])
  })
})
