// The journal on Kafka: the interface of journal.ts on its topics, shared by all aggregators of a fleet. Partitioned by
// device; who owns a partition is the consumer group's word, and what its owner knows goes to the next one through
// compacted topics (kafka-tenure.ts).
import type { Clock, Log } from '../../plugins/contract/define.ts'
import { parseStreamKey } from '../../plugins/contract/batch.ts'
import { decompressSync } from '../../plugins/protocols/compression.ts'
import { PermanentError, messageOf } from '../../plugins/contract/errors.ts'
import { positionKey, signalTopics } from './journal.ts'
import type { Journal, Position, TableName } from './journal.ts'
import { connectKafka, failureOf, isHopeless } from '../../plugins/protocols/kafka/client.ts'
export { brokersOf } from '../../plugins/protocols/kafka/client.ts'
import type { KafkaSettings } from '../../plugins/protocols/kafka/client.ts'
import { Marks } from './kafka-marks.ts'
import { partitionFor } from './kafka-partition.ts'
import { GroupReader } from './kafka-reader.ts'
import { Senders } from '../../plugins/protocols/kafka/sender.ts'
import { KafkaTables } from './kafka-tables.ts'
import { KafkaTail } from './kafka-tail.ts'
import { ensureTopics } from './kafka-topics.ts'

export type KafkaJournalOptions = KafkaSettings & {
  log: Log
  clock: Clock
  /** Another one than its transactional ids speak of: only a test has two owners at once. */
  consumerGroup?: string
}

const maxBatchBytes = 16 * 1024 * 1024
const adviseMs = 5000
const patienceMs = 60_000

/** @throws PermanentError CONFIG_INVALID where topics cannot be used; RetryableError where no broker answers. */
export async function openKafkaJournal(options: KafkaJournalOptions): Promise<Journal> {
  const { prefix, group, clock, log } = options
  await using open = new AsyncDisposableStack()
  const kafka = connectKafka(options, log)
  const admin = kafka.admin()
  open.defer(() => admin.disconnect())
  const topics = await patiently(options, async () => {
    await admin.connect()
    return ensureTopics(admin, options, log)
  })
  const { partitions, messageBytes } = topics
  const partitionOf = (device: string): number => partitionFor(device, partitions)

  const marks = new Marks({ admin, prefix, clock, log })
  const senders = new Senders({
    ...options,
    kafka,
    messageBytes,
    onSent: (topic, partition, end) => marks.note(`${topic.slice(prefix.length)}/${partition}`, end),
  })
  open.defer(() => senders.close())
  const ofDevice = new Set<TableName>(['dpulse_ledger', 'dpulse_state'])
  const tables = await KafkaTables.open({
    kafka,
    group,
    prefix,
    partitions: topics.tablePartitions,
    partitionOf: (name, key) =>
      ofDevice.has(name)
        ? partitionOf(parseStreamKey(key).device)
        : partitionFor(key, topics.tablePartitions.get(prefix + name) ?? 1),
    messageBytes,
    clock,
    log,
  })
  open.defer(() => tables.close())
  await checkPartitions(tables, prefix, partitions)
  await patiently(options, () => Promise.all([senders.connect(), marks.look()]))
  const stopping = new AbortController()
  const watching = marks.run(stopping.signal)
  open.defer(async () => {
    stopping.abort()
    await watching
  })
  const reader = new GroupReader({
    kafka,
    group: options.consumerGroup ?? group,
    prefix,
    sessionTimeoutMs: options.sessionTimeoutMs,
    alone: options.alone,
    tenure: { kafka, group, tables, messageBytes, log },
    marks,
    clock,
    log,
  })
  open.defer(() => reader.close())
  const position = (): Position => savedPosition(tables)
  const tail = new KafkaTail({ kafka, group, prefix, partitions, marks, position, clock, log })
  open.defer(() => tail.close())
  let advisedMs = -Infinity
  const resources = open.move()

  return {
    async append(entries, account) {
      await senders.send(
        entries.map(({ topic, key, value }) => ({
          topic: prefix + topic,
          partition: partitionOf(key),
          key,
          value: decompressSync(value, maxBatchBytes),
        })),
      )
      if (account.length === 0) return
      await tables.write(account.map(([key, value]) => ({ name: 'dpulse_ledger', key, value })))
    },
    read: (from, limit, signal) => reader.read(from, limit, signal),
    end: () => marks.end(),
    table: (name) => tables.table(name),
    async stored(position) {
      if (clock.elapsedMs() - advisedMs < adviseMs) return
      advisedMs = clock.elapsedMs()
      await reader.advise(position)
    },
    bytes: 0,
    shared: {
      partitions,
      partitionOf,
      save: (states) => reader.save(states),
      position,
      lag: () => reader.lag(),
      owned: () => reader.owned(),
      tail: (listener) => tail.listen(listener),
    },
    async [Symbol.asyncDispose]() {
      await resources.disposeAsync()
    },
  }
}

/** A cluster that is just starting answers with this and that before it is ready. */
async function patiently<T>(
  { clock, brokers, log }: KafkaJournalOptions,
  task: () => Promise<T>,
): Promise<T> {
  const began = clock.elapsedMs()
  for (;;) {
    try {
      return await task()
    } catch (error) {
      if (error instanceof PermanentError) throw error
      const what = `no answer from Kafka at ${brokers.join(', ')}`
      if (isHopeless(error) || clock.elapsedMs() - began > patienceMs) throw failureOf(what, error)
      log.warn(what, { error: messageOf(error) })
      await clock.delay(1000, AbortSignal.timeout(2000))
    }
  }
}

function savedPosition(tables: KafkaTables): Position {
  const all: Record<string, number> = {}
  for (let partition = 0; partition < tables.partitions; partition++) {
    const mark = tables.positionMark(partition)
    if (mark) Object.assign(all, JSON.parse(Buffer.from(mark).toString()))
    else for (const topic of Object.values(signalTopics)) all[positionKey(topic, partition)] = 0
  }
  return all
}

/**
 * What is known of a device lies in the partition that it had. @throws PermanentError CONFIG_INVALID where somebody gave
 * the topics another number of them since they were first used.
 */
async function checkPartitions(tables: KafkaTables, prefix: string, partitions: number): Promise<void> {
  const first = await tables.began(partitions)
  if (first === partitions) return
  const what = `the topics ${prefix}otlp_* have ${partitions} partitions and began with ${first}`
  const why =
    'what is known of their devices lies where it was. Begin a new journal: journal.kafka.group and prefix'
  throw new PermanentError('CONFIG_INVALID', `${what}: ${why}`)
}
