// OTLP/HTTP over real sockets: right answers to good and bad requests, limits on memory, size and time.
import { once } from 'node:events'
import { connect } from 'node:net'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { afterEach, describe, expect, test } from 'vitest'
import { PermanentError, RetryableError } from '../../../../plugins/contract/errors.ts'
import { signals } from '../../../../plugins/contract/signal.ts'
import { decodeResponse, decodeStatus } from '../../../../plugins/protocols/otlp/answers.ts'
import { requestToJson } from '../../../../plugins/protocols/otlp/json.ts'
import type { Handled } from '../../../../plugins/protocols/otlp/server.ts'
import { bytes, closeAll, open, post, start, text } from './senders.ts'

afterEach(closeAll)

describe('OTLP/HTTP', () => {
  test.each(signals)('takes %s in protobuf, and answers in protobuf', async (signal) => {
    const { httpPort, received } = await start()
    const answer = await post({ port: httpPort }, bytes, {}, `/v1/${signal}`)
    expect(answer).toMatchObject({ status: 200, headers: { 'content-type': 'application/x-protobuf' } })
    expect(answer.body.length).toBe(0)
    expect(received).toMatchObject([{ signal, peer: '127.0.0.1' }])
    expect(bytes.equals(received[0]?.bytes ?? Buffer.of())).toBe(true)
  })

  test('takes JSON, and answers in JSON', async () => {
    const { httpPort, received } = await start()
    const answer = await post({ port: httpPort }, text, { 'content-type': 'application/json; charset=utf-8' })
    expect([answer.status, answer.body.toString()]).toEqual([200, '{}'])
    expect(received.map((request) => requestToJson('logs', request.bytes))).toEqual([text])
  })

  test.each([
    ['gzip', gzipSync(bytes)],
    ['zstd', zstdCompressSync(bytes)],
    ['identity', bytes],
  ])('takes a body with content-encoding %s', async (encoding, body) => {
    const { httpPort, received } = await start()
    expect((await post({ port: httpPort }, body, { 'content-encoding': encoding })).status).toBe(200)
    expect(bytes.equals(received[0]?.bytes ?? Buffer.of())).toBe(true)
  })

  test('tells of records that were refused as partial success', async () => {
    const handled: Handled = { rejected: 3, message: 'too large' }
    const { httpPort } = await start({ handle: async () => handled })
    const protobuf = await post({ port: httpPort }, bytes)
    expect(decodeResponse('logs', protobuf.body)).toEqual(handled)
    const json = await post({ port: httpPort }, text, { 'content-type': 'application/json' })
    expect(JSON.parse(json.body.toString())).toEqual({
      partialSuccess: { rejectedLogRecords: '3', errorMessage: 'too large' },
    })
  })

  test('answers only when the records are safe', async () => {
    const safe = Promise.withResolvers<Handled>()
    const asked = Promise.withResolvers<void>()
    const { httpPort } = await start({
      handle: () => {
        asked.resolve()
        return safe.promise
      },
    })
    let answered = false
    const answer = post({ port: httpPort }, bytes).then((value) => {
      answered = true
      return value
    })
    await asked.promise
    expect(answered).toBe(false)
    safe.resolve({ rejected: 0 })
    expect((await answer).status).toBe(200)
  })

  test.each([
    ['another path', '/v1/profiles', 'POST', {}, 404],
    ['another method', '/v1/logs', 'GET', {}, 405],
    ['another content type', '/v1/logs', 'POST', { 'content-type': 'text/plain' }, 415],
    ['another encoding', '/v1/logs', 'POST', { 'content-encoding': 'br' }, 415],
    ['an encoding that the body has not', '/v1/logs', 'POST', { 'content-encoding': 'gzip' }, 400],
  ])('refuses %s', async (_what, path, method, headers: Record<string, string>, expected) => {
    const { httpPort, received } = await start()
    const answer = await post({ port: httpPort }, method === 'GET' ? '' : bytes, headers, path, method)
    expect(answer.status).toBe(expected)
    expect(received).toEqual([])
  })

  test('refuses a body whose length is not told', async () => {
    const { httpPort } = await start()
    const socket = connect(httpPort, '127.0.0.1')
    open.push(async () => socket.destroy())
    socket.write('POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\r\n')
    const [chunk] = (await once(socket, 'data')) as [Buffer]
    expect(chunk.toString()).toMatch(/^HTTP\/1.1 411 /)
  })

  test('refuses bad data with a status that names it, in the format of the request', async () => {
    const { httpPort } = await start({
      handle: async () => {
        throw new PermanentError('INPUT_INVALID', 'malformed logs request: truncated varint at byte 7')
      },
    })
    const protobuf = await post({ port: httpPort }, bytes)
    expect(protobuf.status).toBe(400)
    expect(decodeStatus(protobuf.body)).toEqual({
      message: 'malformed logs request: truncated varint at byte 7',
    })
    const json = await post({ port: httpPort }, '{"resourceLogs":3}', { 'content-type': 'application/json' })
    expect([json.status, JSON.parse(json.body.toString())]).toEqual([
      400,
      { code: 3, message: 'resourceLogs: expected an array, got the number 3' },
    ])
  })

  test('refuses what is too large, announced, chunked or unpacked, and goes on with the connection', async () => {
    const { httpPort, received } = await start({ maxRequestBytes: 1000 })
    const large = Buffer.alloc(1001)
    expect((await post({ port: httpPort }, large)).status).toBe(413)
    expect((await post({ port: httpPort }, large, { 'transfer-encoding': 'chunked' })).status).toBe(413)
    expect((await post({ port: httpPort }, gzipSync(large), { 'content-encoding': 'gzip' })).status).toBe(413)
    const announced = await post({ port: httpPort }, Buffer.alloc(3_000_000))
    expect(announced.status).toBe(413)
    expect((await post({ port: httpPort }, bytes)).status).toBe(200)
    expect(received.length).toBe(1)
  })

  test.each([
    ['an overload', new RetryableError('PEER_OVERLOADED', 'full', { retryAfterMs: 1500 }), 429, '2'],
    ['a stop', new RetryableError('STOPPING', 'the collector stops'), 503, '1'],
    ['a bug', new TypeError('secret'), 503, '5'],
  ])('asks the sender to try again after %s', async (_what, error, expected, retryAfter) => {
    const reported: unknown[] = []
    const { httpPort } = await start({
      handle: async () => {
        throw error
      },
      report: (unexpected) => reported.push(unexpected),
    })
    const answer = await post({ port: httpPort }, bytes)
    expect([answer.status, answer.headers['retry-after']]).toEqual([expected, retryAfter])
    expect(reported).toEqual(error instanceof TypeError ? [error] : [])
    expect(answer.body.toString()).not.toContain('secret')
  })

  test('refuses requests that the memory of those under way leaves no room for, then takes them', async () => {
    const safe = Promise.withResolvers<Handled>()
    const asked = Promise.withResolvers<void>()
    const { httpPort } = await start({
      maxInFlightBytes: bytes.length + 10,
      handle: () => {
        asked.resolve()
        return safe.promise
      },
    })
    const first = post({ port: httpPort }, bytes)
    await asked.promise
    expect(await post({ port: httpPort }, bytes)).toMatchObject({
      status: 429,
      headers: { 'retry-after': '1' },
    })
    safe.resolve({ rejected: 0 })
    expect((await first).status).toBe(200)
    expect((await post({ port: httpPort }, bytes)).status).toBe(200)
  })

  test('drops a sender that trickles its request', async () => {
    const { httpPort } = await start({ limits: { http: { receiveMs: 200 } } })
    const socket = connect(httpPort, '127.0.0.1')
    open.push(async () => socket.destroy())
    socket.write(
      'POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{',
    )
    socket.resume()
    await once(socket, 'close')
  })
})
