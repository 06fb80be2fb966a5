// Whom a request came from, asked after the connection has gone: a sender that closes at once must not pass for one on
// this machine's own socket, nor for one that nobody knows.
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterEach, expect, test, vi } from 'vitest'
import { frameMessage } from '../../../../plugins/protocols/grpc.ts'
import { bytes, closeAll, logsMethod, start } from './senders.ts'

afterEach(closeAll)

test('an HTTP sender that resets its connection is known by its address', async () => {
  const { httpPort, received } = await start()
  // Unpacking gives the reset time to arrive.
  const body = gzipSync(bytes)
  const head = [
    'POST /v1/logs HTTP/1.1',
    'host: x',
    'content-type: application/x-protobuf',
    'content-encoding: gzip',
    `content-length: ${body.length}`,
  ]
  for (let sender = 0; sender < 50; sender++) {
    const socket = connect(httpPort, '127.0.0.1')
    await once(socket, 'connect')
    socket.write(Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), body]), () =>
      socket.resetAndDestroy(),
    )
    await once(socket, 'close')
  }
  await vi.waitFor(() => expect(received.length).toBeGreaterThan(0))
  expect(new Set(received.map(({ peer }) => peer))).toEqual(new Set(['127.0.0.1']))
})

test('a gRPC sender that resets its connection is known by its address', async () => {
  const { grpcPort, received } = await start()
  const frame = await frameMessage(bytes, 'none')
  for (let sender = 0; sender < 50; sender++) {
    const session = connectHttp2(`http://127.0.0.1:${grpcPort}`)
    session.on('error', () => undefined)
    const stream = session.request({
      ':method': 'POST',
      ':path': logsMethod,
      'content-type': 'application/grpc',
    })
    stream.on('error', () => undefined)
    await once(session, 'connect')
    const closed = once(session, 'close')
    stream.end(frame, () => setImmediate(() => session.destroy()))
    await closed
  }
  await vi.waitFor(() => expect(received.length).toBeGreaterThan(0))
  expect(new Set(received.map(({ peer }) => peer))).toEqual(new Set(['127.0.0.1']))
})
