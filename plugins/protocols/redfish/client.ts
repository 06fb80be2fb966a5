// A client of one Redfish service (DSP0266): sessions that are reused, renewed and given back, answers parsed and checked,
// everything through one Pace. Nothing here knows what a resource means.
import { PermanentError, RetryableError } from '../../contract/errors.ts'
import type { Clock, Log } from '../../contract/define.ts'
import type { Secret } from '../../contract/settings.ts'
import { inside, isJson, linkOf, objectsOf, pathOf, textOf } from './json.ts'
import type { Json } from './json.ts'
import { Pace } from './pace.ts'
import { Transport } from './transport.ts'
import type { Answer, Ask, TransportTls } from './transport.ts'

export interface RedfishOptions {
  readonly endpoint: URL
  readonly username?: string | undefined
  readonly password?: Secret | undefined
  readonly requests: number
  readonly timeoutMs: number
  readonly tls: TransportTls
  readonly clock: Clock
  readonly log: Log
}

/** What a GET brought: the resource, or that it is as it was, or that there is none. */
export type Got =
  | { is: 'found'; body: Json; etag: string | undefined }
  | { is: 'unchanged' }
  | { is: 'absent' }

type Login =
  | { kind: 'none' }
  | { kind: 'basic' }
  | { kind: 'session'; token: string; path: string | undefined }

const deepest = 64

export class RedfishClient {
  readonly #options: RedfishOptions
  readonly #transport: Transport
  readonly #pace: Pace
  #login: Login | undefined
  #loggingIn: Promise<Login> | undefined
  #sessions = '/redfish/v1/SessionService/Sessions'
  /** For tests and the log: requests so far. */
  requests = 0

  constructor(options: RedfishOptions) {
    this.#options = options
    const { endpoint, requests, timeoutMs, tls, clock } = options
    this.#transport = new Transport({ endpoint, timeoutMs, tls, connections: requests })
    this.#pace = new Pace(clock, requests)
  }

  /** How many requests the service may have at once, as it stands. */
  get allowed(): number {
    return this.#pace.allowed
  }

  /**
   * A resource. Its member `error` is looked at even in a 200, where it stands for the whole.
   * @throws RetryableError where it did not answer; PermanentError where it refuses us or speaks no JSON.
   */
  async get(path: string, signal: AbortSignal, etag?: string): Promise<Got> {
    const headers = etag === undefined ? {} : { 'if-none-match': etag }
    const answer = await this.#authorized({ method: 'GET', path, headers }, signal)
    if (answer.status === 304) return { is: 'unchanged' }
    if (answer.status === 404 || answer.status === 410) return { is: 'absent' }
    if (answer.status !== 200) throw failure(answer, path)
    const body = parse(answer, path)
    const told = answer.headers.etag
    return { is: 'found', body, etag: told === undefined ? undefined : told }
  }

  /** Sends a body; any 2xx is a success (DSP0266 and the services do not agree which). */
  async send(
    method: 'POST' | 'PATCH' | 'DELETE',
    path: string,
    body: Json | undefined,
    signal: AbortSignal,
  ): Promise<{ location: string | undefined; body: Json }> {
    const text = body === undefined ? {} : { body: JSON.stringify(body) }
    const answer = await this.#authorized({ method, path, headers: {}, ...text }, signal)
    if (answer.status < 200 || answer.status > 299) throw failure(answer, path)
    return { location: locationOf(answer), body: parseLoosely(answer) }
  }

  /** The body of a stream of server-sent events; the caller reads and destroys it. */
  async stream(path: string, headers: Readonly<Record<string, string>>, signal: AbortSignal) {
    for (let attempt = 0; ; attempt++) {
      const login = await this.#loggedIn(signal)
      const response = await this.#transport.open(
        {
          method: 'GET',
          path,
          headers: { accept: 'text/event-stream', ...headers, ...this.#credentials(login) },
        },
        signal,
      )
      if (response.statusCode === 200) return response
      response.destroy()
      if (response.statusCode !== 401 || attempt > 0) {
        const { statusCode: status = 0, headers } = response
        throw failure({ status, headers, body: Buffer.alloc(0) }, path)
      }
      this.#forget(login)
    }
  }

  /** Where the root says that sessions are made. */
  sessionsAt(root: Json): void {
    const path = linkOf(inside(root, 'Links')['Sessions'])
    if (path !== undefined) this.#sessions = path
  }

  /** Gives the session back: BMCs have few. */
  async close(): Promise<void> {
    const login = this.#login
    this.#login = undefined
    try {
      if (login?.kind === 'session' && login.path !== undefined) {
        const headers = this.#credentials(login)
        await this.#transport.exchange(
          { method: 'DELETE', path: login.path, headers },
          AbortSignal.timeout(Math.min(1000, this.#options.timeoutMs)),
        )
      }
    } catch {
      // It ends by itself then.
    } finally {
      this.#transport.close()
    }
  }

  async #authorized(ask: Ask, signal: AbortSignal): Promise<Answer> {
    for (let attempt = 0; ; attempt++) {
      const login = await this.#loggedIn(signal)
      const headers = { ...ask.headers, ...this.#credentials(login) }
      const answer = await this.#paced({ ...ask, headers }, signal)
      // A session that expired, or was lost with a restart of the BMC: once anew.
      if (answer.status !== 401 || attempt > 0 || login.kind === 'none') return answer
      this.#forget(login)
    }
  }

  async #paced(ask: Ask, signal: AbortSignal): Promise<Answer> {
    return this.#pace.run(signal, async () => {
      this.requests++
      try {
        const answer = await this.#transport.exchange(ask, signal)
        if (answer.status === 429 || answer.status === 503) this.#pace.backOff(retryAfter(answer))
        return answer
      } catch (error) {
        if (error instanceof RetryableError && error.code !== 'STOPPING') this.#pace.backOff(undefined)
        throw error
      }
    })
  }

  #forget(login: Login): void {
    if (this.#login === login) this.#login = undefined
  }

  #credentials(login: Login): Record<string, string> {
    if (login.kind === 'session') return { 'x-auth-token': login.token }
    const { username = '', password } = this.#options
    if (login.kind === 'none') return {}
    const both = Buffer.from(`${username}:${password?.reveal() ?? ''}`).toString('base64')
    return { authorization: `Basic ${both}` }
  }

  /** One login at a time, whoever needs it. */
  #loggedIn(signal: AbortSignal): Promise<Login> {
    if (this.#login) return Promise.resolve(this.#login)
    this.#loggingIn ??= this.#logIn(signal)
      .then((login) => (this.#login = login))
      .finally(() => (this.#loggingIn = undefined))
    return this.#loggingIn
  }

  async #logIn(signal: AbortSignal): Promise<Login> {
    const { username, password, log } = this.#options
    if (username === undefined) return { kind: 'none' }
    const body = JSON.stringify({ UserName: username, Password: password?.reveal() ?? '' })
    const answer = await this.#paced({ method: 'POST', path: this.#sessions, headers: {}, body }, signal)
    const token = answer.headers['x-auth-token']
    if (answer.status >= 200 && answer.status < 300 && typeof token === 'string') {
      return { kind: 'session', token, path: locationOf(answer) ?? linkOf(parseLoosely(answer)) }
    }
    if (answer.status === 401 || answer.status === 403) {
      throw new PermanentError('PEER_REFUSED', `the service refuses the user ${username}${reasonIn(answer)}`)
    }
    if (answer.status === 429 || answer.status >= 500) throw failure(answer, this.#sessions)
    log.info('the service makes no sessions; each request carries the password', { status: answer.status })
    return { kind: 'basic' }
  }
}

/** Some services give a whole URL. */
function locationOf({ headers }: Answer): string | undefined {
  const { location } = headers
  if (location === undefined) return undefined
  return pathOf(location.replace(/^https?:\/\/[^/]+/i, ''))
}

function parseLoosely({ body }: Answer): Json {
  try {
    const parsed: unknown = JSON.parse(body.toString())
    return isJson(parsed) ? parsed : {}
  } catch {
    return {}
  }
}

function parse({ body }: Answer, path: string): Json {
  let parsed: unknown
  try {
    parsed = JSON.parse(body.toString())
  } catch (cause) {
    throw new PermanentError('INPUT_INVALID', `${path} is no JSON`, { cause })
  }
  if (!isJson(parsed)) throw new PermanentError('INPUT_INVALID', `${path} is no JSON object`)
  if (isDeeperThan(parsed, deepest)) {
    throw new PermanentError('INPUT_TOO_LARGE', `${path} is nested more than ${deepest} deep`)
  }
  if (parsed.error !== undefined && parsed['@odata.id'] === undefined) {
    throw new PermanentError('PEER_REFUSED', `${path} is an error${messageIn(parsed)}`)
  }
  return parsed
}

function isDeeperThan(value: unknown, limit: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  if (limit === 0) return true
  return Object.values(value).some((one) => isDeeperThan(one, limit - 1))
}

function failure(answer: Answer, path: string): Error {
  const { status } = answer
  const told = `${path} answered ${status}${reasonIn(answer)}`
  if (status === 429 || status === 503) {
    const retryAfterMs = retryAfter(answer)
    return new RetryableError('PEER_OVERLOADED', told, retryAfterMs === undefined ? {} : { retryAfterMs })
  }
  if (status >= 500) return new RetryableError('PEER_UNREACHABLE', told)
  return new PermanentError(status === 401 || status === 403 ? 'PERMISSION_DENIED' : 'PEER_REFUSED', told)
}

/** Seconds, or undefined; a date is of a clock that nobody trusts. */
function retryAfter({ headers }: Answer): number | undefined {
  const told = headers['retry-after']
  return told !== undefined && /^\d{1,5}$/.test(told) ? Math.min(Number(told), 600) * 1000 : undefined
}

const reasonIn = (answer: Answer): string => messageIn(parseLoosely(answer))

/** `error.@Message.ExtendedInfo[]`: the sentence of the first, else of the whole. */
function messageIn(body: Json): string {
  const error = inside(body, 'error')
  const [first] = objectsOf(error['@Message.ExtendedInfo'])
  const message = textOf(first?.Message) ?? textOf(error.message)
  return message === undefined ? '' : `: ${message.slice(0, 200)}`
}
