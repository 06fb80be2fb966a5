import { request } from 'node:http'
import { connect } from 'node:net'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { ulid } from 'ulid'
import { describe, expect, test, vi } from 'vitest'
import { startApi } from '../../collector/api.ts'
import { systemClock } from '../../collector/clock.ts'
import { parseConfig } from '../../collector/config.ts'
import { Logger } from '../../collector/logger.ts'
import { Runtime } from '../../collector/runtime.ts'
import type { AttributeValue, Emit } from '../../plugins/contract/index.ts'
import { sampleLogs, samplePoints } from '../support/records.ts'
import { driven, memory } from './fixtures.ts'
import { fresh, recordsOf } from './records.ts'

const yaml = `
sources: { a: { type: driven } }
exporters: { x: { type: memory } }
pipelines: { p: { sources: [a], exporters: [x] } }
`

async function started() {
  const logger = new Logger({ write: () => undefined })
  const identity = {
    collector: 'dpu-1',
    device: 'dpu-1',
    instance: ulid(),
    version: '0',
    since: '',
    hostname: 'h',
    arch: 'arm64',
  }
  const runtime = new Runtime({
    identity: { ...identity, labels: {}, identity: 'test', portOffset: 0 },
    log: undefined,
    clock: systemClock,
    logger,
    disk: 0,
  })
  const emits = new Map<string, Emit>()
  const { config } = await parseConfig(yaml, '/nowhere', [driven(emits), memory(new Map())])
  if (!config) throw new Error('no configuration')
  const addresses = [
    { host: '127.0.0.1', port: 0 },
    { host: '::1', port: 0 },
  ]
  const values = { series: 100, expireMs: 60_000 }
  const api = await startApi({ runtime, addresses, logger: logger.for('api'), values })
  return {
    runtime,
    emits,
    api,
    start: () => runtime.apply(config),
    ask: (path: string, headers: Record<string, string> = {}, method = 'GET') =>
      ask(`${api.url}${path}`, headers, method),
    async [Symbol.asyncDispose]() {
      await api[Symbol.asyncDispose]()
      await runtime.stop()
    },
  }
}

async function ask(url: string, headers: Record<string, string>, method: string) {
  const sent = request(url, { headers, method, agent: false })
  sent.end()
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  return { status: response.statusCode, body: await text(response) }
}

describe('the API of the collector', () => {
  test('tells health, its side of the ledger, and figures for Prometheus', async () => {
    await using it = await started()
    await it.start()
    await it.emits.get('a')?.(recordsOf(fresh(3)))
    expect(JSON.parse((await it.ask('/api/health')).body)).toMatchObject({
      ready: true,
      parts: [{ name: 'a' }, { name: 'x' }],
    })
    expect(JSON.parse((await it.ask('/api/ledger')).body)).toMatchObject({
      produced: 3,
      stored: 3,
      inFlight: 0,
      dropped: {},
      balanced: true,
      streams: [{ device: 'dpu-1', class: 'log', lastSeq: 1 }],
    })
    expect((await it.ask('/metrics')).body).toMatch(
      /^dpulse_collector_records_out_total\{dpulse_component="a",.*\} 3$/m,
    )
    expect(JSON.parse((await it.ask('/api/top')).body)).toMatchObject({
      buffers: [{ id: 'x', memoryBytes: 0 }],
    })
  })

  test('is not ready before its first configuration is in force, though no source is missing then', async () => {
    await using it = await started()
    const before = await it.ask('/api/health')
    expect([before.status, JSON.parse(before.body)]).toEqual([503, { ready: false, parts: [] }])
    await it.start()
    await vi.waitFor(async () => expect((await it.ask('/api/health')).status).toBe(200), 30_000)
  })

  test('refuses foreign names and origins, methods that change, and paths that are not there', async () => {
    await using it = await started()
    await it.start()
    const { port } = new URL(it.api.url)
    expect((await it.ask('/api/health', { Host: 'evil.example' })).status).toBe(403)
    expect((await it.ask('/api/health', { Origin: 'http://evil.example' })).status).toBe(403)
    expect((await it.ask('/api/health', { Host: `localhost:${port}` })).status).toBe(200)
    expect((await it.ask('/api/health', {}, 'POST')).status).toBe(405)
    expect((await it.ask('/api/nothing')).status).toBe(404)
    expect((await it.ask('/api/live?text=a&text=b')).status).toBe(400)
  })

  test('tells the newest log records, filtered as the aggregator does it, oldest first', async () => {
    await using it = await started()
    await it.start()
    await it.emits.get('a')?.(
      sampleLogs([
        { body: 'Link down', severity: 17, attributes: { port: 'p0' } },
        { body: 'link up', severity: 9, attributes: { port: 9_007_199_254_740_993n } },
      ]),
    )
    await it.emits.get('a')?.(sampleLogs([{ body: 'other link', severity: 9 }], 'bmc-2'))
    const bodies = async (query: string) => {
      const { status, body } = await it.ask(`/api/logs${query}`)
      expect(status).toBe(200)
      return (JSON.parse(body) as { records: { body: string }[] }).records.map((record) => record.body)
    }
    expect(await bodies('')).toEqual(['Link down', 'link up', 'other link'])
    expect(await bodies('?text=LINK&limit=2')).toEqual(['link up', 'other link'])
    expect(await bodies('?severity=warn')).toEqual(['Link down'])
    expect(await bodies('?where=port%3D9007199254740993')).toEqual(['link up'])
    expect(await bodies('?device=BMC-2')).toEqual(['other link'])
    // Their claimed time is long ago, so that their arrival counts.
    expect(await bodies('?since=1m&until=now')).toEqual(['Link down', 'link up', 'other link'])
    expect(await bodies('?until=1h')).toEqual([])
    const { records } = JSON.parse((await it.ask('/api/logs?limit=1')).body) as { records: object[] }
    expect(records).toEqual([
      {
        id: expect.stringMatching(/./),
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/),
        observedTime: expect.stringMatching(/Z$/),
        device: 'bmc-2',
        severityNumber: 9,
        severityText: '',
        body: 'other link',
        attributes: { 'dpu.clock.suspect': true },
        resource: expect.objectContaining({ 'host.id': 'bmc-2' }),
        eventName: '',
      },
    ])
    for (const wrong of ['limit=0', 'severity=loud', 'since=soon', 'where=x', 'selector=a%3Db']) {
      const { status, body } = await it.ask(`/api/logs?${wrong}`)
      expect([status, JSON.parse(body)]).toMatchObject([400, { error: { parameter: wrong.split('=')[0] } }])
    }
  })

  test('keeps a few megabytes of records at most, the newest', async () => {
    await using it = await started()
    await it.start()
    const emit = it.emits.get('a')
    await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        Promise.resolve(emit?.(sampleLogs([{ body: `${index} ${'x'.repeat(200_000)}` }]))),
      ),
    )
    const { records } = JSON.parse((await it.ask('/api/logs')).body) as { records: { body: string }[] }
    expect(records.at(-1)?.body).toMatch(/^39 /)
    expect(records.length).toBeGreaterThan(10)
    expect(records.length).toBeLessThan(25)
  })

  test('tells each record that fits as it comes, and nothing of one that nobody can read', async () => {
    await using it = await started()
    await it.start()
    const response = await fetch(`${it.api.url}/api/live?severity=error`)
    const reader = (response.body ?? new ReadableStream<Uint8Array>()).getReader()
    const read = async () => Buffer.from((await reader.read()).value ?? []).toString()
    expect(await read()).toContain(': live')
    let deep: AttributeValue = 'x'
    for (let depth = 0; depth < 40; depth++) deep = [deep]
    const severity = 17
    await it.emits.get('a')?.(
      sampleLogs([
        { body: 'info' },
        { body: 'first', severity },
        { body: deep, severity },
        { body: 'last', severity },
      ]),
    )
    let said = ''
    while (!said.includes('last')) said += await read()
    const told = said.split('\n').filter((line) => line.startsWith('data: '))
    expect(told.map((line) => (JSON.parse(line.slice(6)) as { body: string }).body)).toEqual([
      'first',
      'last',
    ])
    await reader.cancel()
  })

  test('tells points and records by signal, class, name and attribute', async () => {
    await using it = await started()
    await it.start()
    const events = async (query: string) => {
      const response = await fetch(`${it.api.url}/api/live?${query}`)
      const reader = (response.body ?? new ReadableStream<Uint8Array>()).getReader()
      let said = ''
      return async (until: string) => {
        while (!said.includes(until)) said += Buffer.from((await reader.read()).value ?? []).toString()
        await reader.cancel()
        const lines = said.split('\n').filter((line) => /^(event|data): /.test(line))
        return lines.map((line) =>
          line.startsWith('event') ? line.slice(7) : (JSON.parse(line.slice(6)) as object),
        )
      }
    }
    const totals = await events('signal=metrics&name=test.t*&where=test.index%3D3')
    const errors = await events('signal=logs,metrics&class=log_error,event&name=link.*')
    await it.emits.get('a')?.(samplePoints(4))
    await it.emits.get('a')?.(sampleLogs([{ body: 'no event', severity: 17 }]))
    await it.emits.get('a')?.(sampleLogs([{ body: 'down', severity: 9, eventName: 'link.down' }]))
    expect(await totals('event: point')).toMatchObject([
      'point',
      {
        metric: 'test.total',
        unit: '{item}',
        kind: 'counter',
        value: '9007199254740996',
        attributes: { 'test.index': 3 },
      },
    ])
    expect(await errors('event: record')).toMatchObject(['record', { body: 'down', eventName: 'link.down' }])
    for (const wrong of ['signal=traces', 'class=loud', 'name=', 'selector=a%3Db']) {
      const { status, body } = await it.ask(`/api/live?${wrong}`)
      expect([status, JSON.parse(body)]).toMatchObject([400, { error: { parameter: wrong.split('=')[0] } }])
    }
  })

  test('lets a reader of the live tail that does not read miss records, and tells it how many', async () => {
    await using it = await started()
    await it.start()
    const { port } = new URL(it.api.url)
    const stuck = connect(Number(port), '127.0.0.1')
    stuck.write('GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await once(stuck, 'readable') // and then it reads no more
    const missed = async () =>
      (
        JSON.parse((await it.ask('/api/top')).body) as { components: { id: string; missed: number }[] }
      ).components.find(({ id }) => id === 'api/live')?.missed ?? 0
    let sent = 0
    for (let round = 0; round < 40; round++) {
      await Promise.all(
        Array.from({ length: 10 }, (_, index) =>
          Promise.resolve(
            it.emits.get('a')?.(sampleLogs([{ body: `${round}/${index} ${'x'.repeat(100_000)}` }])),
          ),
        ),
      )
      sent += 10
      if ((await missed()) > 0 && round > 20) break
    }
    const lost = await missed()
    expect(lost).toBeGreaterThan(0)
    expect(JSON.parse((await it.ask('/api/ledger')).body)).toMatchObject({ stored: sent, balanced: true })
    let said = ''
    stuck.setEncoding('latin1')
    stuck.on('data', (text: string) => (said = (said + text).slice(-1000)))
    await vi.waitFor(() => expect(said).toContain(`data: {"missed":${lost}}`), 30_000)
    stuck.destroy()
  })

  test('tells the newest values of all metrics that passed, and its ledger by device', async () => {
    await using it = await started()
    await it.start()
    await it.emits.get('a')?.(samplePoints(2))
    await it.emits.get('a')?.(samplePoints(2, 'bmc-2'))
    const { body } = await it.ask('/metrics/values')
    expect(body).toContain('\ntest_total{host_id="bmc-2",job="test",test_index="1"} 9007199254740994\n')
    expect(body).toContain('\ntest_level_ratio{host_id="dpu-under-test",job="test",test_index="0"} 0.5\n')
    const { produced, streams } = JSON.parse((await it.ask('/api/ledger?device=BMC-2')).body) as {
      produced: number
      streams: { device: string }[]
    }
    expect([produced, streams.map(({ device }) => device)]).toEqual([2, ['bmc-2']])
    expect((await it.ask('/api/ledger?selector=a%3Db')).status).toBe(400)
  })

  test('answers on IPv6 on the same port', async () => {
    await using it = await started()
    const { port } = new URL(it.api.url)
    expect((await ask(`http://[::1]:${port}/metrics`, {}, 'GET')).status).toBe(200)
  })

  test('says who has its port when it is taken', async () => {
    await using it = await started()
    const port = Number(new URL(it.api.url).port)
    const logger = new Logger({ write: () => undefined }).for('api')
    const values = { series: 0, expireMs: 0 }
    await expect(
      startApi({ runtime: it.runtime, addresses: [{ host: '127.0.0.1', port }], logger, values }),
    ).rejects.toThrow(
      new RegExp(`port ${port}/tcp for the collector's API is taken by process ${process.pid}`),
    )
  })
})
