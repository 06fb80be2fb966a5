// A Redfish service for tests: serves a capture over HTTP or HTTPS, with sessions, `$expand`, events and subscriptions, and
// misbehaves on demand as BMCs do.
import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Files } from './certificates.ts'

type Json = Record<string, unknown>

const captures = join(import.meta.dirname, '../../../shared/data/redfish')
export const capturesAreHere = existsSync(captures)
export const whyNoCaptures = 'the captures of ../shared/data/redfish are not here'

export type Capture = 'bluefield3-bf23.10' | 'dmtf-smartnic' | 'dmtf-telemetry'

/** What goes wrong from now on. */
export interface Faults {
  /** The answer to `$expand`: members as links, an error, or as it should be. */
  expand?: 'ignored' | 'refused'
  /** The next sessions are lost, as when they expire. */
  expireSessions?: boolean
  /** Status of requests whose path matches. */
  status?: { path: RegExp; status: number; retryAfter?: number; times?: number }
  /** Answers that come late. */
  delay?: { path: RegExp; ms: number }
  /** Sessions cannot be made. */
  noSessions?: boolean
}

export interface RedfishService {
  readonly url: string
  readonly port: number
  /** Every request: method, path with query. */
  readonly requests: string[]
  /** Most requests that were being answered at one time. */
  readonly most: () => number
  /** Sessions that are open. */
  readonly sessions: ReadonlySet<string>
  readonly faults: Faults
  /** Bodies of subscriptions, by path. */
  readonly subscriptions: Map<string, Json>
  /** Resources that replace or add to the capture; undefined removes one. */
  readonly changed: Map<string, Json | undefined>
  /** The resource as it is served. */
  read(path: string): Json | undefined
  /** Sends an event to the streams that are open. */
  send(event: { id?: string; data: unknown }): void
  /** What each stream of events asked to go on after. */
  readonly lastEventIds: readonly (string | undefined)[]
  /** Resolves when a stream of events is open. */
  streaming(): Promise<void>
  /** Ends all streams of events. */
  cutStreams(): void
  close(): Promise<void>
}

export interface ServiceOptions {
  capture?: Capture
  tls?: Files
  user?: { name: string; password: string }
}

export async function redfishService(options: ServiceOptions = {}): Promise<RedfishService> {
  const requests: string[] = []
  const sessions = new Set<string>()
  const subscriptions = new Map<string, Json>()
  const changed = new Map<string, Json | undefined>()
  const faults: Faults = {}
  const streams = new Set<ServerResponse>()
  const opened: (() => void)[] = []
  const lastEventIds: (string | undefined)[] = []
  let running = 0
  let most = 0
  let made = 0

  const read = (path: string): Json | undefined => {
    const at = path.replace(/\/+$/, '')
    return changed.has(at) ? changed.get(at) : readCapture(options.capture, at)
  }

  const expand = (body: Json): Json => {
    if (!Array.isArray(body.Members)) return body
    const members = (body.Members as Json[]).map((one) => read(String(one['@odata.id'])) ?? one)
    return { ...body, Members: members }
  }

  const post = async (request: IncomingMessage, response: ServerResponse, path: string): Promise<void> => {
    const body = JSON.parse((await collected(request)) || '{}') as Json
    if (path.endsWith('/Sessions')) {
      const { user } = options
      if (faults.noSessions) return answer(response, 405, {})
      if (!user || body.UserName !== user.name || body.Password !== user.password) {
        return answer(response, 401, errorBody('Invalid username or password'))
      }
      const token = `token-${++made}`
      sessions.add(token)
      const location = `${path}/${made}`
      return answer(response, 201, { '@odata.id': location }, { 'x-auth-token': token, location })
    }
    if (path.endsWith('/Subscriptions')) {
      const location = `${path}/${++made}`
      subscriptions.set(location, body)
      changed.set(location, { '@odata.id': location, ...body })
      return answer(response, 201, { '@odata.id': location }, { location })
    }
    return answer(response, 405, {})
  }

  const get = (request: IncomingMessage, response: ServerResponse, url: URL): void => {
    const path = url.pathname.replace(/\/+$/, '') || '/'
    if (path.endsWith('/SSE')) {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.flushHeaders()
      streams.add(response)
      lastEventIds.push(request.headers['last-event-id'] as string | undefined)
      response.once('close', () => streams.delete(response))
      for (const wake of opened.splice(0)) wake()
      return
    }
    const body = read(path)
    if (!body) return answer(response, 404, errorBody(`The requested resource ${path} was not found.`))
    const wantsExpand = url.searchParams.has('$expand')
    if (wantsExpand && faults.expand === 'refused') return answer(response, 501, errorBody('not implemented'))
    answer(response, 200, wantsExpand && faults.expand !== 'ignored' ? expand(body) : body)
  }

  const listener: RequestListener = (request, response) => {
    void (async () => {
      const url = new URL(request.url ?? '/', 'http://x')
      requests.push(`${request.method} ${url.pathname}${url.search}`)
      most = Math.max(most, ++running)
      response.once('close', () => running--)
      const { delay, status } = faults
      if (delay?.path.test(url.pathname)) await later(delay.ms, response)
      if (status?.path.test(url.pathname) && (status.times ?? 1) > 0) {
        if (status.times !== undefined) status.times--
        const headers = status.retryAfter === undefined ? {} : { 'retry-after': String(status.retryAfter) }
        return answer(response, status.status, errorBody('not now'), headers)
      }
      if (faults.expireSessions) {
        sessions.clear()
        delete faults.expireSessions
      }
      if (!mayAsk(request, url.pathname)) return answer(response, 401, errorBody('no session'))
      if (request.method === 'POST') return await post(request, response, url.pathname)
      if (request.method === 'DELETE') {
        sessions.delete(`token-${url.pathname.split('/').at(-1)}`)
        subscriptions.delete(url.pathname)
        changed.delete(url.pathname)
        return answer(response, 204, {})
      }
      get(request, response, url)
    })().catch(() => response.destroy())
  }

  const mayAsk = (request: IncomingMessage, path: string): boolean => {
    const { user } = options
    if (!user || path === '/redfish/v1/' || (request.method === 'POST' && path.endsWith('/Sessions')))
      return true
    const basic = `Basic ${Buffer.from(`${user.name}:${user.password}`).toString('base64')}`
    if (request.headers.authorization === basic) return true
    return sessions.has(String(request.headers['x-auth-token']))
  }

  const server: Server = options.tls
    ? createTlsServer({ cert: readFileSync(options.tls.cert), key: readFileSync(options.tls.key) }, listener)
    : createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}`,
    port,
    requests,
    most: () => most,
    sessions,
    faults,
    subscriptions,
    changed,
    lastEventIds,
    read,
    send: ({ id, data }) => {
      for (const one of streams)
        one.write(`${id === undefined ? '' : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`)
    },
    streaming: () =>
      streams.size > 0 ? Promise.resolve() : new Promise((resolve) => void opened.push(resolve)),
    cutStreams: () => {
      for (const one of streams) one.destroy()
    },
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

function readCapture(capture: Capture | undefined, path: string): Json | undefined {
  if (capture === undefined || /\.\.|[^\w/.-]/.test(path)) return undefined
  const [, rest] = /^\/redfish\/v1(\/.*)?$/.exec(path) ?? []
  const below = path === '/redfish/v1' ? '' : rest
  if (below === undefined) return undefined
  const root = existsSync(join(captures, capture, 'v1'))
    ? join(captures, capture, 'v1')
    : join(captures, capture)
  const file = join(root, below, 'index.json')
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Json) : undefined
}

function answer(
  response: ServerResponse,
  status: number,
  body: Json,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(status === 204 ? undefined : JSON.stringify(body))
}

const errorBody = (message: string): Json => ({
  error: { code: 'Base.1.15.0.GeneralError', message, '@Message.ExtendedInfo': [{ Message: message }] },
})

async function collected(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

function later(ms: number, response: ServerResponse): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms)
    response.once('close', () => {
      clearTimeout(timer)
      reject(new Error('the client left'))
    })
  })
}
