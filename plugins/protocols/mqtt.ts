// A connection to an MQTT broker that is made again whenever it is lost: what the MQTT exporter and the ingest from an
// external broker share. Each connection is a clean session of its own; names are resolved anew for each, several
// brokers are tried in turn, and attempts are spread in time so that a fleet does not come back all at once.
import { readFileSync } from 'node:fs'
import type { IClientOptions, MqttClient } from 'mqtt'
import type * as z from 'zod'
import type { Clock, Log } from '../contract/define.ts'
import { PermanentError, RetryableError, messageOf } from '../contract/errors.ts'
import type { Secret, tls } from '../contract/settings.ts'

export interface MqttOptions {
  /** `mqtt://host:port`, `mqtts://[::1]:8883`; the first that answers is taken. */
  urls: readonly string[]
  clientId: string
  protocolVersion: 4 | 5
  keepaliveSeconds: number
  connectMs: number
  username?: string | undefined
  password?: Secret | undefined
  tls?: z.output<typeof tls> | undefined
  subscriptions: readonly { topic: string; qos: 0 | 1 }[]
  /** Published, retained, by the broker when this connection is lost. */
  will?: () => { topic: string; payload: string }
  /** While a returned promise is pending no further message is read. */
  onMessage(topic: string, payload: Buffer): Promise<void> | undefined
  /** Connected and subscribed. A rejection ends the connection. */
  onUp?(link: MqttLink): Promise<void>
  onDown?(link: MqttLink, error: Error): void
  /** The last words before a wanted end. */
  onStop?(link: MqttLink): Promise<void>
  log: Log
  clock: Clock
}

export interface MqttLink {
  /** `mqtt://host:port`. */
  readonly address: string
  /** Resolves at the PUBACK (QoS 1), or when written (QoS 0). Rejects with RetryableError when the connection is lost. */
  publish(
    topic: string,
    payload: Uint8Array | string,
    options: { qos: 0 | 1; retain?: boolean },
  ): Promise<void>
  /** The peer did its work: when this connection is lost, trying again begins with short pauses. */
  healthy(): void
}

const firstPauseMs = 500
const longestPauseMs = 30_000
/** A connection that lived this long was a good one, whatever ended it. */
const goodAfterMs = 30_000
const stopMs = 2000

/** @throws PermanentError CONFIG_INVALID where it is no URL of a broker. */
export function parseBrokerUrl(url: string): { protocol: 'mqtt' | 'mqtts'; host: string; port: number } {
  const found = /^(mqtts?):\/\/(?:\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|([^:/[\]@\s]+))(?::(\d{1,5}))?\/?$/.exec(
    url,
  )
  const protocol = found?.[1] === 'mqtts' ? 'mqtts' : 'mqtt'
  const port = Number(found?.[4] ?? (protocol === 'mqtts' ? 8883 : 1883))
  if (!found || port < 1 || port > 65_535) {
    throw new PermanentError(
      'CONFIG_INVALID',
      `${url} is no broker: expected mqtt://host:port or mqtts://host:port`,
    )
  }
  return { protocol, host: found[2] ?? found[3] ?? '', port }
}

export function isBrokerUrl(url: string): boolean {
  try {
    return parseBrokerUrl(url).host !== ''
  } catch {
    return false
  }
}

/** The pause before the next attempt, random within bounds that double. */
export function pauseMs(round: number, random: number): number {
  const upper = Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(round + 1, 16))
  return Math.round(firstPauseMs + random * (upper - firstPauseMs))
}

/** Until aborted. */
export async function runMqtt(options: MqttOptions, signal: AbortSignal): Promise<void> {
  const { urls, log, clock } = options
  for (let attempt = 0; !signal.aborted; attempt++) {
    const url = urls[attempt % urls.length] ?? ''
    const began = clock.elapsedMs()
    const { error, healthy } = await connectOnce(url, options, signal)
    if (signal.aborted) return
    if (healthy || clock.elapsedMs() - began > goodAfterMs) attempt = -1
    const wait = pauseMs(Math.floor(Math.max(0, attempt) / urls.length), Math.random())
    log.warn('no connection to the MQTT broker', { url, error: messageOf(error), retryMs: wait })
    await clock.delay(wait, signal).catch(() => undefined)
  }
}

/** One connection, from the attempt to its end. */
async function connectOnce(
  url: string,
  options: MqttOptions,
  signal: AbortSignal,
): Promise<{ error: Error; healthy: boolean }> {
  let healthy = false
  let client: MqttClient
  try {
    // Loaded only where it is used: a collector that speaks OTLP goes without.
    const { connect } = await import('mqtt')
    client = connect(clientOptions(url, options))
  } catch (error) {
    return { error: error instanceof Error ? error : new Error(messageOf(error)), healthy }
  }
  const lost = Promise.withResolvers<Error>()
  const aborted = (): void => lost.resolve(new Error('stopping'))
  signal.addEventListener('abort', aborted)
  if (signal.aborted) aborted()
  client.on('error', (error) => lost.resolve(error))
  client.on('disconnect', ({ reasonCode = 0 }) =>
    lost.resolve(new Error(`sent away with reason ${reasonCode}`)),
  )
  client.on('close', () => lost.resolve(new Error('the connection was closed')))
  const link: MqttLink = {
    address: url,
    healthy: () => void (healthy = true),
    publish: publisher(client, lost.promise),
  }
  client.handleMessage = (packet, done) => {
    const busy = options.onMessage(packet.topic, bufferOf(packet.payload))
    if (busy) void after(busy, done)
    else done()
  }
  let isUp = false
  const up = (async () => {
    const connack = await Promise.race([connected(client), lost.promise])
    if (connack instanceof Error) return
    await client.subscribeAsync(
      Object.fromEntries(options.subscriptions.map(({ topic, qos }) => [topic, { qos }])),
    )
    isUp = true
    await options.onUp?.(link)
  })()
  up.catch((error: unknown) => lost.resolve(error instanceof Error ? error : new Error(messageOf(error))))
  const error = await lost.promise
  signal.removeEventListener('abort', aborted)
  const graceful = signal.aborted && client.connected
  if (graceful && isUp) await soon(options.onStop?.(link))
  if (isUp) options.onDown?.(link, error)
  if (graceful) await soon(client.endAsync(false))
  await soon(client.endAsync(true))
  return { error, healthy }
}

function clientOptions(url: string, options: MqttOptions): IClientOptions {
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
    clean: true,
    protocolVersion: options.protocolVersion,
    keepalive: options.keepaliveSeconds,
    connectTimeout: options.connectMs,
    reconnectPeriod: 0,
    resubscribe: false,
    queueQoSZero: false,
    rejectUnauthorized: secure?.verify ?? true,
    ...(last && {
      will: { topic: last.topic, payload: Buffer.from(last.payload), qos: 1 as const, retain: true },
    }),
    ...present,
  }
}

async function after(busy: Promise<void>, done: () => void): Promise<void> {
  await busy.catch(() => undefined)
  done()
}

const connected = (client: MqttClient): Promise<void> =>
  new Promise((resolve) => client.once('connect', () => resolve()))

/** MQTT 5 brokers say how many unanswered publishes they take; the others take what the packet ids allow. */
function publisher(client: MqttClient, lost: Promise<Error>): MqttLink['publish'] {
  const inFlight = new Set<Answer>()
  const waiting: Answer[] = []
  let receiveMaximum = 10_000
  client.once('connect', ({ properties }) => (receiveMaximum = properties?.receiveMaximum ?? receiveMaximum))
  // The library does not answer what is in flight on every way in which a connection can end.
  const failed = lost.then((cause) => {
    for (const answer of [...inFlight, ...waiting]) answer.reject(gone(cause))
    return cause
  })
  async function send(topic: string, payload: Buffer, qos: 0 | 1, retain: boolean): Promise<void> {
    const answer: Answer = Promise.withResolvers<void>()
    inFlight.add(answer)
    client.publish(topic, payload, { qos, retain }, (error) =>
      error ? answer.reject(gone(error)) : answer.resolve(),
    )
    try {
      await answer.promise
    } finally {
      inFlight.delete(answer)
      waiting.shift()?.resolve()
    }
  }
  return async (topic, payload, { qos, retain = false }) => {
    if (qos > 0 && inFlight.size >= receiveMaximum) {
      const turn: Answer = Promise.withResolvers<void>()
      waiting.push(turn)
      await turn.promise
    }
    if (!client.connected) throw gone(await failed)
    await send(topic, bufferOf(payload), qos, retain)
  }
}

const bufferOf = (payload: Uint8Array | string): Buffer =>
  typeof payload === 'string'
    ? Buffer.from(payload)
    : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)

type Answer = PromiseWithResolvers<void>

const gone = (cause: unknown): RetryableError =>
  new RetryableError('PEER_UNREACHABLE', 'the connection to the MQTT broker was lost', { cause })

/** Waits for something that a stop must not wait for for ever. */
async function soon(task: Promise<unknown> | undefined): Promise<void> {
  const enough = Promise.withResolvers<void>()
  const timer = setTimeout(enough.resolve, stopMs)
  await Promise.race([task?.catch(() => undefined), enough.promise])
  clearTimeout(timer)
}
