import kafkajs from 'kafkajs'
import { describe, expect, onTestFinished, test } from 'vitest'
import { kafkaPlace, makeTopic, noKafka, openTestKafka, plainKafka } from '../../support/kafka.ts'
import { testContext } from '../../support/context.ts'

async function administrator() {
  const admin = plainKafka().admin()
  await admin.connect()
  onTestFinished(() => admin.disconnect())
  return admin
}

describe('the topics of the journal', () => {
  test('are made with what they need', async ({ skip }) => {
    if (noKafka !== undefined) skip(noKafka)
    const place = kafkaPlace()
    await using _journal = await openTestKafka(place, { partitions: 5, retentionMs: 7_200_000 })
    const admin = await administrator()
    const settings = async (name: string): Promise<Record<string, string>> => {
      const resource = { type: kafkajs.ConfigResourceTypes.TOPIC, name: place.prefix + name }
      const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] })
      return Object.fromEntries(
        resources[0]?.configEntries.map(({ configName, configValue }) => [configName, configValue]) ?? [],
      )
    }
    for (const name of ['otlp_logs', 'otlp_metrics', 'otlp_spans']) {
      expect(await settings(name)).toMatchObject({
        'cleanup.policy': 'delete',
        'retention.ms': '7200000',
        'max.message.bytes': '1048588',
        'compression.type': 'zstd',
        'message.timestamp.type': 'LogAppendTime',
      })
    }
    for (const name of [
      'dpulse_ledger',
      'dpulse_state',
      'dpulse_registry',
      'dpulse_operations',
      'dpulse_retained',
    ]) {
      expect(await settings(name)).toMatchObject({ 'cleanup.policy': 'compact' })
    }
    expect(await settings('dpulse_usage')).toMatchObject({ 'cleanup.policy': 'delete' })
    const { topics } = await admin.fetchTopicMetadata({ topics: [`${place.prefix}otlp_logs`] })
    expect(topics[0]?.partitions).toHaveLength(5)
  }, 60_000)

  test('are refused by name where work is impossible', async ({ skip }) => {
    if (noKafka !== undefined) skip(noKafka)
    const compacted = kafkaPlace()
    await makeTopic({
      topic: `${compacted.prefix}otlp_logs`,
      numPartitions: 3,
      configEntries: [{ name: 'cleanup.policy', value: 'compact' }],
    })
    await expect(openTestKafka(compacted)).rejects.toThrow(
      /otlp_logs has cleanup\.policy=compact; it needs delete/,
    )
    const small = kafkaPlace()
    await makeTopic({
      topic: `${small.prefix}otlp_spans`,
      numPartitions: 3,
      configEntries: [{ name: 'max.message.bytes', value: '1000' }],
    })
    await expect(openTestKafka(small)).rejects.toThrow(
      /otlp_spans has max\.message\.bytes=1000; it needs 1048588/,
    )
    const uneven = kafkaPlace()
    await makeTopic({ topic: `${uneven.prefix}otlp_metrics`, numPartitions: 7 })
    await expect(openTestKafka(uneven)).rejects.toThrow(/otlp_metrics has 7 partitions and .*otlp_logs has 3/)
    await expect(openTestKafka(kafkaPlace(), { create: false })).rejects.toThrow(
      /Kafka lacks the topics .*otlp_logs/,
    )
    await expect(openTestKafka(kafkaPlace(), { replication: 5 })).rejects.toThrow(
      /replication 5 needs as many brokers/,
    )
  }, 60_000)

  test('are refused where all of them have more partitions than when they were first used', async ({
    skip,
  }) => {
    if (noKafka !== undefined) skip(noKafka)
    const place = kafkaPlace()
    await (await openTestKafka(place, { partitions: 3 }))[Symbol.asyncDispose]()
    const admin = await administrator()
    const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(place.prefix))
    await admin.createPartitions({ topicPartitions: topics.map((topic) => ({ topic, count: 4 })) })
    await expect(openTestKafka(place, { partitions: 4 })).rejects.toThrow(
      /otlp_\* have 4 partitions and began with 3: .* journal\.kafka\.group and prefix/,
    )
  }, 60_000)

  test('are told by name, with the difference, where work is only worse', async ({ skip }) => {
    if (noKafka !== undefined) skip(noKafka)
    const place = kafkaPlace()
    await makeTopic({
      topic: `${place.prefix}otlp_logs`,
      numPartitions: 3,
      configEntries: [{ name: 'retention.ms', value: '60000' }],
    })
    const context = testContext()
    await using _journal = await openTestKafka(place, { log: context.log })
    expect(context.logged).toContainEqual(
      expect.objectContaining({
        level: 'warn',
        message: 'a topic is not as it should be',
        fields: {
          topic: `${place.prefix}otlp_logs`,
          setting: 'retention.ms',
          is: '60000',
          shouldBe: '3600000',
        },
      }),
    )
  }, 60_000)
})
