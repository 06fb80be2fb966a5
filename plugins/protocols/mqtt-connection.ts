// One connection to an MQTT broker, from the attempt to its end: a clean session unless told otherwise, every subscription granted before it
// counts as up, no packet larger than we take, and the reason why it ended.
import { readFileSync } from 'node:fs'
import type { IClientOptions, MqttClient } from 'mqtt'
import { messageOf } from '../contract/errors.ts'
import { PacketFrames, connackType } from './mqtt-frames.ts'
import { answerLate } from './mqtt-late.ts'
import { bufferOf, publisher } from './mqtt-publish.ts'
import { connectError, disconnectError, subscribeError } from './mqtt-refusal.ts'
import type { MqttLink, MqttOptions } from './mqtt.ts'
import { parseBrokerUrl } from './mqtt-url.ts'

export interface Ended {
  error: Error
  /** The broker let us in. */
  reached: boolean
  /** It closed before it let us in, and did not say why. */
  silently: boolean
  /** The owner said that the peer did its work. */
  healthy: boolean
}

const stopMs = 2000
const keptSessionSeconds = 7 * 86_400
const closed = 'the connection was closed'
/** A CONNACK of MQTT 5 may hold properties, reason texts among them. */
const connackBytes = 64 * 1024

/** @throws nothing: what went wrong is in the answer. */
export async function connectOnce(
  url: string,
  version: 4 | 5,
  options: MqttOptions,
  signal: AbortSignal,
): Promise<Ended> {
  const ended: Ended = { error: new Error('stopping'), reached: false, silently: false, healthy: false }
  let client: MqttClient
  try {
    // Loaded only where it is used: a collector that speaks OTLP goes without.
    const { connect } = await import('mqtt')
    client = connect(clientOptions(url, version, options))
  } catch (error) {
    return { ...ended, error: asError(error) }
  }
  const lost = Promise.withResolvers<Error>()
  const aborted = (): void => lost.resolve(new Error('stopping'))
  signal.addEventListener('abort', aborted)
  if (signal.aborted) aborted()
  watch(client, options, lost.resolve)
  const link: MqttLink = {
    address: url,
    healthy: () => void (ended.healthy = true),
    publish: publisher(client, lost.promise),
  }
  let isUp = false
  const up = (async () => {
    const refused = await Promise.race([connected(client), lost.promise])
    if (refused instanceof Error) return
    ended.reached = true
    await subscribe(client, options)
    isUp = true
    await options.onUp?.(link)
  })()
  up.catch((error: unknown) => lost.resolve(asError(error)))
  ended.error = connectError(await lost.promise, options.username)
  ended.silently = !ended.reached && ended.error.message === closed
  signal.removeEventListener('abort', aborted)
  const graceful = signal.aborted && client.connected
  if (graceful && isUp) await soon(options.onStop?.(link))
  if (isUp) options.onDown?.(link, ended.error)
  if (graceful) await soon(client.endAsync(false))
  await soon(client.endAsync(true))
  return ended
}

/** Hands on what comes, and tells why it ends. */
function watch(client: MqttClient, options: MqttOptions, lost: (error: Error) => void): void {
  client.on('error', lost)
  client.on('disconnect', ({ reasonCode = 0 }) => lost(disconnectError(reasonCode)))
  client.on('close', () => lost(new Error(closed)))
  // Only brokers of MQTT 5 keep to the size that we announce.
  const frames = new PacketFrames({
    first: connackType,
    firstBytes: connackBytes,
    bytes: options.largestPacketBytes,
  })
  client.stream.on('data', (chunk: Buffer) => {
    const refusal = frames.take(chunk)
    if (refusal === undefined) return
    lost(new Error(`the broker sent ${refusal}`))
    client.stream.destroy()
  })
  if (options.atOnce !== undefined) {
    answerLate(client, options.atOnce, (topic, payload, retained) =>
      options.onMessage(topic, bufferOf(payload), retained),
    )
    return
  }
  client.handleMessage = (packet, done) => {
    const busy = options.onMessage(packet.topic, bufferOf(packet.payload), packet.retain)
    if (busy) void after(busy, client, options.keepaliveSeconds, done)
    else done()
  }
}

/** One by one, because the answer does not say which it refuses. */
async function subscribe(client: MqttClient, { subscriptions }: MqttOptions): Promise<void> {
  await Promise.all(
    subscriptions.map(async ({ topic, qos }) => {
      try {
        await client.subscribeAsync(topic, { qos })
      } catch (error) {
        throw subscribeError(error, topic)
      }
    }),
  )
}

/** While we read nothing we see no answer to our pings either: the broker must not take us for dead, nor we it. */
async function after(
  busy: Promise<void>,
  client: MqttClient,
  keepaliveSeconds: number,
  done: () => void,
): Promise<void> {
  const pings = setInterval(
    () => {
      if (!client.connected) return
      client.sendPing()
      client.reschedulePing(true)
    },
    (keepaliveSeconds * 1000) / 3,
  )
  await busy.catch(() => undefined)
  clearInterval(pings)
  done()
}

function clientOptions(url: string, version: 4 | 5, options: MqttOptions): IClientOptions {
  const { tls: secure, username, password, will } = options
  const { protocol, host, port } = parseBrokerUrl(url)
  const file = (path: string | undefined) => (path === undefined ? undefined : readFileSync(path))
  const given = {
    username,
    password: password?.reveal(),
    servername: secure?.server_name,
    ca: file(secure?.ca),
    cert: file(secure?.cert),
    key: file(secure?.key),
  }
  const present = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  const last = will?.()
  return {
    protocol,
    host,
    port,
    clientId: options.clientId,
    clean: options.keepsSession !== true,
    protocolVersion: version,
    keepalive: options.keepaliveSeconds,
    connectTimeout: options.connectMs,
    reconnectPeriod: 0,
    resubscribe: false,
    queueQoSZero: false,
    rejectUnauthorized: secure?.verify ?? true,
    ...(version === 5 && {
      properties: {
        // Else the session ends with its connection, as a clean one does in 3.1.1.
        sessionExpiryInterval: options.keepsSession === true ? keptSessionSeconds : 0,
        receiveMaximum: options.receiveMaximum,
        maximumPacketSize: options.largestPacketBytes,
      },
    }),
    ...(last && {
      will: { topic: last.topic, payload: Buffer.from(last.payload), qos: 1 as const, retain: true },
    }),
    ...present,
  }
}

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(messageOf(error)))

const connected = (client: MqttClient): Promise<void> =>
  new Promise((resolve) => client.once('connect', () => resolve()))

/** Waits for something that a stop must not wait for for ever. */
async function soon(task: Promise<unknown> | undefined): Promise<void> {
  const enough = Promise.withResolvers<void>()
  const timer = setTimeout(enough.resolve, stopMs)
  await Promise.race([task?.catch(() => undefined), enough.promise])
  clearTimeout(timer)
}
