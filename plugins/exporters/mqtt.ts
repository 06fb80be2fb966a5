// Sends batches to an aggregator over any MQTT broker. A broker's PUBACK proves nothing: a batch is delivered when the
// aggregator names it on the collector's `ack` topic, which it does when its journal has the batch on disk.
import * as z from 'zod'
import { streamKey } from '../contract/batch.ts'
import type { Batch } from '../contract/batch.ts'
import { defineExporter } from '../contract/define.ts'
import type { Changes, Context, Exporter, Receipt } from '../contract/define.ts'
import { PermanentError, RetryableError, messageOf } from '../contract/errors.ts'
import { ports } from '../contract/options.ts'
import { duration, secret, tls } from '../contract/settings.ts'
import { compressSync, compressions } from '../protocols/compression.ts'
import { Births, statusText } from '../protocols/mqtt-births.ts'
import { isBrokerUrl } from '../protocols/mqtt-url.ts'
import { runMqtt } from '../protocols/mqtt.ts'
import type { MqttLink, MqttOptions } from '../protocols/mqtt.ts'
import { ackSchema, topics } from '../protocols/topics.ts'
import type { Ack } from '../protocols/topics.ts'

const config = z.strictObject({
  urls: z
    .array(z.string().refine(isBrokerUrl, { error: 'expected mqtt://host:port or mqtts://host:port' }))
    .min(1)
    .optional()
    .describe('Brokers, the preferred one first; otherwise the MQTT port of this machine.'),
  root: z
    .string()
    .regex(/^[^+#\s]{1,100}$/, 'expected a topic without + and #')
    .default('dpulse')
    .describe('First level of every topic.'),
  username: z.string().optional().describe('Name to log in with.'),
  password: secret.optional().describe('Password to log in with.'),
  tls: tls.optional().describe('Certificates, for mqtts://.'),
  keepalive: duration.prefault('30s').describe('Longest silence before the connection is probed.'),
  connect_timeout: duration.prefault('10s').describe('Longest wait for a connection.'),
  ack_timeout: duration
    .prefault('30s')
    .describe('Longest wait for the aggregator before a batch is sent again.'),
  max_in_flight: z
    .int()
    .min(1)
    .max(10_000)
    .default(512)
    .describe('Most batches that wait for the aggregator at once.'),
  compression: z.enum(compressions).default('zstd').describe('How batches are compressed.'),
  protocol_version: z
    .union([z.literal(4), z.literal(5), z.literal('auto')])
    .default(4)
    .describe('4 is MQTT 3.1.1, which every broker speaks; 5 where the broker does; `auto` finds out.'),
  accept_changes: z
    .boolean()
    .default(true)
    .describe('Whether the aggregator may change configuration, verbosity and labels of this collector.'),
})
type Config = z.output<typeof config>

/** What our broker takes, and many others. */
const maxPayloadBytes = 1024 * 1024
/** What comes to us are acknowledgements and our own status. */
const largestPacketBytes = 1024 * 1024
const receiveMaximum = 100
const longestPauseMs = 30_000

export default defineExporter({
  name: 'mqtt',
  summary: 'Sends batches to an aggregator through an MQTT broker and waits until its journal has them.',
  config,
  create: (config, context) => new MqttExporter(config, context),
})

class MqttExporter implements Exporter {
  readonly #config: Config
  readonly #context: Context
  readonly #urls: readonly string[]
  readonly #unanswered = new Unanswered()
  /** Where the other end may change this collector. */
  readonly #changes: Changes | undefined
  #link: MqttLink | undefined
  #births: Births | undefined
  #running = new AbortController()
  #isWatching = false

  constructor(config: Config, context: Context) {
    this.#config = config
    this.#context = context
    this.#changes = config.accept_changes ? context.changes : undefined
    this.#urls = config.urls ?? [`mqtt://127.0.0.1:${ports.mqtt + context.portOffset}`]
  }

  async run(signal: AbortSignal): Promise<void> {
    const stopListening = this.#context.onStatusChange(() => this.#births?.want())
    const stopReporting = this.#changes?.onReport(() => void this.#report(this.#link))
    const running = (this.#running = new AbortController())
    try {
      await runMqtt(this.#connection(), signal)
    } finally {
      running.abort(ended)
      stopListening()
      stopReporting?.()
    }
  }

  async export(batch: Batch, signal: AbortSignal): Promise<Receipt> {
    signal.throwIfAborted()
    const link = this.#link
    if (!link) throw new RetryableError('PEER_UNREACHABLE', `no connection to ${this.#urls.join(', ')}`)
    if (this.#unanswered.size >= this.#config.max_in_flight) {
      const text = `${this.#unanswered.size} batches wait for the aggregator already`
      throw new RetryableError('PEER_OVERLOADED', text, { retryAfterMs: 100 })
    }
    const payload = compressSync(batch.bytes, this.#config.compression)
    if (payload.length > maxPayloadBytes) {
      throw new PermanentError('INPUT_TOO_LARGE', `a batch of ${payload.length} bytes, compressed`)
    }
    const { clock } = this.#context
    const answer = this.#unanswered.expect(batch, clock.elapsedMs() + this.#config.ack_timeout)
    const aborted = (): void => answer.reject(signal.reason)
    signal.addEventListener('abort', aborted)
    void this.#watchForLate()
    const { collector } = this.#context
    const topic = topics(this.#config.root).telemetry(collector, batch.header.class, batch.signal)
    link.publish(topic, payload, { qos: 1, mustBeHeard: true }).catch(answer.reject)
    try {
      await answer.promise
      return { rejected: 0, wireBytes: payload.length }
    } finally {
      signal.removeEventListener('abort', aborted)
      this.#unanswered.forget(batch, answer)
    }
  }

  /** One timer for all: what was published first is late first. */
  async #watchForLate(): Promise<void> {
    if (this.#isWatching) return
    this.#isWatching = true
    const { clock } = this.#context
    for (let dueMs = this.#unanswered.dueMs; dueMs !== undefined; dueMs = this.#unanswered.dueMs) {
      // The end of the run ends the wait; all are answered by then.
      await clock.delay(dueMs - clock.elapsedMs(), this.#running.signal).catch(() => undefined)
      if (this.#running.signal.aborted) break
      const text = 'the aggregator did not acknowledge a batch in time'
      this.#unanswered.rejectLate(clock.elapsedMs(), new RetryableError('PEER_TIMEOUT', text))
    }
    this.#isWatching = false
  }

  #connection(): MqttOptions {
    const { log, clock, collector } = this.#context
    const { username, password, tls: secure, keepalive, connect_timeout, protocol_version } = this.#config
    const topic = topics(this.#config.root)
    const own = topic.status(collector)
    const desired = topic.desired(collector)
    return {
      urls: this.#urls,
      username,
      password,
      tls: secure,
      log,
      clock,
      // One run, one client id: a broker that still holds our last connection then lets go of it.
      clientId: `dpulse-${collector}-${this.#context.status().instance}`,
      protocolVersion: protocol_version,
      largestPacketBytes,
      receiveMaximum,
      longestPauseMs,
      keepaliveSeconds: Math.max(1, Math.round(keepalive / 1000)),
      connectMs: connect_timeout,
      subscriptions: [
        { topic: topic.ack(collector), qos: 0 },
        { topic: own, qos: 1 },
        ...(this.#changes ? [{ topic: desired, qos: 1 as const }] : []),
      ],
      will: () => ({ topic: own, payload: statusText(this.#context, 'offline') }),
      onMessage: (name, payload, retained) => {
        if (name === own) this.#births?.heard(payload)
        else if (name === desired) this.#onDesired(payload)
        // Nobody who acknowledges retains it: a retained ack speaks of another time.
        else if (name === topic.ack(collector) && !retained) this.#onAck(payload)
        return undefined
      },
      onUp: (link) => this.#onUp(link, new Births(this.#context, link, own)),
      onStop: async () => this.#births?.publish('offline'),
      onDown: (_, cause) => {
        this.#births?.stop()
        this.#births = undefined
        this.#link = undefined
        const text = 'the connection to the MQTT broker was lost'
        this.#unanswered.rejectAll(new RetryableError('PEER_UNREACHABLE', text, { cause }))
      },
    }
  }

  async #onUp(link: MqttLink, births: Births): Promise<void> {
    this.#births = births
    await births.publish('online')
    this.#link = link
    this.#context.ready(link.address)
    void this.#report(link)
  }

  async #report(link: MqttLink | undefined): Promise<void> {
    const { collector, log } = this.#context
    if (!link || !this.#changes) return
    const topic = topics(this.#config.root).reported(collector)
    try {
      await link.publish(topic, JSON.stringify(this.#changes.report()), { qos: 1, retain: true })
    } catch (error) {
      // The next connection begins with one.
      log.debug('report not sent', { error: messageOf(error) })
    }
  }

  #onDesired(payload: Buffer): void {
    if (payload.length === 0) return // nobody wishes for anything: what is in force stays
    try {
      this.#changes?.hear(JSON.parse(payload.toString()))
    } catch (error) {
      this.#context.log.warn('malformed wish', { error: messageOf(error).slice(0, 300) })
    }
  }

  #onAck(payload: Buffer): void {
    try {
      const ack = ackSchema.parse(JSON.parse(payload.toString()))
      this.#unanswered.resolve(ack, this.#context.collector)
      if (ack.trial !== undefined) this.#changes?.confirm(ack.trial)
      this.#link?.healthy()
    } catch (error) {
      this.#context.log.warn('malformed ack', { error: messageOf(error).slice(0, 300) })
    }
  }
}

interface Answer extends PromiseWithResolvers<void> {
  readonly dueMs: number
}
/** Made once: an abort without a reason makes an error, with its stack, each time. */
const ended = new Error('the run ended')

/** Batches that were published and that no ack has named yet. */
class Unanswered {
  readonly #streams = new Map<string, Map<number, Answer>>()
  /** As they were published, and so as they are due. */
  readonly #inOrder = new Set<Answer>()
  size = 0

  /** When the first of them is late. */
  get dueMs(): number | undefined {
    for (const { dueMs } of this.#inOrder) return dueMs
    return undefined
  }

  expect({ header }: Batch, dueMs: number): Answer {
    const answer: Answer = { ...Promise.withResolvers<void>(), dueMs }
    this.#inOrder.add(answer)
    const key = streamKey(header)
    let stream = this.#streams.get(key)
    if (!stream) this.#streams.set(key, (stream = new Map()))
    const before = stream.get(header.seq)
    // The same batch again: one answer is for both.
    if (before) answer.promise.then(before.resolve, before.reject)
    else this.size++
    stream.set(header.seq, answer)
    return answer
  }

  forget({ header }: Batch, answer: Answer): void {
    this.#inOrder.delete(answer)
    const key = streamKey(header)
    const stream = this.#streams.get(key)
    if (stream?.get(header.seq) !== answer) return
    stream.delete(header.seq)
    this.size--
    if (stream.size === 0) this.#streams.delete(key)
  }

  resolve({ streams }: Ack, collector: string): void {
    for (const { session, device, class: name, through, beyond } of streams) {
      const waiting = this.#streams.get(streamKey({ collector, session, device, class: name }))
      for (const [seq, answer] of waiting ?? []) {
        if (seq <= through || beyond.some(([from, to]) => seq >= from && seq <= to)) answer.resolve()
      }
    }
  }

  rejectLate(nowMs: number, error: Error): void {
    for (const answer of this.#inOrder) {
      if (answer.dueMs > nowMs) return
      this.#inOrder.delete(answer)
      answer.reject(error)
    }
  }

  rejectAll(error: Error): void {
    for (const stream of this.#streams.values()) for (const answer of stream.values()) answer.reject(error)
  }
}
