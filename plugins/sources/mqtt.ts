// Messages of local services on an MQTT broker, as records. A message of QoS 1 is answered when its records are safe; the
// broker keeps the session, so that what was not answered, and what comes while we are away, comes when we are back.
// One connection brings what all services say: of a service beyond its quota the messages are dropped and counted, for to
// leave them without an answer would hold up those of the others.
import * as z from 'zod'
import { defineSource } from '../contract/define.ts'
import type { Context, Emit } from '../contract/define.ts'
import { PermanentError, messageOf } from '../contract/errors.ts'
import { ports } from '../contract/options.ts'
import { duration, secret, size, tls } from '../contract/settings.ts'
import { signals } from '../contract/signal.ts'
import { compressionOf, decompress } from '../protocols/compression.ts'
import { isBrokerUrl } from '../protocols/mqtt-url.ts'
import { runMqtt } from '../protocols/mqtt.ts'
import { accountOf, withinQuota } from '../protocols/quota.ts'
import { FormatDecoder, formats, jsonKeys } from '../protocols/records/formats.ts'

const config = z.strictObject({
  urls: z
    .array(z.string().refine(isBrokerUrl, { error: 'expected mqtt://host:port or mqtts://host:port' }))
    .min(1)
    .optional()
    .describe('Brokers, the preferred one first; otherwise the MQTT port of this machine.'),
  topics: z
    .array(z.string().regex(/^[^\0\s]{1,1000}$/, 'expected a topic, with + and # for any'))
    .min(1)
    .max(100)
    .describe(
      'Topics to subscribe to; + stands for a level, # for all levels that follow. A sender with a quota is what the first of them stands for.',
    ),
  format: z
    .enum(formats)
    .default('json')
    .describe('`json` (OTLP/JSON included), `line_protocol`, `text`, or `otlp`, which is protobuf.'),
  signal: z.enum(signals).default('metrics').describe('What protobuf holds; it does not say so itself.'),
  name: z.string().max(200).default('').describe('Begins the names of metrics that JSON makes.'),
  service: z.string().min(1).max(200).default('mqtt').describe('The service.name of the records.'),
  retained: z
    .boolean()
    .default(false)
    .describe('Also take what was said before we subscribed; it comes again at every connection.'),
  client_id: z
    .string()
    .min(1)
    .max(200)
    .optional()
    .describe('By which the broker knows us again; otherwise made of the ids of collector and source.'),
  username: z.string().optional().describe('Name to log in with.'),
  password: secret.optional().describe('Password to log in with.'),
  tls: tls.optional().describe('Certificates, for mqtts://.'),
  protocol_version: z
    .union([z.literal(4), z.literal(5), z.literal('auto')])
    .default(4)
    .describe('4 is MQTT 3.1.1, which every broker speaks; 5 where the broker does; `auto` finds out.'),
  keepalive: duration.prefault('30s').describe('Longest silence before the connection is probed.'),
  connect_timeout: duration.prefault('10s').describe('Longest wait for a connection.'),
  max_message: size
    .prefault('256KiB')
    .refine((bytes) => bytes >= 1024 && bytes <= 16 * 1024 ** 2, 'expected 1KiB to 16MiB')
    .describe('Largest message, also decompressed.'),
  ...jsonKeys,
})
type Config = z.output<typeof config>

/** Messages whose records are not safe yet. */
const mostUnanswered = 64
const longestPauseMs = 10_000
/** Where the records of a message came from (OpenTelemetry's messaging conventions). */
const topicAttribute = 'messaging.destination.name'

export default defineSource({
  name: 'mqtt',
  summary: 'Messages of local services on an MQTT broker: JSON, OTLP, line protocol or text.',
  config,
  signals: ['metrics', 'logs', 'traces'],
  create: (config, context) => ({ run: (emit, signal) => run(config, context, emit, signal) }),
  detect: async () => ({ leftOut: 'only a configuration says which broker to ask, and which topics' }),
})

async function run(config: Config, context: Context, emit: Emit, signal: AbortSignal): Promise<void> {
  const { log, clock } = context
  const decoder = new FormatDecoder(
    {
      scope: 'mqtt',
      format: config.format,
      service: config.service,
      messageKeys: config.message_keys,
      counters: config.counters,
      signal: config.signal,
    },
    context,
  )
  const senderOf = senderByTopic(config.topics)
  const take = async (topic: string, payload: Buffer): Promise<void> => {
    const bytes = await bareOf(payload, config.max_message)
    if (typeof bytes === 'string') {
      context.dropped('log', 'invalid', 1)
      log.warn('a message was refused', { topic, reason: bytes })
      return
    }
    const attributes = { [topicAttribute]: topic }
    const {
      records,
      refused,
      reason,
      class: name,
    } = decoder.take(named(config, topic, bytes), config.name, attributes)
    if (refused > 0) {
      context.dropped(name, 'invalid', refused)
      log.warn('a message was refused', { topic, count: refused, reason })
    }
    const sender = accountOf(context.admission, senderOf(topic), () => undefined)
    const within = sender ? withinQuota(records, sender, context.dropped.bind(context)) : records
    await Promise.all(within.map((one) => emit(one)))
  }
  await runMqtt(
    {
      urls: config.urls ?? [`mqtt://127.0.0.1:${ports.mqtt + context.portOffset}`],
      clientId: config.client_id ?? `dpulse-${context.collector}-${context.id}`,
      protocolVersion: config.protocol_version,
      largestPacketBytes: config.max_message + 64 * 1024,
      receiveMaximum: mostUnanswered,
      keepaliveSeconds: Math.max(1, Math.round(config.keepalive / 1000)),
      connectMs: config.connect_timeout,
      longestPauseMs,
      username: config.username,
      password: config.password,
      tls: config.tls,
      subscriptions: config.topics.map((topic) => ({ topic, qos: 1 as const })),
      keepsSession: true,
      atOnce: mostUnanswered,
      onMessage: (topic, payload, retained) =>
        retained && !config.retained ? undefined : take(topic, payload),
      onUp: async (link) => {
        context.ready(link.address)
        link.healthy()
      },
      log,
      clock,
    },
    signal,
  )
}

/**
 * Who sent a message. Its publisher the broker does not tell; what stands for any in the subscription is as a rule the
 * service or device: of `local/#` and `local/+/log` both `local/nginx`. One without is a sender as a whole.
 */
export function senderByTopic(subscriptions: readonly string[]): (topic: string) => string {
  const filters = subscriptions.map((one) => one.replace(/^\$share\/[^/]*\//, '').split('/'))
  return (topic) => {
    const levels = topic.split('/')
    const filter = filters.find((one) => isOf(one, levels)) ?? []
    const any = filter.findIndex((level) => level === '+' || level === '#')
    return any < 0 ? topic : levels.slice(0, any + 1).join('/')
  }
}

const isOf = (filter: readonly string[], levels: readonly string[]): boolean =>
  filter.every(
    (level, index) => level === '#' || (index < levels.length && (level === '+' || level === levels[index])),
  ) &&
  (filter.at(-1) === '#' || filter.length === levels.length)

/** The message without its compression; why it is refused, as text. */
async function bareOf(payload: Buffer, maxBytes: number): Promise<Buffer | string> {
  if (payload.length > maxBytes) return `${payload.length} bytes, more than the ${maxBytes} that are allowed`
  if (compressionOf(payload) === 'none') return payload
  try {
    return Buffer.from(await decompress(payload, maxBytes))
  } catch (error) {
    if (!(error instanceof PermanentError)) throw error
    return messageOf(error)
  }
}

/** A bare number, as many sensors publish it, is named by the last level of its topic. */
function named({ format }: Config, topic: string, bytes: Buffer): Buffer {
  if (format !== 'json' || bytes.length > 40) return bytes
  const text = bytes.toString('latin1').trim()
  if (!/^(-?\d[\d.eE+-]*|true|false)$/.test(text)) return bytes
  return Buffer.from(
    `{${JSON.stringify(topic.split('/').findLast((level) => level !== '') ?? 'value')}:${text}}`,
  )
}
