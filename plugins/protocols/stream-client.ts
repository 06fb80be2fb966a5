// A connection of TCP or TLS that exporters write to: made when it is needed, made again after it was lost, of several
// addresses the first that answers. What was written and not answered when it is lost is the owner's to send again.
import { once } from 'node:events'
import { connect as connectPlain } from 'node:net'
import type { Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { RetryableError, messageOf } from '../contract/errors.ts'
import type { Address } from '../contract/settings.ts'
import type { ClientTls } from './otlp/delivery.ts'
import { printHost } from './otlp/listen.ts'

export interface StreamClientOptions {
  readonly addresses: readonly Address[]
  /** Asked for at each connection; undefined for a plain one. */
  tls(): ClientTls | undefined
  readonly connectMs: number
  /** Before anything else is written: a handshake of the protocol above. */
  greet?(socket: Socket): Promise<void>
  onData(chunk: Buffer): void
  /** What was under way is lost. */
  onLost(error: RetryableError): void
}

export class StreamClient {
  readonly #options: StreamClientOptions
  #socket: Promise<Socket> | undefined
  #next = 0
  #isClosed = false

  constructor(options: StreamClientOptions) {
    this.#options = options
  }

  /**
   * Resolves when the system has taken the bytes, which does not say that the peer has read them.
   * @throws RetryableError PEER_UNREACHABLE, PEER_TIMEOUT, PEER_OVERLOADED.
   */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#isClosed) throw new RetryableError('STOPPING', 'the exporter stops')
    const socket = await (this.#socket ??= this.#open())
    // Batches that are tried again must not pile up before a peer that reads nothing.
    if (socket.writableLength > unreadBytes) {
      throw new RetryableError('PEER_OVERLOADED', 'the peer does not read what it is sent', {
        retryAfterMs: 1000,
      })
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    socket.write(bytes, (cause) => {
      if (cause) reject(new RetryableError('PEER_UNREACHABLE', 'the connection was lost', { cause }))
      else resolve()
    })
    await promise
    // A peer that closed has said so by the next turn; until then the system takes what nobody will read.
    await new Promise(setImmediate)
    if (socket.destroyed || socket.readableEnded)
      throw new RetryableError('PEER_UNREACHABLE', 'the peer closed the connection')
  }

  async #open(): Promise<Socket> {
    const { addresses } = this.#options
    let failure: unknown
    for (let tries = 0; tries < addresses.length; tries++) {
      const address = addresses[this.#next % addresses.length] as Address
      try {
        return await this.#connect(address)
      } catch (error) {
        failure = error
        this.#next++
      }
    }
    this.#socket = undefined
    throw failure
  }

  async #connect({ host, port }: Address): Promise<Socket> {
    const { connectMs } = this.#options
    const where = `${printHost(host)}:${port}`
    const secure = this.#options.tls()
    const to = { host: host || '127.0.0.1', port, keepAlive: true, noDelay: true }
    const socket = secure
      ? connectTls({ ...to, servername: isName(host) ? host : '', ...secure })
      : connectPlain(to)
    const limit = AbortSignal.timeout(connectMs)
    socket.on('error', () => undefined)
    try {
      await once(socket, secure ? 'secureConnect' : 'connect', { signal: limit })
      await this.#options.greet?.(socket)
    } catch (cause) {
      socket.destroy()
      if (cause instanceof RetryableError) throw cause
      if (limit.aborted)
        throw new RetryableError('PEER_TIMEOUT', `no connection to ${where} within ${connectMs} ms`, {
          cause,
        })
      throw new RetryableError('PEER_UNREACHABLE', `no connection to ${where}: ${messageOf(cause)}`, {
        cause,
      })
    }
    socket.on('data', (chunk: Buffer) => this.#options.onData(chunk))
    socket.on('close', () => {
      this.#socket = undefined
      this.#options.onLost(new RetryableError('PEER_UNREACHABLE', `the connection to ${where} was lost`))
    })
    if (this.#isClosed) socket.destroy()
    return socket
  }

  /** Lets what was written leave, for at most a second, and closes. */
  async close(): Promise<void> {
    this.#isClosed = true
    const socket = await this.#socket?.catch(() => undefined)
    if (!socket || socket.destroyed) return
    const closed = once(socket, 'close')
    socket.end()
    socket.setTimeout(closeMs, () => socket.destroy())
    socket.resume()
    const timer = setTimeout(() => socket.destroy(), closeMs)
    await closed
    clearTimeout(timer)
  }
}

const closeMs = 1000
const unreadBytes = 4 * 1024 * 1024
// A server name is never an address (RFC 6066).
const isName = (host: string): boolean => /[a-z]/i.test(host) && !host.includes(':')
