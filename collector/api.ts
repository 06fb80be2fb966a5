// The collector's own HTTP API, for this machine: health, figures, records as they come, its side of the ledger. Only loopback names are
// answered, so that no page of another origin reaches it by rebinding a name.
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { once } from 'node:events'
import { isIP } from 'node:net'
import { PermanentError, classes, messageOf } from '../plugins/contract/index.ts'
import type { Address, Dropped } from '../plugins/contract/index.ts'
import { portTaken } from '../plugins/contract/ports.ts'
import type { Log as Logger } from '../plugins/contract/index.ts'
import { LiveTails } from './api-live.ts'
import { BadParameter, logsPage } from './api-logs.ts'
import type { Runtime } from './runtime.ts'
import { sumOf } from './stream.ts'
import { Values } from './values.ts'
import type { ValueLimits } from './values.ts'

export interface ApiOptions {
  runtime: Runtime
  addresses: readonly Address[]
  logger: Logger
  /** Of `/metrics/values`. */
  values: ValueLimits
}

export interface Api extends AsyncDisposable {
  /** As one would open it. */
  url: string
}

type Answer = { status: number; type: string; body: string }

export async function startApi({ runtime, addresses, logger, values: limits }: ApiOptions): Promise<Api> {
  const servers: Server[] = []
  const { measures, tail } = runtime
  const live = new LiveTails(tail, measures.meter('api/live', 'subscriber', 'sse'))
  const meter = measures.meter('api/values', 'subscriber', 'prometheus')
  const values = new Values(tail, limits, meter, () => performance.now())
  const onlyLoopback = addresses.every(({ host }) => isLoopback(host))
  let port = addresses[0]?.port ?? 0
  const close = async () => {
    values.stop()
    for (const server of servers) server.closeAllConnections()
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  }
  try {
    for (const { host, port: wanted } of addresses) {
      const server = createServer(serverLimits, (request, response) =>
        serve({ runtime, live, values, onlyLoopback }, request, response),
      )
      server.maxConnections = 64
      // All listen on the port that the first one got, where it was free to choose.
      if (await listen(server, host, wanted === 0 ? port : wanted, servers.length > 0, logger))
        servers.push(server)
      const bound = server.address()
      if (typeof bound === 'object' && bound) port = bound.port
    }
  } catch (error) {
    await close()
    throw error
  }
  const host = addresses[0]?.host ?? '127.0.0.1'
  return { url: `http://${host.includes(':') ? `[${host}]` : host}:${port}`, [Symbol.asyncDispose]: close }
}

const serverLimits = {
  headersTimeout: 10_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 5000,
  connectionsCheckingInterval: 2000,
  maxHeaderSize: 16 * 1024,
}

/** False where a second address is not there (a machine without IPv6). */
async function listen(
  server: Server,
  host: string,
  port: number,
  isExtra: boolean,
  logger: Logger,
): Promise<boolean> {
  try {
    server.listen({ host, port, exclusive: true })
    await once(server, 'listening')
    return true
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (isExtra && (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT')) {
      logger.debug('the API does not listen on an address that is not there', { host })
      return false
    }
    if (code !== 'EADDRINUSE') throw cause
    const what = portTaken("the collector's API", port, 'tcp', '--port-offset')
    throw new PermanentError('ADDRESS_IN_USE', what, { cause })
  }
}

interface Asked {
  runtime: Runtime
  live: LiveTails
  values: Values
  onlyLoopback: boolean
}

const headers = {
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
  'Cross-Origin-Resource-Policy': 'same-origin',
}

function serve(asked: Asked, request: IncomingMessage, response: ServerResponse): void {
  const { live, onlyLoopback } = asked
  let answer: Answer
  try {
    const refused = refusal(onlyLoopback, request)
    const { path, parameters } = askedOf(request)
    request.resume()
    if (!refused && path === '/api/live' && request.method === 'GET') {
      if (live.serve(parameters, response, headers)) return
      answer = failure(503, 'BUSY', 'enough live tails are open already')
    } else answer = refused ?? route(asked, path, parameters)
  } catch (error) {
    answer =
      error instanceof BadParameter ? badParameter(error) : failure(500, 'UNEXPECTED', messageOf(error))
  }
  const { status, type, body } = answer
  response.writeHead(status, { ...headers, 'Content-Type': type, 'Content-Length': Buffer.byteLength(body) })
  response.end(request.method === 'HEAD' ? undefined : body)
}

function askedOf({ url = '/' }: IncomingMessage): { path: string; parameters: URLSearchParams } {
  const at = url.indexOf('?')
  const path = at < 0 ? url : url.slice(0, at)
  return { path, parameters: new URLSearchParams(at < 0 ? '' : url.slice(at + 1)) }
}

/** Why a request is not answered at all. */
function refusal(onlyLoopback: boolean, request: IncomingMessage): Answer | undefined {
  const host = request.headers.host ?? ''
  if (!isOwnName(host, onlyLoopback)) {
    return failure(
      403,
      'FOREIGN_HOST',
      `this server does not answer to the name ${JSON.stringify(host.slice(0, 100))}`,
    )
  }
  const { origin } = request.headers
  if (origin !== undefined && origin.toLowerCase() !== `http://${host.toLowerCase()}`) {
    return failure(403, 'FOREIGN_ORIGIN', 'pages of other origins may not ask this server')
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return failure(405, 'METHOD_NOT_ALLOWED', 'this API only answers GET')
  }
  return undefined
}

function route({ runtime, values }: Asked, path: string, parameters: URLSearchParams): Answer {
  switch (path) {
    case '/api/health':
      return json(healthOf(runtime), runtime.isReady ? 200 : 503)
    case '/api/ledger':
      return json(ledgerOf(runtime, devicesOf(parameters)))
    case '/api/top':
      return json(topOf(runtime))
    case '/metrics':
      return prometheus(runtime.measures.prometheus())
    case '/metrics/values':
      return prometheus(values.text())
    case '/api/logs':
      return json(logsPage(runtime.tail, parameters))
    default:
      return failure(
        404,
        'NOT_FOUND',
        `there is no ${JSON.stringify(path.slice(0, 100))}; there are ${paths.join(', ')}`,
      )
  }
}

const paths = [
  '/api/health',
  '/api/logs',
  '/api/live',
  '/api/ledger',
  '/api/top',
  '/metrics',
  '/metrics/values',
]

const prometheus = (body: string): Answer => ({
  status: 200,
  type: 'text/plain; version=0.0.4; charset=utf-8',
  body,
})

/** @throws BadParameter */
function devicesOf(parameters: URLSearchParams): readonly string[] | undefined {
  for (const name of parameters.keys()) {
    if (name !== 'device') throw new BadParameter(name, 'a collector knows only device')
  }
  const devices = parameters.getAll('device').flatMap((names) => names.toLowerCase().split(','))
  return devices.length > 0 ? devices : undefined
}

const json = (value: unknown, status = 200): Answer => ({
  status,
  type: 'application/json; charset=utf-8',
  body: JSON.stringify(value),
})

const badParameter = ({ message, parameter }: BadParameter): Answer =>
  json({ error: { code: 'BAD_PARAMETER', message, parameter } }, 400)

const failure = (status: number, code: string, message: string): Answer =>
  json({ error: { code, message } }, status)

function isOwnName(host: string, onlyLoopback: boolean): boolean {
  const name = (/^\[([^\]]+)\](:\d+)?$/.exec(host)?.[1] ?? host.replace(/:\d+$/, '')).toLowerCase()
  // An address cannot be rebound.
  return name === 'localhost' || isLoopback(name) || (isIP(name) !== 0 && !onlyLoopback)
}

const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host)

/** Ready as DESIGN has it: the sources are up; an aggregator that is away does not make a collector ill. */
export function healthOf(runtime: Runtime) {
  const units = [...runtime.sources, ...runtime.exporters, ...runtime.subscribers.units]
  const parts = units.map(({ component, supervised }) => ({
    name: component.id,
    kind: supervised.meter.kind,
    type: supervised.meter.type,
    ready: supervised.state === 'running' || supervised.state === 'ended',
    detail: supervised.detail === '' ? supervised.state : supervised.detail,
    address: supervised.address,
  }))
  return { ready: runtime.isReady, parts }
}

interface StreamReport {
  collector: string
  exporter: string
  device: string
  session: string
  class: string
  produced: number
  stored: number
  inFlight: number
  dropped: Dropped
  unknown: number
  balanced: boolean
  lastSeq: number
  missing: [number, number][]
}

/** The collector's book: `stored` is what was acknowledged. What became of it there, the aggregator's ledger tells. */
export function ledgerOf(runtime: Runtime, devices?: readonly string[]) {
  const isAsked = ({ device }: { device: string }) => devices?.includes(device) ?? true
  const streams: StreamReport[] = runtime.exporters.flatMap(({ component, outlet }) =>
    outlet.streams.filter(isAsked).map((stream) => {
      const { produced, delivered, held, dropped } = stream
      return {
        collector: stream.collector,
        exporter: component.id,
        device: stream.device,
        session: stream.session,
        class: stream.class,
        produced,
        stored: delivered,
        inFlight: held,
        dropped: { ...dropped },
        unknown: 0,
        balanced: produced === delivered + held + sumOf(dropped),
        lastSeq: stream.seq,
        missing: [],
      }
    }),
  )
  const dropped: Record<string, number> = {}
  for (const stream of streams) {
    for (const [reason, count] of Object.entries(stream.dropped))
      dropped[reason] = (dropped[reason] ?? 0) + count
  }
  const sum = (pick: (stream: StreamReport) => number) =>
    streams.reduce((total, stream) => total + pick(stream), 0)
  return {
    produced: sum(({ produced }) => produced),
    stored: sum(({ stored }) => stored),
    inFlight: sum(({ inFlight }) => inFlight),
    dropped,
    unknown: 0,
    balanced: streams.every(({ balanced }) => balanced),
    streams: streams.toSorted(
      (one, other) => classes.indexOf(one.class as 'log') - classes.indexOf(other.class as 'log'),
    ),
    /** Of earlier sessions, still in the buffer. */
    held: runtime.exporters.flatMap(({ outlet }) => outlet.buffer.held.filter(isAsked)),
  }
}

export function topOf(runtime: Runtime) {
  const components = runtime.measures.meters.map((meter) => ({
    id: meter.id,
    kind: meter.kind,
    type: meter.type,
    in: meter.in,
    out: meter.out,
    missed: meter.missed,
    dropped: { ...meter.dropped },
    failures: { ...meter.failures },
    restarts: meter.restarts,
  }))
  const { rss } = process.memoryUsage()
  return {
    components,
    rules: runtime.measures.ruleCounts(),
    buffers: runtime.measures.buffers(),
    limits: runtime.budget.used(),
    senders: runtime.budget.quotas.counts(),
    memory: rss,
    cpu: process.cpuUsage(),
    uptime: process.uptime(),
  }
}
