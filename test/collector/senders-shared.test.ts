// Quotas of senders over protocols that cannot wait, or on which several share a connection (StatsD, MQTT): what is beyond
// is dropped and counted as budget, and nothing of the neighbours.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { Aedes } from 'aedes'
import { connectAsync } from 'mqtt'
import { expect, onTestFinished, test, vi } from 'vitest'
import { ledgerOf } from '../../collector/api.ts'
import mqtt, { senderByTopic } from '../../plugins/sources/mqtt.ts'
import statsd from '../../plugins/sources/statsd.ts'
import { collectPoints } from '../support/records.ts'
import { startWithQuotas } from './with-quotas.ts'
import type { WithQuotas } from './with-quotas.ts'

const patient = { timeout: 30_000, interval: 20 }

/** The newest value of each metric that was delivered. */
function totals({ delivered }: WithQuotas): Record<string, unknown> {
  const metrics = delivered.get('x')?.filter(({ signal }) => signal === 'metrics') ?? []
  return Object.fromEntries(collectPoints(metrics).map(({ name, value }) => [name, Number(value)]))
}

async function sendDatagram(port: number, address: string, lines: readonly string[]): Promise<void> {
  const socket = createSocket('udp4')
  await new Promise<void>((resolve) => void socket.bind(0, address, resolve))
  await new Promise((resolve) => {
    socket.send(lines.join('\n'), port, '127.0.0.1', resolve)
  })
  await new Promise<void>((resolve) => void socket.close(resolve))
}

const lines = (count: number, text: string): string[] => Array.from({ length: count }, () => text)

test('statsd: datagrams of an address that floods are dropped, and those of another count in full', async () => {
  const started = await startWithQuotas(
    statsd,
    '{ records: 1, burst: 100s }',
    "udp: '127.0.0.1:0', interval: 100ms",
  )
  const { runtime, port, counts } = started
  await sendDatagram(port, '127.0.0.2', lines(2000, 'noisy:1|c'))
  await sendDatagram(port, '127.0.0.2', lines(5, '_e{1,1}:a|b|t:error'))
  await sendDatagram(port, '127.0.0.1', lines(50, 'quiet:1|c'))
  await vi.waitFor(() => expect(totals(started)).toMatchObject({ quiet: 50 }), patient)
  await vi.waitFor(() => expect(ledgerOf(runtime).dropped.budget).toBeGreaterThan(1800), patient)
  const noisy = counts().get('127.0.0.2')
  expect(counts().get('127.0.0.1')).toMatchObject({ records: 50, dropped: 0 })
  // Errors go on credit.
  expect(totals(started).noisy).toBe((noisy?.records ?? 0) - 5)
  expect(ledgerOf(runtime)).toMatchObject({ dropped: { budget: noisy?.dropped }, balanced: true })
  expect((noisy?.records ?? 0) + (noisy?.dropped ?? 0)).toBe(2005)
})

test('statsd: a connection beyond its quota is read from later and loses nothing', async () => {
  const started = await startWithQuotas(
    statsd,
    '{ records: 20000, burst: 100ms }',
    "tcp: '127.0.0.1:0', interval: 100ms",
  )
  const { runtime, port, counts } = started
  const noisy = connect({ host: '127.0.0.1', port, localAddress: '127.0.0.2' })
  await once(noisy, 'connect')
  noisy.end(`${lines(30_000, 'noisy:1|c').join('\n')}\n`)
  await vi.waitFor(() => expect(counts().get('127.0.0.2')?.slowedSeconds).toBeGreaterThan(0), patient)
  const quiet = connect({ host: '127.0.0.1', port })
  await once(quiet, 'connect')
  quiet.end(`${lines(50, 'quiet:1|c').join('\n')}\n`)
  await vi.waitFor(() => expect(totals(started)).toEqual({ noisy: 30_000, quiet: 50 }), patient)
  expect(counts().get('127.0.0.2')?.slowedSeconds).toBeGreaterThan(0.5)
  expect(counts().get('127.0.0.1')).toMatchObject({ records: 50, dropped: 0, slowedSeconds: 0 })
  expect(ledgerOf(runtime)).toMatchObject({ dropped: {}, balanced: true })
})

test('statsd: a service is known by its tag, as DogStatsD and Telegraf write it', async () => {
  const started = await startWithQuotas(
    statsd,
    '{ records: 1, burst: 100s, by: service }',
    "tcp: '127.0.0.1:0', interval: 100ms",
  )
  const { runtime, port, counts } = started
  const socket = connect({ host: '127.0.0.1', port })
  await once(socket, 'connect')
  const sent = [...lines(500, 'a:1|c|#env:x,service:noisy|c:1'), ...lines(50, 'b,service=quiet:1|c')]
  socket.end(`${sent.join('\n')}\n`)
  await vi.waitFor(() => expect(totals(started)).toMatchObject({ b: 50 }), patient)
  await vi.waitFor(() => expect(ledgerOf(runtime).dropped.budget).toBeGreaterThan(300), patient)
  expect(counts().get('quiet')).toMatchObject({ records: 50, dropped: 0 })
  expect(counts().get('noisy')?.dropped).toBe(ledgerOf(runtime).dropped.budget)
  expect(totals(started).a).toBe(counts().get('noisy')?.records)
})

test('mqtt: a service that floods loses what is beyond, and its neighbour nothing', async () => {
  const broker = await Aedes.createBroker()
  const server = createServer((socket) => broker.handle(socket)).listen(0, '127.0.0.1')
  onTestFinished(async () => {
    await new Promise<void>((resolve) => {
      broker.close(() => resolve())
    })
    server.close()
  })
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const started = await startWithQuotas(
    mqtt,
    '{ records: 1, burst: 100s }',
    `urls: ['mqtt://127.0.0.1:${port}'], topics: ['local/#']`,
  )
  const { runtime, counts } = started
  const publisher = await connectAsync({ host: '127.0.0.1', port })
  onTestFinished(() => publisher.endAsync(true))
  const publish = (count: number, topic: string) =>
    Promise.all(
      Array.from({ length: count }, (_, index) =>
        publisher.publishAsync(topic, `{"load":${index}}`, { qos: 1 }),
      ),
    )
  await Promise.all([publish(500, 'local/noisy/load'), publish(50, 'local/quiet/load')])
  await vi.waitFor(() => expect(ledgerOf(runtime).produced).toBe(550), patient)
  const noisy = counts().get('local/noisy')
  expect(counts().get('local/quiet')).toMatchObject({ records: 50, dropped: 0 })
  expect(noisy?.dropped).toBeGreaterThan(300)
  expect(ledgerOf(runtime)).toMatchObject({ dropped: { budget: noisy?.dropped }, balanced: true })
  await vi.waitFor(() => expect(ledgerOf(runtime).stored).toBe(550 - (noisy?.dropped ?? 0)), patient)
})

test.each([
  ['local/nginx/log', 'local/nginx'],
  ['rack/7/fan/rpm', 'rack/7'],
  ['shared/a/b', 'shared/a'],
  ['one/topic', 'one/topic'],
  ['local', 'local'],
])('mqtt: a message to %s is of %s', (topic, sender) => {
  const topics = ['local/#', 'rack/+/fan/#', '$share/group/shared/+/b', 'one/topic']
  expect(senderByTopic(topics)(topic)).toBe(sender)
})
