// The ownership of one partition. Whoever takes it opens a producer under the transactional id of that partition, which
// fences every earlier one, and only then reads what its predecessor knew. What the owner knows is saved in transactions
// of that producer, so that a predecessor that wakes up late can change nothing.
import type { Kafka, Producer } from 'kafkajs'
import { ulid } from 'ulid'
import type { Log } from '../../plugins/contract/define.ts'
import { messageOf } from '../../plugins/contract/errors.ts'
import type { PartitionSave, Position, TableName, TableRow } from './journal.ts'
import { createPartitioner, zstd } from '../../plugins/protocols/kafka/client.ts'
import type { KafkaTables } from './kafka-tables.ts'
import { positionMark, syncKey } from './kafka-tables.ts'

export interface TenureOptions {
  kafka: Kafka
  group: string
  tables: KafkaTables
  messageBytes: number
  log: Log
}

const transactionMs = 30_000
const timeoutMs = 8000
const echoMs = 500
const stateTables = ['dpulse_state', 'dpulse_ledger'] as const satisfies TableName[]

type Message = { key: string; value: Buffer | null; partition: number }

export class Tenure {
  readonly partition: number
  readonly #options: TenureOptions
  readonly #producer: Producer
  #ended = false

  private constructor(partition: number, options: TenureOptions, producer: Producer) {
    this.partition = partition
    this.#options = options
    this.#producer = producer
  }

  /** Fences whoever had the partition, and resolves when all that it saved has been read here. */
  static async begin(partition: number, options: TenureOptions): Promise<Tenure> {
    const { kafka, group, tables } = options
    const producer = kafka.producer({
      transactionalId: `${group}-${partition}`,
      idempotent: true,
      maxInFlightRequests: 1,
      transactionTimeout: transactionMs,
      allowAutoTopicCreation: false,
      createPartitioner,
      // A transaction of the predecessor may still have to be given up.
      retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 20 },
    })
    const tenure = new Tenure(partition, options, producer)
    try {
      await producer.connect()
      const value = Buffer.from(ulid())
      const ends = await tenure.#transact(
        new Map(stateTables.map((name) => [tables.topic(name), [{ key: syncKey, value, partition }]])),
      )
      await Promise.all(
        stateTables.map((name) => tables.reach(name, partition, ends.get(tables.topic(name)) ?? 0)),
      )
      return tenure
    } catch (error) {
      await tenure.end()
      throw error
    }
  }

  /** What the last owner saved. */
  state(): { position: Position; streams: [string, Uint8Array][]; accounts: [string, Uint8Array][] } {
    const { tables } = this.#options
    const mark = tables.positionMark(this.partition)
    return {
      position: mark ? (JSON.parse(Buffer.from(mark).toString()) as Record<string, number>) : {},
      streams: [...tables.rows('dpulse_state', this.partition)],
      accounts: [...tables.rows('dpulse_ledger', this.partition)],
    }
  }

  /** False when it cannot be said that it is there: then this tenure is over. */
  async save({ position, streams, accounts }: PartitionSave): Promise<boolean> {
    const { tables, log } = this.#options
    const { partition } = this
    const message = ([key, value]: TableRow): Message => ({
      key,
      value: value ? Buffer.from(value) : null,
      partition,
    })
    const mark = { key: positionMark, value: Buffer.from(JSON.stringify(position)), partition }
    try {
      const ends = await this.#transact(
        new Map([
          [tables.topic('dpulse_ledger'), accounts.map(message)],
          [tables.topic('dpulse_state'), [...streams.map(message), mark]],
        ]),
      )
      // It is safe already; whoever asks next is told of it.
      await Promise.all(
        stateTables.map((name) => tables.passed(name, partition, ends.get(tables.topic(name)) ?? 0, echoMs)),
      )
      return true
    } catch (error) {
      if (!this.#ended) log.warn('partition is given up', { partition, error: messageOf(error) })
      await this.end()
      return false
    }
  }

  async end(): Promise<void> {
    this.#ended = true
    await this.#producer.disconnect().catch(() => undefined)
  }

  /** All messages or none. Answers with one past the last offset in each topic. */
  async #transact(messages: ReadonlyMap<string, Message[]>): Promise<Map<string, number>> {
    const transaction = await this.#producer.transaction()
    const ends = new Map<string, number>()
    try {
      for (const topicMessages of rounds(messages, this.#options.messageBytes)) {
        const options = { acks: -1, timeout: timeoutMs, compression: zstd }
        const answers = await transaction.sendBatch({ ...options, topicMessages })
        for (const { topic, messages: some } of topicMessages) {
          const answer = answers.find(({ topicName }) => topicName === topic)
          // After a change of leaders kafkajs may answer without having sent.
          if (answer?.errorCode !== 0) throw new Error(`Kafka did not answer for ${topic}`)
          ends.set(topic, Number(answer.baseOffset) + some.length)
        }
      }
      await transaction.commit()
      return ends
    } catch (error) {
      await transaction.abort().catch(() => undefined)
      throw error
    }
  }
}

type Round = { topic: string; messages: Message[] }[]

/** What is sent in one request: of each topic no more than fits one record batch. Mostly there is one. */
function rounds(messages: ReadonlyMap<string, Message[]>, most: number): Round[] {
  const result: Round[] = []
  for (const [topic, all] of messages) {
    for (const [index, some] of portions(all, most).entries())
      (result[index] ??= []).push({ topic, messages: some })
  }
  return result
}

/** Each fits one record batch. */
function portions(messages: readonly Message[], most: number): Message[][] {
  const result: Message[][] = []
  let bytes = Infinity
  for (const message of messages) {
    const size = message.key.length + (message.value?.length ?? 0) + 64
    if (bytes + size > most - 512) {
      result.push([])
      bytes = 0
    }
    bytes += size
    result.at(-1)?.push(message)
  }
  return result
}
