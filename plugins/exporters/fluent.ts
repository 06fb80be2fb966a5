// Delivers batches to Fluentd, Fluent Bit and other receivers of the Fluent forward protocol: one message a batch, which is
// delivered when the receiver has acknowledged it.
//
// Why not by the library `fluent-logger`: it was tried (3.4.1, PackedForward, requireAckResponse), and cannot say of each
// batch what became of it. An acknowledgement that comes in two segments, or bytes that are no MessagePack, throw in its
// socket's listener, which ends the process; the callback is then never called, not even after ackResponseTimeout, and
// neither is it where the connection is refused. After one timeout it writes nothing any more. It has one message under
// way at a time, takes records one by one as objects, throws on a BigInt, and tells as `size` bytes instead of entries.
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { hostname } from 'node:os'
import { gzipSync } from 'node:zlib'
import * as z from 'zod'
import type { Batch } from '../contract/batch.ts'
import { defineExporter } from '../contract/define.ts'
import type { Context, Exporter, Receipt } from '../contract/define.ts'
import { PermanentError, RetryableError } from '../contract/errors.ts'
import { address, duration, secret, tls } from '../contract/settings.ts'
import type { Secret } from '../contract/settings.ts'
import { PackReader, PackStream, PackWriter, ping } from '../protocols/fluent/index.ts'
import { clientTls } from '../protocols/otlp/delivery.ts'
import { printHost } from '../protocols/otlp/listen.ts'
import { plainRecords } from '../protocols/records/plain.ts'
import { StreamClient } from '../protocols/stream-client.ts'

const config = z.strictObject({
  endpoint: z
    .union([address, z.array(address).min(1).max(16)])
    .transform((value) => (Array.isArray(value) ? value : [value]))
    .describe('host:port; of several, the first that answers is used.'),
  tls: tls.optional().describe('Speaks TLS where it is given, also as {}.'),
  shared_key: secret.optional().describe('What the receiver wants us to know.'),
  tag: z
    .string()
    .regex(/^[^\s]{1,200}$/, 'expected a tag without spaces')
    .default('dpulse')
    .describe('Begins the tags, which end with signal and class: dpulse.logs.log.'),
  compression: z.enum(['gzip', 'none']).default('none').describe('How batches are compressed.'),
  require_ack: z
    .boolean()
    .default(true)
    .describe('Wait for the receiver to acknowledge each batch; without, one on its way may be lost.'),
  timeout: duration.prefault('30s').describe('Longest wait for a connection, and for an acknowledgement.'),
})
type Config = z.output<typeof config>

const largestAnswer = 64 * 1024

export default defineExporter({
  name: 'fluent',
  summary:
    'Delivers batches to Fluentd, Fluent Bit and others over the Fluent forward protocol, acknowledged.',
  config,
  create: (config, context) => new FluentExporter(config, context),
})

class FluentExporter implements Exporter {
  readonly #config: Config
  readonly #context: Context
  readonly #client: StreamClient
  readonly #unanswered = new Map<string, PromiseWithResolvers<void>>()
  #answers = new PackStream(largestAnswer)
  #number = 0

  constructor(config: Config, context: Context) {
    this.#config = config
    this.#context = context
    const { shared_key: key, tls: secure } = config
    this.#client = new StreamClient({
      addresses: config.endpoint,
      tls: () => secure && clientTls(secure),
      connectMs: config.timeout,
      ...(key && { greet: (socket) => shakeHands(socket, key) }),
      onData: (chunk) => this.#hear(chunk),
      onLost: (error) => {
        this.#answers = new PackStream(largestAnswer)
        for (const { reject } of this.#unanswered.values()) reject(error)
      },
    })
  }

  async run(signal: AbortSignal): Promise<void> {
    this.#context.ready(
      this.#config.endpoint.map(({ host, port }) => `tcp://${printHost(host)}:${port}`).join(', '),
    )
    if (!signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>()
      signal.addEventListener('abort', () => resolve(), { once: true })
      await promise
    }
    await this.#client.close()
  }

  async export(batch: Batch, signal: AbortSignal): Promise<Receipt> {
    signal.throwIfAborted()
    if (batch.header.count === 0) return { rejected: 0 }
    if (batch.signal === 'traces')
      throw new PermanentError('PEER_REFUSED', 'spans have no place in log records')
    const { session, device, seq } = batch.header
    const chunk = `${session}-${device}-${batch.header.class}-${seq}-${++this.#number}`
    const answer = Promise.withResolvers<void>()
    // Told to whoever waits; nobody may wait any more.
    answer.promise.catch(() => undefined)
    if (this.#config.require_ack) this.#unanswered.set(chunk, answer)
    const giveUp = (): void => answer.reject(signal.reason as Error)
    signal.addEventListener('abort', giveUp, { once: true })
    const { timeout } = this.#config
    const timer = setTimeout(() => {
      answer.reject(new RetryableError('PEER_TIMEOUT', `no acknowledgement within ${timeout} ms`))
    }, timeout)
    try {
      const sent = this.#client.write(encodeMessage(batch, this.#config, chunk))
      sent.catch(() => undefined)
      await (this.#config.require_ack
        ? Promise.race([sent.then(() => answer.promise), answer.promise])
        : Promise.race([sent, answer.promise]))
      return { rejected: 0 }
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', giveUp)
      this.#unanswered.delete(chunk)
    }
  }

  #hear(chunk: Buffer): void {
    try {
      this.#answers.push(chunk)
      for (let answer = this.#answers.next(); answer; answer = this.#answers.next()) {
        const reader = new PackReader(answer)
        for (let pairs = reader.map(); pairs > 0; pairs--) {
          const isAck = reader.string() === 'ack'
          if (isAck) this.#unanswered.get(reader.string())?.resolve()
          else reader.skip()
        }
      }
    } catch (error) {
      this.#answers = new PackStream(largestAnswer)
      this.#context.log.warn('malformed acknowledgement', { error: (error as Error).message })
    }
  }
}

/** PackedForward: [tag, binary of (time, record) arrays, { chunk, size, compressed }]. */
function encodeMessage(
  batch: Batch,
  { tag, compression, require_ack }: Pick<Config, 'tag' | 'compression' | 'require_ack'>,
  chunk: string,
): Buffer {
  const entries = new PackWriter(batch.bytes.length * 2)
  for (const { seconds, nanos, severity, level, text, eventName, attributes, resource } of plainRecords(
    batch,
  )) {
    const own = {
      message: text,
      ...(severity > 0 && { level, severity_number: severity }),
      ...(eventName !== '' && { event_name: eventName }),
    }
    entries
      .array(2)
      .time(seconds, nanos)
      .value({ ...attributes, ...own, resource })
  }
  const packed = entries.take()
  const isCompressed = compression === 'gzip'
  const message = new PackWriter(packed.length + 256)
  message.array(3).text(`${tag}.${batch.signal}.${batch.header.class}`)
  message.binary(isCompressed ? gzipSync(packed, { level: 1 }) : packed)
  message.map(1 + Number(require_ack) + Number(isCompressed))
  message.text('size').value(batch.header.count)
  if (require_ack) message.text('chunk').text(chunk)
  if (isCompressed) message.text('compressed').text('gzip')
  return message.take()
}

/** @throws RetryableError PEER_REFUSED where one of both does not know the key. */
async function shakeHands(socket: Socket, key: Secret): Promise<void> {
  const stream = new PackStream(largestAnswer)
  const message = async (): Promise<Buffer> => {
    for (;;) {
      const whole = stream.next()
      if (whole) return whole
      const [chunk] = (await Promise.race([once(socket, 'data'), once(socket, 'close')])) as [unknown]
      if (!(chunk instanceof Buffer))
        throw new RetryableError('PEER_REFUSED', 'the receiver closed during the handshake')
      stream.push(chunk)
    }
  }
  const { bytes, judge } = ping(await message(), key.reveal(), hostname())
  socket.write(bytes)
  const refusal = judge(await message())
  if (refusal !== undefined) throw new RetryableError('PEER_REFUSED', refusal)
}
