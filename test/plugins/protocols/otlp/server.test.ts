// The OTLP receiver: gRPC with grpc-js as the sender, opening of ports and sockets, and the stop.
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { connect } from 'node:http2'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client, compressionAlgorithms, credentials, status } from '@grpc/grpc-js'
import { afterEach, describe, expect, test } from 'vitest'
import { PermanentError } from '../../../../plugins/contract/errors.ts'
import { signals } from '../../../../plugins/contract/signal.ts'
import { decodeResponse, decodeStatus } from '../../../../plugins/protocols/otlp/answers.ts'
import { jsonToRequest } from '../../../../plugins/protocols/otlp/json.ts'
import { loopback } from '../../../../plugins/protocols/otlp/listen.ts'
import { grpcMethod } from '../../../../plugins/protocols/otlp/methods.ts'
import type { Handled } from '../../../../plugins/protocols/otlp/server.ts'
import {
  bytes,
  call,
  closeAll,
  failureOfCall,
  grpcClient,
  logsMethod,
  open,
  post,
  start,
  text,
} from './senders.ts'

afterEach(closeAll)

describe('OTLP/gRPC', () => {
  test.each(signals)('takes %s from grpc-js, bare and compressed', async (signal) => {
    const { grpcPort, received } = await start()
    expect((await call(grpcClient(grpcPort), grpcMethod(signal), bytes)).length).toBe(0)
    const zipped = new Client(`127.0.0.1:${grpcPort}`, credentials.createInsecure(), {
      'grpc.default_compression_algorithm': compressionAlgorithms.gzip,
    })
    open.push(async () => zipped.close())
    await call(zipped, grpcMethod(signal), bytes)
    expect(received.map((request) => request.signal)).toEqual([signal, signal])
    for (const request of received) expect(bytes.equals(request.bytes)).toBe(true)
  })

  test('takes many calls on one session at once', async () => {
    const { grpcPort, received } = await start()
    const client = grpcClient(grpcPort)
    const large = Buffer.from(jsonToRequest('logs', text.replace('hello', 'x'.repeat(300_000))))
    await Promise.all(Array.from({ length: 150 }, () => call(client, logsMethod, large)))
    expect(received.length).toBe(150)
  })

  test('tells of records that were refused as partial success', async () => {
    const { grpcPort } = await start({ handle: async () => ({ rejected: 2, message: 'no' }) })
    expect(decodeResponse('logs', await call(grpcClient(grpcPort), logsMethod, bytes))).toEqual({
      rejected: 2,
      message: 'no',
    })
  })

  test('refuses bad data as INVALID_ARGUMENT, an unknown method as UNIMPLEMENTED', async () => {
    const { grpcPort } = await start({
      handle: async () => {
        throw new PermanentError('INPUT_INVALID', 'größer: 100 % malformed\n')
      },
    })
    const client = grpcClient(grpcPort)
    const invalid = await failureOfCall(client, logsMethod, bytes)
    expect([invalid.code, invalid.details]).toEqual([status.INVALID_ARGUMENT, 'größer: 100 % malformed\n'])
    expect((await failureOfCall(client, '/other.Service/Export', bytes)).code).toBe(status.UNIMPLEMENTED)
  })

  test('refuses what is too large without RetryInfo, and goes on', async () => {
    const { grpcPort } = await start({ maxRequestBytes: 1000 })
    const client = grpcClient(grpcPort)
    const failure = await failureOfCall(client, logsMethod, Buffer.alloc(200_000))
    expect(failure.code).toBe(status.RESOURCE_EXHAUSTED)
    const [details] = failure.metadata.get('grpc-status-details-bin')
    expect(decodeStatus(details as Buffer)).toEqual({ message: failure.details })
    await call(client, logsMethod, bytes)
  })

  test('asks the sender to try again by RetryInfo when it has no memory left', async () => {
    const safe = Promise.withResolvers<Handled>()
    const asked = Promise.withResolvers<void>()
    const { grpcPort } = await start({
      maxInFlightBytes: bytes.length + 10,
      handle: () => {
        asked.resolve()
        return safe.promise
      },
    })
    const client = grpcClient(grpcPort)
    const first = call(client, logsMethod, bytes)
    await asked.promise
    const failure = await failureOfCall(client, logsMethod, bytes)
    expect(failure.code).toBe(status.RESOURCE_EXHAUSTED)
    const [details] = failure.metadata.get('grpc-status-details-bin')
    expect(decodeStatus(details as Buffer).retryAfterMs).toBe(1000)
    safe.resolve({ rejected: 0 })
    await first
    await call(client, logsMethod, bytes)
  })

  test('drops a sender that trickles its request', async () => {
    const { grpcPort } = await start({ limits: { grpc: { receiveMs: 100 } } })
    const session = connect(`http://127.0.0.1:${grpcPort}`)
    open.push(async () => session.destroy())
    const stream = session.request({
      ':method': 'POST',
      ':path': logsMethod,
      'content-type': 'application/grpc',
    })
    stream.write(Buffer.from([0, 0, 0, 1, 0, 1]))
    const [headers] = (await once(stream, 'response')) as [Record<string, string>]
    expect(headers['grpc-status']).toBe(String(status.DEADLINE_EXCEEDED))
  })

  test('closes a session that is idle, and lets in only so many', async () => {
    const { grpcPort } = await start({ limits: { grpc: { idleMs: 100, sessions: 1 } } })
    const first = connect(`http://127.0.0.1:${grpcPort}`)
    await once(first, 'connect')
    const second = connect(`http://127.0.0.1:${grpcPort}`)
    second.on('error', () => undefined)
    first.on('error', () => undefined)
    await Promise.all([once(second, 'close'), once(first, 'close')])
  })
})

describe('startOtlpServer', () => {
  test('listens on both loopbacks with one port for each protocol', async () => {
    const { server, grpcPort, httpPort } = await start({ grpc: loopback(0), http: loopback(0) })
    expect(server.addresses).toContain(`grpc://127.0.0.1:${grpcPort}`)
    for (const address of server.addresses) {
      expect([`:${grpcPort}`, `:${httpPort}`]).toContain(/:\d+$/.exec(address)?.[0])
    }
  })

  test('names the holder of a port that is taken, and leaves nothing open', async () => {
    const first = await start()
    const taken = start({ http: [], grpc: [{ host: '127.0.0.1', port: first.grpcPort }] })
    await expect(taken).rejects.toMatchObject({
      code: 'ADDRESS_IN_USE',
      message: expect.stringMatching(
        new RegExp(`port ${first.grpcPort}/tcp for OTLP/gRPC is taken by .*--port-offset`),
      ) as string,
    })
  })

  test('lets requests under way end when it stops, and refuses others as unavailable', async () => {
    const safe = Promise.withResolvers<Handled>()
    const asked = Promise.withResolvers<void>()
    const { httpPort, controller, server } = await start({
      handle: () => {
        asked.resolve()
        return safe.promise
      },
    })
    const first = post({ port: httpPort }, bytes)
    await asked.promise
    controller.abort()
    safe.resolve({ rejected: 0 })
    expect((await first).status).toBe(200)
    await server.closed
    await expect(post({ port: httpPort }, bytes)).rejects.toThrow(/ECONNREFUSED/)
  })

  test('ends within its grace when a handler never does', async () => {
    const asked = Promise.withResolvers<void>()
    let waiting = 0
    const { httpPort, grpcPort, controller, server } = await start({
      handle: () => {
        if (++waiting === 2) asked.resolve()
        return Promise.withResolvers<Handled>().promise
      },
    })
    const failed = post({ port: httpPort }, bytes).catch((error: Error) => error)
    const call = failureOfCall(grpcClient(grpcPort), logsMethod, bytes)
    await asked.promise
    controller.abort()
    await server.closed
    expect(await failed).toBeInstanceOf(Error)
    expect((await call).code).toBe(status.UNAVAILABLE)
  })

  test('serves a Unix socket, and replaces one that a killed process left', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'otlp-'))
    open.push(async () => rmSync(directory, { recursive: true }))
    const socketPath = join(directory, 'otlp.sock')
    const first = await start({ grpc: [], http: [], unixPath: socketPath })
    expect(first.server.addresses).toEqual([`unix:${socketPath}`])
    expect((await post({ socketPath }, bytes)).status).toBe(200)
    expect(first.received[0]?.peer).toBe('unix')
    expect(statSync(socketPath).mode & 0o777).toBe(0o660)
    await expect(start({ grpc: [], http: [], unixPath: socketPath })).rejects.toMatchObject({
      code: 'ADDRESS_IN_USE',
    })
    await first.stop()
    // A process that binds the socket and dies by SIGKILL leaves the file.
    const leave = `require('node:net').createServer().listen(${JSON.stringify(socketPath)}, () => process.kill(process.pid, 'SIGKILL'))`
    expect(spawnSync(process.execPath, ['-e', leave]).signal).toBe('SIGKILL')
    const second = await start({ grpc: [], http: [], unixPath: socketPath })
    expect((await post({ socketPath }, bytes)).status).toBe(200)
    await second.stop()
  })
})
