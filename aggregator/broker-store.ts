// What the embedded broker keeps: retained messages, and the wills of connected clients, in a compacted table of the
// journal, so that both survive a kill. Sessions end with their connection (every client is told so at CONNECT), hence
// no subscriptions and no queues of absent clients are kept. Where several aggregators share the journal, retained messages
// are those of all their brokers, each with its origin, and wills those of one.
//
//   table dpulse_retained:   <topic> → QoS byte, payload                               $will/<client id> → JSON
//                shared:     <topic> → QoS byte with 0x80, 4 bytes of origin, payload  $will/<origin>/<client id> → JSON
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import type { Aedes, AedesPublishPacket, Client, PublishPacket } from 'aedes'
import type { JournalTable } from './journal/journal.ts'
import { PermanentError, messageOf } from '../plugins/contract/errors.ts'
import type { Log } from '../plugins/contract/define.ts'
import { topicFits } from '../plugins/protocols/topics.ts'

export interface RetainedLimits {
  messages: number
  bytes: number
  messageBytes: number
}

const willPrefix = '$will/'
/** Larger wills work, but not across a crash of the broker. */
const durableWillBytes = 16 * 1024

export interface RetainedMessage {
  topic: string
  payload: Buffer
  qos: 0 | 1 | 2
}

/** Of a broker whose aggregator shares the journal with others; the same after each start of it. */
export const originOf = (name: string): Buffer => createHash('sha256').update(name).digest().subarray(0, 4)

/** Retained messages; `set` resolves when the disk has them. */
export class Retained {
  readonly #table: JournalTable
  readonly #limits: RetainedLimits
  readonly #origin: Buffer | undefined
  readonly #sizes = new Map<string, number>()
  /** Topics that are being cleared from here: what is gone names no origin. */
  readonly #clearing = new Set<string>()
  #bytes = 0

  constructor(table: JournalTable, limits: RetainedLimits, origin?: Buffer) {
    this.#table = table
    this.#limits = limits
    this.#origin = origin
    for (const [topic, value] of table.entries())
      if (!topic.startsWith('$')) this.#note(topic, message(topic, value).payload.length)
  }

  /** Hears of what brokers of other aggregators were told; of an empty payload where it was cleared. */
  watch(listener: (told: RetainedMessage) => void): void {
    this.#table.watch?.((topic, value) => {
      if (topic.startsWith('$')) return
      const told = value ? message(topic, value) : { topic, payload: Buffer.alloc(0), qos: 0 as const }
      this.#note(topic, told.payload.length)
      if (value ? this.isFromElsewhere(topic, value) : !this.#clearing.has(topic)) listener(told)
    })
  }

  /** Whether the newest message came through the broker of another aggregator. */
  isFromElsewhere(topic: string, value = this.#table.get(topic)): boolean {
    return this.#origin !== undefined && value !== undefined && !this.#origin.equals(value.subarray(1, 5))
  }

  get size(): number {
    return this.#sizes.size
  }

  /** An empty payload clears. @throws PermanentError INPUT_TOO_LARGE beyond the limits; what the journal throws. */
  async set(topic: string, payload: Uint8Array, qos: number): Promise<void> {
    const { messages, bytes, messageBytes } = this.#limits
    if (payload.length === 0) {
      this.#note(topic, 0)
      this.#clearing.add(topic)
      await this.#table.set(topic, undefined).finally(() => this.#clearing.delete(topic))
      return
    }
    if (payload.length > messageBytes) {
      throw new PermanentError('INPUT_TOO_LARGE', `a retained message may have ${messageBytes} bytes`)
    }
    const known = this.#sizes.get(topic)
    if (known === undefined && this.#sizes.size >= messages) {
      throw new PermanentError('INPUT_TOO_LARGE', `there are ${messages} retained messages already`)
    }
    if (this.#bytes - (known ?? 0) + payload.length > bytes) {
      throw new PermanentError('INPUT_TOO_LARGE', `retained messages fill the ${bytes} bytes that they may`)
    }
    this.#note(topic, payload.length)
    try {
      const head = this.#origin ? [Buffer.of(originMark | qos), this.#origin] : [Buffer.of(qos)]
      await this.#table.set(topic, Buffer.concat([...head, payload]))
    } catch (error) {
      const value = this.#table.get(topic)
      this.#note(topic, value ? message(topic, value).payload.length : 0)
      throw error
    }
  }

  /** Messages whose topics fit any of the patterns, each once. */
  *match(patterns: readonly string[]): IterableIterator<RetainedMessage> {
    const wild = patterns.filter((pattern) => /[+#]/.test(pattern))
    for (const topic of new Set(patterns)) {
      const value = wild.includes(topic) ? undefined : this.#table.get(topic)
      if (value && !wild.some((pattern) => topicFits(pattern, topic))) yield message(topic, value)
    }
    if (wild.length === 0) return
    for (const [topic, value] of this.#table.entries()) {
      if (!topic.startsWith('$') && wild.some((pattern) => topicFits(pattern, topic))) {
        yield message(topic, value)
      }
    }
  }

  #note(topic: string, bytes: number): void {
    this.#bytes += bytes - (this.#sizes.get(topic) ?? 0)
    if (bytes === 0) this.#sizes.delete(topic)
    else this.#sizes.set(topic, bytes)
  }
}

/** In the first byte, where the origin follows it. */
const originMark = 0x80

function message(topic: string, value: Uint8Array): RetainedMessage {
  const [first = 0] = value
  const payload = Buffer.from(value.subarray(first & originMark ? 5 : 1))
  return { topic, payload, qos: Math.min(first & ~originMark, 2) as 0 | 1 | 2 }
}

type Id = { id: string }
type Will = PublishPacket & { brokerId?: string; clientId?: string }

/** The persistence that Aedes asks for, without sessions. */
export class BrokerStore {
  readonly #retained: Retained
  readonly #table: JournalTable
  readonly #log: Log
  /** Before the client id, in keys of the table. */
  readonly #prefix: string
  readonly #wills = new Map<string, Will>()
  /** QoS 2 messages between PUBLISH and PUBREL, by client; the broker bounds them. */
  readonly #incoming = new Map<string, Map<number, PublishPacket>>()
  #broker: Aedes | undefined

  constructor(retained: Retained, table: JournalTable, log: Log, origin?: Buffer) {
    this.#retained = retained
    this.#table = table
    this.#log = log
    this.#prefix = willPrefix + (origin ? `${origin.toString('hex')}/` : '')
    for (const [key, value] of table.entries()) {
      if (!key.startsWith(this.#prefix)) continue
      const { payload, ...rest } = JSON.parse(Buffer.from(value).toString()) as Will & { payload: string }
      this.#wills.set(key.slice(this.#prefix.length), { ...rest, payload: Buffer.from(payload, 'base64') })
    }
  }

  // Aedes insists that this one is an async function.
  async setup(broker: Aedes): Promise<void> {
    this.#broker = broker
  }

  /** The disk already has it: admission waits for that, because Aedes sends the PUBACK before it comes here. */
  async storeRetained(): Promise<void> {}

  createRetainedStreamCombi(patterns: readonly string[]): Readable {
    return Readable.from(this.#packets(patterns))
  }

  createRetainedStream(pattern: string): Readable {
    return this.createRetainedStreamCombi([pattern])
  }

  *#packets(patterns: readonly string[]): IterableIterator<object> {
    for (const found of this.#retained.match(patterns)) yield { cmd: 'publish', retain: true, ...found }
  }

  async putWill(client: Client, packet: Will): Promise<void> {
    packet.brokerId = this.#broker?.id ?? ''
    packet.clientId = client.id
    this.#wills.set(client.id, packet)
    const payload = Buffer.from(packet.payload)
    if (payload.length > durableWillBytes) return
    const { topic, qos, retain, brokerId, clientId } = packet
    const row = {
      cmd: 'publish',
      topic,
      qos,
      retain,
      brokerId,
      clientId,
      payload: payload.toString('base64'),
    }
    await this.#table.set(this.#prefix + client.id, Buffer.from(JSON.stringify(row)))
  }

  async getWill(client: Id): Promise<Will | undefined> {
    return this.#wills.get(client.id)
  }

  async delWill(client: Id): Promise<Will | undefined> {
    const will = this.#wills.get(client.id)
    const broker = this.#broker as
      | (Aedes & { clients: Record<string, Client & { will?: unknown }> })
      | undefined
    const current = broker?.clients[client.id]
    // The connection that took over this client id has put its own will here by now. And when the broker stops, the
    // clients have not gone: what they left is published after the restart unless they come back.
    if (broker?.closed === true || (current && current !== client && !current.closed && current.will))
      return will
    this.#wills.delete(client.id)
    if (this.#table.get(this.#prefix + client.id)) {
      await this.#table
        .set(this.#prefix + client.id, undefined)
        .catch((error: unknown) => this.#log.warn('will not forgotten', { error: messageOf(error) }))
    }
    return will
  }

  /** Wills of clients of brokers that are gone: of earlier runs of this one. */
  streamWill(brokers: Record<string, unknown> = {}): Readable {
    const own = this.#broker?.id ?? ''
    return Readable.from(
      [...this.#wills.values()].filter(({ brokerId = '' }) => brokerId !== own && !brokers[brokerId]),
    )
  }

  async incomingStorePacket(client: Id, packet: PublishPacket): Promise<void> {
    let stored = this.#incoming.get(client.id)
    if (!stored) this.#incoming.set(client.id, (stored = new Map()))
    // Only that it was there matters.
    stored.set(packet.messageId ?? 0, { ...packet, payload: '' })
  }

  async incomingGetPacket(client: Id, packet: PublishPacket): Promise<PublishPacket> {
    const stored = this.#incoming.get(client.id)?.get(packet.messageId ?? 0)
    if (!stored) throw new Error('no such packet')
    return stored
  }

  async incomingDelPacket(client: Id, packet: PublishPacket): Promise<void> {
    if (this.#incoming.get(client.id)?.delete(packet.messageId ?? 0) !== true)
      throw new Error('no such packet')
  }

  async cleanIncoming(client: Id): Promise<void> {
    this.#incoming.delete(client.id)
  }

  // Sessions end with their connection: nothing is kept for clients that are away.
  async addSubscriptions(): Promise<void> {}
  async removeSubscriptions(): Promise<void> {}
  async cleanSubscriptions(): Promise<void> {}
  async subscriptionsByClient(): Promise<object[]> {
    return []
  }
  async subscriptionsByTopic(): Promise<object[]> {
    return []
  }
  async countOffline(): Promise<{ subsCount: number; clientsCount: number }> {
    return { subsCount: 0, clientsCount: 0 }
  }
  async outgoingEnqueue(): Promise<void> {}
  async outgoingEnqueueCombi(): Promise<void> {}
  async outgoingUpdate(): Promise<void> {}
  async outgoingClearMessageId(): Promise<AedesPublishPacket | undefined> {
    return undefined
  }
  outgoingStream(): Readable {
    return Readable.from([])
  }
  getClientList(): Readable {
    return Readable.from([])
  }
  async destroy(): Promise<void> {}
}
