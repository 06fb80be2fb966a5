// Lets a Prometheus scrape the newest value of every series, under the names that it gives to those of OpenTelemetry. Log
// records are counted by severity.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { createGzip } from 'node:zlib'
import { pipeline } from 'node:stream/promises'
import * as z from 'zod'
import { defineExporter } from '../contract/define.ts'
import type { Context, Exporter } from '../contract/define.ts'
import { PermanentError } from '../contract/errors.ts'
import { ports } from '../contract/options.ts'
import { address, duration, tls } from '../contract/settings.ts'
import { serveHttp } from '../protocols/http-intake.ts'
import { loopback, readServerTls } from '../protocols/otlp/listen.ts'
import { Exposition } from '../protocols/prometheus/index.ts'

const config = z.strictObject({
  listen: address.optional().describe('Address to listen on; otherwise port 9464 of loopback.'),
  tls: tls.optional().describe('TLS; with `ca`, who scrapes needs a certificate of it.'),
  path: z.string().startsWith('/').max(200).default('/metrics').describe('Where the metrics are.'),
  expire: duration
    .refine((ms) => ms >= 1000, 'expected 1s or more')
    .prefault('5m')
    .describe('Series that nothing came of for so long are gone.'),
  max_series: z
    .int()
    .min(1)
    .max(5_000_000)
    .default(100_000)
    .describe('Most series at once; points of others are rejected and counted.'),
})
type Config = z.output<typeof config>

const openMetricsType = 'application/openmetrics-text; version=1.0.0; charset=utf-8'
const classicType = 'text/plain; version=0.0.4; charset=utf-8'

export default defineExporter({
  name: 'prometheus',
  summary:
    'Lets a Prometheus scrape the newest value of every series, and counts of log records by severity.',
  config,
  create: (config, context) => create(config, context),
})

function create(config: Config, context: Context): Exporter {
  const exposition = new Exposition({ mostSeries: config.max_series, expireMs: config.expire })
  return {
    async export(batch, signal) {
      signal.throwIfAborted()
      if (batch.signal === 'traces' && batch.header.count > 0)
        throw new PermanentError('PEER_REFUSED', 'spans have no place in an exposition')
      const { signal: kind, bytes, header } = batch
      const rejected = exposition.add(
        { signal: kind, bytes, device: header.device },
        context.clock.elapsedMs(),
      )
      return rejected === 0
        ? { rejected }
        : { rejected, reason: `more than ${config.max_series} series, or one name with two types` }
    },
    run: (signal) =>
      serveHttp(
        {
          what: 'the Prometheus exporter',
          addresses: config.listen ? [config.listen] : loopback(ports.prometheus + context.portOffset),
          tls: config.tls ? readServerTls(config.tls) : undefined,
          movePort: '--port-offset N or the address of the exporter',
          take: (request, response) =>
            void answer(exposition, config, context, request, response).catch(() => response.destroy()),
        },
        signal,
        (addresses) => context.ready(addresses.map((one) => one + config.path).join(', ')),
      ),
  }
}

async function answer(
  exposition: Exposition,
  config: Config,
  context: Context,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method = '', headers } = request
  request.resume()
  const path = (request.url ?? '').replace(/\?.*$/s, '')
  if (path !== config.path || (method !== 'GET' && method !== 'HEAD')) {
    const [status, text] =
      path === config.path ? [405, 'GET only'] : [404, `the metrics are at ${config.path}`]
    response.writeHead(status, { 'content-type': 'text/plain' }).end(`${text}\n`)
    return
  }
  const openMetrics = /application\/openmetrics-text/.test(headers.accept ?? '')
  const isPacked = /\bgzip\b/.test(headers['accept-encoding'] ?? '')
  response.writeHead(200, {
    'content-type': openMetrics ? openMetricsType : classicType,
    ...(isPacked ? { 'content-encoding': 'gzip' } : {}),
  })
  if (method === 'HEAD') {
    response.end()
    return
  }
  const lines = Readable.from(exposition.render(openMetrics, context.clock.elapsedMs()))
  await (isPacked ? pipeline(lines, createGzip({ level: 1 }), response) : pipeline(lines, response))
}
