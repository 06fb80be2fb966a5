// Sends batches to any OTLP receiver, as they are: the header of a batch goes along as a field that others skip.
import * as z from 'zod'
import { defineExporter } from '../contract/define.ts'
import type { Context, Exporter } from '../contract/define.ts'
import { PermanentError, RetryableError } from '../contract/errors.ts'
import { Secret, duration, secret, tls } from '../contract/settings.ts'
import { compressions } from '../protocols/compression.ts'
import { clientTls } from '../protocols/otlp/delivery.ts'
import type { Delivery } from '../protocols/otlp/delivery.ts'
import { createGrpcDelivery } from '../protocols/otlp/grpc-delivery.ts'
import { createHttpDelivery } from '../protocols/otlp/http-delivery.ts'

const endpointForm =
  'expected http://host:port or https://host:port, or a list of them; a login goes into headers'

const endpoint = z
  .string()
  .transform((value, context) => {
    const url = URL.parse(value)
    if (url && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '') return url
    context.issues.push({ code: 'custom', input: value, message: endpointForm })
    return z.NEVER
  })
  .meta({ title: 'URL' })

/** Hop-by-hop headers, and those that the protocol itself sets. */
const reserved = /^(connection|host|te|trailer|transfer-encoding|upgrade|content-.*|grpc-.*|:.*)$/i

const headerName = /^[\w!#$%&'*+.^`|~-]+$/
const headerValue = z.union([z.string().regex(/^[\t -~]*$/), secret], {
  error: 'expected printable ASCII, { file: PATH } or { env: NAME }',
})

const config = z.strictObject({
  endpoint: z
    .union([endpoint, z.array(endpoint).min(1).max(16)], { error: endpointForm })
    .transform((value) => (Array.isArray(value) ? value : [value]))
    .describe('http:// or https:// address; of several, the first that answers is used.'),
  protocol: z.enum(['http', 'grpc']).default('http').describe('OTLP/HTTP (protobuf) or OTLP/gRPC.'),
  compression: z.enum(compressions).default('gzip').describe('zstd is better where the receiver knows it.'),
  headers: z
    .record(z.string(), headerValue)
    .superRefine((given, context) => {
      for (const name of Object.keys(given)) {
        if (!headerName.test(name)) {
          context.addIssue({ code: 'custom', path: [name], message: 'expected the name of a header' })
        } else if (reserved.test(name)) {
          context.addIssue({ code: 'custom', path: [name], message: 'this header is set by the protocol' })
        }
      }
    })
    .default({})
    .describe('Sent with each request, such as authorization; values may be secrets.'),
  timeout: duration.prefault('10s').describe('For one request, connecting included.'),
  tls: tls.prefault({}).describe('For https endpoints.'),
})
type Config = z.output<typeof config>

export default defineExporter({
  name: 'otlp',
  summary: 'Delivers batches to OTLP receivers over HTTP or gRPC, unchanged.',
  config,
  create: (config, context) => create(config, context),
})

function create(config: Config, context: Context): Exporter {
  let opened: Delivery | undefined
  // Opened by the first batch: files of certificates are read then, and one that is missing holds the batch.
  const delivery = (): Delivery => (opened ??= open(config))
  return {
    async export(batch, signal) {
      let wireBytes = batch.bytes.length
      const onWire = (bytes: number): void => void (wireBytes = bytes)
      const send = () => delivery().send(batch.signal, batch.bytes, signal, onWire)
      const { rejected, message } = await holding(send)
      return rejected === 0 ? { rejected, wireBytes } : { rejected, wireBytes, reason: message }
    },
    async run(signal) {
      context.ready(config.endpoint.map((one) => one.origin).join(', '))
      if (!signal.aborted) {
        const { promise, resolve } = Promise.withResolvers<void>()
        signal.addEventListener('abort', () => resolve(), { once: true })
        await promise
      }
      await opened?.close()
    },
  }
}

function open({ endpoint, protocol, compression, headers, timeout, tls }: Config): Delivery {
  const create = protocol === 'grpc' ? createGrpcDelivery : createHttpDelivery
  return create({
    endpoints: endpoint,
    compression,
    headers: () =>
      Object.fromEntries(
        Object.entries(headers).map(([name, value]) => [
          name.toLowerCase(),
          value instanceof Secret ? value.reveal() : value,
        ]),
      ),
    timeoutMs: timeout,
    tls: clientTls(tls),
    environment: process.env,
  })
}

/** A secret or certificate that is missing is no fault of the batch: it is kept until it is there. */
async function holding<T>(send: () => Promise<T>): Promise<T> {
  try {
    return await send()
  } catch (error) {
    if (!(error instanceof PermanentError) || error.code !== 'CREDENTIAL_MISSING') throw error
    throw new RetryableError(error.code, error.message, { cause: error.cause })
  }
}
