// Many connections at once: what is read from them together, while nobody acknowledges anything.
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { expect, onTestFinished, test, vi } from 'vitest'
import syslog from '../../../../plugins/sources/syslog.ts'
import { testContext } from '../../../support/context.ts'

const MiB = 1024 * 1024

/** Once it has not changed for a while. */
async function settled(read: () => number): Promise<number> {
  for (let before = -1, same = 0; same < 20;) {
    const now = read()
    same = now === before ? same + 1 : 0
    before = now
    await new Promise((resume) => setTimeout(resume, 10))
  }
  return read()
}

test('a hundred connections bring little more than the queue while nothing is acknowledged, and then all', async () => {
  const readFrom: Socket[] = []
  const seen = (message: unknown) => void readFrom.push((message as { socket: Socket }).socket)
  subscribe('net.server.socket', seen)
  onTestFinished(() => void unsubscribe('net.server.socket', seen))
  const gate = Promise.withResolvers<void>()
  let taken = 0
  const context = testContext()
  const stop = new AbortController()
  const source = syslog.create(syslog.config.parse({ tcp: '127.0.0.1:0', queue: '1MiB' }), context)
  const running = source.run(({ count }) => {
    taken += count
    return gate.promise
  }, stop.signal)
  onTestFinished(async () => {
    gate.resolve()
    stop.abort()
    await running
  })
  const port = Number(/tcp:\/\/\S*:(\d+)/.exec(await context.whenReady)?.[1])
  const [each, count] = [100, 200]
  const line = `<13>1 - h a - - - ${'x'.repeat(1000)}\n`
  for (let index = 0; index < each; index++) {
    const socket = connect(port, '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    await once(socket, 'connect')
    socket.end(line.repeat(count))
  }
  const read = () => readFrom.reduce((sum, { bytesRead }) => sum + bytesRead, 0)
  await vi.waitFor(() => expect(read()).toBeGreaterThan(MiB / 2), { timeout: 30_000 })
  // The queue, and what those bring that were read from just then.
  expect(await settled(read)).toBeLessThan(3 * MiB)
  gate.resolve()
  await vi.waitFor(() => expect(taken).toBe(each * count), { timeout: 30_000 })
})
