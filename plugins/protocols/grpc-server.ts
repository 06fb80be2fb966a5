// A gRPC server of unary methods on node:http2, with limits on sessions, streams, sizes and time. It listens
// nowhere by itself: whoever creates it does that.
import { constants, createSecureServer, createServer } from 'node:http2'
import type {
  Http2SecureServer,
  Http2Server,
  IncomingHttpHeaders,
  SecureServerOptions,
  ServerHttp2Session,
  ServerHttp2Stream,
} from 'node:http2'
import {
  FrameReader,
  GrpcError,
  acceptedEncodings,
  encodeGrpcMessage,
  frameMessage,
  grpcCodes,
  unframeMessage,
} from './grpc.ts'

export interface GrpcServerOptions {
  /** By path: `/package.Service/Method`. What one throws becomes a status by `failure`. */
  methods: ReadonlyMap<string, (message: Uint8Array, peer: string) => Promise<Uint8Array>>
  failure(error: unknown): GrpcError
  maxMessageBytes: number
  /** Memory for messages under way; throws where there is none. What was reserved is released. */
  reserve(bytes: number): void
  release(bytes: number): void
  tls?: Pick<SecureServerOptions, 'cert' | 'key' | 'ca' | 'requestCert' | 'rejectUnauthorized'>
  limits?: Partial<GrpcServerLimits>
}

export interface GrpcServerLimits {
  sessions: number
  streamsPerSession: number
  /** A session without any stream or traffic is closed after this. */
  idleMs: number
  /** A request has to be here whole within this. */
  receiveMs: number
}

export const grpcServerLimits: GrpcServerLimits = {
  sessions: 1000,
  streamsPerSession: 128,
  idleMs: 300_000,
  receiveMs: 30_000,
}

export type GrpcServer = Http2Server | Http2SecureServer

export function createGrpcServer(options: GrpcServerOptions): {
  server: GrpcServer
  sessions: Set<ServerHttp2Session>
} {
  const limits = { ...grpcServerLimits, ...options.limits }
  const http2 = {
    maxHeaderListPairs: 64,
    maxSessionMemory: 64,
    settings: {
      maxConcurrentStreams: limits.streamsPerSession,
      // The default of 64 KiB makes a batch of 500 KiB wait for eight round trips.
      initialWindowSize: 1024 * 1024,
      enablePush: false,
    },
  }
  const server = options.tls
    ? createSecureServer({ ...http2, ...options.tls, allowHTTP1: false, handshakeTimeout: 10_000 })
    : createServer(http2)
  const sessions = new Set<ServerHttp2Session>()
  // Looked up when they connect: a socket that has closed meanwhile no longer says who it was.
  const peers = new WeakMap<object, string>()
  server.on('session', (session: ServerHttp2Session) => {
    const peer = session.socket?.remoteAddress
    if (peer === undefined) {
      session.destroy()
      return
    }
    peers.set(session, peer)
    if (sessions.size >= limits.sessions) {
      session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM)
      return
    }
    sessions.add(session)
    session.once('close', () => sessions.delete(session))
    // A session that breaks takes its streams with it; each of them ends by itself.
    session.on('error', () => undefined)
    session.setLocalWindowSize(8 * 1024 * 1024)
    session.setTimeout(limits.idleMs, () => session.close())
  })
  server.on('sessionError', () => undefined)
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    stream.on('error', () => undefined)
    const peer = (stream.session && peers.get(stream.session)) ?? 'unknown'
    void new Call(stream, headers, peer, options, limits).run()
  })
  return { server, sessions }
}

/** One unary call, from its headers to its trailers. */
class Call {
  readonly #stream: ServerHttp2Stream
  readonly #headers: IncomingHttpHeaders
  readonly #peer: string
  readonly #options: GrpcServerOptions
  readonly #receiveMs: number
  #reserved = 0

  constructor(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    peer: string,
    options: GrpcServerOptions,
    limits: GrpcServerLimits,
  ) {
    this.#stream = stream
    this.#headers = headers
    this.#peer = peer
    this.#options = options
    this.#receiveMs = limits.receiveMs
  }

  async run(): Promise<void> {
    const { ':method': method, ':path': path = '', 'content-type': type = '' } = this.#headers
    if (!/^application\/grpc($|[+;])/.test(type)) return this.#refuseHttp(415)
    if (method !== 'POST') return this.#refuseHttp(405)
    try {
      const handle = this.#options.methods.get(path)
      if (!handle) throw new GrpcError('UNIMPLEMENTED', `no method ${path}`)
      const message = await this.#receive()
      if (!message) return
      const answer = await handle(message, this.#peer)
      await this.#succeed(answer)
    } catch (error) {
      this.#fail(error instanceof GrpcError ? error : this.#options.failure(error))
    } finally {
      this.#options.release(this.#reserved)
    }
  }

  /** The message, bare; undefined where the caller went away. */
  async #receive(): Promise<Uint8Array | undefined> {
    const { maxMessageBytes } = this.#options
    const reader = new FrameReader(maxMessageBytes)
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(
      () => late.reject(new GrpcError('DEADLINE_EXCEEDED', `no whole request within ${this.#receiveMs} ms`)),
      this.#receiveMs,
    )
    try {
      const whole = await Promise.race([this.#readInto(reader), late.promise])
      if (!whole) return undefined
    } finally {
      clearTimeout(timer)
    }
    const body = reader.take()
    const message = await unframeMessage(body, reader.isCompressed, this.#encoding(), maxMessageBytes)
    this.#reserve(message.length - body.length)
    return message
  }

  #encoding(): string | undefined {
    const encoding = this.#headers['grpc-encoding']
    return Array.isArray(encoding) ? encoding[0] : encoding
  }

  /** True when the caller has sent everything, false when it went away. */
  #readInto(reader: FrameReader): Promise<boolean> {
    const { promise, resolve, reject } = Promise.withResolvers<boolean>()
    this.#stream.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk)
        // By what has come, not by what was announced: else a few that announce much and send nothing shut all others out.
        this.#reserve(chunk.length)
      } catch (error) {
        this.#stream.removeAllListeners('data')
        this.#stream.resume()
        reject(error)
      }
    })
    this.#stream.once('end', () => resolve(true))
    this.#stream.once('close', () => resolve(false))
    return promise
  }

  #reserve(bytes: number): void {
    if (bytes <= 0) return
    this.#options.reserve(bytes)
    this.#reserved += bytes
  }

  async #succeed(answer: Uint8Array): Promise<void> {
    const stream = this.#stream
    if (stream.destroyed) return
    const frame = await frameMessage(answer, 'none')
    if (stream.destroyed) return
    stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc+proto', 'grpc-accept-encoding': acceptedEncodings },
      { waitForTrailers: true },
    )
    stream.end(frame)
  }

  #fail({ code, message, details }: GrpcError): void {
    const stream = this.#stream
    if (stream.destroyed || stream.headersSent) return
    stream.respond(
      {
        ':status': 200,
        'content-type': 'application/grpc+proto',
        'grpc-accept-encoding': acceptedEncodings,
        'grpc-status': String(grpcCodes[code]),
        'grpc-message': encodeGrpcMessage(message),
        ...(details ? { 'grpc-status-details-bin': Buffer.from(details).toString('base64') } : {}),
      },
      { endStream: true },
    )
    // Whatever is still coming of the request is not wanted.
    if (!stream.readableEnded) stream.close(constants.NGHTTP2_NO_ERROR)
  }

  #refuseHttp(status: number): void {
    this.#stream.respond({ ':status': status }, { endStream: true })
    if (!this.#stream.readableEnded) this.#stream.close(constants.NGHTTP2_NO_ERROR)
  }
}
