// Line protocol over HTTP, as InfluxDB takes it (v1 `/write`, v2 `/api/v2/write`), so that a Telegraf or any client of
// InfluxDB sends to us unchanged. A request is answered when its lines are safe; of a body with bad lines the others are
// taken, and the answer names the first bad one.
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import * as z from 'zod'
import { defineSource } from '../contract/define.ts'
import type { Context, Emit } from '../contract/define.ts'
import { PermanentError, messageOf } from '../contract/errors.ts'
import { ports } from '../contract/options.ts'
import { address, secret, size, tls } from '../contract/settings.ts'
import type { Secret } from '../contract/settings.ts'
import { HttpRefusal, encodingOf, readBody, serveHttp, unpackBody } from '../protocols/http-intake.ts'
import {
  LineReader,
  LineRecords,
  longestLine,
  precisions,
  refusedClass,
} from '../protocols/line-protocol/index.ts'
import type { Taken } from '../protocols/line-protocol/index.ts'
import { loopback, readServerTls } from '../protocols/otlp/listen.ts'
import { Receiver } from '../protocols/otlp/receiver.ts'
import { RequestQuota, namesService } from '../protocols/quota.ts'

const config = z.strictObject({
  listen: address.optional().describe('Address to listen on; otherwise port 8186 of loopback.'),
  tls: tls.optional().describe('TLS; with `ca`, senders need a certificate of it.'),
  token: secret
    .optional()
    .describe('What senders must show: as a token of v2, or as the password of v1 with any user name.'),
  device_tag: z
    .string()
    .min(1)
    .max(100)
    .default('host.id')
    .describe('Tag that names the device; lines without it are about the device of the collector.'),
  max_request: size
    .prefault('16MiB')
    .refine((bytes) => bytes >= 1024 && bytes <= 64 * 1024 ** 2, 'expected 1KiB to 64MiB')
    .describe('Largest request, also decompressed.'),
})
type Config = z.output<typeof config>

/** Requests that wait for their answer; each holds its bytes. */
const mostWaiting = 256
/** What clients look for to learn whom they speak to. */
const versionHeaders = { 'x-influxdb-version': 'v2.7.0-dpulse', 'x-influxdb-build': 'OSS' }

interface WriteRequest {
  readonly body: Buffer
  /** Address of the sender. */
  readonly peer: string
  readonly perSecond: number
}

type Api = 'v1' | 'v2'

export default defineSource({
  name: 'influx',
  summary: 'Line protocol over the write APIs of InfluxDB 1 and 2, as a Telegraf sends it.',
  config,
  signals: ['metrics', 'logs'],
  create: (config, context) => ({ run: (emit, signal) => run(config, context, emit, signal) }),
  detect: async () => ({ leftOut: 'takes what programs send to its port, which only a configuration opens' }),
})

async function run(config: Config, context: Context, emit: Emit, signal: AbortSignal): Promise<void> {
  const lines = new LineRecords({
    scope: 'influx',
    device: context.device,
    deviceTag: config.device_tag,
    resource: (device) =>
      context.resource(
        device === context.device
          ? { 'service.name': 'influx' }
          : { 'service.name': 'influx', 'host.id': device, 'host.name': device },
      ),
  })
  const quota = new RequestQuota(context, signal)
  const receiver = new Receiver<WriteRequest, Taken>({
    maxRequestBytes: config.max_request,
    maxInFlightBytes: context.admission.queue(Math.max(64 * 1024 ** 2, 2 * config.max_request)),
    maxInFlightRequests: mostWaiting,
    report: (error) => context.log.error('write request failed', { error: messageOf(error) }),
    handle: async ({ body, perSecond, peer }) => {
      const sender = await quota.enter(peer, () => serviceOf(body))
      const taken = lines.take(body, perSecond, context.clock.nowUnixNano())
      if (taken.refused > 0) context.dropped(refusedClass, 'invalid', taken.refused)
      sender?.charge(
        taken.records.reduce((sum, { count }) => sum + count, 0),
        body.length,
      )
      await Promise.all(taken.records.map((records) => emit(records)))
      return taken
    },
  })
  signal.addEventListener('abort', () => receiver.stop(), { once: true })
  await serveHttp(
    {
      what: 'the InfluxDB write API',
      addresses: config.listen ? [config.listen] : loopback(ports.influx + context.portOffset),
      tls: config.tls ? readServerTls(config.tls) : undefined,
      movePort: '--port-offset N or the address of the source',
      take: (request, response, peer) => void answer(receiver, config.token, request, response, peer),
    },
    signal,
    (addresses) => context.ready(addresses.join(', ')),
  )
}

/** Of the first line: what a Telegraf gives all its lines (`global_tags`) stands there too. */
function serviceOf(body: Buffer): string | undefined {
  // A copy, for its escapes are resolved where they stand.
  const reader = new LineReader().reset(Buffer.from(body.subarray(0, longestLine)))
  if (reader.next() !== 'line') return undefined
  const { bytes, tags } = reader
  for (let index = 0; index < tags.count; index++) {
    if (namesService(bytes.toString('utf8', tags.keyStart(index), tags.keyEnd(index))))
      return bytes.toString('utf8', tags.valueStart(index), tags.valueEnd(index))
  }
  return undefined
}

async function answer(
  receiver: Receiver<WriteRequest, Taken>,
  token: Secret | undefined,
  request: IncomingMessage,
  response: ServerResponse,
  peer: string,
): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://localhost')
  const api: Api = url.pathname.startsWith('/api/v2/') ? 'v2' : 'v1'
  let reserved = 0
  const reserve = (bytes: number): void => {
    if (bytes <= 0) return
    receiver.reserve(bytes)
    reserved += bytes
  }
  try {
    if (answerQuestion(url, token, request, response)) return
    checkToken(url, token, request)
    const perSecond = precisionOf(url)
    const encoding = encodingOf(request)
    const packed = await readBody(request, receiver.maxRequestBytes, reserve)
    if (!packed) return
    const body = Buffer.from(await unpackBody(packed, encoding, receiver.maxRequestBytes))
    reserve(body.length - packed.length)
    const taken = await receiver.handle({ body, perSecond, peer })
    if (taken.refused === 0) send(receiver, response, 204)
    else send(receiver, response, 400, partial(api, taken))
  } catch (error) {
    refuse(receiver, api, request, response, error)
  } finally {
    receiver.release(reserved)
  }
}

/** What clients ask before they write: whether we are there, and to make a database. False where it is a write. */
function answerQuestion(
  url: URL,
  token: Secret | undefined,
  request: IncomingMessage,
  response: ServerResponse,
): boolean {
  const { method } = request
  const isRead = method === 'GET' || method === 'HEAD'
  switch (url.pathname) {
    case '/write':
    case '/api/v2/write':
      if (method === 'POST') return false
      response.setHeader('allow', 'POST')
      throw new HttpRefusal(405, `${url.pathname} takes POST only`)
    case '/ping':
      response.writeHead(204, versionHeaders).end()
      return true
    case '/health':
    case '/ready':
      if (!isRead) break
      json(response, 200, { name: 'dpulse', status: 'pass', message: 'takes line protocol' })
      return true
    case '/query': {
      checkToken(url, token, request)
      // Telegraf makes its database at the start; there is nothing to make here, and nothing to read.
      const statement = url.searchParams.get('q') ?? ''
      const isMade = statement === '' || /^\s*(create\s+database|show\s+databases)\b/i.test(statement)
      if (!isMade) throw new HttpRefusal(400, 'this is a write API: ask the aggregator')
      request.resume()
      json(response, 200, { results: [{ statement_id: 0 }] })
      return true
    }
    default:
  }
  throw new HttpRefusal(404, `there is no ${url.pathname.slice(0, 100)}; lines go to /api/v2/write or /write`)
}

function precisionOf(url: URL): number {
  const given = url.searchParams.get('precision') ?? 'ns'
  const perSecond = Object.hasOwn(precisions, given) ? precisions[given] : undefined
  if (perSecond !== undefined) return perSecond
  throw new HttpRefusal(
    400,
    `precision ${given.slice(0, 20)} is none of ${Object.keys(precisions).join(', ')}`,
  )
}

/** @throws HttpRefusal 401. */
function checkToken(url: URL, token: Secret | undefined, request: IncomingMessage): void {
  if (token === undefined) return
  const [scheme = '', value = ''] = (request.headers.authorization ?? '').split(' ')
  const shown =
    scheme.toLowerCase() === 'basic'
      ? Buffer.from(value, 'base64')
          .toString('utf8')
          .replace(/^[^:]*:/, '')
      : value || (url.searchParams.get('p') ?? '')
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  if (!timingSafeEqual(digest(shown), digest(token.reveal())))
    throw new HttpRefusal(401, 'unauthorized access')
}

/** What a client is told when some of its lines were taken and others not. */
function partial(api: Api, { lines, refused, first }: Taken): object {
  const where = first ? `line ${first.line}: ${first.reason} (${first.excerpt})` : ''
  const text = `partial write: ${refused} of ${lines} lines refused, the others are stored; ${where} dropped=${refused}`
  return api === 'v1' ? { error: text } : { code: 'invalid', message: text, line: first?.line }
}

const codes: Readonly<Record<number, string>> = {
  400: 'invalid',
  401: 'unauthorized',
  404: 'not found',
  405: 'method not allowed',
  413: 'request too large',
  429: 'too many requests',
  503: 'unavailable',
}

function refuse(
  receiver: Receiver<WriteRequest, Taken>,
  api: Api,
  request: IncomingMessage,
  response: ServerResponse,
  error: unknown,
): void {
  const failure =
    error instanceof HttpRefusal
      ? { http: error.http, message: error.message }
      : receiver.failure(retryable(error))
  if ('retryAfterMs' in failure && failure.retryAfterMs !== undefined)
    response.setHeader('retry-after', String(Math.max(1, Math.ceil(failure.retryAfterMs / 1000))))
  // What still comes of the body is thrown away: closing at once would reset the connection before the answer is read.
  request.resume()
  const { http, message } = failure
  const body = api === 'v1' ? { error: message } : { code: codes[http] ?? 'internal error', message }
  send(receiver, response, http, body)
}

/** A token that we cannot read is no fault of the sender: it keeps its lines. */
const retryable = (error: unknown): unknown =>
  error instanceof PermanentError && error.code === 'CREDENTIAL_MISSING' ? error.cause : error

function send(
  receiver: Receiver<WriteRequest, Taken>,
  response: ServerResponse,
  status: number,
  body?: object,
): void {
  if (response.headersSent || response.destroyed) return
  // A connection that is kept open would hold up the stop.
  if (receiver.isStopping) response.setHeader('connection', 'close')
  if (body) json(response, status, body)
  else response.writeHead(status, versionHeaders).end()
}

function json(response: ServerResponse, status: number, body: object): void {
  response
    .writeHead(status, { ...versionHeaders, 'content-type': 'application/json' })
    .end(JSON.stringify(body))
}
