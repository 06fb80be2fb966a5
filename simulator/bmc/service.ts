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
import { Router, allowed, decoded, noContent } from './router.ts'
import type { Call, Match, Reply } from './router.ts'
import { systemRoutes } from './systems.ts'
import { taskRoutes } from './tasks.ts'
import { updateRoutes } from './update-service.ts'
import { wrongBody } from './wrong.ts'

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

/** Answers the request. Rejects only where the answer could not be sent. */
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
  // A POST to the members of a collection is one to the collection (DSP0266 §7.9).
  const path = pathname.replace(method === 'POST' ? /(\/Members)?\/*$/ : /\/+$/, '')
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
  const parts = below(path)
    ?.split('/')
    .map((part) => decoded(part))
    .filter((part) => part !== '')
  if (!parts?.every((part) => part !== undefined)) return undefined
  return routerOf(bmc.flavour).match(parts)
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
  const found = resource.get(call)
  if (!found) throw new Refusal('ResourceMissingAtURI', [path])
  const { device } = call.bmc
  const body = device.state.bmc.wrong ? wrongBody(device, found) : found
  const etag = etagOf(body)
  if (call.request.headers['if-none-match'] === etag) return { status: 304, headers: { ETag: etag } }
  const shown = shape({ ...body, '@odata.etag': etag }, query, (id) => other(call, id))
  return { status: 200, body: shown, headers: { ETag: etag } }
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
  if (resource.get && !resource.get(call)) throw new Refusal('ResourceMissingAtURI', [path])
  if (take) return take(call)
  const body = await bodyOf(request)
  // Nothing may come between this and the change.
  if (method === 'PATCH') checkPrecondition(request.headers['if-match'], resource.get?.(call))
  return handler?.({ ...call, body }) ?? noContent
}

/** @throws Refusal where the resource is no longer as the client has seen it. */
function checkPrecondition(expected: string | undefined, current: Json | undefined): void {
  if (expected === undefined || expected.trim() === '*' || !current) return
  const etags = expected.split(',').map((one) => one.trim().replace(/^W\//, ''))
  if (!etags.includes(etagOf(current))) throw new Refusal('PreconditionFailed')
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

/** Of the resource, however it is shown. */
const etagOf = (body: Json): string =>
  `"${createHash('sha1').update(JSON.stringify(body)).digest('base64url').slice(0, 12)}"`

/** Where the schema of a resource is published. */
function schemaOf(body: Json | undefined): Record<string, string> {
  const [, file] = /^#([\w.]+)\.\w+$/.exec(String(body?.['@odata.type'])) ?? []
  return file === undefined
    ? {}
    : { Link: `<http://redfish.dmtf.org/schemas/v1/${file}.json>; rel=describedby` }
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  { status, body, headers = {} }: Reply,
): void {
  const text = body === undefined ? undefined : JSON.stringify(body)
  response.writeHead(status, {
    'OData-Version': '4.0',
    'Cache-Control': 'no-cache',
    ...schemaOf(body),
    ...(text === undefined
      ? {}
      : { 'Content-Type': 'application/json; charset=utf-8', 'Content-Length': Buffer.byteLength(text) }),
    ...headers,
  })
  response.end(request.method === 'HEAD' ? undefined : text)
}
