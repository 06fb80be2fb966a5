// What the embedded broker lets clients do: publish below a collector's own part of the tree, read all or their own part,
// and never make others wait.
import type { AedesPublishPacket, Client, PublishPacket } from 'aedes'
import type { Log } from '../plugins/contract/define.ts'
import { parseTelemetryTopic, topicFits } from '../plugins/protocols/topics.ts'
import type { Class, Signal } from '../plugins/contract/signal.ts'
import { Connection } from '../plugins/protocols/broker/connection.ts'
import type { Retained } from './broker-store.ts'

export interface TelemetryMessage {
  topic: string
  collector: string
  class: Class
  signal: Signal
  payload: Uint8Array
}

/** Who takes what clients publish. */
export interface Receiver {
  /** Resolved: safe. Rejected: the sender's connection is closed, so that it sends again. */
  onTelemetry(message: TelemetryMessage): Promise<void>
  /** A birth or will. False: malformed, not to be kept. Those that are retained at the start come first. */
  onStatus(collector: string, payload: Uint8Array): boolean
  /** What a collector reports of its configuration; empty where it is cleared. */
  onReported?(collector: string, payload: Uint8Array): void
}

export interface BrokerCounters {
  connections: number
  refusedConnections: number
  published: number
  refusedMessages: number
  /** Messages that slow subscribers missed. */
  missed: number
  /** Clients that were sent away because they read too slowly. */
  slowClients: number
  refusedLogins: number
}

interface Rules {
  root: string
  log: Log
  receiver: Receiver
  retained: Retained
  counters: BrokerCounters
  limits: { liveBytes: number; subscriptionsPerClient: number }
}

export class Admission {
  readonly #rules: Rules

  constructor(rules: Rules) {
    this.#rules = rules
  }

  /** Everything a client publishes comes here first; whatever it throws ends the connection. */
  async publish(client: Client | null, packet: PublishPacket): Promise<void> {
    const connection = client?.conn instanceof Connection ? client.conn : undefined
    const bytes = packet.payload.length + packet.topic.length
    connection?.hold(bytes)
    try {
      await this.#admit(connection, packet)
    } finally {
      connection?.release(bytes)
    }
  }

  async #admit(connection: Connection | undefined, packet: PublishPacket): Promise<void> {
    const { root, log, receiver, retained, counters } = this.#rules
    const { topic } = packet
    const kind = kindOf(root, topic, connection?.owner)
    if ('refused' in kind) {
      counters.refusedMessages++
      throw new Error(`not allowed to publish to ${topic.slice(0, 200)}: ${kind.refused}`)
    }
    counters.published++
    const payload = typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload
    if (kind.kind === 'telemetry') {
      packet.retain = false
      const parts = parseTelemetryTopic(root, topic)
      if (parts) return receiver.onTelemetry({ topic, payload, ...parts })
      counters.refusedMessages++
      log.warn('MQTT topic is no telemetry topic', { topic })
      return undefined
    }
    // The will of a client that has long spoken through the broker of another aggregator.
    if (kind.kind === 'status' && retained.isFromElsewhere(topic) && isOffline(payload)) {
      packet.retain = false
      throw new Error('it speaks elsewhere by now')
    }
    if (kind.kind === 'status' && payload.length > 0 && !receiver.onStatus(kind.collector, payload)) {
      packet.retain = false
      return undefined
    }
    if (packet.retain) await retained.set(topic, payload, packet.qos)
    if (kind.kind === 'reported') receiver.onReported?.(kind.collector, payload)
    return undefined
  }

  maySubscribe(client: Client, topic: string): boolean {
    const { root, limits } = this.#rules
    const { owner } = client.conn as Connection
    const { subscriptions } = client as Client & { subscriptions: object }
    // Aedes knows no shared subscriptions: to grant one would be to promise messages that never come.
    if (topic.startsWith('$share/') || topic.length > 1000) return false
    if (Object.keys(subscriptions).length >= limits.subscriptionsPerClient) return false
    return owner === undefined || topic.startsWith(`${root}/${owner}/`)
  }

  /** A client that does not read misses live messages, or is sent away: it never makes the others wait. */
  mayForward(client: Client, packet: AedesPublishPacket): boolean {
    const { limits, counters } = this.#rules
    const connection = client.conn as Connection
    if (packet.retain || connection.outgoing + packet.payload.length <= limits.liveBytes) return true
    counters.missed++
    // Aedes asks before it lowers the packet's QoS to that of the subscription.
    const { subscriptions } = client as Client & { subscriptions: Record<string, { qos: number }> }
    const isPromised = Object.entries(subscriptions).some(
      ([pattern, { qos }]) => qos > 0 && topicFits(pattern, packet.topic),
    )
    if (packet.qos > 0 && isPromised) connection.refuse('the client reads too slowly')
    return false
  }
}

const isOffline = (payload: Buffer): boolean => {
  try {
    return (JSON.parse(payload.toString()) as { state?: unknown }).state === 'offline'
  } catch {
    return false
  }
}

type Kind = { refused: string } | { kind: 'telemetry' | 'status' | 'reported' | 'other'; collector: string }

/** What may be published: below a collector's own part of the tree, save what only the aggregator says. */
function kindOf(root: string, topic: string, owner: string | undefined): Kind {
  if (!topic.startsWith(`${root}/`)) return { refused: `only topics below ${root}/ are taken` }
  if (topic.length > 1000) return { refused: 'the topic is too long' }
  const [collector = '', kind = '', more] = topic.slice(root.length + 1).split('/')
  if (collector === 'fleet') return { refused: 'only the aggregator speaks for the fleet' }
  if (!collector || !kind) return { refused: 'it names no collector and kind' }
  if (owner !== undefined && owner !== collector) return { refused: `this client speaks for ${owner} only` }
  if (kind === 'ack') return { refused: 'only the aggregator acknowledges' }
  if (kind === 'telemetry') return { kind: 'telemetry', collector }
  // Its journal has what is wished, so that a wish from elsewhere would be one that nobody remembers.
  if (kind === 'config' && more === 'desired') return { refused: 'only the aggregator says what is desired' }
  if (kind === 'config' && more === 'reported') return { kind: 'reported', collector }
  return { kind: kind === 'status' && more === undefined ? 'status' : 'other', collector }
}
