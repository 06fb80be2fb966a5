import { request } from 'node:http'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { ulid } from 'ulid'
import { describe, expect, test } from 'vitest'
import { startApi } from '../../collector/api.ts'
import { systemClock } from '../../collector/clock.ts'
import { parseConfig } from '../../collector/config.ts'
import { Logger } from '../../collector/logger.ts'
import { Runtime } from '../../collector/runtime.ts'
import type { Emit } from '../../plugins/contract/index.ts'
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
  const api = await startApi({ runtime, addresses, logger: logger.for('api') })
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

  test('refuses foreign names and origins, methods that change, and paths that are not there', async () => {
    await using it = await started()
    const { port } = new URL(it.api.url)
    expect((await it.ask('/api/health', { Host: 'evil.example' })).status).toBe(403)
    expect((await it.ask('/api/health', { Origin: 'http://evil.example' })).status).toBe(403)
    expect((await it.ask('/api/health', { Host: `localhost:${port}` })).status).toBe(200)
    expect((await it.ask('/api/health', {}, 'POST')).status).toBe(405)
    expect((await it.ask('/api/nothing')).status).toBe(404)
    expect((await it.ask('/api/logs')).status).toBe(501)
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
    await expect(
      startApi({ runtime: it.runtime, addresses: [{ host: '127.0.0.1', port }], logger }),
    ).rejects.toThrow(
      new RegExp(`port ${port}/tcp for the collector's API is taken by process ${process.pid}`),
    )
  })
})
