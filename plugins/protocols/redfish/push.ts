// Events that a BMC pushes to us: a listener, and the subscription that names it. A secret in the address tells our BMC from
// others; the subscription is looked for again and again, because services drop it after three failures of ours.
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { PermanentError, messageOf } from '../../contract/errors.ts'
import { portTaken } from '../../contract/ports.ts'
import type { Clock, Log } from '../../contract/define.ts'
import type { RedfishClient } from './client.ts'
import { isJson, linkOf, objectsOf } from './json.ts'
import type { Json } from './json.ts'

export interface PushOptions {
  readonly client: RedfishClient
  readonly clock: Clock
  readonly log: Log
  readonly listen: { host: string; port: number }
  readonly destination: string
  readonly cert: string | undefined
  readonly key: string | undefined
  /** The collection of subscriptions. */
  readonly subscriptions: string
  /** By which ours are known among those of others. */
  readonly context: string
  readonly take: (payload: Json) => Promise<void>
  readonly opened: () => void
}

const mostBody = 1024 * 1024
const checkMs = 5 * 60_000
const mostConnections = 16

/** Until the signal aborts. @throws PermanentError where the service takes no subscription or the port is not ours. */
export async function takePushed(options: PushOptions, signal: AbortSignal): Promise<void> {
  const { clock, log } = options
  // Not in a header: some services send none of those that they were given.
  const secret = randomBytes(18).toString('base64url')
  const server = await listening(options, receiver(options, secret))
  let subscription: string | undefined
  try {
    await forgetOld(options, signal)
    subscription = await subscribe(options, secret, signal)
    options.opened()
    while (!signal.aborted) {
      await clock.delay(checkMs, signal).catch(() => undefined)
      if (signal.aborted) return
      const got = await options.client.get(subscription, signal).catch(() => undefined)
      if (got?.is !== 'absent') continue
      log.warn('the BMC dropped our subscription; it is made again', { destination: options.destination })
      subscription = await subscribe(options, secret, signal)
      options.opened()
    }
  } finally {
    if (subscription !== undefined) {
      const limit = AbortSignal.timeout(1000)
      await options.client.send('DELETE', subscription, undefined, limit).catch(() => undefined)
    }
    server.closeAllConnections()
    server.close()
  }
}

async function subscribe(
  { client, destination, subscriptions, context }: PushOptions,
  secret: string,
  signal: AbortSignal,
): Promise<string> {
  const base = {
    Destination: `${destination.replace(/\/+$/, '')}/${secret}`,
    Protocol: 'Redfish',
    Context: context,
  }
  // Older services refuse members that they do not know: the second time only what every version has.
  const bodies = [
    { ...base, EventFormatType: 'Event', DeliveryRetryPolicy: 'RetryForever' },
    { ...base, EventFormatType: 'Event' },
    { ...base, EventTypes: ['Alert'] },
  ]
  let failure: unknown
  for (const body of bodies) {
    try {
      const made = await client.send('POST', subscriptions, body, signal)
      const path = made.location ?? linkOf(made.body)
      if (path !== undefined) return path
      failure = new PermanentError('PEER_REFUSED', 'the service does not say where our subscription is')
    } catch (error) {
      if (signal.aborted) throw error
      failure = error
    }
  }
  throw new PermanentError('PEER_REFUSED', 'the service takes no subscription', { cause: failure })
}

/** Those that an earlier run was killed before it could delete: services have room for few. */
async function forgetOld(
  { client, subscriptions, context }: PushOptions,
  signal: AbortSignal,
): Promise<void> {
  const got = await client.get(subscriptions, signal).catch(() => undefined)
  if (got?.is !== 'found') return
  for (const one of objectsOf(got.body.Members).slice(0, 100)) {
    const path = linkOf(one)
    if (path === undefined) continue
    const found = await client.get(path, signal).catch(() => undefined)
    if (found?.is !== 'found' || found.body.Context !== context) continue
    await client.send('DELETE', path, undefined, signal).catch(() => undefined)
  }
}

async function listening({ listen, cert, key }: PushOptions, receive: RequestListener): Promise<Server> {
  const limits = { requestTimeout: 30_000, headersTimeout: 10_000, maxHeaderSize: 16 * 1024 }
  const server: Server =
    cert === undefined || key === undefined
      ? createServer(limits, receive)
      : createTlsServer({ ...limits, cert: readFileSync(cert), key: readFileSync(key) }, receive)
  server.maxConnections = mostConnections
  server.listen({ host: listen.host === '' ? '127.0.0.1' : listen.host, port: listen.port })
  try {
    await once(server, 'listening')
  } catch (cause) {
    const move = 'the address of events.listen'
    const isTaken = (cause as NodeJS.ErrnoException).code === 'EADDRINUSE'
    const text = isTaken ? portTaken('events of a BMC', listen.port, 'tcp', move) : messageOf(cause)
    throw new PermanentError(isTaken ? 'ADDRESS_IN_USE' : 'CONFIG_INVALID', text, { cause })
  }
  return server
}

function receiver({ take, log }: PushOptions, secret: string): RequestListener {
  const expected = Buffer.from(secret)
  return (request, response) => {
    const given = Buffer.from((request.url ?? '').split('/').at(-1) ?? '')
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) return end(response, 404)
    if (request.method !== 'POST') return end(response, 405)
    bodyOf(request)
      .then(async (payload) => {
        if (!payload) return end(response, 400)
        // The answer says that it is safe: without one the service sends it again.
        await take(payload)
        end(response, 204)
      })
      .catch((error: unknown) => {
        log.debug('a pushed event was not taken', { reason: messageOf(error) })
        end(response, 503)
      })
  }
}

function end(response: ServerResponse, status: number): void {
  response.writeHead(status, status === 503 ? { 'retry-after': '30' } : {}).end()
}

async function bodyOf(request: IncomingMessage): Promise<Json | undefined> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const piece of request as AsyncIterable<Buffer>) {
    size += piece.length
    if (size > mostBody) return undefined
    chunks.push(piece)
  }
  try {
    const payload: unknown = JSON.parse(Buffer.concat(chunks).toString())
    return isJson(payload) ? payload : undefined
  } catch {
    return undefined
  }
}
