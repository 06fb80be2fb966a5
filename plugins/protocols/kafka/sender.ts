// Sends messages to Kafka and says when all replicas have them. Several idempotent producers, each with the partitions of
// its own and one request at a time: kafkajs numbers the messages of a request that failed anew, so that a second one on
// the way could carry their numbers, and the broker would take it for a repetition and drop it.
//
// Two more traps of kafkajs are met here. After a failure nobody knows whether the broker has the request under its
// numbers, so the producer is thrown away with them. And when a leader moves between two attempts of one request, kafkajs
// may count a partition as sent because its new leader had answered before: what the answer does not name is sent again.
import type { Kafka, Producer, RecordMetadata } from 'kafkajs'
import type { Clock, Log } from '../../contract/define.ts'
import { messageOf } from '../../contract/errors.ts'
import { createPartitioner, failureOf, zstd } from './client.ts'

export interface Outgoing {
  topic: string
  partition: number
  key: string
  /** Null deletes the key of a compacted topic. */
  value: Uint8Array | null
}

export interface SenderOptions {
  kafka: Kafka
  log: Log
  clock: Clock
  /** How many producers. */
  senders: number
  /** The largest record batch. */
  messageBytes: number
  /** One past the newest message of a partition that is known to be there. */
  onSent?(topic: string, partition: number, end: number): void
}

interface Order {
  left: number
  done: PromiseWithResolvers<void>
}

interface Waiting extends Outgoing {
  bytes: number
  order: Order
}

/** Of all record batches of one request. */
const requestBytes = 8 * 1024 * 1024
/** What comes within this time of a request goes out with the next: a request costs as much as packing 2,000 records. */
const lingerMs = 20
const never = new AbortController().signal
/** For the frame of a message and of a record batch. */
const messageFrame = 64
const batchFrame = 512
/** After this the sender hears that it failed, and keeps what it has. */
const patienceMs = 12_000
const timeoutMs = 8000

export class Senders {
  readonly #lanes: Lane[]

  constructor(options: SenderOptions) {
    this.#lanes = Array.from({ length: options.senders }, () => new Lane(options))
  }

  /** Resolves when all in-sync replicas have all. @throws RetryableError; some may be there all the same. */
  async send(messages: readonly Outgoing[]): Promise<void> {
    const parts = this.#lanes.map((): Outgoing[] => [])
    for (const message of messages) parts[message.partition % parts.length]?.push(message)
    const results = await Promise.allSettled(
      parts.map((part, index) => Promise.resolve(this.#lanes[index]?.send(part))),
    )
    const failed = results.find((result) => result.status === 'rejected')
    if (failed) throw failed.reason
  }

  /** So that the first message need not wait for it. */
  async connect(): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.connect()))
  }

  async close(): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.close()))
  }
}

class Lane {
  readonly #options: SenderOptions
  #producer: Promise<Producer> | undefined
  #queue: Waiting[] = []
  #running: Promise<void> | undefined
  #sentMs = -Infinity

  constructor(options: SenderOptions) {
    this.#options = options
  }

  async connect(): Promise<void> {
    await this.#open()
  }

  send(messages: readonly Outgoing[]): Promise<void> {
    if (messages.length === 0) return Promise.resolve()
    const order = { left: messages.length, done: Promise.withResolvers<void>() }
    for (const message of messages) {
      const bytes = (message.value?.length ?? 0) + message.key.length + messageFrame
      this.#queue.push({ ...message, bytes, order })
    }
    this.#running ??= this.#run()
    return order.done.promise
  }

  async close(): Promise<void> {
    while (this.#running) await this.#running
    await this.#discard()
  }

  async #run(): Promise<void> {
    await Promise.resolve()
    while (this.#queue.length > 0) {
      await this.#linger()
      const batch = this.#take()
      try {
        await this.#transmit(batch)
        this.#sentMs = this.#options.clock.elapsedMs()
        for (const { order } of batch) if (--order.left === 0) order.done.resolve()
      } catch (error) {
        for (const { order } of batch) order.done.reject(error)
      }
    }
    this.#running = undefined
  }

  /** An idle lane sends at once, a busy one lets a request's worth gather. */
  async #linger(): Promise<void> {
    const { clock } = this.#options
    const sinceMs = clock.elapsedMs() - this.#sentMs
    const bytes = this.#queue.reduce((sum, message) => sum + message.bytes, 0)
    if (sinceMs < lingerMs && bytes < requestBytes / 8) await clock.delay(lingerMs - sinceMs, never)
  }

  /** One request: of each partition one record batch, and none larger than its topic takes. */
  #take(): Waiting[] {
    const taken: Waiting[] = []
    const kept: Waiting[] = []
    const sizes = new Map<string, number>()
    const most = this.#options.messageBytes - batchFrame
    let all = 0
    for (const message of this.#queue) {
      const place = `${message.topic}/${message.partition}`
      const before = sizes.get(place) ?? 0
      const fits = before === 0 || before + message.bytes <= most
      if (!fits || (all > 0 && all + message.bytes > requestBytes)) {
        // What follows in the same partition stays behind it.
        sizes.set(place, Infinity)
        kept.push(message)
        continue
      }
      sizes.set(place, before + message.bytes)
      all += message.bytes
      taken.push(message)
    }
    this.#queue = kept
    return taken
  }

  async #transmit(batch: readonly Waiting[]): Promise<void> {
    const { clock, log } = this.#options
    const began = clock.elapsedMs()
    let left = batch
    for (let attempt = 1; ; attempt++) {
      try {
        left = this.#missing(left, await this.#send(left))
        if (left.length === 0) return
        log.warn('Kafka did not answer for every partition of a request', { messages: left.length })
        await this.#discard()
      } catch (error) {
        await this.#discard()
        if (clock.elapsedMs() - began > patienceMs) throw failureOf('Kafka does not take batches', error)
        log.debug('Kafka request failed', { attempt, error: messageOf(error) })
        await clock.delay(Math.min(1000, 50 * 2 ** attempt), AbortSignal.timeout(2000))
      }
    }
  }

  async #send(batch: readonly Waiting[]): Promise<RecordMetadata[]> {
    const byTopic = new Map<string, { key: Buffer; value: Buffer | null; partition: number }[]>()
    for (const { topic, partition, key, value } of batch) {
      const message = { key: Buffer.from(key), value: value && bufferOf(value), partition }
      const some = byTopic.get(topic)
      if (some) some.push(message)
      else byTopic.set(topic, [message])
    }
    const producer = await this.#open()
    return producer.sendBatch({
      acks: -1,
      timeout: timeoutMs,
      compression: zstd,
      topicMessages: [...byTopic].map(([topic, messages]) => ({ topic, messages })),
    })
  }

  /** Those that no answer names. */
  #missing(batch: readonly Waiting[], answers: readonly RecordMetadata[]): Waiting[] {
    const bases = new Map<string, number>()
    for (const { topicName, partition, errorCode, baseOffset } of answers) {
      if (errorCode === 0) bases.set(`${topicName}/${partition}`, Number(baseOffset))
    }
    const ends = new Map<string, { topic: string; partition: number; end: number }>()
    const missing: Waiting[] = []
    for (const message of batch) {
      const { topic, partition } = message
      const place = `${topic}/${partition}`
      const base = bases.get(place)
      if (base === undefined) {
        missing.push(message)
        continue
      }
      const end = ends.get(place)
      if (end) end.end++
      else ends.set(place, { topic, partition, end: base + 1 })
    }
    for (const { topic, partition, end } of ends.values()) this.#options.onSent?.(topic, partition, end)
    return missing
  }

  #open(): Promise<Producer> {
    this.#producer ??= (async () => {
      const { kafka } = this.#options
      const producer = kafka.producer({
        idempotent: true,
        maxInFlightRequests: 1,
        allowAutoTopicCreation: false,
        createPartitioner,
      })
      try {
        await producer.connect()
      } catch (error) {
        await producer.disconnect().catch(() => undefined)
        throw error
      }
      return producer
    })()
    return this.#producer
  }

  async #discard(): Promise<void> {
    const old = this.#producer
    this.#producer = undefined
    await old?.then((producer) => producer.disconnect()).catch(() => undefined)
  }
}

const bufferOf = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
