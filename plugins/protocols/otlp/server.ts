// The OTLP receiver of collector and aggregator: gRPC, HTTP and a Unix socket in front of one handler. A sender is
// answered when the handler says that its records are safe.
import { once } from 'node:events'
import type { ServerHttp2Session } from 'node:http2'
import type { AddressInfo, Server, Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type * as z from 'zod'
import type { Address, tls } from '../../contract/settings.ts'
import type { Signal } from '../../contract/signal.ts'
import { createGrpcServer } from '../grpc-server.ts'
import type { GrpcServerLimits } from '../grpc-server.ts'
import type { HttpServerLimits } from '../http-intake.ts'
import { encodeResponse, grpcFailure } from './answers.ts'
import type { Handled } from './answers.ts'
import { createHttpServer } from './http-server.ts'
import { listenAll, listenUnix, printHost, readServerTls } from './listen.ts'
import { grpcMethods } from './methods.ts'
import { Receiver } from './receiver.ts'
import type { OtlpRequest } from './receiver.ts'

export type { Handled, OtlpRequest }

const MiB = 1024 * 1024
export const otlpServerDefaults = {
  maxRequestBytes: 16 * MiB,
  maxInFlightBytes: 64 * MiB,
  maxInFlightRequests: 1024,
} as const

export interface OtlpServerOptions {
  /** Addresses of each; absent or empty: not served. `loopback(port)` gives both loopbacks. */
  grpc?: readonly Address[]
  http?: readonly Address[]
  /** OTLP/HTTP on a Unix socket. */
  unixPath?: string
  /** For gRPC and HTTP alike; the Unix socket is plain. */
  tls?: z.output<typeof tls>
  /** The largest request, also decompressed. Default 16 MiB. */
  maxRequestBytes?: number
  /** Of all requests that are not answered yet. Default 64 MiB. */
  maxInFlightBytes?: number
  /** Requests that are not answered yet. Default 1024. */
  maxInFlightRequests?: number
  /** Answers when the records are safe. A RetryableError or PermanentError becomes the right status. */
  handle(request: OtlpRequest): Promise<Handled>
  /** Names the process at the other end of a Unix socket, where it can. */
  processOf?: (socket: Socket) => Promise<string | undefined>
  /** Hears of anything else that `handle` throws: a bug. */
  report?: (error: unknown) => void
  /** Names the option that moves the ports, for the error when one is taken. Default `--port-offset`. */
  movePort?: string
  /** Stops the server: what is under way may end within a second, what comes is refused as unavailable. */
  signal: AbortSignal
  limits?: { grpc?: Partial<GrpcServerLimits>; http?: Partial<HttpServerLimits> }
}

export interface OtlpServer {
  /** `grpc://127.0.0.1:4317`, `http://[::1]:4318`, `unix:/run/dpulse/otlp.sock`; with TLS `grpcs:`, `https:`. */
  readonly addresses: readonly string[]
  /** Resolves when every socket is closed, after `signal` aborted. */
  readonly closed: Promise<void>
}

const graceMs = 1000

/** @throws PermanentError ADDRESS_IN_USE with the holder of the port, CREDENTIAL_MISSING. */
export async function startOtlpServer(options: OtlpServerOptions): Promise<OtlpServer> {
  const receiver = new Receiver({ ...otlpServerDefaults, ...options })
  const secure = options.tls ? readServerTls(options.tls) : undefined
  const movePort = options.movePort ?? '--port-offset'
  const opened = new Opened(receiver)
  const { signal } = options
  signal.throwIfAborted()
  try {
    const grpc = await listenAll(
      'OTLP/gRPC',
      options.grpc ?? [],
      () => opened.grpc(options, secure),
      movePort,
    )
    opened.name(grpc, secure ? 'grpcs' : 'grpc')
    const createHttp = (): Server => opened.http(createHttpServer(receiver, secure, options.limits?.http))
    opened.name(
      await listenAll('OTLP/HTTP', options.http ?? [], createHttp, movePort),
      secure ? 'https' : 'http',
    )
    if (options.unixPath !== undefined) {
      const server = opened.http(
        createHttpServer(receiver, undefined, options.limits?.http, options.processOf),
      )
      await listenUnix('OTLP', options.unixPath, server)
      opened.addresses.push(`unix:${options.unixPath}`)
    }
  } catch (error) {
    await opened.close(0)
    throw error
  }
  const closed = Promise.withResolvers<void>()
  const stop = (): void => void opened.close(graceMs).then(closed.resolve, closed.reject)
  if (signal.aborted) stop()
  else signal.addEventListener('abort', stop, { once: true })
  return { addresses: opened.addresses, closed: closed.promise }
}

/** Everything that was opened, to be closed in every case. */
class Opened {
  readonly addresses: string[] = []
  readonly #receiver: Receiver
  readonly #servers: Server[] = []
  readonly #sessions: Set<ServerHttp2Session>[] = []
  readonly #closeHttp: (() => void)[] = []

  constructor(receiver: Receiver) {
    this.#receiver = receiver
  }

  grpc(options: OtlpServerOptions, secure: ReturnType<typeof readServerTls> | undefined): Server {
    const receiver = this.#receiver
    const { server, sessions } = createGrpcServer({
      methods: new Map(
        Object.entries(grpcMethods).map(([signal, path]) => [
          path,
          async (bytes, peer) =>
            encodeResponse(
              signal as Signal,
              await receiver.handle({ signal: signal as Signal, bytes, peer }),
            ),
        ]),
      ),
      failure: (error) => grpcFailure(receiver.failure(error)),
      maxMessageBytes: receiver.maxRequestBytes,
      reserve: (bytes) => receiver.reserve(bytes),
      release: (bytes) => receiver.release(bytes),
      ...(secure ? { tls: secure } : {}),
      ...(options.limits?.grpc ? { limits: options.limits.grpc } : {}),
    })
    this.#sessions.push(sessions)
    return this.#keep(server)
  }

  http(server: ReturnType<typeof createHttpServer>): Server {
    this.#closeHttp.push(() => server.closeAllConnections())
    return this.#keep(server)
  }

  #keep(server: Server): Server {
    // A connection that cannot be accepted (too many open files) must not end the process; the next one may be.
    server.on('error', (error) => {
      if (server.listening) this.#receiver.failure(error)
    })
    this.#servers.push(server)
    return server
  }

  name(servers: readonly Server[], scheme: string): void {
    for (const server of servers) {
      const { address, port } = server.address() as AddressInfo
      this.addresses.push(`${scheme}://${printHost(address)}:${port}`)
    }
  }

  /** Lets what is under way end for a while, then closes every connection. */
  async close(graceMs: number): Promise<void> {
    this.#receiver.stop()
    const listening = this.#servers.filter((server) => server.listening)
    const closing = Promise.all(
      listening.map(async (server) => {
        server.close()
        await once(server, 'close')
      }),
    )
    for (const session of this.#sessions.flatMap((sessions) => [...sessions])) session.close()
    const enough = new AbortController()
    const grace = sleep(graceMs, undefined, { signal: enough.signal }).catch(() => undefined)
    await Promise.race([closing, grace])
    enough.abort()
    for (const session of this.#sessions.flatMap((sessions) => [...sessions])) session.destroy()
    for (const close of this.#closeHttp) close()
    await closing
  }
}
