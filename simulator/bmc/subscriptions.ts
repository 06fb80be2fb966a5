// A subscription: events are posted to a client, in their order, one at a time, and tried again as its policy says.
import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import type { EventFilter } from './events.ts'

export const policies = ['TerminateAfterRetries', 'SuspendRetries', 'RetryForever'] as const
export type Policy = (typeof policies)[number]

export interface SubscriptionOptions {
  readonly id: string
  readonly destination: URL
  readonly context: string
  readonly filter: EventFilter
  readonly headers: Readonly<Record<string, string>>
  readonly policy: Policy
  readonly verify: boolean
  /** Shown again when it is read. */
  readonly told: Json
}

/** Events that wait; the oldest go first. */
const mostWaiting = 64
const retries = 3
const retryMs = 30_000
const answerMs = 10_000
/** Of all BMCs together; the rest wait. */
const mostConnections = { maxTotalSockets: 256 }
const httpAgent = new HttpAgent(mostConnections)
const httpsAgent = new HttpsAgent(mostConnections)

export class Subscription {
  readonly id: string
  readonly filter: EventFilter
  readonly told: Json
  context: string
  policy: Policy
  readonly #options: SubscriptionOptions
  readonly #stop = new AbortController()
  #waiting: Json[] = []
  #isSending = false
  #failures = 0
  #notBeforeMs = 0
  #isSuspended = false
  /** The service has given it up. */
  isOver = false

  constructor(options: SubscriptionOptions) {
    this.#options = options
    this.id = options.id
    this.filter = options.filter
    this.told = options.told
    this.context = options.context
    this.policy = options.policy
  }

  get state(): 'Enabled' | 'Disabled' {
    return this.#isSuspended ? 'Disabled' : 'Enabled'
  }

  offer(payload: Json): void {
    if (this.#isSuspended) return
    this.#waiting.push(payload)
    if (this.#waiting.length > mostWaiting) this.#waiting.shift()
    this.advance()
  }

  /** Goes on where its client asks for it after it was suspended. */
  resume(): void {
    this.#isSuspended = false
    this.#failures = 0
    this.advance()
  }

  advance(): void {
    if (this.#isSending || performance.now() < this.#notBeforeMs) return
    // Out of the queue while it is under way: what comes meanwhile must not push out another.
    const payload = this.#waiting.shift()
    if (payload === undefined) return
    this.#isSending = true
    void this.#post(JSON.stringify(payload)).then((isTaken) => {
      this.#isSending = false
      if (this.#stop.signal.aborted) return
      if (isTaken) this.#failures = 0
      else this.#failed(payload)
      this.advance()
    })
  }

  close(): void {
    this.#stop.abort()
    this.#waiting = []
  }

  #failed(payload: Json): void {
    this.#notBeforeMs = performance.now() + retryMs
    if (++this.#failures <= retries || this.policy === 'RetryForever') {
      if (this.#waiting.length < mostWaiting) this.#waiting.unshift(payload)
      return
    }
    if (this.policy === 'SuspendRetries') this.#isSuspended = true
    else this.isOver = true
    this.#waiting = []
  }

  /** Whether the client took it. */
  #post(body: string): Promise<boolean> {
    const { destination, headers, verify } = this.#options
    const options = {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      signal: AbortSignal.any([this.#stop.signal, AbortSignal.timeout(answerMs)]),
    }
    return new Promise((resolve) => {
      const sent =
        destination.protocol === 'https:'
          ? httpsRequest(destination, { ...options, agent: httpsAgent, rejectUnauthorized: verify })
          : httpRequest(destination, { ...options, agent: httpAgent })
      sent.once('response', (response) => {
        response.resume()
        const { statusCode = 0 } = response
        resolve(statusCode >= 200 && statusCode < 300)
      })
      sent.once('error', () => resolve(false))
      sent.end(body)
    })
  }
}
