// The embedded MQTT broker (Aedes, MQTT 3.1.1): telemetry goes to the ingest, and its PUBACK waits until the journal has
// the batch; retained messages are on disk before their PUBACK; everything has a limit. Nothing above knows whether this
// broker or an external one is in use, but for who makes it.
import type { AddressInfo } from 'node:net'
import { Aedes } from 'aedes'
import type { Client, PublishPacket } from 'aedes'
import type { Log } from '../plugins/contract/define.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import type { Connection } from '../plugins/protocols/broker/connection.ts'
import { openGate, tellErrors } from '../plugins/protocols/broker/gate.ts'
import type { GateLimits } from '../plugins/protocols/broker/gate.ts'
import { addressOf, closeServer, listenMqtt } from '../plugins/protocols/broker/listen.ts'
import type { ListenOptions } from '../plugins/protocols/broker/listen.ts'
import { topicFits } from '../plugins/protocols/topics.ts'
import { Admission } from './broker-admission.ts'
import type { BrokerCounters, Receiver } from './broker-admission.ts'
import { Logins } from './broker-login.ts'
import type { LoginOptions, Verdict } from './broker-login.ts'
import { BrokerStore, Retained, originOf } from './broker-store.ts'
import type { RetainedLimits, RetainedMessage } from './broker-store.ts'
import type { JournalTable } from './journal/journal.ts'

export type { BrokerCounters, Receiver, TelemetryMessage } from './broker-admission.ts'

export interface BrokerLimits extends GateLimits {
  connectMs: number
  /** What a reader of live messages may leave unread before it misses some (QoS 0) or is sent away (QoS 1). */
  liveBytes: number
  subscriptionsPerClient: number
  /** Who was connected before a crash and is not back after this is gone: his will is published. */
  absentMs: number
  retained: RetainedLimits
}

const MiB = 1024 * 1024
export const brokerLimits: BrokerLimits = {
  packetBytes: MiB + 64 * 1024,
  connectBytes: 128 * 1024,
  heldBytes: 512 * 1024,
  allHeldBytes: 256 * MiB,
  fairBytes: 16 * 1024,
  unfinishedBytes: 64 * MiB,
  outgoingBytes: 64 * MiB,
  allOutgoingBytes: 256 * MiB,
  connections: 4096,
  connectionsPerSecond: 1000,
  connectMs: 10_000,
  packetMs: 60_000,
  liveBytes: 4 * MiB,
  subscriptionsPerClient: 1000,
  absentMs: 60_000,
  retained: { messages: 50_000, bytes: 48 * MiB, messageBytes: 512 * 1024 },
}

export interface BrokerOptions extends ListenOptions {
  root: string
  /** The journal's table `dpulse_retained`. */
  retained: JournalTable
  /** Names this broker for good, where several aggregators share the journal. */
  place?: string | undefined
  log: Log
  limits?: Partial<BrokerLimits>
  /** Who may connect; everybody where it is absent. */
  login?: LoginOptions
  receiver: Receiver
}

export interface Broker extends AsyncDisposable {
  /** `127.0.0.1:1883`, `[::1]:1883`. */
  readonly addresses: readonly string[]
  readonly port: number
  readonly counters: Readonly<BrokerCounters>
  /** For the aggregator itself. A retained message is on disk when it resolves; an empty one clears. */
  publish(
    topic: string,
    payload: Uint8Array | string,
    options?: { retain?: boolean; qos?: 0 | 1 },
  ): Promise<void>
  /** Retained messages whose topics fit the pattern. */
  retained(pattern: string): IterableIterator<{ topic: string; payload: Buffer }>
}

/** @throws PermanentError ADDRESS_IN_USE where a port is taken. */
export async function startBroker(options: BrokerOptions): Promise<Broker> {
  const { root, log, receiver } = options
  const limits: BrokerLimits = { ...brokerLimits, ...options.limits }
  const counters: BrokerCounters = {
    connections: 0,
    refusedConnections: 0,
    published: 0,
    refusedMessages: 0,
    missed: 0,
    slowClients: 0,
    refusedLogins: 0,
  }
  const origin = options.place === undefined ? undefined : originOf(options.place)
  const retained = new Retained(options.retained, limits.retained, origin)
  const admission = new Admission({ root, log, receiver, retained, counters, limits })
  const persistence = new BrokerStore(retained, options.retained, log, origin)
  const aedes = await createAedes(admission, persistence, limits, log)
  if (options.login) aedes.authenticate = authenticator(new Logins(options.login), counters)
  const [statuses, reports] = [`${root}/+/status`, `${root}/+/config/reported`]
  const hear = ({ topic, payload }: RetainedMessage): void => {
    const [collector = ''] = topic.slice(root.length + 1).split('/')
    if (topicFits(reports, topic)) receiver.onReported?.(collector, payload)
    if (payload.length > 0 && topicFits(statuses, topic)) receiver.onStatus(collector, payload)
  }
  for (const one of retained.match([statuses])) hear(one)
  // Clients of ours hear what came through the broker of another aggregator, and so do we.
  retained.watch((told) => {
    hear(told)
    if (aedes.closed) return
    publish(aedes, { cmd: 'publish', dup: false, retain: true, ...told }).catch((error: unknown) =>
      log.warn('retained message not passed on', { topic: told.topic, error: messageOf(error) }),
    )
  })
  const gate = openGate(aedes, limits, counters, log)
  const close = async (): Promise<void> => {
    await new Promise<void>((resolve) => aedes.close(resolve))
    gate.close()
  }
  const servers = await listenMqtt(options, log, gate.accept).catch(async (error: unknown) => {
    await close()
    throw error
  })
  return {
    addresses: servers.map(addressOf),
    port: (servers[0]?.address() as AddressInfo | undefined)?.port ?? 0,
    counters,
    async publish(topic, payload, { retain = false, qos = 0 } = {}) {
      const bytes = Buffer.from(payload)
      if (retain) await retained.set(topic, bytes, qos)
      if (!aedes.closed)
        await publish(aedes, { cmd: 'publish', dup: false, topic, payload: bytes, qos, retain })
    },
    retained: (pattern) => retained.match([pattern]),
    async [Symbol.asyncDispose]() {
      const closing = servers.map(closeServer)
      await close()
      await Promise.all(closing)
    },
  }
}

const publish = (aedes: Aedes, packet: PublishPacket): Promise<void> =>
  new Promise((resolve, reject) => aedes.publish(packet, (error) => (error ? reject(error) : resolve())))

async function createAedes(
  admission: Admission,
  persistence: BrokerStore,
  limits: BrokerLimits,
  log: Log,
): Promise<Aedes> {
  const aedes = await Aedes.createBroker({
    persistence,
    // Deliveries never wait (see Connection), so there is nothing to queue for.
    concurrency: 0,
    drainTimeout: 0,
    connectTimeout: limits.connectMs,
    heartbeatInterval: limits.absentMs / 4,
    maxInflightInbound: 16,
    maxTopicLevels: 20,
    preConnect: (_client, packet, done) => {
      // Sessions end with their connection; the CONNACK says so.
      packet.clean = true
      done(packet.clientId.length > 256 ? new Error('a client id of more than 256 characters') : null, true)
    },
    // Not itself async: Aedes promisifies it, and Node warns of promisified async functions.
    authorizePublish: (client, packet, done) => void admit(client, packet, done),
    authorizeSubscribe: (client, subscription, done) =>
      done(null, admission.maySubscribe(client, subscription.topic) ? subscription : null),
    authorizeForward: (client, packet) => (admission.mayForward(client, packet) ? packet : null),
  })
  async function admit(
    client: Client | null,
    packet: PublishPacket,
    done: (error?: Error | null) => void,
  ): Promise<void> {
    let failure: Error | null = aedes.closed ? new Error('the broker is stopping') : null
    try {
      if (!failure) await admission.publish(client, packet)
    } catch (error) {
      failure = error instanceof Error ? error : new Error(messageOf(error))
    }
    done(failure)
  }
  tellErrors(aedes, log)
  return aedes
}

/** Decides who a connection is, before it may say or hear anything. */
function authenticator(logins: Logins, counters: BrokerCounters): Aedes['authenticate'] {
  async function look(
    { conn }: Client,
    name: string | undefined,
    password: Uint8Array | undefined,
    done: Parameters<Aedes['authenticate']>[3],
  ): Promise<void> {
    const connection = conn as Connection
    const { owner, remote } = connection
    const peer = remote.slice(0, remote.lastIndexOf(':'))
    let verdict: Verdict
    try {
      verdict = await logins.look({ peer, owner }, name, password)
    } catch (error) {
      verdict = { let: 'out', code: 3, reason: `the login could not be checked: ${messageOf(error)}` }
    }
    if (verdict.let === 'out') {
      counters.refusedLogins++
      return done(Object.assign(new Error(verdict.reason), { returnCode: verdict.code }), null)
    }
    connection.owner = verdict.collector
    return done(null, true)
  }
  return (client, name, password, done) => void look(client, name, password, done)
}
