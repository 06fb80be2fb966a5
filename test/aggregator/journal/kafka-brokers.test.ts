// The embedded brokers of two aggregators that share a journal on Kafka: what is retained in one is retained in both, both
// know who is there, and a collector that moves from one to the other stays online.
import { connectAsync } from 'mqtt'
import type { MqttClient } from 'mqtt'
import { expect, onTestFinished, test, vi } from 'vitest'
import { startBroker } from '../../../aggregator/broker.ts'
import type { Broker } from '../../../aggregator/broker.ts'
import { testContext } from '../../support/context.ts'
import { kafkaPlace, noKafka, openTestKafka } from '../../support/kafka.ts'

const topic = 'dpulse/dpu-1/status'
const status = (state: string) => JSON.stringify({ state, collector: 'dpu-1', instance: 'the-same' })

/** A broker and what its aggregator hears of collectors, beside a subscriber of everything that is retained. */
async function brokerAt(place: { prefix: string; group: string }, name: string) {
  const journal = await openTestKafka(place)
  const heard: string[] = []
  const reported: string[] = []
  const broker: Broker = await startBroker({
    root: 'dpulse',
    listen: [{ host: '127.0.0.1', port: 0 }],
    retained: journal.table('dpulse_retained'),
    place: name,
    log: testContext().log,
    limits: { absentMs: 2000 },
    receiver: {
      onTelemetry: () => Promise.resolve(),
      onStatus: (collector, payload) => {
        const { state } = JSON.parse(Buffer.from(payload).toString()) as { state: string }
        return heard.push(`${collector} ${state}`) > 0
      },
      onReported: (collector, payload) =>
        void reported.push(`${collector} ${Buffer.from(payload).toString()}`),
    },
  })
  const close = async () => {
    await broker[Symbol.asyncDispose]()
    await journal[Symbol.asyncDispose]()
  }
  return { broker, heard, reported, close }
}

async function clientOf({ port }: Broker, will = false): Promise<MqttClient> {
  const client = await connectAsync({
    host: '127.0.0.1',
    port,
    reconnectPeriod: 0,
    ...(will && { will: { topic, payload: Buffer.from(status('offline')), qos: 1, retain: true } }),
  })
  client.on('error', () => undefined)
  onTestFinished(async () => {
    await client.endAsync(true)
  })
  return client
}

const kept = ({ broker }: { broker: Broker }, pattern: string): string[] =>
  [...broker.retained(pattern)].map(({ payload }) => payload.toString())

test('retained state and who is online are the same in the brokers of two aggregators', async ({ skip }) => {
  if (noKafka !== undefined) skip(noKafka)
  const place = kafkaPlace()
  const one = await brokerAt(place, 'one')
  onTestFinished(() => one.close())
  const other = await brokerAt(place, 'other')
  const subscriber = await clientOf(other.broker)
  const seen: string[] = []
  subscriber.on('message', (of, payload) => seen.push(`${of} ${payload.toString()}`))
  await subscriber.subscribeAsync('dpulse/#')

  // Told to one, heard at both, by clients and by the aggregators.
  const collector = await clientOf(one.broker, true)
  await collector.publishAsync(topic, status('online'), { qos: 1, retain: true })
  const asked = 'dpulse/dpu-1/config/desired'
  await one.broker.publish(asked, 'rate: 5', { retain: true, qos: 1 })
  await vi.waitFor(() => expect(seen).toEqual([`${topic} ${status('online')}`, `${asked} rate: 5`]), 30_000)
  expect(other.heard).toEqual(['dpu-1 online'])
  for (const each of [one, other]) expect(kept(each, 'dpulse/#')).toEqual([status('online'), 'rate: 5'])
  await other.broker.publish(asked, '', { retain: true })
  await vi.waitFor(() => expect(kept(one, asked)).toEqual([]), 30_000)

  // It moves, and only then its first connection breaks.
  const moved = await clientOf(other.broker, true)
  await moved.publishAsync(topic, status('online'), { qos: 1, retain: true })
  await vi.waitFor(() => expect(one.heard).toEqual(['dpu-1 online', 'dpu-1 online']), 30_000)
  collector.stream.destroy()
  // The will would have come before this.
  await vi.waitFor(() => expect(one.broker.counters.connections).toBe(0), 30_000)
  await one.broker.publish('dpulse/dpu-1/config/reported', 'last', { retain: true })
  await vi.waitFor(() => expect(seen.at(-1)).toContain('last'), 30_000)
  expect(other.reported).toEqual(['dpu-1 last'])
  expect(seen.filter((line) => line.includes('offline'))).toEqual([])
  expect(kept(other, topic)).toEqual([status('online')])

  // The other one starts anew: to it the wills of its own clients are open, and not those of others.
  const stays = await clientOf(one.broker, true)
  await stays.publishAsync(topic, status('online'), { qos: 1, retain: true })
  await vi.waitFor(() => expect(other.heard).toHaveLength(3), 30_000)
  await other.close()
  const again = await brokerAt(place, 'other')
  onTestFinished(() => again.close())
  expect(again.heard).toEqual(['dpu-1 online'])
  stays.stream.destroy()
  await vi.waitFor(() => expect(again.heard).toEqual(['dpu-1 online', 'dpu-1 offline']), 30_000)
  expect(kept(again, topic)).toEqual([status('offline')])
}, 120_000)
