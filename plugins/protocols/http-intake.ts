// What HTTP receivers of records share (OTLP, the InfluxDB write API): a server that bounds what a sender may ask of it,
// bodies that are refused before they fill the memory, decompression, and an orderly end.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { PermanentError, RetryableError } from '../contract/errors.ts'
import type { Address } from '../contract/settings.ts'
import { compressionOf, decompress } from './compression.ts'
import { listenAll, printHost } from './otlp/listen.ts'
import type { ServerTls } from './otlp/listen.ts'

export interface HttpServerLimits {
  connections: number
  /** A request has to be here whole within this. */
  receiveMs: number
  /** A connection without a request is closed after this. */
  idleMs: number
}
export const httpServerLimits: HttpServerLimits = { connections: 1000, receiveMs: 30_000, idleMs: 75_000 }

/**
 * A server that hands each request over with the address of its sender, without port; on a Unix socket with the name that
 * `processOf` finds for it, or `unix`.
 */
export function createIntakeServer(
  take: (request: IncomingMessage, response: ServerResponse, peer: string) => void,
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
    // A connection that breaks is told by `close`; there is nobody to answer then.
    request.on('error', () => undefined)
    response.on('error', () => undefined)
    take(request, response, peers.get(request.socket) ?? 'unknown')
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

/** A request that is refused for what its head says. */
export class HttpRefusal extends Error {
  readonly http: number
  constructor(http: number, message: string) {
    super(message)
    this.http = http
  }
}

export type ContentEncoding = 'gzip' | 'zstd' | undefined

/** @throws HttpRefusal where the body is compressed in a way that we do not know. */
export function encodingOf(request: IncomingMessage): ContentEncoding {
  const encoding = (request.headers['content-encoding'] ?? '').trim().toLowerCase()
  if (encoding === '' || encoding === 'identity') return undefined
  if (encoding === 'gzip' || encoding === 'zstd') return encoding
  throw new HttpRefusal(415, 'expected content-encoding gzip, zstd or identity')
}

/** The body; undefined where the sender went away. Too much of it is refused before it is in memory. */
export async function readBody(
  request: IncomingMessage,
  maxBytes: number,
  reserve: (bytes: number) => void,
): Promise<Buffer | undefined> {
  const announced = request.headers['content-length']
  if (announced === undefined && request.headers['transfer-encoding'] === undefined) {
    throw new HttpRefusal(411, 'expected content-length or transfer-encoding')
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

/** The body, bare; never more than `maxBytes`. */
export async function unpackBody(
  body: Buffer,
  encoding: ContentEncoding,
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

export interface HttpIntakeOptions {
  /** What listens, for the error when a port is taken. */
  readonly what: string
  readonly addresses: readonly Address[]
  readonly tls: ServerTls | undefined
  readonly take: (request: IncomingMessage, response: ServerResponse, peer: string) => void
  /** Names the option that moves the ports. */
  readonly movePort: string
  readonly limits?: Partial<HttpServerLimits>
}

const graceMs = 1000

/**
 * Listens until aborted, then lets what is under way end within a second. `ready` hears of the URLs.
 * @throws PermanentError ADDRESS_IN_USE with the holder of the port.
 */
export async function serveHttp(
  options: HttpIntakeOptions,
  signal: AbortSignal,
  ready: (addresses: readonly string[]) => void,
): Promise<void> {
  if (signal.aborted) return
  const { what, addresses, tls, take, movePort, limits } = options
  const create = (): Server => createIntakeServer(take, tls, limits)
  const servers = (await listenAll(what, addresses, create, movePort)) as Server[]
  for (const server of servers) server.on('error', () => undefined)
  ready(
    servers.map((server) => {
      const { address, port } = server.address() as AddressInfo
      return `${tls ? 'https' : 'http'}://${printHost(address)}:${port}`
    }),
  )
  if (!signal.aborted) {
    const { promise, resolve } = Promise.withResolvers<void>()
    signal.addEventListener('abort', () => resolve(), { once: true })
    await promise
  }
  const closing = Promise.all(
    servers.map(async (server) => {
      server.close()
      await once(server, 'close')
    }),
  )
  const enough = new AbortController()
  await Promise.race([closing, sleep(graceMs, undefined, { signal: enough.signal }).catch(() => undefined)])
  enough.abort()
  for (const server of servers) server.closeAllConnections()
  await closing
}
