// Compacted tables on Kafka: every aggregator follows all of them and holds the newest value of each key in memory. A
// marker that comes back to its writer proves that everything before it has been read.
//
//   $sync      whoever waits until this one has been read has read all before it
//   $position  dpulse_state only: where the owner of the partition stands, JSON
import type { Consumer, EachBatchPayload, Kafka } from 'kafkajs'
import { ulid } from 'ulid'
import type { Clock, Log } from '../../plugins/contract/define.ts'
import { RetryableError } from '../../plugins/contract/errors.ts'
import type { JournalTable, TableName } from './journal.ts'
import { steadyConsumer } from './kafka-consumer.ts'
import type { SteadyConsumer } from './kafka-consumer.ts'
import { Senders } from '../../plugins/protocols/kafka/sender.ts'
import type { Outgoing } from '../../plugins/protocols/kafka/sender.ts'
import { tableTopics } from './kafka-topics.ts'

export interface TablesOptions {
  kafka: Kafka
  group: string
  prefix: string
  /** Partitions of each topic. */
  partitions: ReadonlyMap<string, number>
  /** The partition of a row. */
  partitionOf(name: TableName, key: string): number
  messageBytes: number
  clock: Clock
  log: Log
}

interface Row {
  value: Uint8Array
  partition: number
}

export interface TableChange {
  name: TableName
  key: string
  value: Uint8Array | undefined
}

type Watcher = (key: string, value: Uint8Array | undefined) => void

interface Table {
  topic: string
  partitions: number
  rows: Map<string, Row>
  /** Values of `$position`, by partition. */
  positions: Map<number, Uint8Array>
  /** Next offset by partition. */
  next: number[]
  watchers: Watcher[]
}

export const syncKey = '$sync'
export const positionMark = '$position'
const partitionsMark = '$partitions'
const syncMs = 30_000
const ownedMs = 3000
/** How long whoever writes a row waits until it can be read here too. */
const echoMs = 5000

interface Waiter {
  end: number
  done: () => void
}

export class KafkaTables {
  readonly #options: TablesOptions
  readonly #tables = new Map<string, Table>()
  readonly #waiting = new Map<string, Set<Waiter>>()
  /** One past the newest message that was sent from here. */
  readonly #sent = new Map<string, number>()
  #began: number | undefined
  readonly #senders: Senders
  readonly #consumer: SteadyConsumer

  private constructor(options: TablesOptions) {
    this.#options = options
    const { kafka, group, prefix, partitions, clock, log } = options
    for (const name of tableTopics) {
      const topic = prefix + name
      const count = partitions.get(topic) ?? 1
      this.#tables.set(topic, {
        topic,
        partitions: count,
        rows: new Map(),
        positions: new Map(),
        next: Array.from({ length: count }, () => 0),
        watchers: [],
      })
    }
    this.#senders = new Senders({
      ...options,
      senders: 1,
      onSent: (topic, partition, end) => void this.#sent.set(`${topic}/${partition}`, end),
    })
    this.#consumer = steadyConsumer({
      kafka,
      // Nobody shares the work: each follows all of it, so each is a group of its own, without committed offsets.
      config: { groupId: `${group}-tables-${ulid()}`, sessionTimeout: 30_000, maxWaitTimeInMs: 100 },
      topics: [...this.#tables.keys()],
      clock,
      log,
      onBatch: (payload) => this.#apply(payload),
      onJoin: (_assigned, consumer) => this.#resume(consumer),
    })
  }

  /** Resolves when all has been read that was there. */
  static async open(options: TablesOptions): Promise<KafkaTables> {
    const tables = new KafkaTables(options)
    try {
      const owned: TableName[] = ['dpulse_ledger', 'dpulse_state']
      const plain: TableName[] = ['dpulse_registry', 'dpulse_operations', 'dpulse_retained']
      await Promise.all([
        ...plain.map((name) => tables.#sync(name, syncMs)),
        // A transaction that a killed owner left open hides what comes after it, until the next owner begins.
        ...owned.map(async (name) => tables.#sync(name, ownedMs).catch(() => undefined)),
      ])
    } catch (error) {
      await tables.close()
      throw error
    }
    return tables
  }

  table(name: TableName): JournalTable {
    const table = this.#of(name)
    return {
      get: (key) => table.rows.get(key)?.value,
      *entries() {
        for (const [key, { value }] of table.rows) yield [key, value]
      },
      set: (key, value) => this.write([{ name, key, value }]),
      watch: (listener) => void table.watchers.push(listener),
    }
  }

  /** Resolves when all replicas have it, and `get` answers so. @throws RetryableError */
  async write(rows: readonly TableChange[]): Promise<void> {
    const messages = rows.map(({ name, key, value }): Outgoing => {
      const table = this.#of(name)
      const partition = this.#options.partitionOf(name, key)
      return { topic: table.topic, partition, key, value: value ?? null }
    })
    await this.#senders.send(messages)
    const places = new Map(messages.map((message) => [`${message.topic}/${message.partition}`, message]))
    // It is safe already. What others write has its place before or after it: only reading tells.
    await Promise.all(
      [...places].map(([place, { topic, partition }]) =>
        this.#passed(topic, partition, this.#sent.get(place) ?? 0, echoMs),
      ),
    )
  }

  /** Rows of one partition of a table whose key is no mark. */
  *rows(name: TableName, partition: number): IterableIterator<[string, Uint8Array]> {
    for (const [key, { value, partition: at }] of this.#of(name).rows) {
      if (at === partition) yield [key, value]
    }
  }

  /** How many partitions the journal began with: so many where nobody has said it yet. @throws RetryableError */
  async began(partitions: number): Promise<number> {
    const value = Buffer.from(String(partitions))
    if (this.#began === undefined) await this.write([{ name: 'dpulse_registry', key: partitionsMark, value }])
    return this.#began ?? partitions
  }

  positionMark(partition: number): Uint8Array | undefined {
    return this.#of('dpulse_state').positions.get(partition)
  }

  get partitions(): number {
    return this.#of('dpulse_state').partitions
  }

  topic(name: TableName): string {
    return this.#of(name).topic
  }

  /** Resolves when all before the offset has been read. @throws RetryableError when it does not come. */
  async reach(name: TableName, partition: number, end: number, timeoutMs = syncMs): Promise<void> {
    if (await this.passed(name, partition, end, timeoutMs)) return
    throw new RetryableError('PEER_TIMEOUT', `the table ${name} was not read within ${timeoutMs / 1000} s`)
  }

  /** False where not all before the offset has been read in time. */
  passed(name: TableName, partition: number, end: number, timeoutMs: number): Promise<boolean> {
    return this.#passed(this.#of(name).topic, partition, end, timeoutMs)
  }

  async #passed(topic: string, partition: number, end: number, timeoutMs: number): Promise<boolean> {
    const place = `${topic}/${partition}`
    if ((this.#tables.get(topic)?.next[partition] ?? 0) >= end) return true
    const read = Promise.withResolvers<boolean>()
    const waiter = { end, done: () => read.resolve(true) }
    const all = this.#waiting.get(place) ?? new Set()
    this.#waiting.set(place, all.add(waiter))
    const timer = setTimeout(() => read.resolve(false), timeoutMs)
    const inTime = await read.promise
    clearTimeout(timer)
    all.delete(waiter)
    return inTime
  }

  async close(): Promise<void> {
    await Promise.all([this.#consumer.close(), this.#senders.close()])
  }

  #of(name: string): Table {
    const table = this.#tables.get(this.#options.prefix + name)
    if (!table) throw new Error(`no table ${name}`)
    return table
  }

  async #sync(name: TableName, timeoutMs: number): Promise<void> {
    const { topic, partitions } = this.#of(name)
    const all = Array.from({ length: partitions }, (_, partition) => partition)
    const value = Buffer.from(ulid())
    await this.#senders.send(all.map((partition) => ({ topic, partition, key: syncKey, value })))
    await Promise.all(
      all.map((partition) =>
        this.reach(name, partition, this.#sent.get(`${topic}/${partition}`) ?? 0, timeoutMs),
      ),
    )
  }

  /** After each join from where it was: what came before has been applied. */
  #resume(consumer: Consumer): void {
    for (const { topic, next } of this.#tables.values()) {
      for (const [partition, offset] of next.entries()) {
        if (offset > 0) consumer.seek({ topic, partition, offset: String(offset) })
      }
    }
  }

  #apply({ batch }: EachBatchPayload): void {
    const { topic, partition, messages } = batch
    const table = this.#tables.get(topic)
    if (!table) return
    for (const message of messages) {
      const offset = Number(message.offset)
      if (offset < (table.next[partition] ?? 0) || !message.key) continue
      table.next[partition] = offset + 1
      const key = message.key.toString()
      const value = message.value ?? undefined
      if (key === partitionsMark) this.#began = Number(value)
      else if (key === positionMark && value) table.positions.set(partition, compact(value))
      else if (key !== syncKey && key !== positionMark) this.#change(table, key, value, partition)
    }
    for (const waiter of this.#waiting.get(`${topic}/${partition}`) ?? []) {
      if (waiter.end <= (table.next[partition] ?? 0)) waiter.done()
    }
  }

  #change(table: Table, key: string, value: Uint8Array | undefined, partition: number): void {
    if (value) table.rows.set(key, { value: compact(value), partition })
    else table.rows.delete(key)
    for (const watcher of table.watchers) watcher(key, value)
  }
}

/** A copy, so that a row of a few bytes does not hold the megabyte that it came with. */
const compact = (bytes: Uint8Array): Uint8Array => Uint8Array.from(bytes)
