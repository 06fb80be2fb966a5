// Telemetry from an external MQTT broker: this aggregator takes part in a shared subscription, with a clean session, so
// that several aggregators divide the work and none leaves messages behind in the broker. What is lost with one of them
// is sent again by its collector, because no `ack` named it.
import { ulid } from 'ulid'
import type * as z from 'zod'
import type { Clock, Log } from '../plugins/contract/define.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import type { Secret, tls } from '../plugins/contract/settings.ts'
import { runMqtt } from '../plugins/protocols/mqtt.ts'
import type { MqttLink } from '../plugins/protocols/mqtt.ts'
import { parseTelemetryTopic, topics } from '../plugins/protocols/topics.ts'
import type { Receiver } from './broker-admission.ts'

export interface MqttIngestOptions {
  urls: readonly string[]
  root: string
  username?: string | undefined
  password?: Secret | undefined
  tls?: z.output<typeof tls> | undefined
  protocolVersion?: 4 | 5
  receiver: Receiver & { room(): Promise<void> }
  log: Log
  clock: Clock
  /** Connected and subscribed, each time. */
  onReady?(address: string): void
}

export interface MqttIngest {
  /** Connects, and again whenever the connection is lost, until aborted. */
  run(signal: AbortSignal): Promise<void>
  /** Without a connection a message that is not retained is lost, as QoS 0 may be; a retained one rejects. */
  publish(
    topic: string,
    payload: Uint8Array | string,
    options?: { retain?: boolean; qos?: 0 | 1 },
  ): Promise<void>
}

const keepaliveSeconds = 30
const connectMs = 10_000

export function createMqttIngest(options: MqttIngestOptions): MqttIngest {
  const { root, receiver, log } = options
  const names = topics(root)
  let link: MqttLink | undefined

  /** A broker may send everything at once: no more is read while too much waits for the journal, and not longer. */
  function onMessage(topic: string, payload: Buffer): Promise<void> | undefined {
    const parts = parseTelemetryTopic(root, topic)
    if (parts) {
      // On rejection there is nobody to tell: the collector hears no ack and sends again.
      receiver
        .onTelemetry({ topic, payload, ...parts })
        .then(() => link?.healthy())
        .catch((error: unknown) => log.debug('batch not taken', { topic, error: messageOf(error) }))
      return receiver.room()
    }
    const collector = collectorOf(topic)
    if (collector === undefined) log.warn('MQTT topic is no telemetry topic', { topic })
    else if (payload.length > 0) receiver.onStatus(collector, payload)
    return undefined
  }

  function collectorOf(topic: string): string | undefined {
    const [collector, kind, more] = topic.slice(root.length + 1).split('/')
    return topic.startsWith(`${root}/`) && kind === 'status' && more === undefined ? collector : undefined
  }

  return {
    run: (signal) =>
      runMqtt(
        {
          ...options,
          clientId: `dpulse-aggregator-${ulid()}`,
          protocolVersion: options.protocolVersion ?? 4,
          keepaliveSeconds,
          connectMs,
          subscriptions: [
            { topic: `$share/dpulse/${names.allTelemetry}`, qos: 1 },
            { topic: names.allStatus, qos: 1 },
          ],
          onMessage,
          onUp: async (up) => {
            link = up
            options.onReady?.(up.address)
          },
          onDown: () => {
            link = undefined
          },
        },
        signal,
      ),
    async publish(topic, payload, { retain = false, qos = 0 } = {}) {
      if (link) return link.publish(topic, payload, { qos, retain })
      if (retain) throw new Error('no connection to the MQTT broker')
    },
  }
}
