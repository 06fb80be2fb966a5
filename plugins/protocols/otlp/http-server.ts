// OTLP/HTTP: POST /v1/{logs,metrics,traces} in protobuf or JSON, bare or compressed, answered in the format that was
// asked in. There are no CORS headers: no page of a browser may write here.
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { Socket } from 'node:net'
import { PermanentError, RetryableError } from '../../contract/errors.ts'
import { signals } from '../../contract/signal.ts'
import type { Signal } from '../../contract/signal.ts'
import { compressionOf, decompress } from '../compression.ts'
import { responseBody, statusBody } from './answers.ts'
import type { Failure, Format } from './answers.ts'
import { jsonToRequest } from './json.ts'
import type { ServerTls } from './listen.ts'
import { httpPaths } from './methods.ts'
import type { Receiver } from './receiver.ts'

const paths: ReadonlyMap<string, Signal> = new Map(signals.map((signal) => [httpPaths[signal], signal]))

const contentTypes: Readonly<Record<Format, string>> = {
  protobuf: 'application/x-protobuf',
  json: 'application/json',
}

export interface HttpServerLimits {
  connections: number
  /** A request has to be here whole within this. */
  receiveMs: number
  /** A connection without a request is closed after this. */
  idleMs: number
}
export const httpServerLimits: HttpServerLimits = { connections: 1000, receiveMs: 30_000, idleMs: 75_000 }

export function createHttpServer(
  receiver: Receiver,
  tls: ServerTls | undefined,
  given: Partial<HttpServerLimits> = {},
  processOf?: (socket: Socket) => Promise<string | undefined>,
): Server {
  const limits = { ...httpServerLimits, ...given }
  const options = {
    headersTimeout: Math.min(10_000, limits.receiveMs),
    requestTimeout: limits.receiveMs,
    connectionsCheckingInterval: Math.min(5000, limits.receiveMs),
    keepAliveTimeout: limits.idleMs,
    maxHeaderSize: 16 * 1024,
  }
  // Looked up when they connect: a socket that has closed meanwhile no longer says who it was.
  const peers = new WeakMap<object, string>()
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    void answer(receiver, request, response, peers.get(request.socket) ?? 'unknown')
  }
  const server = tls
    ? createTlsServer({ ...options, ...tls, handshakeTimeout: 10_000 }, listener)
    : createServer(options, listener)
  server.maxConnections = limits.connections
  server.on(tls ? 'secureConnection' : 'connection', (socket: Socket) => {
    const peer = typeof server.address() === 'string' ? 'unix' : socket.remoteAddress
    if (peer === undefined) socket.destroy()
    else peers.set(socket, peer)
    if (peer === 'unix') void processOf?.(socket).then((name) => name && peers.set(socket, name))
  })
  return server
}

class Refusal extends Error {
  readonly http: number
  constructor(http: number, message: string) {
    super(message)
    this.http = http
  }
}

async function answer(
  receiver: Receiver,
  request: IncomingMessage,
  response: ServerResponse,
  peer: string,
): Promise<void> {
  // A connection that breaks is told by `close`; there is nobody to answer then.
  request.on('error', () => undefined)
  response.on('error', () => undefined)
  let format: Format = 'json'
  let reserved = 0
  const reserve = (bytes: number): void => {
    if (bytes <= 0) return
    receiver.reserve(bytes)
    reserved += bytes
  }
  try {
    const signal = route(request, response)
    format = formatOf(request)
    const encoding = encodingOf(request)
    const body = await readBody(request, receiver.maxRequestBytes, reserve)
    if (!body) return
    const bare = await unpack(body, encoding, receiver.maxRequestBytes)
    reserve(bare.length - body.length)
    const bytes = format === 'json' ? jsonToRequest(signal, bare) : bare
    const handled = await receiver.handle({ signal, bytes, peer })
    send(receiver, response, 200, format, responseBody(signal, handled, format))
  } catch (error) {
    refuse(receiver, request, response, format, error)
  } finally {
    receiver.release(reserved)
  }
}

function route(request: IncomingMessage, response: ServerResponse): Signal {
  const path = (request.url ?? '').replace(/\?.*$/s, '')
  const signal = paths.get(path)
  if (!signal)
    throw new Refusal(404, `there is no ${path.slice(0, 100)}; OTLP has ${[...paths.keys()].join(', ')}`)
  if (request.method !== 'POST') {
    response.setHeader('allow', 'POST')
    throw new Refusal(405, `${path} takes POST only`)
  }
  return signal
}

function formatOf(request: IncomingMessage): Format {
  const type = (request.headers['content-type'] ?? '').replace(/;.*$/s, '').trim().toLowerCase()
  if (type === contentTypes.json) return 'json'
  if (type === contentTypes.protobuf) return 'protobuf'
  throw new Refusal(415, `expected content-type ${contentTypes.protobuf} or ${contentTypes.json}`)
}

function encodingOf(request: IncomingMessage): 'gzip' | 'zstd' | undefined {
  const encoding = (request.headers['content-encoding'] ?? '').trim().toLowerCase()
  if (encoding === '' || encoding === 'identity') return undefined
  if (encoding === 'gzip' || encoding === 'zstd') return encoding
  throw new Refusal(415, 'expected content-encoding gzip, zstd or identity')
}

/** The body; undefined where the sender went away. Too much of it is refused before it is in memory. */
async function readBody(
  request: IncomingMessage,
  maxBytes: number,
  reserve: (bytes: number) => void,
): Promise<Buffer | undefined> {
  const announced = request.headers['content-length']
  if (announced === undefined && request.headers['transfer-encoding'] === undefined) {
    throw new Refusal(411, 'expected content-length or transfer-encoding')
  }
  const tooLarge = new PermanentError('INPUT_TOO_LARGE', `a request of more than ${maxBytes} bytes`)
  if (Number(announced ?? 0) > maxBytes) throw tooLarge
  const chunks: Buffer[] = []
  let size = 0
  try {
    // Leaving the loop must not destroy the connection, on which the refusal has to go out.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size > maxBytes) throw tooLarge
      // By what has come, not by what was announced: else a few that announce much and send nothing shut all others out.
      reserve(chunk.length)
      chunks.push(chunk)
    }
  } catch (error) {
    if (error instanceof PermanentError || error instanceof RetryableError) throw error
    return undefined
  }
  return Buffer.concat(chunks, size)
}

async function unpack(
  body: Buffer,
  encoding: 'gzip' | 'zstd' | undefined,
  maxBytes: number,
): Promise<Uint8Array> {
  if (encoding === undefined || body.length === 0) return body
  if (compressionOf(body) !== encoding) {
    throw new PermanentError(
      'INPUT_INVALID',
      `a body of ${body.length} bytes is not ${encoding}, as its header says`,
    )
  }
  return decompress(body, maxBytes)
}

function refuse(
  receiver: Receiver,
  request: IncomingMessage,
  response: ServerResponse,
  format: Format,
  error: unknown,
): void {
  const failure: Failure =
    error instanceof Refusal
      ? { http: error.http, grpc: 'INVALID_ARGUMENT', message: error.message }
      : receiver.failure(error)
  // `Retry-After` is whole seconds.
  if (failure.retryAfterMs !== undefined) {
    response.setHeader('retry-after', String(Math.max(1, Math.ceil(failure.retryAfterMs / 1000))))
  }
  // What still comes of the body is thrown away, for as long as a request may take: closing at once would reset the
  // connection, and the sender would never read why.
  request.resume()
  send(receiver, response, failure.http, format, statusBody(failure, format))
}

function send(
  receiver: Receiver,
  response: ServerResponse,
  status: number,
  format: Format,
  body: Buffer,
): void {
  if (response.headersSent || response.destroyed) return
  // A connection that is kept open would hold up the stop.
  if (receiver.isStopping) response.setHeader('connection', 'close')
  response.writeHead(status, { 'content-type': contentTypes[format], 'content-length': body.length })
  response.end(body)
}
