// Where collectors speak MQTT: the embedded broker, or an external one of which we are a client. Nothing above knows
// which: it publishes, acknowledges and reads what is retained.
import { ports } from '../plugins/contract/options.ts'
import { PermanentError, messageOf } from '../plugins/contract/errors.ts'
import type { Clock, Log } from '../plugins/contract/define.ts'
import type { Address } from '../plugins/contract/settings.ts'
import { topics } from '../plugins/protocols/topics.ts'
import type { Ack } from '../plugins/protocols/topics.ts'
import { startBroker } from './broker.ts'
import type { Broker } from './broker.ts'
import type { AggregatorConfig } from './config.ts'
import { createMqttIngest } from './ingest-mqtt.ts'
import type { MqttIngest } from './ingest-mqtt.ts'
import type { Ingest } from './ingest.ts'
import type { JournalTable } from './journal/journal.ts'

export interface MqttOptions {
  config: AggregatorConfig['mqtt']
  /** `embedded`, or a URL from the command line; the configuration comes before it. */
  broker: string
  portOffset: number
  ingest: Ingest
  /** The journal's table `dpulse_retained`. */
  retained: JournalTable
  /** What a collector reports of its configuration. */
  onReported: (collector: string, payload: Uint8Array) => void
  /** Names this aggregator for good, where several share the journal. */
  place: string | undefined
  log: Log
  clock: Clock
}

export interface Mqtt extends AsyncDisposable {
  readonly addresses: readonly string[]
  readonly embedded: Broker | undefined
  readonly external: MqttIngest | undefined
  /** Tells a collector what it may forget. Lost ones are told again when it repeats a batch. */
  acknowledge(collector: string, ack: Ack): void
  /** Whether collectors reach us this way; for the health of the aggregator. */
  health(): { name: string; ready: boolean; detail: string }[]
  publish: Broker['publish']
  retained: Broker['retained']
}

/** @throws PermanentError ADDRESS_IN_USE, CREDENTIAL_MISSING, CONFIG_INVALID. */
export async function openMqtt(options: MqttOptions): Promise<Mqtt> {
  const { config, broker } = options
  const urls = config.external?.urls ?? (broker === 'embedded' ? undefined : [broker])
  if (!urls) return openEmbedded(options)
  // Beside mqtt.external the configuration itself is refused.
  const unused = (['listen', 'tls', 'login'] as const).find((key) => config[key] !== undefined)
  if (unused !== undefined && broker !== 'embedded') {
    const what = `mqtt.${unused} is for the embedded broker, and --broker ${broker} replaces it`
    throw new PermanentError('CONFIG_INVALID', what)
  }
  return openExternal(options, urls)
}

/** Batches and births are for the ingest, reports for whoever keeps the wishes. */
const receiverOf = ({ ingest, onReported }: MqttOptions) => ({
  onTelemetry: ingest.onTelemetry.bind(ingest),
  onStatus: ingest.onStatus.bind(ingest),
  room: ingest.room.bind(ingest),
  onReported,
})

async function openEmbedded(options: MqttOptions): Promise<Mqtt> {
  const { config, portOffset, retained, place, log } = options
  const port = ports.mqtt + portOffset
  const loopback: Address[] = [
    { host: '127.0.0.1', port },
    { host: '::1', port },
  ]
  const broker = await startBroker({
    listen: config.listen ?? loopback,
    root: config.root,
    retained,
    place,
    log,
    limits: { connections: config.max_connections },
    ...(config.tls && { tls: config.tls }),
    ...(config.login && { login: config.login }),
    receiver: receiverOf(options),
  })
  return {
    addresses: broker.addresses.map((address) => `mqtt://${address}`),
    embedded: broker,
    external: undefined,
    acknowledge: acknowledging(broker, config.root, log),
    health: () => [],
    publish: (...given) => broker.publish(...given),
    retained: (pattern) => broker.retained(pattern),
    [Symbol.asyncDispose]: () => broker[Symbol.asyncDispose](),
  }
}

function openExternal(options: MqttOptions, urls: readonly string[]): Mqtt {
  const { config, log, clock } = options
  const { protocol_version: protocolVersion, ...login } = config.external ?? {}
  const client = createMqttIngest({
    ...login,
    protocolVersion,
    urls,
    root: config.root,
    receiver: receiverOf(options),
    log,
    clock,
  })
  const stopping = new AbortController()
  const running = client.run(stopping.signal)
  running.catch((error: unknown) => log.error('MQTT client ended', { error: messageOf(error) }))
  return {
    addresses: urls,
    embedded: undefined,
    external: client,
    acknowledge: acknowledging(client, config.root, log),
    health: () => [
      {
        name: 'broker',
        ready: client.address !== undefined,
        detail: client.address === undefined ? 'no connection to the MQTT broker' : 'connected',
      },
    ],
    publish: (...given) => client.publish(...given),
    retained: (pattern) => client.retained(pattern),
    async [Symbol.asyncDispose]() {
      stopping.abort(new Error('stopping'))
      await running
    },
  }
}

const acknowledging =
  (by: Pick<Broker, 'publish'>, root: string, log: Log): Mqtt['acknowledge'] =>
  (collector, ack) => {
    by.publish(topics(root).ack(collector), JSON.stringify(ack)).catch((error: unknown) =>
      log.debug('acknowledgement not published', { collector, error: messageOf(error) }),
    )
  }
