// OTLP/HTTP: POST /v1/{logs,metrics,traces} in protobuf or JSON, bare or compressed, answered in the format that was
// asked in. There are no CORS headers: no page of a browser may write here.
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { signals } from '../../contract/signal.ts'
import type { Signal } from '../../contract/signal.ts'
import { HttpRefusal, createIntakeServer, encodingOf, readBody, unpackBody } from '../http-intake.ts'
import type { HttpServerLimits } from '../http-intake.ts'
import { responseBody, statusBody } from './answers.ts'
import type { Failure, Format } from './answers.ts'
import { jsonToRequest } from './json.ts'
import type { ServerTls } from './listen.ts'
import { httpPaths } from './methods.ts'
import type { Receiver } from './receiver.ts'

const paths: ReadonlyMap<string, Signal> = new Map(signals.map((signal) => [httpPaths[signal], signal]))

const contentTypes: Readonly<Record<Format, string>> = {
  protobuf: 'application/x-protobuf',
  json: 'application/json',
}

export const createHttpServer = (
  receiver: Receiver,
  tls: ServerTls | undefined,
  limits: Partial<HttpServerLimits> = {},
  processOf?: (socket: Socket) => Promise<string | undefined>,
): Server =>
  createIntakeServer(
    (request, response, peer) => void answer(receiver, request, response, peer),
    tls,
    limits,
    processOf,
  )

async function answer(
  receiver: Receiver,
  request: IncomingMessage,
  response: ServerResponse,
  peer: string,
): Promise<void> {
  let format: Format = 'json'
  let reserved = 0
  const reserve = (bytes: number): void => {
    if (bytes <= 0) return
    receiver.reserve(bytes)
    reserved += bytes
  }
  try {
    const signal = route(request, response)
    format = formatOf(request)
    const encoding = encodingOf(request)
    const body = await readBody(request, receiver.maxRequestBytes, reserve)
    if (!body) return
    const bare = await unpackBody(body, encoding, receiver.maxRequestBytes)
    reserve(bare.length - body.length)
    const bytes = format === 'json' ? jsonToRequest(signal, bare) : bare
    const handled = await receiver.handle({ signal, bytes, peer })
    send(receiver, response, 200, format, responseBody(signal, handled, format))
  } catch (error) {
    refuse(receiver, request, response, format, error)
  } finally {
    receiver.release(reserved)
  }
}

function route(request: IncomingMessage, response: ServerResponse): Signal {
  const path = (request.url ?? '').replace(/\?.*$/s, '')
  const signal = paths.get(path)
  if (!signal)
    throw new HttpRefusal(404, `there is no ${path.slice(0, 100)}; OTLP has ${[...paths.keys()].join(', ')}`)
  if (request.method !== 'POST') {
    response.setHeader('allow', 'POST')
    throw new HttpRefusal(405, `${path} takes POST only`)
  }
  return signal
}

function formatOf(request: IncomingMessage): Format {
  const type = (request.headers['content-type'] ?? '').replace(/;.*$/s, '').trim().toLowerCase()
  if (type === contentTypes.json) return 'json'
  if (type === contentTypes.protobuf) return 'protobuf'
  throw new HttpRefusal(415, `expected content-type ${contentTypes.protobuf} or ${contentTypes.json}`)
}

function refuse(
  receiver: Receiver,
  request: IncomingMessage,
  response: ServerResponse,
  format: Format,
  error: unknown,
): void {
  const failure: Failure =
    error instanceof HttpRefusal
      ? { http: error.http, grpc: 'INVALID_ARGUMENT', message: error.message }
      : receiver.failure(error)
  // `Retry-After` is whole seconds.
  if (failure.retryAfterMs !== undefined) {
    response.setHeader('retry-after', String(Math.max(1, Math.ceil(failure.retryAfterMs / 1000))))
  }
  // What still comes of the body is thrown away, for as long as a request may take: closing at once would reset the
  // connection, and the sender would never read why.
  request.resume()
  send(receiver, response, failure.http, format, statusBody(failure, format))
}

function send(
  receiver: Receiver,
  response: ServerResponse,
  status: number,
  format: Format,
  body: Buffer,
): void {
  if (response.headersSent || response.destroyed) return
  // A connection that is kept open would hold up the stop.
  if (receiver.isStopping) response.setHeader('connection', 'close')
  response.writeHead(status, { 'content-type': contentTypes[format], 'content-length': body.length })
  response.end(body)
}
