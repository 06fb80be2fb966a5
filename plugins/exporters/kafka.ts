// Writes batches to the topics that aggregators and OpenTelemetry Collectors read: key and partition by device, the header
// in the message. A batch is delivered when all in-sync replicas have it; from then on the journal has it, and the account
// that its header tells is kept by the aggregator that owns the partition.
import type { Admin, Kafka } from 'kafkajs'
import * as z from 'zod'
import { defineExporter } from '../contract/define.ts'
import type { Context, Exporter } from '../contract/define.ts'
import { RetryableError, messageOf } from '../contract/errors.ts'
import { duration, secret, tls } from '../contract/settings.ts'
import type { Signal } from '../contract/signal.ts'
import { partitionFor } from '../protocols/kafka/partition.ts'
import type { Senders } from '../protocols/kafka/sender.ts'

const config = z.strictObject({
  brokers: z
    .array(z.string().regex(/^(\[[0-9a-fA-F:.]+\]|[^:[\]/\s]+):\d{1,5}$/, 'expected host:port'))
    .min(1)
    .max(100)
    .describe('Some of the cluster; the others are found through them.'),
  prefix: z
    .string()
    .regex(/^[a-zA-Z0-9._-]{0,100}$/, 'expected letters, digits, dots, underscores and dashes')
    .default('')
    .describe('Stands before the names of the topics otlp_logs, otlp_metrics and otlp_spans.'),
  senders: z
    .int()
    .min(1)
    .max(16)
    .default(1)
    .describe('Producers that send at once, each with its partitions.'),
  max_message: z
    .int()
    .min(100_000)
    .max(16_777_216)
    .default(1_048_588)
    .describe('Bytes of the largest record batch that the topics take (max.message.bytes).'),
  metadata_interval: duration
    .refine((ms) => ms >= 1000, 'expected 1s or more')
    .prefault('1m')
    .describe('How often the number of partitions is asked for again.'),
  tls: tls.optional().describe('Certificates; speaks TLS where it is given, also as {}.'),
  sasl: z
    .strictObject({
      mechanism: z.enum(['plain', 'scram-sha-256', 'scram-sha-512']).describe('How to log in.'),
      username: z.string().min(1).describe('Name to log in with.'),
      password: secret.describe('Password to log in with.'),
    })
    .optional()
    .describe('Login, where the brokers want one.'),
})
type Config = z.output<typeof config>

const topics: Readonly<Record<Signal, string>> = {
  logs: 'otlp_logs',
  metrics: 'otlp_metrics',
  traces: 'otlp_spans',
}

export default defineExporter({
  name: 'kafka',
  summary:
    'Writes batches to Kafka topics that aggregators and OpenTelemetry Collectors read, for all replicas to have.',
  config,
  create: (config, context) => new KafkaExporter(config, context),
})

interface Connection {
  readonly kafka: Kafka
  readonly admin: Admin
  readonly senders: Senders
}

class KafkaExporter implements Exporter {
  readonly #config: Config
  readonly #context: Context
  #connection: Promise<Connection> | undefined
  #partitions = new Map<string, { count: Promise<number>; asOfMs: number }>()
  #isClosed = false

  constructor(config: Config, context: Context) {
    this.#config = config
    this.#context = context
  }

  async run(signal: AbortSignal): Promise<void> {
    this.#context.ready(`kafka://${this.#config.brokers.join(',')}`)
    if (!signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>()
      signal.addEventListener('abort', () => resolve(), { once: true })
      await promise
    }
    this.#isClosed = true
    const connection = await this.#connection?.catch(() => undefined)
    if (connection) await close(connection)
  }

  async export({ header, signal: of, bytes }: Parameters<Exporter['export']>[0], signal: AbortSignal) {
    signal.throwIfAborted()
    const topic = this.#config.prefix + topics[of]
    const { device } = header
    const { promise, reject } = Promise.withResolvers<never>()
    const giveUp = (): void => reject(signal.reason as Error)
    signal.addEventListener('abort', giveUp, { once: true })
    try {
      const sent = this.#send(topic, device, bytes)
      sent.catch(() => undefined)
      await Promise.race([sent, promise])
      return { rejected: 0 }
    } finally {
      signal.removeEventListener('abort', giveUp)
    }
  }

  async #send(topic: string, device: string, value: Uint8Array): Promise<void> {
    const { admin, senders } = await this.#open()
    const count = await this.#partitionCount(admin, topic)
    await senders.send([{ topic, partition: partitionFor(device, count), key: device, value }])
  }

  #open(): Promise<Connection> {
    if (this.#isClosed) throw new RetryableError('STOPPING', 'the exporter stops')
    this.#connection ??= this.#connect().catch((error: unknown) => {
      this.#connection = undefined
      throw error
    })
    return this.#connection
  }

  async #connect(): Promise<Connection> {
    // Loaded only where it is used: the collector's package goes without.
    const { connectKafka, failureOf } = await import('../protocols/kafka/client.ts').catch(
      (cause: unknown) => {
        throw new RetryableError(
          'LIBRARY_MISSING',
          'this program comes without kafkajs: use the whole package',
          { cause },
        )
      },
    )
    const { Senders } = await import('../protocols/kafka/sender.ts')
    const { log, clock, collector } = this.#context
    const kafka = connectKafka(this.#config, log, `dpulse-${collector}`)
    const admin = kafka.admin()
    try {
      await admin.connect()
    } catch (error) {
      await admin.disconnect().catch(() => undefined)
      throw failureOf(`no connection to Kafka at ${this.#config.brokers.join(', ')}`, error)
    }
    const { senders, max_message: messageBytes } = this.#config
    return { kafka, admin, senders: new Senders({ kafka, log, clock, senders, messageBytes }) }
  }

  /** Of a topic, asked for now and then: the devices of a topic that got more partitions move, as with every producer. */
  #partitionCount(admin: Admin, topic: string): Promise<number> {
    const now = this.#context.clock.elapsedMs()
    const known = this.#partitions.get(topic)
    if (known && now - known.asOfMs < this.#config.metadata_interval) return known.count
    const count = this.#ask(admin, topic)
    this.#partitions.set(topic, { count, asOfMs: now })
    count.catch(() => this.#partitions.delete(topic))
    return count
  }

  async #ask(admin: Admin, topic: string): Promise<number> {
    try {
      const { topics: found } = await admin.fetchTopicMetadata({ topics: [topic] })
      const count = found[0]?.partitions.length ?? 0
      if (count > 0) return count
    } catch (cause) {
      const text = `Kafka does not say how many partitions ${topic} has: ${messageOf(cause)}`
      throw new RetryableError('PEER_UNREACHABLE', text, { cause })
    }
    throw new RetryableError(
      'PEER_REFUSED',
      `Kafka has no topic ${topic}; an aggregator makes it, or whoever runs Kafka`,
    )
  }
}

async function close({ admin, senders }: Connection): Promise<void> {
  await Promise.allSettled([senders.close(), admin.disconnect()])
}
