// One HTTP exchange with a BMC over node:http and node:https: limits on time, size and redirects, certificates checked by
// authority or by fingerprint, connections kept for the next one.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import * as http from 'node:http'
import * as https from 'node:https'
import type { TLSSocket } from 'node:tls'
import { PermanentError, RetryableError } from '../../contract/errors.ts'

export interface TransportOptions {
  readonly endpoint: URL
  readonly timeoutMs: number
  /** Most requests at once, and so most connections. */
  readonly connections: number
  readonly tls: TransportTls
}

export interface TransportTls {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: string | undefined
  readonly verify: boolean
  readonly server_name?: string | undefined
  /** SHA-256 of the certificate, hex: trusted whatever signed it. */
  readonly fingerprint?: string | undefined
}

export interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: Buffer
}

export interface Ask {
  readonly method: 'GET' | 'POST' | 'DELETE' | 'PATCH'
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
}

/** A log of thousands of entries in one answer is about 2 MiB. */
const mostBytes = 16 * 1024 * 1024

export class Transport {
  readonly #options: TransportOptions
  readonly #agent: http.Agent
  /** Connections that have shown their certificate. */
  readonly #secured = new WeakSet<TLSSocket>()

  constructor(options: TransportOptions) {
    this.#options = options
    const { endpoint, tls, connections } = options
    // One more for the event stream, which occupies its connection.
    const pool = { keepAlive: true, maxSockets: connections + 1, maxFreeSockets: 2, timeout: 60_000 }
    this.#agent =
      endpoint.protocol === 'https:' ? new https.Agent({ ...pool, ...tlsOf(tls) }) : new http.Agent(pool)
  }

  /** @throws RetryableError where there is no answer, PermanentError where the peer is not the one that was meant. */
  async exchange(ask: Ask, signal: AbortSignal): Promise<Answer> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(this.#options.timeoutMs)])
    try {
      const response = await this.#open(ask, limit)
      const chunks: Buffer[] = []
      let size = 0
      for await (const chunk of response as AsyncIterable<Buffer>) {
        size += chunk.length
        if (size > mostBytes) {
          throw new PermanentError('INPUT_TOO_LARGE', `${ask.path} has more than ${mostBytes} bytes`)
        }
        chunks.push(chunk)
      }
      return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }
    } catch (cause) {
      throw this.#failure(ask, cause, signal, limit)
    }
  }

  /** The response itself, for a stream of events: its headers must come in time, its body as long as it likes. */
  async open(ask: Ask, signal: AbortSignal): Promise<http.IncomingMessage> {
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(new Error('no answer')), this.#options.timeoutMs)
    const limit = AbortSignal.any([signal, late.signal])
    try {
      return await this.#open(ask, limit)
    } catch (cause) {
      throw this.#failure(ask, cause, signal, limit)
    } finally {
      clearTimeout(timer)
    }
  }

  close(): void {
    this.#agent.destroy()
  }

  #open({ method, path, headers, body }: Ask, signal: AbortSignal): Promise<http.IncomingMessage> {
    const { endpoint } = this.#options
    const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>()
    const secure = endpoint.protocol === 'https:'
    const request = (secure ? https : http).request({
      agent: this.#agent,
      hostname: endpoint.hostname.replace(/^\[|\]$/g, ''),
      port: endpoint.port === '' ? (secure ? 443 : 80) : Number(endpoint.port),
      method,
      path,
      signal,
      headers: {
        accept: 'application/json',
        'odata-version': '4.0',
        ...(body === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
        ...headers,
      },
    })
    request.once('response', resolve)
    request.on('error', reject)
    if (secure) {
      // Before a credential leaves: the request is written only once the certificate is the one that was named.
      request.once('socket', (socket) => this.#checkPin(socket as TLSSocket, request, body))
    } else request.end(body)
    return promise
  }

  #checkPin(socket: TLSSocket, request: http.ClientRequest, body: string | undefined): void {
    const { fingerprint } = this.#options.tls
    const check = () => {
      const wrong = fingerprint === undefined ? undefined : pinFault(socket, fingerprint)
      if (!wrong) this.#secured.add(socket)
      if (wrong) request.destroy(wrong)
      else request.end(body)
    }
    // A kept connection has shown its certificate before.
    if (!this.#secured.has(socket)) socket.once('secureConnect', check)
    else check()
  }

  #failure({ path }: Ask, cause: unknown, signal: AbortSignal, limit: AbortSignal): Error {
    if (signal.aborted) return new RetryableError('STOPPING', 'the program is stopping', { cause })
    if (cause instanceof PermanentError || cause instanceof RetryableError) return cause
    const { host } = this.#options.endpoint
    const code = (cause as NodeJS.ErrnoException).code ?? ''
    if (limit.aborted) {
      const seconds = this.#options.timeoutMs / 1000
      return new RetryableError('PEER_TIMEOUT', `no answer from ${host} to ${path} within ${seconds} s`, {
        cause,
      })
    }
    if (/^(CERT_|ERR_TLS|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME)/.test(code)) {
      const advice = 'name its authority (tls.ca) or its fingerprint (tls.fingerprint)'
      return new PermanentError('PEER_REFUSED', `the certificate of ${host} is not trusted: ${advice}`, {
        cause,
      })
    }
    return new RetryableError('PEER_UNREACHABLE', `no answer from ${host}`, { cause })
  }
}

function tlsOf(tls: TransportTls): https.AgentOptions {
  const file = (path: string | undefined) => (path === undefined ? undefined : readFileSync(path))
  try {
    return {
      ca: file(tls.ca),
      cert: file(tls.cert),
      key: file(tls.key),
      // With a fingerprint the certificate itself is what is trusted.
      rejectUnauthorized: tls.verify && tls.fingerprint === undefined,
      ...(tls.server_name === undefined ? {} : { servername: tls.server_name }),
      // A resumed session shows no certificate to compare.
      maxCachedSessions: tls.fingerprint === undefined ? 16 : 0,
      // BMCs of some years ago speak nothing newer; older than this is refused.
      minVersion: 'TLSv1.2',
    }
  } catch (cause) {
    throw new PermanentError('CREDENTIAL_MISSING', 'a file of tls cannot be read', { cause })
  }
}

const bare = (fingerprint: string): string => fingerprint.replaceAll(':', '').toLowerCase()

function pinFault(socket: TLSSocket, fingerprint: string): PermanentError | undefined {
  const { raw } = socket.getPeerCertificate()
  const found = raw === undefined ? 'none' : createHash('sha256').update(raw).digest('hex')
  if (found === bare(fingerprint)) return undefined
  return new PermanentError(
    'PEER_REFUSED',
    `the certificate of the peer has the fingerprint ${found}, not ${bare(fingerprint)}`,
  )
}
