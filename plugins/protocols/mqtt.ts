// A connection to an MQTT broker that is made again whenever it is lost: what the MQTT exporter and the ingest from an
// external broker share. Each connection is a clean session of its own; names are resolved anew for each, several
// brokers are tried in turn, and attempts are spread in time so that a fleet does not come back all at once.
import type * as z from 'zod'
import type { Clock, Log } from '../contract/define.ts'
import { codeOf, messageOf } from '../contract/errors.ts'
import type { Secret, tls } from '../contract/settings.ts'
import { connectOnce } from './mqtt-connection.ts'
import type { Publish } from './mqtt-publish.ts'
import { refusesVersion } from './mqtt-refusal.ts'

export interface MqttOptions {
  /** `mqtt://host:port`, `mqtts://[::1]:8883`; the first that answers is taken. */
  urls: readonly string[]
  clientId: string
  /** `auto`: 5 where the broker speaks it. */
  protocolVersion: 4 | 5 | 'auto'
  /** A broker that sends a larger one is left. */
  largestPacketBytes: number
  /** Messages of QoS 1 that an MQTT 5 broker may have under way to us. */
  receiveMaximum: number
  keepaliveSeconds: number
  connectMs: number
  /** Between attempts: long for a fleet, that must not come back all at once. */
  longestPauseMs: number
  username?: string | undefined
  password?: Secret | undefined
  tls?: z.output<typeof tls> | undefined
  subscriptions: readonly { topic: string; qos: 0 | 1 }[]
  /** Published, retained, by the broker when this connection is lost. */
  will?: () => { topic: string; payload: string }
  /** The broker keeps what we have not answered, and what comes while we are away. */
  keepsSession?: boolean
  /**
   * So many messages at once, each answered when its promise has resolved; one whose promise rejects is not answered.
   * Without, a message is answered before the next one is read, whatever became of it.
   */
  atOnce?: number
  /** While a returned promise is pending no further message is read. `retained`: said before we subscribed. */
  onMessage(topic: string, payload: Buffer, retained: boolean): Promise<void> | undefined
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
  readonly publish: Publish
  /** The peer did its work: when this connection is lost, trying again begins with short pauses. */
  healthy(): void
}

const firstPauseMs = 500
/** A connection that lived this long was a good one, whatever ended it. */
const goodAfterMs = 30_000

/** The pause before the next attempt, random within bounds that double up to the longest. */
export function pauseMs(round: number, random: number, longestMs: number): number {
  const upper = Math.min(longestMs, firstPauseMs * 2 ** Math.min(round + 1, 16))
  return Math.round(firstPauseMs + random * (upper - firstPauseMs))
}

/** Until aborted. */
export async function runMqtt(options: MqttOptions, signal: AbortSignal): Promise<void> {
  const { urls, log, clock, protocolVersion } = options
  let version: 4 | 5 = protocolVersion === 'auto' ? 5 : protocolVersion
  for (let attempt = 0; !signal.aborted; attempt++) {
    const url = urls[attempt % urls.length] ?? ''
    const began = clock.elapsedMs()
    const { error, reached, silently, healthy } = await connectOnce(url, version, options, signal)
    if (signal.aborted) return
    const isRefused = refusesVersion(error.cause)
    // A broker that knows no MQTT 5 says so, or just closes; either way the other version is tried next.
    if (protocolVersion === 'auto' && !reached && (isRefused || silently)) {
      version = version === 5 ? 4 : 5
      if (isRefused && version === 4) {
        attempt--
        continue
      }
    }
    if (healthy || clock.elapsedMs() - began > goodAfterMs) attempt = -1
    const retryMs = pauseMs(
      Math.floor(Math.max(0, attempt) / urls.length),
      Math.random(),
      options.longestPauseMs,
    )
    // What only a person can mend is said louder.
    const level =
      codeOf(error) === 'PEER_REFUSED' || codeOf(error) === 'CREDENTIAL_MISSING' ? 'error' : 'warn'
    log[level]('no connection to the MQTT broker', { url, error: messageOf(error), retryMs })
    await clock.delay(retryMs, signal).catch(() => undefined)
  }
}
