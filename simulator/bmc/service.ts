// One HTTP request to a BMC: whether it is answered at all, who asks, what for, and the answer.
import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { isJson } from '../../plugins/protocols/redfish/json.ts'
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import { accountRoutes } from './accounts.ts'
import { demand } from './access.ts'
import type { User } from './access.ts'
import type { Bmc } from './bmc.ts'
import { chassisRoutes } from './chassis.ts'
import { logRoutes } from './entries.ts'
import { eventRoutes } from './event-service.ts'
import type { Flavour } from './flavours.ts'
import { managerRoutes } from './managers.ts'
import { Refusal } from './messages.ts'
import { below, checkQuery, shape } from './query.ts'
import { rootRoutes, versions } from './root.ts'
import { Router, allowed, base, decoded } from './router.ts'
import type { Call, Match, Reply } from './router.ts'
import { systemRoutes } from './systems.ts'
import { taskRoutes } from './tasks.ts'
import { updateRoutes } from './update-service.ts'

const mostBodyBytes = 64 * 1024
const longestPath = 2048

const routers = new Map<Flavour, Router>()

function routerOf(flavour: Flavour): Router {
  const found = routers.get(flavour)
  if (found) return found
  const router = new Router({
    ...rootRoutes,
    ...accountRoutes,
    ...systemRoutes(flavour),
    ...chassisRoutes(flavour),
    ...managerRoutes(flavour),
    ...logRoutes(flavour),
    ...updateRoutes,
    ...taskRoutes,
    ...eventRoutes,
  })
  routers.set(flavour, router)
  return router
}

/** Answers the request. Never rejects. */
export async function answer(bmc: Bmc, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    bmc.advance()
    const sent = await dispatch(bmc, request, response)
    if (sent) send(request, response, sent)
  } catch (error) {
    if (response.headersSent || response.destroyed) return void response.destroy()
    const refusal = error instanceof Refusal ? error : new Refusal('InternalError')
    // What was not read of the body would be taken for the next request.
    if (!request.complete) response.setHeader('Connection', 'close')
    send(request, response, refusal)
  }
}

async function dispatch(
  bmc: Bmc,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<Reply | undefined> {
  const { url = '/', method = 'GET', headers } = request
  if (url.length > longestPath || !URL.canParse(url, 'http://bmc'))
    throw new Refusal('ResourceMissingAtURI', [url])
  const { pathname, searchParams } = new URL(url, 'http://bmc')
  const version = headers['odata-version']
  if (version !== undefined && version !== '4.0') throw new Refusal('PreconditionFailed')
  if (pathname === '/redfish' || pathname === '/redfish/') return { status: 200, body: versions }
  const path = pathname.replace(/\/+$/, '')
  const match = find(bmc, path)
  if (!match) {
    // Who is nobody learns nothing about what there is.
    identify(bmc, request)
    throw new Refusal('ResourceMissingAtURI', [path])
  }
  const { resource } = match
  const isRead = method === 'GET' || method === 'HEAD'
  const isOpen = resource.isOpen === true ? isRead : resource.isOpenToPost === true && method === 'POST'
  const user = isOpen ? undefined : identify(bmc, request)
  const call: Call = {
    bmc,
    flavour: bmc.flavour,
    path,
    ids: match.ids,
    query: searchParams,
    body: {},
    user,
    request,
  }
  response.setHeader('Allow', allowed(resource))
  return isRead ? read(call, match, response) : change(call, match, method)
}

function find(bmc: Bmc, path: string): Match | undefined {
  const at = below(path)
  const parts = at?.split('/').map((part) => decoded(part))
  if (!parts || parts.includes(undefined)) return undefined
  return routerOf(bmc.flavour).match(parts.join('/'))
}

/** @throws Refusal where nobody is named, or one who may not. */
function identify(bmc: Bmc, { headers }: IncomingMessage): User {
  const user = bmc.access.identify(headers)
  if (!user) throw new Refusal('NoValidSession', [], { 'WWW-Authenticate': 'Basic realm="BMC"' })
  return user
}

function read(call: Call, { resource }: Match, response: ServerResponse): Reply | undefined {
  const { path, query } = call
  if (resource.stream) {
    if (call.request.method === 'HEAD') throw new Refusal('OperationNotAllowed')
    resource.stream(call, response)
    return undefined
  }
  checkQuery(query, false)
  if (resource.text) {
    const { type, body } = resource.text()
    response.writeHead(200, { 'Content-Type': type, 'OData-Version': '4.0' })
    response.end(call.request.method === 'HEAD' ? undefined : body)
    return undefined
  }
  if (resource.watch) {
    const reply = resource.watch(call)
    if (!reply) throw new Refusal('ResourceMissingAtURI', [path])
    return reply
  }
  if (!resource.get) throw new Refusal('OperationNotAllowed')
  const body = resource.get(call)
  if (!body) throw new Refusal('ResourceMissingAtURI', [path])
  return { status: 200, body: shape(body, query, (id) => other(call, id)) }
}

/** Another resource of the service, for `$expand`. */
function other(call: Call, id: string): Json | undefined {
  const match = find(call.bmc, id)
  return match?.resource.get?.({
    ...call,
    path: id.replace(/\/+$/, ''),
    ids: match.ids,
    query: new URLSearchParams(),
  })
}

async function change(call: Call, { resource }: Match, method: string): Promise<Reply> {
  const { request, user, path } = call
  const handlers = { PATCH: resource.patch, POST: resource.post, DELETE: resource.delete } as const
  const handler = Object.hasOwn(handlers, method) ? handlers[method as keyof typeof handlers] : undefined
  const take = method === 'POST' ? resource.take : undefined
  if (!handler && !take) throw new Refusal('OperationNotAllowed')
  if (user) demand(user, resource.privilege ?? 'ConfigureComponents')
  const current = resource.get?.(call)
  if (resource.get && !current) throw new Refusal('ResourceMissingAtURI', [path])
  const expected = request.headers['if-match']
  if (method === 'PATCH' && expected !== undefined && expected !== '*' && current) {
    const etags = expected.split(',').map((one) => one.trim().replace(/^W\//, ''))
    if (!etags.includes(etagOf(JSON.stringify(current)))) throw new Refusal('PreconditionFailed')
  }
  if (take) return take(call)
  const body = await bodyOf(request)
  return handler?.({ ...call, body }) ?? { status: 204 }
}

/** @throws Refusal for what is too large or no JSON object. */
async function bodyOf(request: IncomingMessage): Promise<Json> {
  const pieces: Buffer[] = []
  let size = 0
  for await (const piece of request as AsyncIterable<Buffer>) {
    size += piece.length
    if (size > mostBodyBytes) throw new Refusal('PayloadTooLarge', [String(mostBodyBytes)])
    pieces.push(piece)
  }
  if (size === 0) return {}
  let value: unknown
  try {
    value = JSON.parse(Buffer.concat(pieces).toString())
  } catch {
    throw new Refusal('MalformedJSON')
  }
  if (!isJson(value)) throw new Refusal('UnrecognizedRequestBody')
  return value
}

const etagOf = (text: string): string =>
  `"${createHash('sha1').update(text).digest('base64url').slice(0, 12)}"`

function send(
  request: IncomingMessage,
  response: ServerResponse,
  { status, body, headers = {} }: Reply,
): void {
  const isRead = request.method === 'GET' || request.method === 'HEAD'
  const text = body === undefined ? undefined : JSON.stringify(body)
  const etag = isRead && status === 200 && text !== undefined ? etagOf(text) : undefined
  const isKnown = etag !== undefined && request.headers['if-none-match'] === etag
  response.writeHead(isKnown ? 304 : status, {
    'OData-Version': '4.0',
    'Cache-Control': 'no-cache',
    ...(status === 200 && isRead ? { Link: `<${base}/JsonSchemas>; rel=describedby` } : {}),
    ...(etag === undefined ? {} : { ETag: etag }),
    ...(text === undefined || isKnown
      ? {}
      : { 'Content-Type': 'application/json; charset=utf-8', 'Content-Length': Buffer.byteLength(text) }),
    ...headers,
  })
  response.end(isKnown || request.method === 'HEAD' ? undefined : text)
}
