// OTLP/HTTP as a sender, in protobuf, over connections that are kept. (opentelemetry-proto docs/specification.md,
// "OTLP/HTTP Response")
import { once } from 'node:events'
import { Agent, request as requestPlain } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { Agent as TlsAgent, request as requestTls } from 'node:https'
import { PermanentError, RetryableError } from '../../contract/errors.ts'
import type { Signal } from '../../contract/signal.ts'
import { compress } from '../compression.ts'
import { decodeResponse, decodeStatus } from './answers.ts'
import { hostOf, maxAnswerBytes } from './delivery.ts'
import type { Delivered, Delivery, DeliveryOptions } from './delivery.ts'
import { jsonToMessage } from './from-json.ts'
import { httpPaths } from './methods.ts'
import { responses } from './schema.ts'

const passing: ReadonlySet<number> = new Set([429, 502, 503, 504])

export function createHttpDelivery(options: DeliveryOptions): Delivery {
  const pool = { keepAlive: true, maxSockets: 64, maxFreeSockets: 16, proxyEnv: options.environment }
  const plain = new Agent(pool)
  const secure = new TlsAgent({ ...pool, ...options.tls })
  let current = 0

  async function attempt(
    endpoint: URL,
    signal: Signal,
    body: Uint8Array,
    abort: AbortSignal,
  ): Promise<Delivered> {
    const isSecure = endpoint.protocol === 'https:'
    const asking = (isSecure ? requestTls : requestPlain)({
      host: hostOf(endpoint),
      port: endpoint.port || (isSecure ? 443 : 80),
      path: endpoint.pathname.replace(/\/$/, '') + httpPaths[signal] + endpoint.search,
      method: 'POST',
      agent: isSecure ? secure : plain,
      headers: {
        'user-agent': 'dpulse',
        ...options.headers(),
        'content-type': 'application/x-protobuf',
        'content-length': body.length,
        ...(options.compression === 'none' ? {} : { 'content-encoding': options.compression }),
      },
      signal: abort,
    })
    // What breaks after the answer began shows in reading it.
    asking.on('error', () => undefined)
    const answered = once(asking, 'response')
    asking.end(body)
    const [response] = (await answered) as [IncomingMessage]
    return outcomeOf(endpoint, signal, response, await readAnswer(response))
  }

  return {
    async send(signal, request, abort, onWire) {
      abort.throwIfAborted()
      const limit = AbortSignal.timeout(options.timeoutMs)
      const either = AbortSignal.any([abort, limit])
      const body = await compress(request, options.compression)
      onWire?.(body.length)
      for (let tries = options.endpoints.length; ; tries--) {
        const endpoint = options.endpoints[current % options.endpoints.length] as URL
        try {
          return await attempt(endpoint, signal, body, either)
        } catch (cause) {
          abort.throwIfAborted()
          const error = limit.aborted
            ? timeout(endpoint, options.timeoutMs, cause)
            : failureOf(endpoint, cause)
          // Another endpoint may be well where this one is not; one that is overloaded is left alone.
          if (!(error instanceof RetryableError) || error.code === 'PEER_OVERLOADED') throw error
          current = (current + 1) % options.endpoints.length
          if (tries <= 1 || limit.aborted) throw error
        }
      }
    },
    async close() {
      plain.destroy()
      secure.destroy()
    },
  }
}

const timeout = (endpoint: URL, ms: number, cause: unknown): RetryableError =>
  new RetryableError('PEER_TIMEOUT', `${endpoint.host} did not answer within ${ms} ms`, { cause })

function failureOf(endpoint: URL, cause: unknown): Error {
  if (cause instanceof RetryableError || cause instanceof PermanentError) return cause
  return new RetryableError('PEER_UNREACHABLE', `no answer from ${endpoint.host}`, { cause })
}

async function readAnswer(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > maxAnswerBytes) throw new Error(`an answer of more than ${maxAnswerBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function outcomeOf(endpoint: URL, signal: Signal, response: IncomingMessage, body: Buffer): Delivered {
  const { statusCode = 0, headers } = response
  const type = (headers['content-type'] ?? '').replace(/;.*$/s, '').trim()
  if (statusCode >= 200 && statusCode < 300) return deliveredOf(endpoint, signal, type, body)
  const said = `${endpoint.host} answered ${statusCode}${reasonOf(type, body)}`
  if (!passing.has(statusCode)) throw new PermanentError('PEER_REFUSED', said)
  const retryAfterMs = parseRetryAfter(headers['retry-after'])
  const after = retryAfterMs === undefined ? {} : { retryAfterMs }
  throw new RetryableError(statusCode === 429 ? 'PEER_OVERLOADED' : 'PEER_UNREACHABLE', said, after)
}

function deliveredOf(endpoint: URL, signal: Signal, type: string, body: Buffer): Delivered {
  if (body.length === 0) return { rejected: 0, message: '' }
  try {
    if (type === 'application/x-protobuf') return decodeResponse(signal, body)
    if (type === 'application/json')
      return decodeResponse(signal, jsonToMessage(responses[signal], String(body)))
  } catch (cause) {
    throw new RetryableError('PEER_REFUSED', `${endpoint.host} answered with damaged ${type}`, { cause })
  }
  // A login page of some network between says 200 as well: to believe it would lose the batch.
  throw new RetryableError(
    'PEER_REFUSED',
    `${endpoint.host} answered ${type || 'without a type'}, it is no OTLP receiver`,
  )
}

function reasonOf(type: string, body: Buffer): string {
  if (type === 'application/x-protobuf') {
    const { message } = decodeStatus(body)
    return message === '' ? '' : `: ${message.slice(0, 300)}`
  }
  const text = body.toString().replaceAll(/\s+/g, ' ').trim()
  return text === '' ? '' : `: ${text.slice(0, 300)}`
}

/** `Retry-After` in seconds or as a date. */
export function parseRetryAfter(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (/^\d+$/.test(text)) return Number(text) * 1000
  const at = Date.parse(text)
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now())
}
