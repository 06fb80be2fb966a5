// The topics of DESIGN §6 on Kafka: made with the settings that we need where they are missing, and compared where they
// are there. What makes work impossible is refused by name; what only makes it worse is told once.
import kafkajs from 'kafkajs'
import type { Admin } from 'kafkajs'
import type { Log } from '../../plugins/contract/define.ts'
import { PermanentError } from '../../plugins/contract/errors.ts'
import type { KafkaSettings } from '../../plugins/protocols/kafka/client.ts'
import { signalTopics } from './journal.ts'

const { ConfigResourceTypes } = kafkajs

/** Kafka's own default, and the least that a batch needs. */
const messageBytes = 1_048_588

interface WantedTopic {
  name: string
  kind: 'signal' | 'table' | 'stream'
  config: Readonly<Record<string, string>>
}

export const tableTopics = [
  'dpulse_ledger',
  'dpulse_state',
  'dpulse_registry',
  'dpulse_operations',
  'dpulse_retained',
] as const

export interface Topics {
  /** Of every topic whose partitions belong together: signals, ledger, state. */
  partitions: number
  /** Of the other tables. */
  tablePartitions: ReadonlyMap<string, number>
  /** The largest record batch that all of them take. */
  messageBytes: number
}

function wantedTopics(settings: KafkaSettings, replication: number): WantedTopic[] {
  const insync = { 'min.insync.replicas': String(replication >= 3 ? 2 : 1) }
  const kept = {
    ...insync,
    'cleanup.policy': 'delete',
    'retention.ms': String(settings.retentionMs),
    'max.message.bytes': String(messageBytes),
    // The broker packs again what comes with a compression that not every reader has.
    'compression.type': 'zstd',
  }
  // Storage and retention go by arrival: nobody else's clock may say when a record came.
  const arrival = { ...kept, 'message.timestamp.type': 'LogAppendTime' }
  const table = {
    ...insync,
    'cleanup.policy': 'compact',
    'max.message.bytes': String(messageBytes),
    'min.cleanable.dirty.ratio': '0.1',
  }
  const name = (topic: string): string => settings.prefix + topic
  return [
    ...Object.values(signalTopics).map((one) => ({
      name: name(one),
      kind: 'signal' as const,
      config: arrival,
    })),
    ...['dpulse_events', 'dpulse_usage'].map((one) => ({
      name: name(one),
      kind: 'stream' as const,
      config: kept,
    })),
    ...tableTopics.map((one) => ({ name: name(one), kind: 'table' as const, config: table })),
  ]
}

/** @throws PermanentError CONFIG_INVALID that names topic, setting, what is there and what is needed. */
export async function ensureTopics(admin: Admin, settings: KafkaSettings, log: Log): Promise<Topics> {
  const { brokers } = await admin.describeCluster()
  const replication = settings.replication ?? Math.min(3, brokers.length)
  if (replication > brokers.length) {
    const what = `replication ${replication} needs as many brokers; the cluster has ${brokers.length}`
    throw new PermanentError('CONFIG_INVALID', what)
  }
  const wanted = wantedTopics(settings, replication)
  const there = new Set(await admin.listTopics())
  const absent = wanted.filter(({ name }) => !there.has(name))
  if (absent.length > 0) await create(admin, settings, absent, replication, log)
  const present = wanted.filter(({ name }) => there.has(name))
  const sizes = await check(admin, present, replication, log)
  return shapeOf(admin, settings, wanted, sizes, log)
}

async function create(
  admin: Admin,
  settings: KafkaSettings,
  absent: readonly WantedTopic[],
  replication: number,
  log: Log,
): Promise<void> {
  const names = absent.map(({ name }) => name)
  if (!settings.create) {
    throw new PermanentError(
      'CONFIG_INVALID',
      `Kafka lacks the topics ${names.join(', ')}, and create is false`,
    )
  }
  try {
    await admin.createTopics({
      waitForLeaders: false,
      timeout: 30_000,
      topics: absent.map(({ name, config }) => ({
        topic: name,
        numPartitions: settings.partitions,
        replicationFactor: replication,
        configEntries: Object.entries(config).map(([key, value]) => ({ name: key, value })),
      })),
    })
    await leaders(admin, names)
    log.info('topics made', { topics: names, partitions: settings.partitions, replication })
  } catch (error) {
    // Another aggregator that starts at the same time may have been first.
    const now = new Set(await admin.listTopics())
    const missing = names.filter((name) => !now.has(name))
    if (missing.length === 0) return leaders(admin, names)
    throw new PermanentError('CONFIG_INVALID', `the topics ${missing.join(', ')} cannot be made`, {
      cause: error,
    })
  }
}

/** Brokers hear of a new topic one after the other; until all have, some say that there is none. */
export async function leaders(admin: Admin, names: readonly string[]): Promise<void> {
  let failure: unknown
  for (let attempt = 0; attempt < 100; attempt++) {
    try {
      const { topics } = await admin.fetchTopicMetadata({ topics: [...names] })
      if (topics.every(({ partitions }) => partitions.every(({ leader }) => leader >= 0))) return
    } catch (error) {
      failure = error
    }
    await new Promise((resume) => setTimeout(resume, 100))
  }
  throw new PermanentError('CONFIG_INVALID', `the topics ${names.join(', ')} have no leaders`, {
    cause: failure,
  })
}

/** Compares what is there with what we would make. The smallest record batch that a topic takes comes back. */
async function check(
  admin: Admin,
  present: readonly WantedTopic[],
  replication: number,
  log: Log,
): Promise<number> {
  let smallest = messageBytes
  if (present.length === 0) return smallest
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: present.map(({ name }) => ({ type: ConfigResourceTypes.TOPIC, name })),
  })
  for (const { resourceName, configEntries } of resources) {
    const topic = present.find(({ name }) => name === resourceName)
    if (!topic) continue
    const found = new Map(configEntries.map(({ configName, configValue }) => [configName, configValue]))
    for (const [setting, need] of Object.entries(topic.config)) {
      const is = found.get(setting)
      if (is === undefined || is === need) continue
      if (isFatal(topic, setting, is)) {
        const what = `the topic ${topic.name} has ${setting}=${is}; it needs ${need}`
        throw new PermanentError('CONFIG_INVALID', what)
      }
      if (setting === 'max.message.bytes') {
        smallest = Math.min(smallest, Number(is))
        if (Number(is) > Number(need)) continue
      }
      if (setting === 'min.insync.replicas' && Number(is) > Number(need)) continue
      log.warn('a topic is not as it should be', { topic: topic.name, setting, is, shouldBe: need })
    }
  }
  const { topics } = await admin.fetchTopicMetadata({ topics: present.map(({ name }) => name) })
  for (const { name, partitions } of topics) {
    const copies = Math.min(...partitions.map(({ replicas }) => replicas.length))
    if (copies >= replication) continue
    log.warn('a topic is not as it should be', {
      topic: name,
      setting: 'replication',
      is: copies,
      shouldBe: replication,
    })
  }
  return smallest
}

/** A table that forgets by age loses state, and a compacted signal topic loses all but the newest batch of a device. */
function isFatal({ kind }: WantedTopic, setting: string, is: string): boolean {
  if (setting === 'cleanup.policy') return kind === 'table' ? is !== 'compact' : is.includes('compact')
  return setting === 'max.message.bytes' && Number(is) < messageBytes
}

async function shapeOf(
  admin: Admin,
  settings: KafkaSettings,
  wanted: readonly WantedTopic[],
  smallest: number,
  log: Log,
): Promise<Topics> {
  const { topics } = await admin.fetchTopicMetadata({ topics: wanted.map(({ name }) => name) })
  const counts = new Map(topics.map(({ name, partitions }) => [name, partitions.length]))
  const together = [...Object.values(signalTopics), 'dpulse_ledger', 'dpulse_state'].map(
    (one) => settings.prefix + one,
  )
  const partitions = counts.get(together[0] ?? '') ?? 0
  const odd = together.find((name) => counts.get(name) !== partitions)
  if (odd !== undefined) {
    const what = `the topic ${odd} has ${counts.get(odd)} partitions and ${together[0]} has ${partitions}`
    throw new PermanentError(
      'CONFIG_INVALID',
      `${what}; what belongs to a device must have the same number in all`,
    )
  }
  if (partitions !== settings.partitions) {
    log.warn('topics have another number of partitions than is configured', {
      is: partitions,
      shouldBe: settings.partitions,
    })
  }
  return { partitions, tablePartitions: counts, messageBytes: smallest }
}
