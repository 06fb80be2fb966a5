// The OTLP exporter: against our own receiver for what every exporter owes, against grpc-js and node:http for what
// peers answer.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, Server as HttpServer, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gunzipSync, zstdDecompressSync } from 'node:zlib'
import { Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js'
import type { ServiceError, sendUnaryData } from '@grpc/grpc-js'
import { afterEach, describe, expect, test } from 'vitest'
import type { Exporter } from '../../../plugins/contract/define.ts'
import { countRecords } from '../../../plugins/contract/cursor.ts'
import { PermanentError, RetryableError } from '../../../plugins/contract/errors.ts'
import otlp from '../../../plugins/exporters/otlp.ts'
import { encodeResponse, encodeStatus } from '../../../plugins/protocols/otlp/answers.ts'
import { grpcMethods } from '../../../plugins/protocols/otlp/methods.ts'
import { startOtlpServer } from '../../../plugins/protocols/otlp/server.ts'
import { configOf } from '../../support/conformance-definition.ts'
import { conformsToExporter } from '../../support/conformance.ts'
import type { ExporterPeer } from '../../support/conformance-exporter.ts'
import { testContext } from '../../support/context.ts'
import { sampleBatch, sampleLogs } from '../../support/records.ts'

/** Our receiver on a free port, which counts records. */
async function receiver(protocol: 'http' | 'grpc'): Promise<ExporterPeer> {
  const controller = new AbortController()
  let count = 0
  const waiting = new Set<() => void>()
  const server = await startOtlpServer({
    [protocol]: [{ host: '127.0.0.1', port: 0 }],
    handle: async ({ signal, bytes }) => {
      count += countRecords(signal, bytes)
      for (const wake of waiting) wake()
      return { rejected: 0 }
    },
    signal: controller.signal,
  })
  const stop = async (): Promise<void> => {
    controller.abort()
    await server.closed
  }
  return {
    config: { endpoint: (server.addresses[0] ?? '').replace('grpc:', 'http:'), protocol },
    received: (records) => {
      const { promise, resolve } = Promise.withResolvers<void>()
      const look = (): void => {
        if (count >= records) resolve()
      }
      waiting.add(look)
      look()
      return promise
    },
    vanish: stop,
    [Symbol.asyncDispose]: stop,
  }
}

describe('over HTTP', () => {
  conformsToExporter(otlp, { endpoint: 'http://127.0.0.1:4318' }, { peer: () => receiver('http') })
})
describe('over gRPC', () => {
  const example = { endpoint: 'http://127.0.0.1:4317', protocol: 'grpc', compression: 'zstd' }
  conformsToExporter(otlp, example, { peer: () => receiver('grpc') })
})

const open: (() => Promise<unknown> | void)[] = []
afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close()
})

const batch = sampleBatch(sampleLogs([{ body: 'hello' }, {}]))
const never = new AbortController().signal

function exporterTo(config: object): Exporter {
  const exporter = otlp.create(configOf(otlp, config) as Parameters<typeof otlp.create>[0], testContext())
  const controller = new AbortController()
  const running = exporter.run?.(controller.signal)
  open.push(() => {
    controller.abort()
    return running
  })
  return exporter
}

async function httpPeer(answer: (request: IncomingMessage, response: ServerResponse, body: Buffer) => void) {
  const server: HttpServer = createServer((request, response) => {
    void request.toArray().then((chunks) => answer(request, response, Buffer.concat(chunks as Buffer[])))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  open.push(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  const { port } = server.address() as AddressInfo
  return { server, port, endpoint: `http://127.0.0.1:${port}` }
}

const outcome = (attempt: Promise<unknown>): Promise<unknown> => attempt.catch((error: unknown) => error)

describe('the OTLP exporter over HTTP', () => {
  test.each([
    ['gzip', (body: Buffer) => gunzipSync(body)],
    ['zstd', (body: Buffer) => zstdDecompressSync(body)],
    ['none', (body: Buffer) => body],
  ])('sends the very bytes of the batch, compressed with %s', async (compression, unpack) => {
    const seen: { url: string | undefined; headers: IncomingMessage['headers']; body: Buffer }[] = []
    const { endpoint } = await httpPeer((request, response, body) => {
      seen.push({ url: request.url, headers: request.headers, body })
      response.end()
    })
    process.env.OTLP_TEST_TOKEN = 'Bearer abc'
    open.push(() => void delete process.env.OTLP_TEST_TOKEN)
    const exporter = exporterTo({
      endpoint: `${endpoint}/base/`,
      compression,
      headers: { Authorization: { env: 'OTLP_TEST_TOKEN' }, 'x-tenant': 'blue' },
    })
    expect(await exporter.export(batch, never)).toMatchObject({ rejected: 0 })
    expect(seen[0]?.url).toBe('/base/v1/logs')
    expect(seen[0]?.headers).toMatchObject({
      authorization: 'Bearer abc',
      'x-tenant': 'blue',
      'content-type': 'application/x-protobuf',
    })
    expect(seen[0]?.headers['content-encoding']).toBe(compression === 'none' ? undefined : compression)
    expect(unpack(seen[0]?.body ?? Buffer.of()).equals(batch.bytes)).toBe(true)
  })

  test('keeps its connections for the next batches', async () => {
    const { server, endpoint } = await httpPeer((_request, response) => response.end())
    let connections = 0
    server.on('connection', () => connections++)
    const exporter = exporterTo({ endpoint })
    for (let round = 0; round < 5; round++) await exporter.export(batch, never)
    expect(connections).toBe(1)
  })

  test('tells of partial success and never tries it again', async () => {
    const { endpoint } = await httpPeer((_request, response) => {
      response.setHeader('content-type', 'application/x-protobuf')
      response.end(encodeResponse('logs', { rejected: 1, message: 'too old' }))
    })
    expect(await exporterTo({ endpoint }).export(batch, never)).toMatchObject({
      rejected: 1,
      reason: 'too old',
    })
  })

  test.each([429, 502, 503, 504])(
    'status %i may pass, after the time that the peer asks for',
    async (code) => {
      const { endpoint } = await httpPeer((_request, response) => {
        response.writeHead(code, { 'retry-after': '7', 'content-type': 'application/x-protobuf' })
        response.end(encodeStatus({ http: code, grpc: 'UNAVAILABLE', message: 'busy' }))
      })
      const error = await outcome(exporterTo({ endpoint }).export(batch, never))
      expect(error).toBeInstanceOf(RetryableError)
      expect(error).toMatchObject({
        retryAfterMs: 7000,
        message: expect.stringContaining(`${code}: busy`) as string,
      })
    },
  )

  test('Retry-After may be a date', async () => {
    const { endpoint } = await httpPeer((_request, response) => {
      response.writeHead(503, { 'retry-after': new Date(Date.now() + 60_000).toUTCString() })
      response.end()
    })
    const error = (await outcome(exporterTo({ endpoint }).export(batch, never))) as RetryableError
    expect(error.retryAfterMs).toBeGreaterThan(50_000)
    expect(error.retryAfterMs).toBeLessThanOrEqual(60_000)
  })

  test.each([400, 401, 404, 413, 500, 301])('status %i will not pass', async (code) => {
    const { endpoint } = await httpPeer((_request, response) => {
      response.writeHead(code, { location: '/elsewhere' })
      response.end('no')
    })
    const error = await outcome(exporterTo({ endpoint }).export(batch, never))
    expect(error).toBeInstanceOf(PermanentError)
    expect(error).toMatchObject({
      code: 'PEER_REFUSED',
      message: expect.stringContaining(`${code}: no`) as string,
    })
  })

  test('a page that says 200 is no receiver: the batch is kept', async () => {
    const { endpoint } = await httpPeer((_request, response) => {
      response.setHeader('content-type', 'text/html')
      response.end('<h1>Welcome to the hotel</h1>')
    })
    expect(await outcome(exporterTo({ endpoint }).export(batch, never))).toBeInstanceOf(RetryableError)
  })

  test('a peer that never answers fails after the timeout, an abort at once', async () => {
    const { endpoint } = await httpPeer(() => undefined)
    const slow = await outcome(exporterTo({ endpoint, timeout: '100ms' }).export(batch, never))
    expect(slow).toMatchObject({ name: 'RetryableError', code: 'PEER_TIMEOUT' })
    const aborted = await outcome(exporterTo({ endpoint }).export(batch, AbortSignal.timeout(50)))
    expect(aborted).toMatchObject({ name: 'TimeoutError' })
  })

  test('goes on to the next endpoint when one is gone, and stays there', async () => {
    const gone = await httpPeer((_request, response) => response.end())
    let taken = 0
    const other = await httpPeer((_request, response) => {
      taken++
      response.end()
    })
    const exporter = exporterTo({ endpoint: [gone.endpoint, other.endpoint] })
    await exporter.export(batch, never)
    expect(taken).toBe(0)
    gone.server.closeAllConnections()
    gone.server.close()
    await exporter.export(batch, never)
    await exporter.export(batch, never)
    expect(taken).toBe(2)
  })

  test('a secret that is missing holds the batch', async () => {
    const { endpoint } = await httpPeer((_request, response) => response.end())
    const exporter = exporterTo({ endpoint, headers: { authorization: { env: 'OTLP_TEST_ABSENT' } } })
    const error = await outcome(exporter.export(batch, never))
    expect(error).toMatchObject({ name: 'RetryableError', code: 'CREDENTIAL_MISSING' })
  })

  test.each([
    ['ftp://x', /http:\/\/host:port/],
    ['http://user:secret@x', /a login goes into headers/],
    ['x:4318', /http:\/\/host:port/],
  ])('endpoint %s is refused', (endpoint, message) => {
    expect(() => configOf(otlp, { endpoint })).toThrow(message)
  })

  test('headers of the protocol itself are refused', () => {
    expect(() => configOf(otlp, { endpoint: 'http://x:1', headers: { 'Content-Type': 'a' } })).toThrow(
      /set by the protocol/,
    )
  })
})

type Handler = (request: Buffer, metadata: Metadata, answer: sendUnaryData<Buffer>) => void

async function grpcPeer(handler: Handler): Promise<{ endpoint: string; server: Server }> {
  const server = new Server()
  const same = (value: Buffer): Buffer => value
  server.addService(
    {
      export: {
        path: grpcMethods.logs,
        requestStream: false,
        responseStream: false,
        requestSerialize: same,
        requestDeserialize: same,
        responseSerialize: same,
        responseDeserialize: same,
      },
    },
    {
      export: (call: { request: Buffer; metadata: Metadata }, answer: sendUnaryData<Buffer>) =>
        handler(call.request, call.metadata, answer),
    },
  )
  const bound = Promise.withResolvers<number>()
  server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
    error ? bound.reject(error) : bound.resolve(port),
  )
  open.push(() => server.forceShutdown())
  return { endpoint: `http://127.0.0.1:${await bound.promise}`, server }
}

const failWith = (code: status, retryAfterMs?: number): Partial<ServiceError> => {
  const metadata = new Metadata()
  const after = retryAfterMs === undefined ? {} : { retryAfterMs }
  const details = encodeStatus({ http: 0, grpc: 'RESOURCE_EXHAUSTED', message: 'busy', ...after })
  metadata.set('grpc-status-details-bin', details)
  return { code, details: 'größer: 100 %', metadata }
}

describe('the OTLP exporter over gRPC', () => {
  test.each(['none', 'gzip'])(
    'sends the very bytes of the batch to grpc-js, compression %s',
    async (compression) => {
      const seen: { request: Buffer; tenant: unknown }[] = []
      const { endpoint } = await grpcPeer((request, metadata, answer) => {
        seen.push({ request, tenant: metadata.get('x-tenant')[0] })
        answer(null, Buffer.of())
      })
      const exporter = exporterTo({
        endpoint,
        protocol: 'grpc',
        compression,
        headers: { 'X-Tenant': 'blue' },
      })
      await Promise.all(Array.from({ length: 20 }, () => exporter.export(batch, never)))
      expect(seen.length).toBe(20)
      for (const { request, tenant } of seen) {
        expect(request.equals(batch.bytes)).toBe(true)
        expect(tenant).toBe('blue')
      }
    },
  )

  test('tells of partial success', async () => {
    const { endpoint } = await grpcPeer((_request, _metadata, answer) =>
      answer(null, encodeResponse('logs', { rejected: 2, message: 'too old' })),
    )
    expect(await exporterTo({ endpoint, protocol: 'grpc' }).export(batch, never)).toMatchObject({
      rejected: 2,
      reason: 'too old',
    })
  })

  test.each([
    'CANCELLED',
    'DEADLINE_EXCEEDED',
    'ABORTED',
    'OUT_OF_RANGE',
    'UNAVAILABLE',
    'DATA_LOSS',
  ] as const)('%s may pass', async (name) => {
    const { endpoint } = await grpcPeer((_request, _metadata, answer) => answer(failWith(status[name], 2500)))
    const error = await outcome(exporterTo({ endpoint, protocol: 'grpc' }).export(batch, never))
    expect(error).toBeInstanceOf(RetryableError)
    expect(error).toMatchObject({
      retryAfterMs: 2500,
      message: expect.stringContaining(`${name}: größer: 100 %`) as string,
    })
  })

  test.each([
    'INVALID_ARGUMENT',
    'UNAUTHENTICATED',
    'UNIMPLEMENTED',
    'INTERNAL',
    'RESOURCE_EXHAUSTED',
  ] as const)('%s without RetryInfo will not pass', async (name) => {
    const { endpoint } = await grpcPeer((_request, _metadata, answer) => answer(failWith(status[name])))
    const error = await outcome(exporterTo({ endpoint, protocol: 'grpc' }).export(batch, never))
    expect(error).toMatchObject({ name: 'PermanentError', code: 'PEER_REFUSED' })
  })

  test('RESOURCE_EXHAUSTED with RetryInfo may pass', async () => {
    const { endpoint } = await grpcPeer((_request, _metadata, answer) =>
      answer(failWith(status.RESOURCE_EXHAUSTED, 1500)),
    )
    const error = await outcome(exporterTo({ endpoint, protocol: 'grpc' }).export(batch, never))
    expect(error).toMatchObject({ name: 'RetryableError', code: 'PEER_OVERLOADED', retryAfterMs: 1500 })
  })

  test('a peer that never answers fails after the timeout, and the next batch still goes through', async () => {
    let silent = true
    const { endpoint } = await grpcPeer((_request, _metadata, answer) => {
      if (!silent) answer(null, Buffer.of())
    })
    const exporter = exporterTo({ endpoint, protocol: 'grpc', timeout: '2s' })
    expect(await outcome(exporter.export(batch, never))).toMatchObject({ code: 'PEER_TIMEOUT' })
    silent = false
    expect(await exporter.export(batch, never)).toMatchObject({ rejected: 0 })
  })

  test('connects again after the peer went away, to the endpoint that is there', async () => {
    const first = await grpcPeer((_request, _metadata, answer) => answer(null, Buffer.of()))
    const second = await grpcPeer((_request, _metadata, answer) => answer(null, Buffer.of()))
    const exporter = exporterTo({ endpoint: [first.endpoint, second.endpoint], protocol: 'grpc' })
    await exporter.export(batch, never)
    first.server.forceShutdown()
    // The connection may break under the first attempt; the one after it finds the other endpoint.
    await outcome(exporter.export(batch, never))
    expect(await exporter.export(batch, never)).toMatchObject({ rejected: 0 })
  })

  test('a peer that speaks HTTP/1 only is unreachable, not a loss', async () => {
    const { endpoint } = await httpPeer((_request, response) => response.end())
    const error = await outcome(
      exporterTo({ endpoint, protocol: 'grpc', timeout: '2s' }).export(batch, never),
    )
    expect(error).toBeInstanceOf(RetryableError)
  })
})
