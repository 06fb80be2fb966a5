// One scrape over HTTP: what Prometheus asks for, within limits of time and size.
import { once } from 'node:events'
import { Agent, request as requestPlain } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { Agent as TlsAgent, request as requestTls } from 'node:https'
import { PermanentError, RetryableError } from '../../contract/errors.ts'
import { decompress } from '../compression.ts'
import { hostOf } from '../otlp/delivery.ts'
import type { ClientTls } from '../otlp/delivery.ts'

export interface ScrapeOptions {
  readonly timeoutMs: number
  /** Of the body, also decompressed. */
  readonly maxBytes: number
  readonly tls: ClientTls
  /** Made anew for each scrape: secrets may change. */
  headers(): Readonly<Record<string, string>>
}

export interface Scraped {
  readonly body: Buffer
  readonly openMetrics: boolean
}

const accept =
  'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,' +
  'text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1'

export class Scraper {
  readonly #options: ScrapeOptions
  readonly #plain = new Agent({ keepAlive: true, maxFreeSockets: 4 })
  readonly #secure: TlsAgent

  constructor(options: ScrapeOptions) {
    this.#options = options
    this.#secure = new TlsAgent({ keepAlive: true, maxFreeSockets: 4, ...options.tls })
  }

  /** @throws RetryableError where there is no exposition to be had. */
  async scrape(target: URL, signal: AbortSignal): Promise<Scraped> {
    const { timeoutMs } = this.#options
    const limit = AbortSignal.timeout(timeoutMs)
    try {
      return await this.#ask(target, AbortSignal.any([signal, limit]))
    } catch (cause) {
      signal.throwIfAborted()
      if (limit.aborted) {
        throw new RetryableError('PEER_TIMEOUT', `${target.host} did not answer within ${timeoutMs} ms`, {
          cause,
        })
      }
      if (cause instanceof RetryableError || cause instanceof PermanentError) throw cause
      throw new RetryableError('PEER_UNREACHABLE', `no answer from ${target.host}`, { cause })
    }
  }

  async #ask(target: URL, signal: AbortSignal): Promise<Scraped> {
    const isSecure = target.protocol === 'https:'
    const asking = (isSecure ? requestTls : requestPlain)({
      host: hostOf(target),
      port: target.port || (isSecure ? 443 : 80),
      path: target.pathname + target.search,
      agent: isSecure ? this.#secure : this.#plain,
      headers: {
        'user-agent': 'dpulse',
        accept,
        'accept-encoding': 'gzip',
        'x-prometheus-scrape-timeout-seconds': String(this.#options.timeoutMs / 1000),
        ...this.#options.headers(),
      },
      signal,
    })
    // What breaks after the answer began shows in reading it.
    asking.on('error', () => undefined)
    const answered = once(asking, 'response')
    asking.end()
    const [response] = (await answered) as [IncomingMessage]
    const { statusCode = 0, headers } = response
    if (statusCode !== 200) {
      response.destroy()
      const to = headers.location === undefined ? '' : `, it is at ${headers.location.slice(0, 200)}`
      throw new RetryableError('PEER_REFUSED', `${target.host} answered ${statusCode}${to}`)
    }
    const packed = await this.#read(response)
    const body =
      headers['content-encoding'] === 'gzip' ? await decompress(packed, this.#options.maxBytes) : packed
    const type = (headers['content-type'] ?? '').trim().toLowerCase()
    if (/^text\/html\b/.test(type)) throw new RetryableError('PEER_REFUSED', `${target.href} is a web page`)
    return { body: Buffer.from(body), openMetrics: type.startsWith('application/openmetrics-text') }
  }

  async #read(response: IncomingMessage): Promise<Buffer> {
    const chunks: Buffer[] = []
    let size = 0
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size > this.#options.maxBytes)
        throw new RetryableError(
          'INPUT_TOO_LARGE',
          `an exposition of more than ${this.#options.maxBytes} bytes`,
        )
      chunks.push(chunk)
    }
    return Buffer.concat(chunks, size)
  }

  close(): void {
    this.#plain.destroy()
    this.#secure.destroy()
  }
}
