// Datagrams through real sockets: all arrive in order and whole, what the kernel drops is counted, and stopping hands
// over what is under way.
import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import type { Socket } from 'node:dgram'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { ListenError, receiveDatagrams, receivePlain } from '../../../../plugins/protocols/native/index.ts'
import type { DatagramListen, DatagramReceiver } from '../../../../plugins/protocols/native/index.ts'
import { testContext } from '../../../support/context.ts'

const megabyte = 1024 * 1024

interface Received {
  texts: string[]
  peers: Set<string>
  ascii: number
  dropped: number
  /** Known after `start`. */
  receiver: DatagramReceiver
  port: number
}

async function start(
  receive: typeof receiveDatagrams,
  listen: readonly DatagramListen[],
  options: { receiveBuffer?: number; longest?: number } = {},
): Promise<Received> {
  const found = { texts: [] as string[], peers: new Set<string>(), ascii: 0, dropped: 0 }
  const { receiveBuffer = megabyte, longest = 256 * 1024 } = options
  const receiver = await receive<string>({
    listen,
    receiveBuffer,
    longest,
    log: testContext().log,
    peer: (host, credentials) => (credentials ? `uid ${credentials.uid}` : host),
    take: (bytes, begin, end, peer, ascii, truncated) => {
      received.texts.push(bytes.toString('utf8', begin, end) + (truncated ? '…' : ''))
      received.peers.add(peer)
      if (ascii) received.ascii++
    },
    pause: () => undefined,
    dropped: (count) => void (received.dropped += count),
  })
  const [first] = receiver.listen
  const received: Received = Object.assign(found, {
    receiver,
    port: first !== undefined && 'port' in first ? first.port : 0,
  })
  return received
}

function sender(type: 'udp4' | 'udp6' = 'udp4'): Socket {
  const socket = createSocket(type)
  onTestFinished(() => void socket.close())
  return socket
}
const send = (socket: Socket, bytes: Uint8Array | string, port: number, host = '127.0.0.1') =>
  new Promise<void>((resolve, reject) => {
    socket.send(bytes, port, host, (error) => (error ? reject(error) : resolve()))
  })

/** Goes on each time all that was sent has come. */
async function sendInSteps(received: Received, socket: Socket, texts: readonly string[], step: number) {
  for (let sent = 0; sent < texts.length; sent += step) {
    const some = texts.slice(sent, sent + step)
    for (const text of some) await send(socket, text, received.port)
    const all = sent + some.length
    await vi.waitFor(() => expect(received.texts).toHaveLength(all), { interval: 1, timeout: 30_000 })
  }
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'dpulse-native-'))
  onTestFinished(() => rmSync(path, { recursive: true }))
  return path
}
const local = { host: '127.0.0.1', port: 0 }

describe.each([
  ['recvmmsg', receiveDatagrams, true],
  ['node:dgram', receivePlain, false],
] as const)('UDP by %s', (_, receive, native) => {
  test('brings every datagram, whole and in order, from 0 to 65,507 bytes', async () => {
    const received = await start(receive, [local])
    expect(received.receiver.native).toBe(native)
    const texts = Array.from({ length: 2000 }, (_, index) => `${index} ${'x'.repeat(index % 300)}`)
    texts.push('y'.repeat(65_507), 'ünïcödé', '')
    const socket = sender()
    // Never more under way than the smallest buffer of the kernel holds.
    await sendInSteps(received, socket, texts, 100)
    expect(received.texts).toEqual(texts)
    expect(received.peers).toEqual(new Set(['127.0.0.1']))
    expect(received.ascii).toBe(native ? texts.length - 1 : 0)
    await received.receiver.stop()
    expect(received.dropped).toBe(0)
  })

  test('counts what the kernel had no room for, so that nothing is missing', async () => {
    const received = await start(receive, [local], { receiveBuffer: 4096 })
    const socket = sender()
    const total = 20_000
    for (let index = 0; index < total; index += 1000) {
      await Promise.all(Array.from({ length: 1000 }, () => send(socket, 'z'.repeat(500), received.port)))
    }
    await vi.waitFor(() => expect(received.texts.length + received.dropped).toBe(total), 30_000)
    await received.receiver.stop()
    expect(received.texts.length + received.dropped).toBe(total)
    expect(received.dropped).toBeGreaterThan(0)
  })

  test('hands over at a stop what was sent before it', async () => {
    const received = await start(receive, [local], { receiveBuffer: 4 * megabyte })
    const socket = sender()
    await Promise.all(Array.from({ length: 500 }, (_, index) => send(socket, `${index}`, received.port)))
    await received.receiver.stop()
    expect(received.texts).toHaveLength(500)
  })

  test('names the address that is taken', async () => {
    const other = sender()
    other.bind(0, '127.0.0.1')
    await once(other, 'listening')
    const taken = { host: '127.0.0.1', port: other.address().port }
    const failure = start(receive, [local, taken]).catch((error: unknown) => error)
    expect(await failure).toBeInstanceOf(ListenError)
    expect(await failure).toMatchObject({ code: 'EADDRINUSE', listen: taken })
  })
})

describe('one thread', () => {
  test('receives IPv4, IPv6 and a Unix socket, and tells who sent', async () => {
    const path = join(folder(), 'log')
    const received = await start(receiveDatagrams, [local, { host: '::1', port: 0 }, { path, mode: 0o666 }])
    const [, six] = received.receiver.listen
    await send(sender(), 'four', received.port)
    await send(sender('udp6'), 'six', six !== undefined && 'port' in six ? six.port : 0, '::1')
    execFileSync('logger', ['-u', path, '-t', 'test', 'unix'])
    await vi.waitFor(() => expect(received.texts).toHaveLength(3), 30_000)
    expect(received.peers).toEqual(new Set(['127.0.0.1', '::1', `uid ${process.getuid?.()}`]))
    expect(received.texts.find((text) => text.endsWith('test: unix'))).toBeDefined()
    await received.receiver.stop()
    expect(existsSync(path)).toBe(false)
  })

  test('goes round its ring many times without mixing up datagrams', async () => {
    const received = await start(receiveDatagrams, [local], { receiveBuffer: 4 * megabyte })
    const socket = sender()
    // 12 MiB through a ring of 4 MiB, of sizes that never fit its end alike.
    const texts = Array.from({ length: 600 }, (_, index) => `${index}${'-'.repeat((index * 7919) % 40_000)}`)
    await sendInSteps(received, socket, texts, 4)
    expect(received.texts).toEqual(texts)
    await received.receiver.stop()
  })

  test('cuts datagrams of a Unix socket that are longer than asked for', async () => {
    const path = join(folder(), 'log')
    const received = await start(receiveDatagrams, [{ path, mode: 0o600 }], { longest: 512 })
    execFileSync('logger', ['-u', path, '--size', '2000', 'a'.repeat(1500)])
    await vi.waitFor(() => expect(received.texts).toHaveLength(1), 30_000)
    expect(received.texts[0]).toHaveLength(512 + 1)
    expect(received.texts[0]?.endsWith('a…')).toBe(true)
    await received.receiver.stop()
  })

  test('takes over a socket file that nobody holds any more, and no other file', async () => {
    const path = join(folder(), 'log')
    const script = `import { receiveDatagrams } from ${JSON.stringify(new URL('../../../../plugins/protocols/native/index.ts', import.meta.url).href)}
      const none = () => undefined
      await receiveDatagrams({ listen: [{ path: ${JSON.stringify(path)}, mode: 0o600 }], receiveBuffer: 65536, longest: 512,
        log: { error: none, warn: none, info: none, debug: none }, peer: none, take: none, pause: none, dropped: none })
      process.kill(process.pid, 'SIGKILL')`
    expect(() => execFileSync(process.execPath, ['--input-type=module', '-e', script])).toThrow(
      'Command failed',
    )
    expect(existsSync(path)).toBe(true)
    const received = await start(receiveDatagrams, [{ path, mode: 0o600 }])
    const second = await start(receiveDatagrams, [{ path, mode: 0o600 }]).catch((error: unknown) => error)
    expect(second).toMatchObject({ code: 'EADDRINUSE' })
    await received.receiver.stop()
    writeFileSync(path, 'precious')
    const third = await start(receiveDatagrams, [{ path, mode: 0o600 }]).catch((error: unknown) => error)
    expect(third).toMatchObject({ code: 'EADDRINUSE' })
    expect(existsSync(path)).toBe(true)
  })

  test('never keeps a process from ending', () => {
    const script = `import { receiveDatagrams } from ${JSON.stringify(new URL('../../../../plugins/protocols/native/index.ts', import.meta.url).href)}
      const none = () => undefined
      await receiveDatagrams({ listen: [{ host: '127.0.0.1', port: 0 }], receiveBuffer: 65536, longest: 512,
        log: { error: none, warn: none, info: none, debug: none }, peer: none, take: none, pause: none, dropped: none })
      process.exit(7)`
    const ended = (() => {
      try {
        execFileSync(process.execPath, ['--input-type=module', '-e', script], { timeout: 30_000 })
        return 0
      } catch (error) {
        return (error as { status: number | null }).status
      }
    })()
    expect(ended).toBe(7)
  })
})

describe('shedding in the kernel', () => {
  const messages = [
    '<134>one',
    '<131>1 error',
    '<14>two',
    '<11>1 error',
    '<6>three',
    '<3>1 error',
    'no priority',
    '<8>',
  ]

  test('throws away all that is not an error, and counts it', async () => {
    const received = await start(receiveDatagrams, [{ host: '127.0.0.1', port: 0 }])
    onTestFinished(() => received.receiver.stop())
    received.receiver.shed(1)
    await vi.waitFor(() => expect(received.receiver.sheds).toBe(true), { timeout: 10_000 })
    const socket = sender()
    for (let round = 0; round < 100; round++)
      for (const text of messages) socket.send(text, received.port, '127.0.0.1')
    await vi.waitFor(() => expect(received.texts.length + received.dropped).toBe(800), { timeout: 20_000 })
    // What is too short for a priority and a word is kept.
    expect([...new Set(received.texts)].sort()).toEqual(['<11>1 error', '<131>1 error', '<3>1 error', '<8>'])
    expect(received.dropped).toBe(400)
  })

  test('throws away the part that it is told, and nothing any more when that is none', async () => {
    const received = await start(receiveDatagrams, [{ host: '127.0.0.1', port: 0 }])
    onTestFinished(() => received.receiver.stop())
    const socket = sender()
    const send = async (count: number) => {
      const before = received.texts.length + received.dropped
      for (let index = 0; index < count; index++) {
        socket.send('<134>1 a line of some length', received.port, '127.0.0.1')
        if (index % 100 === 99)
          await vi.waitFor(() => expect(received.texts.length + received.dropped).toBe(before + index + 1), {
            timeout: 20_000,
          })
      }
    }
    received.receiver.shed(0.75)
    await vi.waitFor(() => expect(received.receiver.sheds).toBe(true), { timeout: 10_000 })
    await send(2000)
    expect(received.dropped).toBeGreaterThan(1300)
    expect(received.dropped).toBeLessThan(1700)
    received.receiver.shed(0)
    await vi.waitFor(() => expect(received.receiver.sheds).toBe(false), { timeout: 10_000 })
    const before = received.dropped
    await send(500)
    expect(received.dropped).toBe(before)
  })
})
