// Kafka for tests: the cluster that the environment names, with topics and a group of their own for each test.
import { onTestFinished } from 'vitest'
import kafkajs from 'kafkajs'
import type { ITopicConfig, Kafka } from 'kafkajs'
import { ulid } from 'ulid'
import { openKafkaJournal } from '../../aggregator/journal/kafka.ts'
import type { KafkaJournalOptions } from '../../aggregator/journal/kafka.ts'
import type { Journal } from '../../aggregator/journal/journal.ts'
import type { KafkaSettings } from '../../plugins/protocols/kafka/client.ts'
import { Senders } from '../../plugins/protocols/kafka/sender.ts'
import type { Outgoing } from '../../plugins/protocols/kafka/sender.ts'
import { leaders } from '../../aggregator/journal/kafka-topics.ts'
import { sealBatch } from '../../plugins/contract/batch.ts'
import { LogsEncoder } from '../../plugins/contract/encoder.ts'
import { encodeResource } from '../../plugins/contract/values.ts'
import { systemClock } from '../../collector/clock.ts'
import { testContext } from './context.ts'

export const brokers = process.env.KAFKA_BROKERS?.split(',') ?? []
export const noKafka =
  brokers.length > 0
    ? undefined
    : 'KAFKA_BROKERS names no broker; `npm test` starts one where ../shared/services is at hand'

/** A client that is not ours. */
export const plainKafka = (addresses: readonly string[] = brokers): Kafka =>
  new kafkajs.Kafka({ clientId: 'test', brokers: [...addresses], logLevel: kafkajs.logLevel.NOTHING })

/** Names of their own, whose topics are gone when the test is. */
export function kafkaPlace(addresses: readonly string[] = brokers): { prefix: string; group: string } {
  const name = `t${ulid().toLowerCase()}`
  onTestFinished(async () => {
    const admin = plainKafka(addresses).admin()
    await admin.connect()
    const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(`${name}.`))
    if (topics.length > 0) await admin.deleteTopics({ topics })
    await admin.disconnect()
  })
  return { prefix: `${name}.`, group: name }
}

export function kafkaSettings(
  place: { prefix: string; group: string },
  options: Partial<KafkaSettings> = {},
): KafkaSettings {
  return {
    ...place,
    brokers,
    partitions: 3,
    retentionMs: 3_600_000,
    senders: 2,
    create: true,
    sessionTimeoutMs: 6000,
    alone: false,
    ...options,
  }
}

export function openTestKafka(
  place: { prefix: string; group: string },
  options: Partial<KafkaJournalOptions> = {},
): Promise<Journal> {
  return openKafkaJournal({
    ...kafkaSettings(place),
    log: testContext().log,
    clock: systemClock,
    ...options,
  })
}

/** Appends as an aggregator's ingest does, without being one. */
export function testSender(place: { prefix: string }, senders = 1, addresses: readonly string[] = brokers) {
  const { log } = testContext()
  const kafka = plainKafka(addresses)
  const all = new Senders({ kafka, log, clock: systemClock, senders, messageBytes: 1_000_000 })
  onTestFinished(() => all.close())
  return {
    send: (messages: readonly Outgoing[]) =>
      all.send(messages.map((message) => ({ ...message, topic: place.prefix + message.topic }))),
  }
}

/** A batch of a collector on the device itself, with that many log records. */
export function headedBatch({
  device,
  session,
  seq,
  count,
}: {
  device: string
  session: string
  seq: number
  count: number
}) {
  const header = {
    collector: device,
    device,
    session,
    class: 'log' as const,
    seq,
    count,
    from: 1n,
    to: 1n,
    produced: seq * count,
    dropped: {},
  }
  const { bytes } = sealBatch(header, 'logs', [logsOf(device, count)])
  return { topic: 'otlp_logs', key: device, value: bytes }
}

/** A request of that many log records about a device. */
export function logsOf(device: string, count: number): Uint8Array {
  const encoder = new LogsEncoder({ name: 'test' })
  encoder.begin(encodeResource({ 'host.id': device }))
  for (let index = 0; index < count; index++) {
    encoder.record(1_790_000_000, index, 1_790_000_000, index, 9)
    encoder.body(`line ${index}`)
    encoder.end()
  }
  return encoder.finish(device, 'log').bytes
}

/** A topic that a person made. */
export async function makeTopic(topic: ITopicConfig): Promise<void> {
  const admin = plainKafka().admin()
  await admin.connect()
  await admin.createTopics({ waitForLeaders: false, topics: [topic] })
  await leaders(admin, [topic.topic])
  await admin.disconnect()
}
