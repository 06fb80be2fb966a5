// Telemetry from an external MQTT broker: this aggregator takes part in a shared subscription, with a clean session, so
// that several aggregators divide the work and none leaves messages behind in the broker. What is lost with one of them,
// or with the broker, is sent again by its collector, because no `ack` named it.
import { ulid } from 'ulid'
import type * as z from 'zod'
import type { Clock, Log } from '../plugins/contract/define.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import type { Secret, tls } from '../plugins/contract/settings.ts'
import { runMqtt } from '../plugins/protocols/mqtt.ts'
import type { MqttLink } from '../plugins/protocols/mqtt.ts'
import { parseTelemetryTopic, topicFits, topics } from '../plugins/protocols/topics.ts'
import type { Receiver } from './broker-admission.ts'

export interface MqttIngestOptions {
  urls: readonly string[]
  root: string
  username?: string | undefined
  password?: Secret | undefined
  tls?: z.output<typeof tls> | undefined
  /** `auto` unless given. */
  protocolVersion?: 4 | 5 | 'auto' | undefined
  receiver: Receiver & { room(): Promise<void> }
  log: Log
  clock: Clock
  limits?: Partial<MqttIngestLimits>
  /** Connected and subscribed, each time. */
  onReady?(address: string): void
}

export interface MqttIngestLimits {
  packetBytes: number
  /** Retained state that is kept here, and its bytes. */
  states: number
  stateBytes: number
}

const MiB = 1024 * 1024
export const mqttIngestLimits: MqttIngestLimits = {
  packetBytes: MiB + 64 * 1024,
  states: 250_000,
  stateBytes: 128 * MiB,
}

export interface MqttIngestCounters {
  /** 1 while connected and subscribed. */
  connected: number
  connections: number
  messages: number
  /** Of unknown topics, and state beyond the limits. */
  refused: number
  /** Acknowledgements that could not be sent; their collectors send again. */
  missed: number
}

export interface MqttIngest {
  readonly counters: Readonly<MqttIngestCounters>
  /** The broker in use; undefined while there is no connection. */
  readonly address: string | undefined
  /** Connects, and again whenever the connection is lost, until aborted. */
  run(signal: AbortSignal): Promise<void>
  /** Without a connection a message that is not retained is lost, as QoS 0 may be; a retained one rejects. */
  publish(
    topic: string,
    payload: Uint8Array | string,
    options?: { retain?: boolean; qos?: 0 | 1 },
  ): Promise<void>
  /** Status and configuration of collectors as the broker holds them, by topics that fit the pattern. */
  retained(pattern: string): IterableIterator<{ topic: string; payload: Buffer }>
}

const keepaliveSeconds = 30
const connectMs = 10_000
/** We are few, and all collectors wait for us. */
const longestPauseMs = 2000
const settleMs = 30_000
/** Their PUBACKs do not wait for the journal, so this only bounds what one read brings. */
const receiveMaximum = 1000

export function createMqttIngest(options: MqttIngestOptions): MqttIngest {
  const { root, receiver, log, clock } = options
  const limits = { ...mqttIngestLimits, ...options.limits }
  const names = topics(root)
  const states = new States(limits)
  const counters: MqttIngestCounters = { connected: 0, connections: 0, messages: 0, refused: 0, missed: 0 }
  let link: MqttLink | undefined

  /** A broker may send everything at once: no more is read while too much waits for the journal, and not longer. */
  function onMessage(topic: string, payload: Buffer): Promise<void> | undefined {
    counters.messages++
    const parts = parseTelemetryTopic(root, topic)
    if (parts) {
      // On rejection there is nobody to tell: the collector hears no ack and sends again.
      receiver
        .onTelemetry({ topic, payload, ...parts })
        .then(() => link?.healthy())
        .catch((error: unknown) => log.debug('batch not taken', { topic, error: messageOf(error) }))
      return receiver.room()
    }
    const [collector = '', kind] = topic.slice(root.length + 1).split('/')
    if (kind === 'status' || kind === 'config') onState(collector, kind, topic, payload)
    else {
      counters.refused++
      log.warn('MQTT topic is no telemetry topic', { topic: topic.slice(0, 300) })
    }
    return undefined
  }

  function onState(collector: string, kind: 'status' | 'config', topic: string, payload: Buffer): void {
    const isStatus = kind === 'status' && payload.length > 0
    if (isStatus && !receiver.onStatus(collector, payload)) return
    if (topic === names.reported(collector)) receiver.onReported?.(collector, payload)
    if (states.set(topic, payload)) return
    counters.refused++
    log.warn('state not kept: there is too much', { topic: topic.slice(0, 300), bytes: payload.length })
  }

  return {
    counters,
    get address() {
      return link?.address
    },
    run: (signal) =>
      runMqtt(
        {
          ...options,
          clientId: `dpulse-aggregator-${ulid()}`,
          protocolVersion: options.protocolVersion ?? 'auto',
          keepaliveSeconds,
          connectMs,
          longestPauseMs,
          largestPacketBytes: limits.packetBytes,
          receiveMaximum,
          subscriptions: [
            { topic: `$share/dpulse/${names.allTelemetry}`, qos: 1 },
            { topic: names.allStatus, qos: 1 },
            { topic: names.allConfig, qos: 1 },
          ],
          onMessage,
          onUp: async (up) => {
            link = up
            void states.settle(clock, signal)
            counters.connected = 1
            counters.connections++
            log.info('taking batches from the MQTT broker', { url: up.address })
            options.onReady?.(up.address)
          },
          onDown: () => {
            link = undefined
            counters.connected = 0
            states.doubt()
          },
        },
        signal,
      ),
    async publish(topic, payload, { retain = false, qos = 0 } = {}) {
      if (retain && !link) throw new Error('no connection to the MQTT broker')
      try {
        if (link) return await link.publish(topic, payload, { qos, retain })
        counters.missed++
      } catch (error) {
        counters.missed++
        throw error
      }
    },
    retained: (pattern) => states.match(pattern),
  }
}

/** What the broker keeps of collectors, as far as we subscribe to it. Its own copy outlives us, so this is memory only. */
class States {
  readonly #limits: MqttIngestLimits
  readonly #payloads = new Map<string, Buffer>()
  /** What the broker has not said again since the connection was lost: it may have been cleared meanwhile. */
  readonly #doubted = new Set<string>()
  #losses = 0
  #bytes = 0

  constructor(limits: MqttIngestLimits) {
    this.#limits = limits
  }

  /** An empty payload clears. False where there is no room; what was there is then forgotten, for it is no longer true. */
  set(topic: string, payload: Buffer): boolean {
    this.#delete(topic)
    if (payload.length === 0) return true
    const { states, stateBytes } = this.#limits
    if (this.#payloads.size >= states || this.#bytes + payload.length > stateBytes) return false
    // A copy: the payload is a view of what was read from the socket at once.
    this.#payloads.set(topic, Buffer.from(payload))
    this.#bytes += payload.length
    return true
  }

  doubt(): void {
    this.#losses++
    for (const topic of this.#payloads.keys()) this.#doubted.add(topic)
  }

  /** A broker says what it retains as soon as we subscribe: what it has not said some time later is gone. */
  async settle(clock: Clock, signal: AbortSignal): Promise<void> {
    const losses = this.#losses
    await clock.delay(settleMs, signal).catch(() => undefined)
    if (this.#losses === losses) for (const topic of this.#doubted) this.#delete(topic)
  }

  #delete(topic: string): void {
    this.#doubted.delete(topic)
    this.#bytes -= this.#payloads.get(topic)?.length ?? 0
    this.#payloads.delete(topic)
  }

  *match(pattern: string): IterableIterator<{ topic: string; payload: Buffer }> {
    for (const [topic, payload] of this.#payloads) if (topicFits(pattern, topic)) yield { topic, payload }
  }
}
