// Publishing on one connection: no more unanswered messages than an MQTT 5 broker takes, answers for what is in flight
// when the connection is lost, and refusals by their reason.
import type { MqttClient } from 'mqtt'
import { PermanentError, RetryableError } from '../contract/errors.ts'
import { publishError } from './mqtt-refusal.ts'

export interface PublishOptions {
  qos: 0 | 1
  retain?: boolean
  /** Rejects where an MQTT 5 broker says that nobody is subscribed: it has thrown the message away. */
  mustBeHeard?: boolean
}

/**
 * Resolves at the PUBACK (QoS 1), or when written (QoS 0). Rejects with RetryableError when the connection is lost or the
 * broker says no, with PermanentError INPUT_TOO_LARGE where the broker takes no packet so large.
 */
export type Publish = (topic: string, payload: Uint8Array | string, options: PublishOptions) => Promise<void>

type Answer = PromiseWithResolvers<void>

/** What a broker may leave unread before messages that may be lost are no longer sent. */
const unreadBytes = 8 * 1024 * 1024
/** Of a PUBLISH, beyond topic and payload: fixed header, length of the topic, packet id, properties. */
const framingBytes = 16
/** "No matching subscribers": a success that the library tells nobody of. */
const unheardCode = 16
const unheardRetryMs = 1000

const gone = (cause: unknown): RetryableError =>
  new RetryableError('PEER_UNREACHABLE', 'the connection to the MQTT broker was lost', { cause })

const nobody = (topic: string): RetryableError =>
  new RetryableError('PEER_UNREACHABLE', `nobody is subscribed to ${topic}: is an aggregator up?`, {
    retryAfterMs: unheardRetryMs,
  })

/** MQTT 5 brokers say what they take; the others take what the packet ids allow. */
export function publisher(client: MqttClient, lost: Promise<Error>): Publish {
  const inFlight = new Set<Answer>()
  const waiting: Answer[] = []
  let receiveMaximum = 10_000
  let packetBytes = Number.POSITIVE_INFINITY
  /** Ids of messages whose PUBACK said so, until their answer is given in the same turn. */
  const unheard = new Set<number>()
  client.on('packetreceive', (packet) => {
    if (packet.cmd === 'puback' && packet.reasonCode === unheardCode) unheard.add(packet.messageId ?? 0)
  })
  client.once('connect', ({ properties }) => {
    receiveMaximum = properties?.receiveMaximum ?? receiveMaximum
    packetBytes = properties?.maximumPacketSize ?? packetBytes
  })
  // The library does not answer what is in flight on every way in which a connection can end.
  const failed = lost.then((cause) => {
    for (const answer of [...inFlight, ...waiting]) answer.reject(gone(cause))
    return cause
  })
  async function send(topic: string, payload: Buffer, options: PublishOptions): Promise<void> {
    const { qos, retain = false, mustBeHeard = false } = options
    const answer: Answer = Promise.withResolvers<void>()
    inFlight.add(answer)
    client.publish(topic, payload, { qos, retain }, (error, packet) => {
      const id = (packet as { messageId?: number } | undefined)?.messageId
      const isUnheard = id !== undefined && unheard.delete(id)
      if (error) answer.reject(publishError(error, topic) ?? gone(error))
      else if (isUnheard && mustBeHeard) answer.reject(nobody(topic))
      else answer.resolve()
    })
    try {
      await answer.promise
    } finally {
      inFlight.delete(answer)
      waiting.shift()?.resolve()
    }
  }
  return async (topic, payload, options) => {
    const { qos } = options
    const bytes = bufferOf(payload)
    const size = bytes.length + Buffer.byteLength(topic) + framingBytes
    if (size > packetBytes) {
      const what = `a message of ${size} bytes to ${topic}; the broker takes ${packetBytes}`
      throw new PermanentError('INPUT_TOO_LARGE', what)
    }
    if (qos === 0 && client.stream.writableLength > unreadBytes) {
      throw new RetryableError('PEER_OVERLOADED', 'the MQTT broker does not read what it is sent')
    }
    if (qos > 0 && inFlight.size >= receiveMaximum) {
      const turn: Answer = Promise.withResolvers<void>()
      waiting.push(turn)
      await turn.promise
    }
    if (!client.connected) throw gone(await failed)
    await send(topic, bytes, options)
  }
}

export const bufferOf = (payload: Uint8Array | string): Buffer =>
  typeof payload === 'string'
    ? Buffer.from(payload)
    : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
