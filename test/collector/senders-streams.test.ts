// Quotas of senders over protocols that can wait (OTLP, the InfluxDB write API, Fluent forward): who floods is told to
// come again or is read from later, and takes nothing from its neighbours.
import { once } from 'node:events'
import { request } from 'node:http'
import { connect } from 'node:net'
import { encode } from '@msgpack/msgpack'
import { expect, test, vi } from 'vitest'
import { ledgerOf } from '../../collector/api.ts'
import fluentForward from '../../plugins/sources/fluent_forward.ts'
import influx from '../../plugins/sources/influx.ts'
import otlp from '../../plugins/sources/otlp.ts'
import { startWithQuotas } from './with-quotas.ts'

interface Answer {
  readonly status: number
  readonly retryAfter: string | undefined
}

async function post(port: number, path: string, body: string, localAddress = '127.0.0.1'): Promise<Answer> {
  const headers = { 'content-type': 'application/json' }
  const asking = request({
    host: '127.0.0.1',
    port,
    path,
    method: 'POST',
    localAddress,
    headers,
    agent: false,
  })
  asking.end(body)
  const [response] = await once(asking, 'response')
  response.resume()
  await once(response, 'end')
  return { status: response.statusCode, retryAfter: response.headers['retry-after'] }
}

const points = (count: number, tags = ''): string =>
  Array.from({ length: count }, (_, index) => `load${tags} value=${index}\n`).join('')

const logs = (count: number, service: string): string =>
  JSON.stringify({
    resourceLogs: [
      {
        resource: { attributes: [{ key: 'service.name', value: { stringValue: service } }] },
        scopeLogs: [{ logRecords: Array.from({ length: count }, () => ({ body: { stringValue: 'x' } })) }],
      },
    ],
  })

const ways = [
  {
    name: 'influx, by address',
    source: influx,
    settings: "listen: '127.0.0.1:0'",
    by: 'address',
    path: '/write',
    noisy: '127.0.0.2',
    quiet: '127.0.0.1',
    body: (count: number) => points(count),
  },
  {
    name: 'influx, by the service of the tags',
    source: influx,
    settings: "listen: '127.0.0.1:0'",
    by: 'service',
    path: '/api/v2/write',
    noisy: 'noisy app',
    quiet: 'quiet',
    body: (count: number, sender: string) => points(count, `,service=${sender.replace(' ', '\\ ')}`),
  },
  {
    name: 'otlp, by the service of the Resource',
    source: otlp,
    settings: "grpc: false, http: '127.0.0.1:0'",
    by: 'service',
    path: '/v1/logs',
    noisy: 'noisy',
    quiet: 'quiet',
    body: logs,
  },
]

test.each(ways)(
  '$name: who floods is told when to come again, and nobody else is',
  async ({ source, settings, by, path, noisy, quiet, body }) => {
    const { runtime, port, counts } = await startWithQuotas(
      source,
      `{ records: 100, burst: 1s, by: ${by} }`,
      settings,
    )
    const send = (count: number, sender: string) =>
      post(port, path, body(count, sender), by === 'address' ? sender : undefined)
    // Four seconds behind, so that none of the requests after it is let in.
    expect((await send(500, noisy)).status).toBeLessThan(300)
    const flood = Promise.all(Array.from({ length: 20 }, () => send(100, noisy)))
    for (let round = 0; round < 5; round++) expect((await send(10, quiet)).status).toBeLessThan(300)
    for (const { status, retryAfter } of await flood) {
      expect(status).toBe(429)
      expect(Number(retryAfter)).toBeGreaterThan(0)
    }
    expect(counts().get(noisy)).toMatchObject({ records: 500, dropped: 0 })
    expect(counts().get(noisy)?.slowedSeconds).toBeGreaterThan(1)
    expect(counts().get(quiet)).toMatchObject({ records: 50, dropped: 0, slowedSeconds: 0 })
    await vi.waitFor(() => expect(ledgerOf(runtime).stored).toBe(550), { timeout: 30_000 })
    expect(ledgerOf(runtime)).toMatchObject({ produced: 550, dropped: {}, balanced: true })
  },
)

/** Messages of ten records each. */
function messages(count: number, tag: string, level = 'info'): Buffer {
  const entries = Array.from({ length: 10 }, () => [1_790_000_000, { message: `a line of ${tag}`, level }])
  return Buffer.concat(Array.from({ length: count / 10 }, () => encode([tag, entries])))
}

test('fluent_forward: a connection beyond its quota is read from later, and others are not', async () => {
  const { runtime, port, counts } = await startWithQuotas(
    fluentForward,
    '{ records: 2000, burst: 100ms }',
    "listen: '127.0.0.1:0'",
  )
  const noisy = connect({ host: '127.0.0.1', port, localAddress: '127.0.0.2' })
  await once(noisy, 'connect')
  noisy.end(messages(6000, 'noisy'))
  await vi.waitFor(() => expect(counts().get('127.0.0.2')?.slowedSeconds).toBeGreaterThan(0), {
    timeout: 30_000,
  })
  const quiet = connect({ host: '127.0.0.1', port })
  await once(quiet, 'connect')
  quiet.end(messages(50, 'quiet'))
  await vi.waitFor(() => expect(counts().get('127.0.0.1')?.records).toBe(50), { timeout: 30_000 })
  expect(counts().get('127.0.0.2')?.records).toBeLessThan(6000)
  await vi.waitFor(() => expect(ledgerOf(runtime).stored).toBe(6050), { timeout: 30_000 })
  expect(ledgerOf(runtime)).toMatchObject({ produced: 6050, dropped: {}, balanced: true })
  expect(counts().get('127.0.0.1')).toMatchObject({ records: 50, dropped: 0, slowedSeconds: 0 })
})

test('fluent_forward: a tag that floods takes nothing from another on the same connection', async () => {
  const { runtime, port, counts } = await startWithQuotas(
    fluentForward,
    '{ records: 10, burst: 10s, by: service }',
    "listen: '127.0.0.1:0'",
  )
  const socket = connect({ host: '127.0.0.1', port })
  await once(socket, 'connect')
  socket.write(messages(1000, 'noisy'))
  socket.write(messages(50, 'quiet'))
  socket.end(messages(50, 'noisy', 'error'))
  await vi.waitFor(() => expect(ledgerOf(runtime).produced).toBe(1100), { timeout: 30_000 })
  expect(counts().get('quiet')).toMatchObject({ records: 50, dropped: 0 })
  const { dropped, balanced } = ledgerOf(runtime)
  expect({ dropped, balanced }).toEqual({
    dropped: { budget: counts().get('noisy')?.dropped },
    balanced: true,
  })
  expect(dropped.budget).toBeGreaterThan(850)
  // The errors of whoever floods still go, on credit.
  expect(counts().get('noisy')?.records).toBeGreaterThanOrEqual(100)
})
