// Senders and a receiver for tests of OTLP: node:http and grpc-js as clients, startOtlpServer on port 0.
import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { Client, Metadata, compressionAlgorithms, credentials } from '@grpc/grpc-js'
import type { ServiceError } from '@grpc/grpc-js'
import { jsonToRequest } from '../../../../plugins/protocols/otlp/json.ts'
import { grpcMethod } from '../../../../plugins/protocols/otlp/methods.ts'
import { startOtlpServer } from '../../../../plugins/protocols/otlp/server.ts'
import type { OtlpRequest, OtlpServerOptions } from '../../../../plugins/protocols/otlp/server.ts'

/** One log record, in JSON and in protobuf. */
export const text = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"hello"}}]}]}]}'
export const bytes = Buffer.from(jsonToRequest('logs', text))
const anywhere = [{ host: '127.0.0.1', port: 0 }]
/** What a test has to close. */
export const open: (() => Promise<unknown>)[] = []
/** Closes what a test opened; give it to `afterEach`. */
export async function closeAll(): Promise<void> {
  for (const close of open.splice(0).toReversed()) await close()
}

export async function start(options: Partial<OtlpServerOptions> = {}) {
  const received: OtlpRequest[] = []
  const controller = new AbortController()
  const server = await startOtlpServer({
    grpc: anywhere,
    http: anywhere,
    handle: async (request) => {
      received.push(request)
      return { rejected: 0 }
    },
    signal: controller.signal,
    ...options,
  })
  const stop = async (): Promise<void> => {
    controller.abort()
    await server.closed
  }
  open.push(stop)
  const portOf = (scheme: string): number =>
    Number(/:(\d+)$/.exec(server.addresses.find((one) => one.startsWith(scheme)) ?? '')?.[1])
  return { server, received, stop, controller, grpcPort: portOf('grpc'), httpPort: portOf('http') }
}

interface Answer {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: Buffer
}

/** Each request has a connection of its own. */
export async function post(
  to: { port: number } | { socketPath: string },
  body: Uint8Array | string,
  headers: Record<string, string> = {},
  path = '/v1/logs',
  method = 'POST',
): Promise<Answer> {
  const asking = httpRequest({
    ...to,
    ...('port' in to ? { host: '127.0.0.1' } : {}),
    path,
    method,
    agent: false,
    headers: { 'content-type': 'application/x-protobuf', ...headers },
  })
  asking.end(body)
  const [response] = (await once(asking, 'response')) as [IncomingMessage]
  const chunks = (await response.toArray()) as Buffer[]
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }
}

/** A client of grpc-js. */
export function grpcClient(port: number): Client {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    'grpc.default_compression_algorithm': compressionAlgorithms.identity,
  })
  open.push(async () => client.close())
  return client
}

const same = (value: Buffer): Buffer => value
export function call(
  client: Client,
  path: string,
  message: Buffer,
  metadata = new Metadata(),
): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  client.makeUnaryRequest(path, same, same, message, metadata, {}, (error, answer) => {
    if (error) reject(error)
    else resolve(answer ?? Buffer.of())
  })
  return promise
}
export const failureOfCall = (client: Client, path: string, message: Buffer): Promise<ServiceError> =>
  call(client, path, message).then(
    () => {
      throw new Error('the call succeeded')
    },
    (error: ServiceError) => error,
  )
export const logsMethod = grpcMethod('logs')
