// The collector's own MQTT broker (Aedes, MQTT 3.1.1), for programs of this machine: they read, and say nothing. A client
// that does not read misses messages, and is told how many; nobody waits for it.
//
//   <root>/local/otlp/<class>/<signal>    a request in protobuf, as it is
//   <root>/local/json/<class>/<signal>    the same as OTLP/JSON; made only while somebody reads it
//   <root>/local/missed                   to one client: {"missed": records} since it was told last
import { createServer } from 'node:net'
import type { Server } from 'node:net'
import type { Aedes, AedesPublishPacket, Client } from 'aedes'
import * as z from 'zod'
import { address, defineExporter, messageOf, size } from '../plugins/contract/index.ts'
import type { Batch, Class, Context, Exporter, Signal } from '../plugins/contract/index.ts'
import { ports } from '../plugins/contract/options.ts'
import type { Connection } from '../plugins/protocols/broker/connection.ts'
import { openGate, tellErrors } from '../plugins/protocols/broker/gate.ts'
import type { Gate, GateLimits } from '../plugins/protocols/broker/gate.ts'
import { addressOf, closeServer } from '../plugins/protocols/broker/listen.ts'
import { requestToJson } from '../plugins/protocols/otlp/json.ts'
import { listenAll, listenUnix, loopback } from '../plugins/protocols/otlp/listen.ts'
import { topicFits } from '../plugins/protocols/topics.ts'

const isLoopback = (host: string): boolean => /^(127\.\d+\.\d+\.\d+|::1|localhost)$/.test(host)

const config = z.strictObject({
  listen: z
    .array(
      address.refine(
        ({ host }) => isLoopback(host),
        'expected a loopback address: this broker knows no logins',
      ),
    )
    .max(8)
    .optional()
    .describe('Addresses; loopback with port 1884 where absent, [] for the socket alone.'),
  unix: z
    .string()
    .min(1)
    .optional()
    .describe('Path of a Unix socket, which this user and its group may open.'),
  root: z
    .string()
    .regex(/^[^/+#$\s][^/+#\s]{0,63}$/, 'expected one level of a topic')
    .default('dpulse')
    .describe('First level of all topics.'),
  max_clients: z.int().min(1).max(1024).default(32).describe('Most clients at once.'),
  unread: size
    .refine((bytes) => bytes >= 64 * 1024, 'expected at least 64KiB')
    .prefault('1MiB')
    .describe('What a client may leave unread before it misses messages.'),
})
type Config = z.output<typeof config>

/** What the broker adds to an exporter: who listens, and a word to those who do. */
export interface LocalBroker extends Exporter {
  /** Whether any client reads records of this class and signal. */
  wants(name: Class, signal: Signal): boolean
  /** Tells all clients of records that did not come as far as the broker. */
  tell(missed: number): void
}

export const localBroker = defineExporter({
  name: 'mqtt',
  summary: "The collector's own MQTT broker, where programs of this machine read along.",
  config,
  create: (config, context) => create(config, context),
})

function create(config: Config, context: Context): LocalBroker {
  let open: OpenBroker | undefined
  return {
    wants: (name, signal) => open?.wants(name, signal) ?? false,
    tell: (missed) => open?.tell(missed),
    async export(batch) {
      await open?.publish(batch)
      return { rejected: 0 }
    },
    async run(signal) {
      await using broker = await OpenBroker.start(config, context)
      open = broker
      try {
        context.ready(broker.addresses.join(', '))
        if (!signal.aborted) {
          await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
        }
      } finally {
        open = undefined
      }
    },
  }
}

const formats = ['otlp', 'json'] as const
type Format = (typeof formats)[number]
const mostSubscriptions = 100
/** Of packets that a reader sends: pings and subscriptions. */
const packetBytes = 64 * 1024
/** A message that begins where little is unread may be larger than what is left. */
const messageBytes = 4 * 1024 * 1024
const sweepMs = 1000

class OpenBroker {
  readonly #config: Config
  readonly #context: Context
  readonly #aedes: Aedes
  #servers: Server[] = []
  #gate: Gate | undefined
  readonly addresses: string[] = []
  /** `json/log/logs` … of which some client reads; filled as it is asked for. */
  readonly #wanted = new Map<string, boolean>()
  /** Records in the messages under way, by their payload. */
  readonly #counts = new WeakMap<object, { class: Class; count: number }>()
  readonly #missed = new Map<Client, number>()
  #sweep: NodeJS.Timeout | undefined

  private constructor(config: Config, context: Context, aedes: Aedes) {
    this.#config = config
    this.#context = context
    this.#aedes = aedes
  }

  /** @throws PermanentError ADDRESS_IN_USE */
  static async start(config: Config, context: Context): Promise<OpenBroker> {
    // Only where it is configured: the library is not small.
    const { Aedes } = await import('aedes')
    const rules: { broker?: OpenBroker } = {}
    const aedes = await Aedes.createBroker({
      // Deliveries never wait, so there is nothing to queue for.
      concurrency: 0,
      drainTimeout: 0,
      connectTimeout: 10_000,
      maxTopicLevels: 20,
      preConnect: (_client, packet, done) => {
        // Sessions end with their connection, and nobody leaves a word behind.
        packet.clean = true
        delete packet.will
        done(packet.clientId.length > 256 ? new Error('a client id of more than 256 characters') : null, true)
      },
      authorizePublish: (_client, _packet, done) => done(new Error('this broker is for reading only')),
      authorizeSubscribe: (client, subscription, done) =>
        done(null, maySubscribe(client, subscription.topic) ? subscription : null),
      authorizeForward: (client, packet) => (rules.broker?.mayForward(client, packet) ? packet : null),
    })
    tellErrors(aedes, context.log)
    const broker = new OpenBroker(config, context, aedes)
    rules.broker = broker
    try {
      await broker.#listen()
      return broker
    } catch (error) {
      await broker[Symbol.asyncDispose]()
      throw error
    }
  }

  async #listen(): Promise<void> {
    const { max_clients, unread, unix } = this.#config
    const limits: GateLimits = {
      packetBytes,
      connectBytes: packetBytes,
      heldBytes: packetBytes,
      allHeldBytes: max_clients * packetBytes,
      fairBytes: packetBytes,
      unfinishedBytes: max_clients * packetBytes,
      outgoingBytes: unread + messageBytes,
      allOutgoingBytes: max_clients * (unread + messageBytes),
      connections: max_clients,
      connectionsPerSecond: 100,
      packetMs: 30_000,
    }
    const counters = { connections: 0, refusedConnections: 0, slowClients: 0 }
    const gate = openGate(this.#aedes, limits, counters, this.#context.log)
    this.#gate = gate
    const { portOffset } = this.#context
    const listen = this.#config.listen ?? loopback(ports.collectorMqtt + portOffset)
    const create = () => createServer(gate.accept)
    this.#servers = await listenAll('local MQTT', listen, create, '--port-offset, or listen')
    this.addresses.push(...this.#servers.map((server) => `mqtt://${addressOf(server)}`))
    if (unix !== undefined) {
      const server = create()
      await listenUnix('local MQTT', unix, server)
      this.#servers.push(server)
      this.addresses.push(unix)
    }
    const forget = () => this.#wanted.clear()
    this.#aedes.on('subscribe', forget)
    this.#aedes.on('unsubscribe', forget)
    this.#aedes.on('clientDisconnect', (client) => {
      this.#missed.delete(client)
      forget()
    })
    this.#sweep = setInterval(() => this.#tellThoseWhoReadOn(), sweepMs).unref()
  }

  wants(name: Class, signal: Signal): boolean {
    return this.#isRead('otlp', name, signal) || this.#isRead('json', name, signal)
  }

  #isRead(format: Format, name: Class, signal: Signal): boolean {
    const what = `${format}/${name}/${signal}`
    const known = this.#wanted.get(what)
    if (known !== undefined) return known
    const topic = `${this.#config.root}/local/${what}`
    const isRead = this.#clients().some(({ subscriptions }) =>
      Object.keys(subscriptions).some((pattern) => topicFits(pattern, topic)),
    )
    this.#wanted.set(what, isRead)
    return isRead
  }

  #clients(): Subscribed[] {
    // Aedes documents neither, and keeps both.
    return Object.values((this.#aedes as Aedes & { clients: Record<string, Subscribed> }).clients)
  }

  /** Resolves when it is with the sockets of all who read it, or counted as missed. */
  async publish({ header, signal, bytes }: Batch): Promise<void> {
    const { class: name, count } = header
    for (const format of formats) {
      if (!this.#isRead(format, name, signal)) continue
      const payload =
        format === 'json'
          ? Buffer.from(requestToJson(signal, bytes))
          : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      this.#counts.set(payload, { class: name, count })
      await this.#send(`${this.#config.root}/local/${format}/${name}/${signal}`, payload)
    }
  }

  #send(topic: string, payload: Buffer): Promise<void> {
    if (this.#aedes.closed) return Promise.resolve()
    return new Promise((resolve, reject) =>
      this.#aedes.publish({ cmd: 'publish', dup: false, topic, payload, qos: 0, retain: false }, (error) =>
        error ? reject(error) : resolve(),
      ),
    )
  }

  /** What does not go is missed, and told when it reads again. */
  mayForward(client: Client, packet: AedesPublishPacket): boolean {
    if (packet.topic === this.#missedTopic) return true
    const { outgoing } = client.conn as Connection
    const { length } = packet.payload
    const fits = outgoing === 0 ? length <= messageBytes : outgoing + length <= this.#config.unread
    if (fits) {
      this.#tellMissed(client)
      return true
    }
    const about = typeof packet.payload === 'string' ? undefined : this.#counts.get(packet.payload)
    if (about) {
      this.#missed.set(client, (this.#missed.get(client) ?? 0) + about.count)
      this.#context.dropped(about.class, 'overflow', about.count)
    }
    return false
  }

  tell(missed: number): void {
    for (const client of this.#clients()) {
      this.#missed.set(client, (this.#missed.get(client) ?? 0) + missed)
    }
    this.#tellThoseWhoReadOn()
  }

  /** Those who have caught up need not wait for the next record to learn what they missed. */
  #tellThoseWhoReadOn(): void {
    for (const client of this.#missed.keys()) {
      if ((client.conn as Connection).outgoing <= this.#config.unread / 2) this.#tellMissed(client)
    }
  }

  #tellMissed(client: Client): void {
    const missed = this.#missed.get(client)
    if (missed === undefined) return
    this.#missed.delete(client)
    const payload = Buffer.from(JSON.stringify({ missed }))
    const topic = this.#missedTopic
    client.publish({ cmd: 'publish', dup: false, topic, payload, qos: 0, retain: false }, (error) => {
      if (error) this.#context.log.debug('a reader was not told what it missed', { error: messageOf(error) })
    })
  }

  get #missedTopic(): string {
    return `${this.#config.root}/local/missed`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#sweep)
    const closing = this.#servers.map(closeServer)
    await new Promise<void>((resolve) => this.#aedes.close(() => resolve()))
    this.#gate?.close()
    await Promise.all(closing)
  }
}

type Subscribed = Client & { subscriptions: object }

function maySubscribe(client: Client, topic: string): boolean {
  const { subscriptions } = client as Subscribed
  // Aedes knows no shared subscriptions, and what begins with $ is its own.
  return (
    !topic.startsWith('$') && topic.length <= 256 && Object.keys(subscriptions).length < mostSubscriptions
  )
}
