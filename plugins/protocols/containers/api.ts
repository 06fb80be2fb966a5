// Client of the Docker-compatible API of Docker and Podman over a Unix socket. Paths carry no version: each engine then
// speaks its own newest, and refuses none.
import { request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import * as z from 'zod'
import { PermanentError, RetryableError } from '../../contract/index.ts'

const mostBody = 32 * 1024 * 1024
const timeoutMs = 10_000

export class EngineApi {
  readonly #socket: string

  constructor(socket: string) {
    this.#socket = socket
  }

  /** The parsed answer; undefined where there is no such thing (404). */
  async get<T>(path: string, schema: z.ZodType<T>, signal: AbortSignal): Promise<T | undefined> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
    const response = await this.stream(path, limit)
    if (response === undefined) return undefined
    const parts: Buffer[] = []
    let size = 0
    try {
      for await (const part of response as AsyncIterable<Buffer>) {
        size += part.length
        if (size > mostBody)
          throw new RetryableError('INPUT_TOO_LARGE', `${path}: the answer is larger than ${mostBody} bytes`)
        parts.push(part)
      }
    } catch (cause) {
      if (cause instanceof RetryableError || signal.aborted) throw cause
      throw new RetryableError('PEER_UNREACHABLE', `${path}: the answer broke off`, { cause })
    }
    let body: unknown
    try {
      body = JSON.parse(Buffer.concat(parts).toString())
    } catch (cause) {
      throw new RetryableError('INPUT_INVALID', `${path}: the answer is no JSON`, { cause })
    }
    const parsed = schema.safeParse(body)
    if (parsed.success) return parsed.data
    throw new RetryableError('INPUT_INVALID', `${path}: ${z.prettifyError(parsed.error)}`)
  }

  /** An answer as it comes; undefined for 404. Whoever takes it must read it or destroy it. */
  stream(path: string, signal: AbortSignal): Promise<IncomingMessage | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage | undefined>()
    const sent = request({
      socketPath: this.#socket,
      path,
      headers: { host: 'localhost' },
      signal,
      agent: false,
    })
    sent.once('error', (cause) => reject(this.#failure(path, cause, signal)))
    sent.once('response', (response) => {
      const status = response.statusCode ?? 0
      if (status < 300) return resolve(response)
      response.resume()
      if (status === 404) return resolve(undefined)
      reject(new RetryableError('PEER_REFUSED', `${path}: the container engine answered ${status}`))
    })
    sent.end()
    return promise
  }

  #failure(path: string, cause: Error, signal: AbortSignal): Error {
    if (signal.aborted && signal.reason instanceof Error && signal.reason.name !== 'TimeoutError')
      return signal.reason
    const { code } = cause as NodeJS.ErrnoException
    const socket = this.#socket
    if (code === 'EACCES' || code === 'EPERM') {
      const right = `${socket} may not be opened: it takes root, or membership in the group of the socket`
      return new PermanentError('PERMISSION_DENIED', right, { cause })
    }
    if (code === 'ENOENT') return new RetryableError('PEER_UNREACHABLE', `there is no ${socket}`, { cause })
    if (signal.aborted)
      return new RetryableError('PEER_TIMEOUT', `${path}: no answer within ${timeoutMs} ms`, { cause })
    return new RetryableError('PEER_UNREACHABLE', `no container engine answers on ${socket}`, { cause })
  }
}
