// Reads the partitions that the consumer group gives to this aggregator. A partition is read once its tenure has begun,
// and from where its last owner stood. The writer pulls: what was fetched waits in bounded lanes, and full ones pause.
import type { Consumer, EachBatchPayload, Kafka } from 'kafkajs'
import type { Clock, Log } from '../../plugins/contract/define.ts'
import { messageOf } from '../../plugins/contract/errors.ts'
import { positionKey, signalTopics } from './journal.ts'
import type {
  GainedPartition,
  JournalDamage,
  JournalRead,
  PartitionSave,
  Position,
  ReadLimit,
  SignalTopic,
} from './journal.ts'
import { togetherAssigner } from './kafka-assigner.ts'
import { steadyConsumer } from './kafka-consumer.ts'
import type { SteadyConsumer } from './kafka-consumer.ts'
import { Lanes, damageOf, startOf } from './kafka-lanes.ts'
import type { Lane } from './kafka-lanes.ts'
import type { Marks } from './kafka-marks.ts'
import { Tenure } from './kafka-tenure.ts'
import type { TenureOptions } from './kafka-tenure.ts'

export interface ReaderOptions {
  kafka: Kafka
  group: string
  prefix: string
  sessionTimeoutMs: number
  alone: boolean
  tenure: TenureOptions
  marks: Marks
  clock: Clock
  log: Log
}

/** Of one answer, packed; ten times as much when it is not. */
const fetchBytes = 2 * 1024 * 1024
const partitionBytes = 1024 * 1024
/** Fewer are waited for, so that a busy journal is read in pieces that are worth an answer. */
const minBytes = 512 * 1024
const topicNames = Object.values(signalTopics)
const againMs = 500

export class GroupReader {
  readonly #options: ReaderOptions
  readonly #lanes = new Lanes()
  readonly #consumer: SteadyConsumer
  readonly #tenures = new Map<number, Tenure>()
  /** What the group says is ours. */
  #assigned = new Set<number>()
  /** Ours, but nobody can say since when: taken again once the group has confirmed it. */
  readonly #doubtful = new Set<number>()
  readonly #beginning = new Set<number>()
  #lost: number[] = []
  #gained: GainedPartition[] = []
  #damage: JournalDamage[] = []
  #wake = Promise.withResolvers<void>()
  #closed = false

  constructor(options: ReaderOptions) {
    this.#options = options
    const { kafka, group, sessionTimeoutMs, clock, log } = options
    this.#consumer = steadyConsumer({
      kafka,
      clock,
      log,
      topics: topicNames.map((name) => options.prefix + name),
      config: {
        groupId: group,
        sessionTimeout: sessionTimeoutMs,
        rebalanceTimeout: Math.max(10_000, sessionTimeoutMs),
        heartbeatInterval: Math.min(1000, Math.floor(sessionTimeoutMs / 5)),
        maxBytes: fetchBytes,
        maxBytesPerPartition: partitionBytes,
        minBytes,
        maxWaitTimeInMs: 200,
        partitionAssigners: [togetherAssigner(() => this.#tenures.keys(), options.alone)],
        retry: { initialRetryTime: 100, maxRetryTime: 1000, retries: 10, restartOnFailure: async () => true },
      },
      onBatch: (payload) => this.#take(payload),
      onJoin: (assigned, consumer) => this.#join(assigned, consumer),
      onHeartbeat: () => this.#confirm(),
    })
  }

  owned(): ReadonlySet<number> {
    return new Set(this.#tenures.keys())
  }

  async read(from: Position, limit: ReadLimit, signal: AbortSignal): Promise<JournalRead> {
    for (;;) {
      const damage = this.#damage
      this.#damage = []
      if (this.#lost.length > 0 || this.#gained.length > 0) {
        const moved = { lost: this.#lost, gained: this.#gained }
        this.#lost = []
        this.#gained = []
        return { entries: [], next: from, damage, moved }
      }
      const next: Record<string, number> = { ...from }
      for (const lane of this.#lanes.all()) this.#follow(lane, from, next)
      const entries = signal.aborted ? [] : this.#lanes.take(limit, next)
      this.#relieve()
      if (entries.length > 0 || damage.length > 0 || signal.aborted || limit.wait === false) {
        return { entries, next: signal.aborted ? from : next, damage }
      }
      await this.#woken(signal)
    }
  }

  async save(states: readonly PartitionSave[]): Promise<Set<number>> {
    const taken = new Set<number>()
    await Promise.all(
      states.map(async (state) => {
        const tenure = this.#tenures.get(state.partition)
        if (!tenure) return
        if (await tenure.save(state)) taken.add(state.partition)
        else if (this.#tenures.get(state.partition) === tenure) this.#lose(state.partition, true)
      }),
    )
    return taken
  }

  /** Advice for others who look at the group: our own position is saved with the state. */
  async advise(position: Position): Promise<void> {
    const offsets = this.#lanes.all().flatMap(({ topic, partition, key }) => {
      const offset = position[key]
      return offset === undefined || offset === 0
        ? []
        : [{ topic: this.#options.prefix + topic, partition, offset: String(offset) }]
    })
    if (offsets.length === 0) return
    await this.#consumer.current?.commitOffsets(offsets).catch((error: unknown) => {
      this.#options.log.debug('offsets of the group not committed', { error: messageOf(error) })
    })
  }

  lag(): Map<SignalTopic, number> {
    const lag = new Map<SignalTopic, number>(topicNames.map((name) => [name, 0]))
    for (const { topic, key, next } of this.#lanes.all()) {
      lag.set(topic, (lag.get(topic) ?? 0) + Math.max(0, (this.#options.marks.high(key) ?? 0) - next))
    }
    return lag
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#assigned.clear()
    await this.#consumer.close()
    await Promise.all([...this.#tenures.values()].map((tenure) => tenure.end()))
    this.#tenures.clear()
  }

  /** The reader's position is the writer's: only after a restart, or in a test, they differ. */
  #follow(lane: Lane, from: Position, next: Record<string, number>): void {
    const at = from[lane.key]
    if (at !== undefined && at !== lane.next) {
      this.#lanes.move(lane, at)
      this.#seek(lane)
    }
    next[lane.key] = lane.head === lane.queue.length ? lane.fetch : lane.next
    if (lane.head === lane.queue.length) lane.next = lane.fetch
  }

  #seek(lane: Lane): void {
    const topic = this.#options.prefix + lane.topic
    try {
      this.#consumer.current?.seek({ topic, partition: lane.partition, offset: String(lane.fetch) })
    } catch (error) {
      // Between two groups: the next join seeks.
      this.#options.log.debug('not moved', { topic, partition: lane.partition, error: messageOf(error) })
    }
  }

  #pause(lane: Lane, consumer: Consumer | undefined): void {
    lane.isPaused = true
    consumer?.pause([{ topic: this.#options.prefix + lane.topic, partitions: [lane.partition] }])
  }

  #relieve(): void {
    const consumer = this.#consumer.current
    for (const lane of this.#lanes.all()) {
      if (!lane.isPaused || !this.#lanes.hasRoom(lane)) continue
      lane.isPaused = false
      consumer?.resume([{ topic: this.#options.prefix + lane.topic, partitions: [lane.partition] }])
    }
  }

  async #woken(signal: AbortSignal): Promise<void> {
    const woken = this.#wake.promise
    const aborted = Promise.withResolvers<void>()
    const onAbort = (): void => aborted.resolve()
    signal.addEventListener('abort', onAbort, { once: true })
    if (!signal.aborted) await Promise.race([woken, aborted.promise])
    signal.removeEventListener('abort', onAbort)
  }

  #notify(): void {
    this.#wake.resolve()
    this.#wake = Promise.withResolvers<void>()
  }

  #join(assignment: Readonly<Record<string, readonly number[]>>, consumer: Consumer): void {
    const { prefix } = this.#options
    const lists = topicNames.map((name) => new Set(assignment[prefix + name] ?? []))
    this.#assigned = new Set([...(lists[0] ?? [])].filter((one) => lists.every((list) => list.has(one))))
    for (const partition of this.#tenures.keys()) {
      if (!this.#assigned.has(partition)) this.#lose(partition, false)
    }
    for (const partition of this.#assigned) {
      for (const name of topicNames) {
        const lane = this.#lanes.get(name, partition)
        // Fetched from the group's offsets otherwise, which are advice.
        if (lane) this.#seek(lane)
        const ready = lane && !lane.isPaused
        consumer[ready ? 'resume' : 'pause']([{ topic: prefix + name, partitions: [partition] }])
      }
      if (!this.#tenures.has(partition)) this.#begin(partition)
    }
    this.#options.log.info('partitions assigned', { partitions: [...this.#assigned].join(' ') || 'none' })
  }

  #confirm(): void {
    for (const partition of this.#doubtful) {
      this.#doubtful.delete(partition)
      if (this.#assigned.has(partition)) this.#begin(partition)
    }
  }

  #lose(partition: number, isDoubtful: boolean): void {
    const tenure = this.#tenures.get(partition)
    if (!tenure) return
    this.#tenures.delete(partition)
    this.#lanes.close(partition)
    this.#gained = this.#gained.filter((one) => one.partition !== partition)
    this.#lost.push(partition)
    if (isDoubtful) this.#doubtful.add(partition)
    tenure.end().catch(() => undefined)
    this.#notify()
  }

  #begin(partition: number): void {
    if (this.#beginning.has(partition) || this.#tenures.has(partition) || this.#closed) return
    this.#beginning.add(partition)
    this.#open(partition)
      .catch((error: unknown) => {
        if (this.#closed) return
        const { log, clock } = this.#options
        log.warn('partition cannot be taken yet', { partition, error: messageOf(error) })
        void clock.delay(againMs, AbortSignal.timeout(2 * againMs)).then(() => this.#doubtful.add(partition))
      })
      .finally(() => this.#beginning.delete(partition))
  }

  async #open(partition: number): Promise<void> {
    const { tenure: options, marks, prefix } = this.#options
    const tenure = await Tenure.begin(partition, options)
    await marks.look()
    const consumer = this.#consumer.current
    if (!this.#assigned.has(partition) || this.#closed || !consumer) {
      await tenure.end()
      if (this.#assigned.has(partition)) throw new Error('the group is gone')
      return
    }
    const { position: saved, streams, accounts } = tenure.state()
    const position: Record<string, number> = {}
    for (const topic of topicNames) {
      const key = positionKey(topic, partition)
      const low = marks.low(key) ?? 0
      const lane = this.#lanes.open(topic, partition, startOf(saved, topic, partition, low))
      const damage = damageOf(lane, low, marks.high(key) ?? Infinity)
      if (damage) {
        this.#damage.push(damage)
        this.#lanes.move(lane, lane.next < low ? low : (marks.high(key) ?? 0))
      }
      position[key] = lane.next
      this.#seek(lane)
      consumer.resume([{ topic: prefix + topic, partitions: [partition] }])
    }
    this.#tenures.set(partition, tenure)
    this.#gained.push({ partition, position, streams, accounts })
    this.#notify()
  }

  async #take({ batch }: EachBatchPayload): Promise<void> {
    const topic = batch.topic.slice(this.#options.prefix.length)
    const lane = this.#lanes.get(topic, batch.partition)
    if (!lane) return
    this.#options.marks.note(lane.key, Number(batch.highWatermark))
    const first = Number(batch.messages[0]?.offset ?? lane.fetch)
    if (first > lane.fetch) await this.#gap(lane, first)
    // It may have been moved or closed meanwhile.
    if (this.#lanes.get(topic, batch.partition) !== lane || first > lane.fetch) return
    for (const { offset, key, value, timestamp } of batch.messages) {
      const at = Number(offset)
      if (at < lane.fetch || !value) continue
      const arrivedUnixNano = BigInt(timestamp) * 1_000_000n
      const { topic, partition } = lane
      this.#lanes.add(lane, {
        topic,
        partition,
        offset: at,
        key: key?.toString() ?? '',
        value,
        arrivedUnixNano,
      })
    }
    lane.fetch = Math.max(lane.fetch, Number(batch.lastOffset()) + 1)
    if (this.#lanes.isFull(lane)) this.#pause(lane, this.#consumer.current)
    this.#notify()
  }

  /** Offsets that never come: markers of somebody's transactions, or what retention removed before it was read. */
  async #gap(lane: Lane, first: number): Promise<void> {
    const { marks } = this.#options
    await marks.look()
    const low = marks.low(lane.key) ?? 0
    if (low > lane.fetch) {
      const { topic, partition, fetch } = lane
      this.#damage.push({ topic, partition, from: fetch, to: Math.min(low, first) })
    }
    lane.fetch = first
  }
}
