// Sends records to a syslog server as RFC 5424 messages over TLS (RFC 5425) or TCP, framed by octet counting. Syslog knows
// no acknowledgement: a batch counts as delivered when the system has taken it, so what is under way when the connection
// breaks may be lost; what was not taken is sent again.
import * as z from 'zod'
import type { Batch } from '../contract/batch.ts'
import { defineExporter } from '../contract/define.ts'
import type { Context, Exporter } from '../contract/define.ts'
import { PermanentError, RetryableError } from '../contract/errors.ts'
import { address, duration, tls } from '../contract/settings.ts'
import { clientTls } from '../protocols/otlp/delivery.ts'
import { printHost } from '../protocols/otlp/listen.ts'
import { plainRecords } from '../protocols/records/plain.ts'
import { StreamClient } from '../protocols/stream-client.ts'
import { formatMessage } from '../protocols/syslog/format.ts'

const config = z.strictObject({
  endpoint: z
    .union([address, z.array(address).min(1).max(16)])
    .transform((value) => (Array.isArray(value) ? value : [value]))
    .describe('host:port, as a rule port 6514; of several, the first that answers is used.'),
  transport: z.enum(['tls', 'tcp']).default('tls').describe('TLS, or TCP in the clear.'),
  tls: tls.prefault({}).describe('Certificates, for TLS.'),
  facility: z.int().min(0).max(23).default(16).describe('Facility of records that name none; 16 is local0.'),
  structured_data_id: z
    .string()
    .regex(
      /^[\x21\x23-\x3c\x3e-\x5c\x5e-\x7e]{1,32}$/,
      'expected up to 32 printable characters without = ] and "',
    )
    .default('dpulse@32473')
    .describe('Id of the structured data that holds attributes.'),
  max_length: z
    .int()
    .min(480)
    .max(262_144)
    .default(65_536)
    .describe('Bytes; the text of a longer message is cut.'),
  timeout: duration.prefault('10s').describe('Longest wait for a connection, and for a batch to leave.'),
})
type Config = z.output<typeof config>

export default defineExporter({
  name: 'syslog',
  summary: 'Sends records to a syslog server: RFC 5424 over TLS or TCP, with octet counting.',
  config,
  create: (config, context) => create(config, context),
})

function create(config: Config, context: Context): Exporter {
  const { transport, tls: secure, timeout } = config
  const client = new StreamClient({
    addresses: config.endpoint,
    tls: () => (transport === 'tls' ? clientTls(secure) : undefined),
    connectMs: timeout,
    // Nothing is said in this direction.
    onData: () => undefined,
    onLost: () => undefined,
  })
  return {
    async export(batch, signal) {
      signal.throwIfAborted()
      if (batch.header.count === 0) return { rejected: 0 }
      if (batch.signal === 'traces') throw new PermanentError('PEER_REFUSED', 'spans have no place in syslog')
      const { promise, reject } = Promise.withResolvers<never>()
      const giveUp = (): void => reject(signal.reason as Error)
      signal.addEventListener('abort', giveUp, { once: true })
      const timer = setTimeout(() => {
        reject(new RetryableError('PEER_TIMEOUT', `the server did not take a batch within ${timeout} ms`))
      }, timeout)
      try {
        const sent = client.write(encodeMessages(batch, config))
        sent.catch(() => undefined)
        await Promise.race([sent, promise])
        return { rejected: 0 }
      } finally {
        clearTimeout(timer)
        signal.removeEventListener('abort', giveUp)
      }
    },
    async run(signal) {
      context.ready(
        config.endpoint.map(({ host, port }) => `${transport}://${printHost(host)}:${port}`).join(', '),
      )
      if (!signal.aborted) {
        const { promise, resolve } = Promise.withResolvers<void>()
        signal.addEventListener('abort', () => resolve(), { once: true })
        await promise
      }
      await client.close()
    },
  }
}

/** The batch as frames, one for each record. */
export function encodeMessages(
  batch: Batch,
  {
    facility,
    structured_data_id,
    max_length,
  }: Pick<Config, 'facility' | 'structured_data_id' | 'max_length'>,
): Buffer {
  const options = { facility, structuredDataId: structured_data_id }
  const frames: Buffer[] = []
  for (const record of plainRecords(batch)) {
    let frame = formatMessage(record, options)
    // What is cut is the text; what stands before it is bounded by itself.
    if (frame.length > max_length) {
      const text = Buffer.from(record.text)
      const over = frame.length - max_length
      const cut = text
        .subarray(0, Math.max(0, text.length - over))
        .toString('utf8')
        .replace(/\ufffd+$/, '')
      frame = formatMessage({ ...record, text: cut }, options)
    }
    frames.push(frame)
  }
  return Buffer.concat(frames)
}
