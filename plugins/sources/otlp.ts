// Records of programs and collectors that speak OTLP: divided by device and class, and answered when they are safe.
import * as z from 'zod'
import { defineSource } from '../contract/define.ts'
import type { Context, Emit } from '../contract/define.ts'
import { messageOf } from '../contract/errors.ts'
import { ports } from '../contract/options.ts'
import { address, size, tls } from '../contract/settings.ts'
import type { Address } from '../contract/settings.ts'
import { cursorFor } from '../contract/rewrite.ts'
import { processOf } from '../protocols/native/index.ts'
import { loopback } from '../protocols/otlp/listen.ts'
import { startOtlpServer } from '../protocols/otlp/server.ts'
import type { Handled, OtlpRequest } from '../protocols/otlp/server.ts'
import { splitRequest } from '../protocols/otlp/split.ts'
import { RequestQuota } from '../protocols/quota.ts'

const listener = z
  .union([address, z.literal(false)], { error: 'expected host:port, such as 127.0.0.1:4317, or false' })
  .optional()

const config = z.strictObject({
  grpc: listener.describe('Address for OTLP/gRPC, or false; otherwise port 4317 of loopback.'),
  http: listener.describe('Address for OTLP/HTTP, or false; otherwise port 4318 of loopback.'),
  unix: z.string().startsWith('/').optional().describe('Path of a Unix socket for OTLP/HTTP.'),
  tls: tls.optional().describe('TLS for both ports; with `ca`, senders need a certificate of it.'),
  max_request: size
    .prefault('16MiB')
    .refine((bytes) => bytes >= 1024 && bytes <= 256 * 1024 ** 2, 'expected 1KiB to 256MiB')
    .describe('Largest request, also decompressed.'),
})
type Config = z.output<typeof config>

/** Requests that wait for their answer; each holds its bytes. */
const mostWaiting = 256

export default defineSource({
  name: 'otlp',
  summary: 'Logs, metrics and traces of programs that speak OTLP, over gRPC and HTTP.',
  config,
  signals: ['logs', 'metrics', 'traces'],
  create: (config, context) => ({ run: (emit, signal) => run(config, context, emit, signal) }),
  // Loopback is always there.
  detect: async () => ({ config: {} }),
})

async function run(config: Config, context: Context, emit: Emit, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const quota = new RequestQuota(context, signal)
  const server = await startOtlpServer({
    grpc: addressesOf(config.grpc, ports.collectorOtlpGrpc + context.portOffset),
    http: addressesOf(config.http, ports.collectorOtlpHttp + context.portOffset),
    ...(config.unix === undefined ? {} : { unixPath: config.unix }),
    ...(config.tls === undefined ? {} : { tls: config.tls }),
    maxRequestBytes: config.max_request,
    maxInFlightBytes: context.admission.queue(Math.max(64 * 1024 ** 2, 2 * config.max_request)),
    maxInFlightRequests: mostWaiting,
    handle: (request) => take(request, context, emit, quota),
    processOf: async (socket) => (context.admission.hasQuota() ? processOf(socket) : undefined),
    report: (error) => context.log.error('OTLP request failed', { error: messageOf(error) }),
    movePort: '--port-offset N or the addresses of the source',
    signal,
  })
  context.ready(server.addresses.join(', '))
  await server.closed
}

function addressesOf(given: Address | false | undefined, port: number): Address[] {
  if (given === false) return []
  return given === undefined ? loopback(port) : [given]
}

async function take(
  request: OtlpRequest,
  context: Context,
  emit: Emit,
  quota: RequestQuota,
): Promise<Handled> {
  const sender = await quota.enter(request.peer, () => serviceOf(request))
  const { records, rejected } = splitRequest(request.signal, request.bytes, context)
  let refused = 0
  for (const { class: name, count } of rejected) {
    context.dropped(name, 'invalid', count)
    refused += count
  }
  sender?.charge(
    records.reduce((sum, { count }) => sum + count, 0),
    request.bytes.length,
  )
  await Promise.all(records.map((one) => emit(one)))
  const [first] = rejected
  return first ? { rejected: refused, message: first.reason } : { rejected: 0 }
}

/** Of a malformed request none: what is wrong with it is told later. */
function serviceOf({ signal, bytes }: OtlpRequest): string | undefined {
  try {
    const cursor = cursorFor(signal).reset(bytes)
    const name = cursor.next() ? cursor.resourceAttributes()['service.name'] : undefined
    return typeof name === 'string' ? name : undefined
  } catch {
    return undefined
  }
}
