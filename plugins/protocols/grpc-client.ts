// A gRPC client for unary calls: one HTTP/2 session that all calls share, opened when it is needed, to the first of
// several targets that answers.
import { connect, constants } from 'node:http2'
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2'
import { RetryableError } from '../contract/errors.ts'
import type { Compression } from './compression.ts'
import { authorityOf, connectTo } from './grpc-connect.ts'
import type { ConnectOptions, Target } from './grpc-connect.ts'
import {
  FrameReader,
  GrpcError,
  acceptedEncodings,
  decodeGrpcMessage,
  encodingName,
  frameMessage,
  grpcCodeName,
  unframeMessage,
} from './grpc.ts'
import type { GrpcCode } from './grpc.ts'

export interface GrpcClientOptions extends ConnectOptions {
  /** At least one; tried in turn. */
  targets: readonly Target[]
  maxResponseBytes: number
}

export interface CallOptions {
  compression: Compression
  headers: Readonly<Record<string, string>>
  signal: AbortSignal
  /** Hears what the message came to, compressed and framed. */
  onWire?: (bytes: number) => void
}

/** How long a peer may take to answer a ping before its session counts as dead. */
const pingMs = 2000

export class GrpcClient {
  readonly #options: GrpcClientOptions
  #current = 0
  #session: Promise<ClientHttp2Session> | undefined
  #isClosed = false

  constructor(options: GrpcClientOptions) {
    this.#options = options
  }

  /** `host:port` of the target that is used now. */
  get authority(): string {
    const target = this.#options.targets[this.#current]
    return target ? authorityOf(target) : ''
  }

  /**
   * One attempt.
   * @throws RetryableError where there is no connection or it breaks; GrpcError with the status of the peer;
   * whatever the signal aborts with.
   */
  async call(path: string, message: Uint8Array, options: CallOptions): Promise<Uint8Array> {
    const { signal, compression, headers } = options
    signal.throwIfAborted()
    const frame = await frameMessage(message, compression)
    options.onWire?.(frame.length)
    const session = await untilAborted(this.#connected(), signal)
    signal.throwIfAborted()
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc+proto',
      te: 'trailers',
      'grpc-encoding': encodingName(compression),
      'grpc-accept-encoding': acceptedEncodings,
      'user-agent': 'dpulse',
      ...headers,
    })
    const abort = (): void => {
      stream.close(constants.NGHTTP2_CANCEL)
      this.#probe(session)
    }
    signal.addEventListener('abort', abort, { once: true })
    try {
      stream.end(frame)
      return await receive(stream, this.#options.maxResponseBytes, signal)
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  /** The next call connects to the next target; calls under way end where they are. */
  moveOn(): void {
    if (this.#options.targets.length < 2) return
    this.#current = (this.#current + 1) % this.#options.targets.length
    const left = this.#session
    this.#session = undefined
    left?.then(
      (session) => session.close(),
      () => undefined,
    )
  }

  async close(): Promise<void> {
    this.#isClosed = true
    const session = await this.#session?.catch(() => undefined)
    session?.destroy()
  }

  #connected(): Promise<ClientHttp2Session> {
    if (this.#isClosed) throw new RetryableError('STOPPING', 'the client is closed')
    if (this.#session) return this.#session
    const opening = this.#open()
    this.#session = opening
    const forget = (): void => {
      if (this.#session === opening) this.#session = undefined
    }
    opening.then((session) => {
      session.once('close', forget)
      session.once('goaway', forget)
      if (this.#isClosed) session.destroy()
    }, forget)
    return opening
  }

  /** Tries each target once, the one that was used last first. */
  async #open(): Promise<ClientHttp2Session> {
    let failure: unknown
    for (let tries = this.#options.targets.length; tries > 0; tries--) {
      const target = this.#options.targets[this.#current] as Target
      try {
        const socket = await connectTo(target, this.#options)
        const session = connect(`${target.secure ? 'https' : 'http'}://${authorityOf(target)}`, {
          createConnection: () => socket,
          settings: { enablePush: false },
        })
        // Streams tell of what breaks; the session itself has nobody to tell.
        session.on('error', () => undefined)
        session.once('goaway', () => session.close())
        return session
      } catch (error) {
        failure = error
        this.#current = (this.#current + 1) % this.#options.targets.length
      }
    }
    throw failure
  }

  /** A call took too long: where the peer does not even answer a ping, the session is dead, and the next call reconnects. */
  #probe(session: ClientHttp2Session): void {
    if (session.destroyed || session.closed) return
    const timer = setTimeout(() => session.destroy(), pingMs)
    session.once('close', () => clearTimeout(timer))
    session.ping(() => clearTimeout(timer))
  }
}

function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const abort = (): void => reject(signal.reason as Error)
  signal.addEventListener('abort', abort, { once: true })
  return Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', abort))
}

const httpCodes: Readonly<Record<number, GrpcCode>> = {
  400: 'INTERNAL',
  401: 'UNAUTHENTICATED',
  403: 'PERMISSION_DENIED',
  404: 'UNIMPLEMENTED',
  429: 'UNAVAILABLE',
  502: 'UNAVAILABLE',
  503: 'UNAVAILABLE',
  504: 'UNAVAILABLE',
}

/** The message of the answer, bare. */
async function receive(
  stream: ClientHttp2Stream,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const reader = new FrameReader(maxBytes)
  let head: IncomingHttpHeaders = {}
  let trailers: IncomingHttpHeaders = {}
  const ended = Promise.withResolvers<void>()
  stream.once('response', (headers) => (head = headers))
  stream.once('trailers', (headers) => (trailers = headers))
  stream.on('data', (chunk: Buffer) => {
    try {
      reader.push(chunk)
    } catch (error) {
      ended.reject(error)
      stream.close(constants.NGHTTP2_CANCEL)
    }
  })
  stream.once('close', () => ended.resolve())
  stream.once('error', (cause) =>
    ended.reject(new RetryableError('PEER_UNREACHABLE', 'the connection broke', { cause })),
  )
  try {
    await ended.promise
  } catch (error) {
    if (!signal.aborted) throw error
  }
  signal.throwIfAborted()
  checkStatus(head, trailers)
  const body = reader.take()
  const encoding = head['grpc-encoding']
  return unframeMessage(
    body,
    reader.isCompressed,
    typeof encoding === 'string' ? encoding : undefined,
    maxBytes,
  )
}

function checkStatus(head: IncomingHttpHeaders, trailers: IncomingHttpHeaders): void {
  // A failure may come as trailers only, which HTTP/2 shows as the head.
  const from = trailers['grpc-status'] === undefined ? head : trailers
  const status = from['grpc-status']
  if (status === undefined) {
    const http = Number(head[':status'] ?? 0)
    if (http === 0) throw new RetryableError('PEER_UNREACHABLE', 'the connection ended without an answer')
    if (http === 200) throw new RetryableError('PEER_UNREACHABLE', 'an answer that ends without grpc-status')
    throw new GrpcError(httpCodes[http] ?? 'UNKNOWN', `HTTP status ${http} instead of a gRPC answer`)
  }
  if (status === '0') return
  const message = from['grpc-message']
  const details = from['grpc-status-details-bin']
  throw new GrpcError(
    grpcCodeName(Number(status)),
    typeof message === 'string' ? decodeGrpcMessage(message) : '',
    typeof details === 'string' ? Buffer.from(details, 'base64') : undefined,
  )
}
