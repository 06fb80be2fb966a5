// The Kafka exporter on a real cluster: what it writes is read by a plain consumer and taken in by an aggregator with the
// account that its headers tell.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { findHeader, parseStreamKey } from '../../../plugins/contract/batch.ts'
import kafka from '../../../plugins/exporters/kafka.ts'
import { partitionFor } from '../../../plugins/protocols/kafka/partition.ts'
import { realClock } from '../../support/clock.ts'
import { conformsToDefinition } from '../../support/conformance-definition.ts'
import { conformsToExporter } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { brokers, kafkaPlace, noKafka, openTestKafka, plainKafka } from '../../support/kafka.ts'
import { startMember } from '../../support/member.ts'
import { eventually } from '../../support/programs.ts'
import { countRecords } from '../../../plugins/contract/cursor.ts'
import { sampleBatch, sampleLogs, samplePoints } from '../../support/records.ts'

const never = new AbortController().signal
const example = { brokers: ['127.0.0.1:1'] }

/** Topics of the test's own, of three partitions, and all that is in them. */
async function topicsOf(prefix: string) {
  const client = plainKafka()
  const admin = client.admin()
  await admin.connect()
  const names = ['otlp_logs', 'otlp_metrics'].map((name) => prefix + name)
  await admin.createTopics({
    waitForLeaders: true,
    topics: names.map((topic) => ({ topic, numPartitions: 3 })),
  })
  await admin.disconnect()
  const consumer = client.consumer({ groupId: `${prefix}reader` })
  await consumer.connect()
  await consumer.subscribe({ topics: names, fromBeginning: true })
  const messages: { topic: string; partition: number; key: string; value: Buffer }[] = []
  await consumer.run({
    eachMessage: async ({ topic, partition, message }) => {
      messages.push({ topic, partition, key: String(message.key), value: message.value ?? Buffer.alloc(0) })
    },
  })
  return { messages, close: () => consumer.disconnect() }
}

async function kafkaPeer() {
  const { prefix } = kafkaPlace()
  const topics = await topicsOf(prefix)
  const count = () =>
    topics.messages.reduce(
      (sum, { topic, value }) => sum + countRecords(topic.endsWith('logs') ? 'logs' : 'metrics', value),
      0,
    )
  return {
    config: { brokers, prefix },
    received: async (records: number) => void (await eventually('all arrive', 20, () => count() === records)),
    [Symbol.asyncDispose]: topics.close,
  }
}

// A cluster cannot be made to vanish for one test; what then happens is tested below.
if (noKafka === undefined) {
  conformsToExporter(kafka, example, { peer: kafkaPeer, local: true })
} else {
  describe('kafka as an exporter', () => {
    conformsToDefinition(kafka, example)
  })
}

function start(config: object) {
  const context = testContext({ clock: realClock })
  const exporter = kafka.create(kafka.config.parse(config), context)
  const controller = new AbortController()
  const running = exporter.run?.(controller.signal)
  const stop = async (): Promise<void> => {
    controller.abort()
    await running
  }
  onTestFinished(stop)
  return exporter
}

describe('the kafka exporter', () => {
  test('a cluster that is not there is tried again later, and named', async () => {
    const attempt = start(example).export(sampleBatch(sampleLogs([{}])), never)
    await expect(attempt).rejects.toMatchObject({ name: 'RetryableError', code: 'PEER_UNREACHABLE' })
    await expect(attempt).rejects.toThrow('no connection to Kafka at 127.0.0.1:1')
  }, 30_000)

  test('writes each signal to its topic, key and partition by device, the header in the message', async ({
    skip,
  }) => {
    if (noKafka !== undefined) skip(noKafka)
    const { prefix } = kafkaPlace()
    const topics = await topicsOf(prefix)
    onTestFinished(topics.close)
    const exporter = start({ brokers, prefix })
    const logs = ['dpu-1', 'dpu-2', 'dpu-3'].map((device) => sampleBatch(sampleLogs([{}, {}], device)))
    const points = sampleBatch(samplePoints(3, 'dpu-1'))
    await Promise.all([...logs, points].map((batch) => exporter.export(batch, never)))
    await eventually('all arrive', 20, () => topics.messages.length === 4)
    for (const { header, bytes, signal } of [...logs, points]) {
      const found = topics.messages.find(
        ({ key, topic }) => key === header.device && topic === `${prefix}otlp_${signal}`,
      )
      expect(found?.partition).toBe(partitionFor(header.device, 3))
      expect(found?.value.equals(bytes)).toBe(true)
      expect(findHeader(found?.value ?? bytes)).toEqual(header)
    }
  }, 60_000)

  test('a topic that is not there is named, and the batch kept', async ({ skip }) => {
    if (noKafka !== undefined) skip(noKafka)
    const attempt = start({ brokers, prefix: 'no.such.' }).export(sampleBatch(sampleLogs([{}])), never)
    await expect(attempt).rejects.toMatchObject({ name: 'RetryableError' })
    await expect(attempt).rejects.toThrow('no.such.otlp_logs')
  }, 30_000)

  test('an aggregator believes the headers: its account is that of the collector, repetitions taken once', async ({
    skip,
  }) => {
    if (noKafka !== undefined) skip(noKafka)
    const place = kafkaPlace()
    const path = await mkdtemp(join(tmpdir(), 'dpulse-kafka-exporter-'))
    onTestFinished(() => rm(path, { recursive: true, force: true }))
    const member = await startMember(await openTestKafka(place), path, testContext().log)
    onTestFinished(() => member.stop())
    const exporter = start({ brokers, prefix: place.prefix })
    const first = sampleBatch(sampleLogs([{}, {}], 'dpu-9'), { collector: 'relay-1', seq: 1, produced: 2 })
    const second = sampleBatch(sampleLogs([{}, {}, {}], 'dpu-9'), {
      collector: 'relay-1',
      seq: 2,
      produced: 9,
      dropped: { filter: 4 },
    })
    // A sender that heard no answer sends again.
    for (const batch of [first, second, first]) await exporter.export(batch, never)
    const accounts = () =>
      [...member.handover.accounts.entries()].map(([key, { records, produced, dropped, lastSeq }]) => {
        const { collector, device } = parseStreamKey(key)
        return { collector, device, records, produced, dropped, lastSeq }
      })
    await eventually('it has both', 30, () => accounts()[0]?.records === 5)
    expect(accounts()).toEqual([
      { collector: 'relay-1', device: 'dpu-9', records: 5, produced: 9, dropped: { filter: 4 }, lastSeq: 2 },
    ])
  }, 90_000)
})
