// The newest end of the log topic, as all aggregators and others fill it: for the live tail, and read only while somebody
// listens. Unlike the writer's reader it owns nothing and may leave things out: it takes a part of the processor only,
// and whoever falls behind goes on at the end.
import type { Consumer, EachBatchPayload, Kafka } from 'kafkajs'
import { ulid } from 'ulid'
import type { Clock, Log } from '../../plugins/contract/define.ts'
import { messageOf } from '../../plugins/contract/errors.ts'
import { positionKey, signalTopics } from './journal.ts'
import type { JournalEntry, Position, TailListener } from './journal.ts'
import { steadyConsumer } from './kafka-consumer.ts'
import type { SteadyConsumer } from './kafka-consumer.ts'
import type { Marks } from './kafka-marks.ts'

export interface KafkaTailOptions {
  kafka: Kafka
  group: string
  prefix: string
  partitions: number
  marks: Marks
  /** Where the store stands: what comes after it nobody finds there yet. */
  position(): Position
  clock: Clock
  log: Log
}

const topic = signalTopics.logs
/** Batches of each partition that a tail begins with at most, where the store is behind. */
const mostBefore = 20
/** Who is behind by so much goes on at the end. */
const behindMs = 10_000
/** Pauses after each piece of work, as a multiple of it. */
const restFactor = 3
const fetchBytes = 1024 * 1024
const partitionBytes = 256 * 1024

interface Running {
  consumer: SteadyConsumer | undefined
  /** Next offset by partition. */
  readonly next: Map<number, number>
  /** Where each partition ended then: whoever is not there `behindMs` later is behind. */
  seen: { atMs: number; ends: readonly number[] }
}

export class KafkaTail {
  readonly #options: KafkaTailOptions
  readonly #listeners = new Set<TailListener>()
  #running: Running | undefined
  /** One after the other: who comes while the last one goes waits for its end. */
  #turn: Promise<void> = Promise.resolve()

  constructor(options: KafkaTailOptions) {
    this.#options = options
  }

  listen(listener: TailListener): () => void {
    this.#listeners.add(listener)
    this.#adjust()
    return () => {
      this.#listeners.delete(listener)
      this.#adjust()
    }
  }

  async close(): Promise<void> {
    this.#listeners.clear()
    this.#adjust()
    await this.#turn
  }

  /** Reads where somebody listens, and not where nobody does. */
  #adjust(): void {
    const { log } = this.#options
    this.#turn = this.#turn
      .then(async () => {
        if (this.#listeners.size > 0) this.#running ??= await this.#start()
        else {
          const running = this.#running
          this.#running = undefined
          await running?.consumer?.close()
        }
      })
      .catch((error: unknown) => log.warn('live tail does not start', { error: messageOf(error) }))
  }

  async #start(): Promise<Running> {
    const { kafka, group, prefix, partitions, marks, clock, log } = this.#options
    // Where Kafka does not answer now, what was last heard of it will do.
    await marks.look().catch(() => undefined)
    const ends = this.#ends()
    const stored = this.#options.position()
    const next = new Map<number, number>()
    for (let partition = 0; partition < partitions; partition++) {
      const end = ends[partition] ?? 0
      const from = stored[positionKey(topic, partition)] ?? end
      next.set(partition, Math.min(end, Math.max(from, end - mostBefore)))
    }
    const running: Running = { consumer: undefined, next, seen: { atMs: clock.elapsedMs(), ends } }
    running.consumer = steadyConsumer({
      kafka,
      // Each reads all, so each is a group of its own, without committed offsets.
      config: {
        groupId: `${group}-live-${ulid()}`,
        sessionTimeout: 30_000,
        maxBytes: fetchBytes,
        maxBytesPerPartition: partitionBytes,
        maxWaitTimeInMs: 100,
      },
      topics: [prefix + topic],
      clock,
      log,
      onBatch: (payload) => this.#take(running, payload),
      onJoin: (_assigned, consumer) => {
        for (const partition of next.keys()) this.#seek(running, partition, consumer)
      },
    })
    return running
  }

  #ends(): number[] {
    const { marks, partitions } = this.#options
    return Array.from(
      { length: partitions },
      (_, partition) => marks.high(positionKey(topic, partition)) ?? 0,
    )
  }

  #seek({ next }: Running, partition: number, consumer: Consumer): void {
    consumer.seek({
      topic: this.#options.prefix + topic,
      partition,
      offset: String(next.get(partition) ?? 0),
    })
  }

  async #take(running: Running, { batch }: EachBatchPayload): Promise<void> {
    const { clock, marks } = this.#options
    const { partition } = batch
    marks.note(positionKey(topic, partition), Number(batch.highWatermark))
    const began = clock.elapsedMs()
    const from = running.next.get(partition) ?? 0
    for (const { offset, key, value, timestamp } of batch.messages) {
      if (Number(offset) < from || !value) continue
      this.#tell({
        topic,
        partition,
        offset: Number(offset),
        key: key?.toString() ?? '',
        value,
        arrivedUnixNano: BigInt(timestamp) * 1_000_000n,
      })
    }
    running.next.set(partition, Math.max(from, Number(batch.lastOffset()) + 1))
    this.#catchUp(running)
    // Who only looks on must leave most of the processor to those who take in and store.
    const rest = (clock.elapsedMs() - began) * restFactor
    if (rest >= 1) await clock.delay(Math.min(rest, 1000), AbortSignal.timeout(2000)).catch(() => undefined)
  }

  /** Others write to the topic too, and what nobody can read must not end the tail for the rest. */
  #tell(entry: JournalEntry): void {
    for (const listener of this.#listeners) {
      try {
        listener.onEntry(entry)
      } catch (error) {
        const { partition, offset } = entry
        this.#options.log.warn('not shown in the live tail', { partition, offset, error: messageOf(error) })
      }
    }
  }

  /** Goes on at the end of partitions whose end of a while ago is not reached yet. */
  #catchUp(running: Running): void {
    const { clock } = this.#options
    const { seen, next, consumer } = running
    if (clock.elapsedMs() - seen.atMs < behindMs) return
    const ends = this.#ends()
    let skipped = 0
    for (const [partition, at] of next) {
      const end = ends[partition] ?? 0
      if (at >= (seen.ends[partition] ?? 0) || !consumer?.current) continue
      skipped += end - at
      next.set(partition, end)
      this.#seek(running, partition, consumer.current)
    }
    running.seen = { atMs: clock.elapsedMs(), ends }
    if (skipped > 0) for (const listener of this.#listeners) listener.onMissed(skipped)
  }
}
