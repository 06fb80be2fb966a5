// The syslog source on real sockets, fed by logger(1) and by sockets of our own.
import { execFile, execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { promisify } from 'node:util'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type * as z from 'zod'
import { RetryableError } from '../../../plugins/contract/index.ts'
import type { Emit, Records } from '../../../plugins/contract/index.ts'
import syslog from '../../../plugins/sources/syslog.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { collectLogs } from '../../support/records.ts'

const run = promisify(execFile)
type Config = z.input<typeof syslog.config>

/** The port of the first address with this scheme. */
function portOf(addresses: readonly string[], scheme: string): number {
  const found = new RegExp(`${scheme}://\\S*:(\\d+)`).exec(addresses.join(' '))
  if (found === null) throw new Error(`no ${scheme} in ${addresses.join(' ')}`)
  return Number(found[1])
}

async function start(config: Config, answer: (records: Records) => Promise<void> = async () => undefined) {
  const records: Records[] = []
  const context = testContext()
  const controller = new AbortController()
  const emit: Emit = (one) => {
    records.push(one)
    return answer(one)
  }
  const running = syslog.create(syslog.config.parse(config), context).run(emit, controller.signal)
  const stop = async () => {
    controller.abort()
    await running
  }
  // Whoever looks for a failure awaits it itself.
  onTestFinished(() => stop().catch(() => undefined))
  await Promise.race([context.whenReady, running])
  const bodies = () => collectLogs(records).map(({ body }) => body)
  const droppedOf = (name: string) =>
    context.drops.reduce((sum, drop) => sum + (drop.class === name ? drop.count : 0), 0)
  return {
    context,
    records,
    stop,
    bodies,
    droppedOf,
    port: (scheme: string) => portOf(context.addresses, scheme),
    logs: () => collectLogs(records),
    count: () => records.reduce((sum, one) => sum + one.count, 0),
  }
}

async function open(port: number, host = '127.0.0.1'): Promise<Socket> {
  const socket = connect(port, host)
  onTestFinished(() => void socket.destroy())
  await once(socket, 'connect')
  return socket
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'dpulse-syslog-'))
  onTestFinished(() => rmSync(path, { recursive: true }))
  return path
}
const tcp = '127.0.0.1:0'

describe('syslog', () => {
  conformsToSource(
    syslog,
    { tcp },
    {
      // A chunk of a connection is a few hundred lines, and a round trip to the journal takes its time.
      outstanding: 256,
      provoke: async ({ addresses, signal }) => {
        if (addresses.length === 0) return
        const socket = connect(portOf(addresses, 'tcp'), '127.0.0.1')
        socket.on('error', () => undefined)
        signal.addEventListener('abort', () => socket.destroy(), { once: true })
        socket.end('<13>1 - host app - - - a line\n<11>an error\n')
        await once(socket, 'close')
      },
    },
  )

  test.each([
    ['--tcp', '--octet-count', '--rfc5424'],
    ['--tcp', '--rfc5424'],
    ['--tcp', '--octet-count', '--rfc3164'],
    ['--tcp', '--rfc3164'],
    ['--udp', '--rfc5424'],
    ['--udp', '--rfc3164'],
  ])('takes what logger sends with %s %s %s', async (...options) => {
    const source = await start({ tcp, udp: tcp })
    const port = String(source.port(options[0] === '--tcp' ? 'tcp' : 'udp'))
    const given = options.filter((option): option is string => typeof option === 'string')
    const message = 'temperature of port 0 is 71 °C'
    await run('logger', [
      '-n',
      '127.0.0.1',
      '-P',
      port,
      ...given,
      '-t',
      'thermal',
      '-p',
      'daemon.err',
      message,
    ])
    await vi.waitFor(() => expect(source.count()).toBe(1), 30_000)
    const [record] = source.logs()
    expect(source.records[0]?.class).toBe('log_error')
    expect(record).toMatchObject({ body: message, severityNumber: 17, severityText: 'err' })
    expect(record?.attributes).toMatchObject({
      'syslog.facility': 3,
      'syslog.appname': 'thermal',
      'network.peer.address': '127.0.0.1',
    })
    expect(record?.attributes['syslog.hostname']).toBeTypeOf('string')
  })

  test.each([
    ['others', ''],
    ['all', 'dpu.kernel.filesystem_error'],
  ] as const)(
    'with kernel_events of %s makes %j of a line of its own machine',
    async (kernel_events, name) => {
      const { port, logs } = await start({ tcp, kernel_events })
      const line = '<3>Oct 12 08:00:00 leaf1 kernel: EXT4-fs error (device sda1): inode #2\n'
      ;(await open(port('tcp'))).end(line)
      await vi.waitFor(() => expect(logs().map(({ eventName }) => eventName)).toEqual([name]))
    },
  )

  test('takes what logger sends to Unix sockets, and removes them at its end', async () => {
    const [stream, datagram] = ['stream', 'datagram'].map((name) => join(folder(), name))
    if (stream === undefined || datagram === undefined) throw new Error('two paths')
    const source = await start({ unix: stream, unix_datagram: datagram })
    expect(source.context.addresses).toEqual([`unix-datagram:${datagram}, unix:${stream}`])
    await run('logger', ['-u', datagram, '-t', 'app', 'by datagram'])
    await run('logger', ['-u', stream, '--tcp', '-t', 'app', '-i', 'by stream'])
    await vi.waitFor(() => expect(source.count()).toBe(2), 30_000)
    expect(new Set(source.bodies())).toEqual(new Set(['by datagram', 'by stream']))
    for (const { attributes } of source.logs()) {
      expect(attributes).toMatchObject({ 'syslog.appname': 'app' })
      expect(attributes).not.toHaveProperty('syslog.hostname')
      expect(attributes).not.toHaveProperty('network.peer.address')
    }
    await source.stop()
    expect([existsSync(stream), existsSync(datagram)]).toEqual([false, false])
  })

  test('loses no line of a connection that closes right behind it, or that it closes itself', async () => {
    const source = await start({ tcp })
    const first = await open(source.port('tcp'))
    const lines = Array.from({ length: 20_000 }, (_, index) => `<13>1 - h a - - - ${index}`)
    first.end(lines.join('\n'))
    await vi.waitFor(() => expect(source.count()).toBe(lines.length), 30_000)
    const second = await open(source.port('tcp'))
    second.write('<13>one\n<13>and no newline')
    await source.stop()
    expect(source.bodies()).toEqual([...lines.keys()].map(String).concat('one', 'and no newline'))
  })

  test('reads no further while nothing is acknowledged, and loses nothing of it', async () => {
    const gate = Promise.withResolvers<void>()
    const source = await start({ tcp, queue: '1MiB' }, () => gate.promise)
    const socket = await open(source.port('tcp'))
    const line = `<13>1 - h a - - - ${'x'.repeat(1000)}\n`
    const total = 40_000
    for (let index = 0; index < total; index++) socket.write(line)
    socket.end()
    await vi.waitFor(() => expect(source.count()).toBeGreaterThan(0), 30_000)
    const before = await settled(() => source.count())
    expect(before).toBeLessThan(4000)
    gate.resolve()
    await vi.waitFor(() => expect(source.count()).toBe(total), 30_000)
  })

  test('drops datagrams beyond its queue, counts each by its class, and keeps errors longer', async () => {
    const gate = Promise.withResolvers<void>()
    const source = await start({ udp: tcp, queue: '1MiB' }, () => gate.promise)
    const socket = createSocket('udp4')
    onTestFinished(() => void socket.close())
    const port = source.port('udp')
    const send = (text: string) =>
      new Promise<void>((resolve) => {
        socket.send(text, port, '127.0.0.1', () => resolve())
      })
    const each = 3000
    for (let index = 0; index < each; index++) {
      await send(`<14>1 - h a - - - ${'x'.repeat(1000)}`)
      if (index % 50 === 0) await send(`<11>1 - h a - - - error ${index}`)
    }
    const sum = () => source.count() + source.droppedOf('log')
    gate.resolve()
    await source.stop()
    expect(sum()).toBe(each + each / 50)
    expect(source.droppedOf('log')).toBeGreaterThan(0)
    expect(source.droppedOf('log_error')).toBe(0)
    expect(source.context.drops.every(({ reason }) => reason === 'overflow')).toBe(true)
  })

  test('joins the lines that come at one time from many connections', async () => {
    const source = await start({ tcp })
    const sockets = await Promise.all(Array.from({ length: 20 }, () => open(source.port('tcp'))))
    for (const socket of sockets) socket.write('<13>accepted\n')
    await vi.waitFor(() => expect(source.count()).toBe(20), 30_000)
    const before = source.records.length
    for (const socket of sockets) socket.write('<13>x\n')
    await vi.waitFor(() => expect(source.count()).toBe(40), 30_000)
    expect(source.records.length - before).toBeLessThan(10)
  })

  test('refuses connections beyond its limit and serves the others', async () => {
    const source = await start({ tcp, max_connections: 2 })
    const [one] = [await open(source.port('tcp')), await open(source.port('tcp'))]
    const third = await open(source.port('tcp'))
    third.on('error', () => undefined)
    await once(third, 'close')
    one?.write('<13>still here\n')
    await vi.waitFor(() => expect(source.bodies()).toEqual(['still here']), 30_000)
    expect(source.context.logged).toMatchObject([{ level: 'warn', fields: { limit: 2 } }])
  })

  test('closes a connection that stays silent, and keeps what it had sent', async () => {
    const source = await start({ tcp, idle_timeout: '1s' })
    const socket = await open(source.port('tcp'))
    socket.write('<13>half a line')
    socket.resume()
    await once(socket, 'close')
    await vi.waitFor(() => expect(source.bodies()).toEqual(['half a line']), 30_000)
  })

  test('emits what it cannot deliver as the program stops without an error', async () => {
    const source = await start({ tcp }, () => Promise.reject(new RetryableError('STOPPING', 'stopping')))
    const socket = await open(source.port('tcp'))
    socket.end('<13>x\n')
    await vi.waitFor(() => expect(source.count()).toBe(1), 30_000)
    await source.stop()
    expect(source.context.logged.filter(({ level }) => level === 'error')).toEqual([])
  })
})

/** A number once it has stood still for a while. */
async function settled(read: () => number): Promise<number> {
  let before = -1
  await vi.waitFor(
    () => {
      const now = read()
      const same = now === before
      before = now
      expect(same).toBe(true)
    },
    { timeout: 30_000, interval: 200 },
  )
  return before
}

describe('syslog over TLS', () => {
  function certificates(): { cert: string; key: string } {
    const path = folder()
    const [cert, key] = [join(path, 'cert.pem'), join(path, 'key.pem')]
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
    const made = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
    execFileSync('openssl', [...made, '-days', '1', ...subject, '-keyout', key, '-out', cert], {
      stdio: 'ignore',
    })
    return { cert, key }
  }

  test('is taken from a client that trusts the certificate', async () => {
    const files = certificates()
    const source = await start({ tls: { listen: tcp, ...files } })
    const ca = execFileSync('cat', [files.cert])
    const socket = connectTls({ port: source.port('tls'), host: '127.0.0.1', ca, servername: 'localhost' })
    await once(socket, 'secureConnect')
    socket.end('25 <13>1 - h a - - - counted<13>1 - h a - - - a line\n')
    await vi.waitFor(() => expect(source.bodies()).toEqual(['counted', 'a line']), 30_000)
  })

  test('with client_auth is taken only from a client with a certificate', async () => {
    const files = certificates()
    const source = await start({ tls: { listen: tcp, ...files, ca: files.cert, client_auth: true } })
    const ca = execFileSync('cat', [files.cert])
    const stranger = connectTls({ port: source.port('tls'), host: '127.0.0.1', ca, servername: 'localhost' })
    stranger.on('error', () => undefined)
    const refused = new Promise((resolve) => stranger.once('close', resolve))
    stranger.end('<13>from a stranger\n')
    await refused
    const friend = connectTls({
      port: source.port('tls'),
      host: '127.0.0.1',
      ca,
      cert: ca,
      key: execFileSync('cat', [files.key]),
      servername: 'localhost',
    })
    await once(friend, 'secureConnect')
    friend.end('<13>from a friend\n')
    await vi.waitFor(() => expect(source.bodies()).toEqual(['from a friend']), 30_000)
    expect(source.context.logged).toMatchObject([{ level: 'warn', message: 'TLS handshake failed' }])
  })

  test('stops although a client never finishes its handshake', async () => {
    const source = await start({ tls: { listen: tcp, ...certificates() } })
    await open(source.port('tls'))
    await source.stop()
  })

  test('says which file it cannot read', async () => {
    const failed = start({ tls: { listen: tcp, cert: '/nonexistent/cert.pem', key: '/nonexistent/key.pem' } })
    await expect(failed).rejects.toMatchObject({
      code: 'CREDENTIAL_MISSING',
      message: '/nonexistent/cert.pem cannot be read',
    })
  })
})

describe('an address that syslog cannot have', () => {
  test('in TCP is named with its holder and the way out', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    onTestFinished(() => void other.close())
    await once(other, 'listening')
    const at = other.address()
    const port = at !== null && typeof at === 'object' ? at.port : 0
    await expect(start({ tcp: [tcp, `127.0.0.1:${port}`] })).rejects.toMatchObject({
      code: 'ADDRESS_IN_USE',
      message: expect.stringMatching(
        new RegExp(`port ${port}/tcp for syslog is taken by process ${process.pid} .*--port-offset`),
      ) as string,
    })
  })

  test('in UDP is named too', async () => {
    const other = createSocket('udp4').bind(0, '127.0.0.1')
    onTestFinished(() => void other.close())
    await once(other, 'listening')
    const { port } = other.address()
    await expect(start({ udp: `127.0.0.1:${port}` })).rejects.toMatchObject({
      code: 'ADDRESS_IN_USE',
      message: expect.stringContaining(`port ${port}/udp for syslog`) as string,
    })
  })

  test('is a file that is no socket, which stays as it is', async () => {
    const path = join(folder(), 'precious')
    writeFileSync(path, 'data')
    for (const config of [{ unix: path }, { unix_datagram: path }]) {
      await expect(start(config)).rejects.toMatchObject({ code: 'ADDRESS_IN_USE' })
    }
    expect(existsSync(path)).toBe(true)
  })

  test('is no socket file of a process that was killed', async () => {
    const path = join(folder(), 'stale')
    const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
    expect(() => execFileSync(process.execPath, ['-e', script])).toThrow('Command failed')
    expect(existsSync(path)).toBe(true)
    const source = await start({ unix: path })
    await run('logger', ['-u', path, '--tcp', 'x'])
    await vi.waitFor(() => expect(source.bodies()).toEqual(['x']), 30_000)
  })
})

describe('a configuration', () => {
  test.each([
    [{ timezone: 'Mars/Olympus' }, 'timezone'],
    [{ max_length: '1MiB' }, 'max_length'],
    [{ tls: { cert: 'c', key: 'k', client_auth: true } }, 'tls.ca'],
    [{ unix: 'relative' }, 'unix'],
    [{ socket_mode: '0999' }, 'socket_mode'],
    [{ idle_timeout: '30d' }, 'idle_timeout'],
  ])('of %j is refused at %s', (config, path) => {
    const result = syslog.config.safeParse(config)
    expect(result.error?.issues.map((issue) => issue.path.join('.'))).toEqual([path])
  })

  test('listens on loopback at the port offset where nothing is configured', async () => {
    const context = testContext({ portOffset: 23_456 })
    const controller = new AbortController()
    const running = syslog
      .create(syslog.config.parse({}), context)
      .run(async () => undefined, controller.signal)
    const address = await Promise.race([context.whenReady, running.then(() => '')])
    controller.abort()
    await running
    expect(address).toContain('udp://127.0.0.1:28970')
    expect(address).toContain('tcp://127.0.0.1:28970')
  })
})
