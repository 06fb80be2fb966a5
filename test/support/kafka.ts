// Kafka for tests: the cluster that the environment names, with topics and a group of their own for each test.
import { onTestFinished } from 'vitest'
import kafkajs from 'kafkajs'
import type { Kafka } from 'kafkajs'
import { ulid } from 'ulid'
import { openKafkaJournal } from '../../aggregator/journal/kafka.ts'
import type { KafkaJournalOptions } from '../../aggregator/journal/kafka.ts'
import type { Journal } from '../../aggregator/journal/journal.ts'
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

export function openTestKafka(
  place: { prefix: string; group: string },
  options: Partial<KafkaJournalOptions> = {},
): Promise<Journal> {
  return openKafkaJournal({
    ...place,
    brokers,
    partitions: 3,
    retentionMs: 3_600_000,
    senders: 2,
    create: true,
    sessionTimeoutMs: 6000,
    alone: false,
    log: testContext().log,
    clock: systemClock,
    ...options,
  })
}
