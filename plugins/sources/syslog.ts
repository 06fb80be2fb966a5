// Syslog from devices and programs: UDP, TCP, TLS and Unix sockets. Opens the listeners; messages go through
// protocols/syslog into Records, datagrams are received by protocols/native.
import { chmodSync, lstatSync, readFileSync, unlinkSync } from 'node:fs'
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { connect, createServer, isIP, isIPv6 } from 'node:net'
import type { Server } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import * as z from 'zod'
import { defineSource } from '../contract/define.ts'
import type { Context, Emit } from '../contract/define.ts'
import { PermanentError } from '../contract/errors.ts'
import { ports } from '../contract/options.ts'
import { portTaken } from '../contract/ports.ts'
import { address, duration, size } from '../contract/settings.ts'
import type { Address } from '../contract/settings.ts'
import {
  ListenError,
  datagramSender,
  longestPath,
  processOf,
  receiveDatagrams,
  removeSocket,
} from '../protocols/native/index.ts'
import type { DatagramListen, DatagramOptions, DatagramReceiver } from '../protocols/native/index.ts'
import {
  Connections,
  Intake,
  encodeAttribute,
  kernelSenders,
  longestMessage,
  makesKernelEvents,
  zoneOf,
} from '../protocols/syslog/index.ts'
import type { Origin } from '../protocols/syslog/index.ts'

const addresses = z
  .union([address, z.array(address).max(64)])
  .transform((value) => (Array.isArray(value) ? value : [value]))
const path = z
  .string()
  .startsWith('/')
  .refine((value) => Buffer.byteLength(value) <= longestPath, `expected at most ${longestPath} bytes`)
const sizeWithin = (least: number, most: number) =>
  size.refine((bytes) => bytes >= least && bytes <= most, `expected ${least} to ${most} bytes`)
/** For so long after it has stopped shedding, the kernel's drops may be of that. */
const drainedMs = 1000
const longestIdleMs = 20 * 86_400_000

const tlsListener = z
  .strictObject({
    listen: addresses.optional().describe('Addresses; by default port 6514 of loopback.'),
    cert: z.string().describe('PEM file with our certificate chain.'),
    key: z.string().describe('PEM file with our private key.'),
    ca: z.string().optional().describe('PEM file with the authorities that sign certificates of clients.'),
    client_auth: z.boolean().default(false).describe('Take only clients with a certificate signed by `ca`.'),
  })
  .refine(({ ca, client_auth }) => !client_auth || ca !== undefined, {
    path: ['ca'],
    message: 'client_auth needs ca, the authorities that sign certificates of clients',
  })

const config = z.strictObject({
  udp: addresses
    .optional()
    .describe('UDP addresses. Without any listener key: port 5514 of loopback, UDP and TCP.'),
  tcp: addresses.optional().describe('TCP addresses; octet counting and newlines are told apart by frame.'),
  tls: tlsListener.optional().describe('Syslog over TLS (RFC 5425).'),
  unix: path.optional().describe('Path of a Unix stream socket.'),
  unix_datagram: path
    .optional()
    .describe('Path of a Unix datagram socket, such as /dev/log where journald does not hold it.'),
  socket_mode: z
    .string()
    .regex(/^0?[0-7]{3}$/, 'expected an octal mode such as 0666')
    .default('0666')
    .describe('Permissions of the Unix sockets.'),
  timezone: z
    .string()
    .default('local')
    .refine(
      (name) => zoneOf(name) !== undefined,
      'expected local, UTC, an offset such as +02:00 or an IANA name',
    )
    .describe('Zone of timestamps that name none: local, UTC, +02:00 or Europe/Berlin.'),
  kernel_events: z
    .enum(kernelSenders)
    .default('others')
    .describe(
      'Whose lines of the kernel about faults, links and heat are made events: those of other machines, as kmsg and journald do the same here; `all` where neither of them runs.',
    ),
  max_length: sizeWithin(480, longestMessage)
    .prefault('256KiB')
    .describe('Longer messages are cut and marked dpulse.truncated; at most 256KiB.'),
  receive_buffer: sizeWithin(4096, 1024 ** 3)
    .prefault('16MiB')
    .describe('What the kernel may hold for each datagram socket.'),
  queue: sizeWithin(1024 ** 2, 1024 ** 3)
    .prefault('16MiB')
    .describe(
      'Most bytes that wait for the buffer; then streams wait, and datagrams are dropped and counted.',
    ),
  max_connections: z.int().min(1).max(100_000).default(1000).describe('Most stream connections at once.'),
  idle_timeout: duration
    .refine((ms) => ms >= 1000 && ms <= longestIdleMs, 'expected 1s to 20d')
    .prefault('1d')
    .describe('Connections that send nothing for so long are closed.'),
})
type Config = z.output<typeof config>

/** A file that we made, and the inode by which we know it again. */
interface SocketFile {
  readonly path: string
  readonly inode: number
}

const loopback = ['127.0.0.1', '::1']

/** An address to listen on; one that was not asked for by name may be missing on this machine. */
interface Endpoint extends Address {
  optional: boolean
}

const defaults = (port: number, offset: number): Endpoint[] =>
  loopback.map((host) => ({ host, port: port + offset, optional: host !== '127.0.0.1' }))

async function endpointsOf(given: readonly Address[] | undefined): Promise<Endpoint[]> {
  const found: Endpoint[] = []
  for (const { host, port } of given ?? []) {
    const every = host === '' || host === '*'
    const hosts = every
      ? ['0.0.0.0', '::']
      : isIP(host.split('%')[0] ?? '') > 0
        ? [host]
        : (await lookup(host, { all: true })).map((one) => one.address)
    for (const [index, one] of hosts.entries()) found.push({ host: one, port, optional: index > 0 })
  }
  return found
}

export default defineSource({
  name: 'syslog',
  summary: 'Log lines of devices and programs: RFC 5424 and RFC 3164 over UDP, TCP, TLS and Unix sockets.',
  config,
  signals: ['logs'],
  create: (config, context) => ({ run: (emit, signal) => run(config, context, emit, signal) }),
  // Loopback is always there. /dev/log is left to journald, which holds it on most systems.
  detect: async () => ({ config: {} }),
})

async function run(config: Config, context: Context, emit: Emit, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const none = [config.udp, config.tcp, config.tls, config.unix, config.unix_datagram].every(
    (listener) => listener === undefined,
  )
  const intakeOptions = {
    emit,
    device: context.device,
    resource: context.resource({ 'service.name': 'syslog' }),
    maxLength: config.max_length,
    timezone: config.timezone,
    queue: config.queue,
    log: context.log,
    admission: context.admission,
    nowUnixNano: () => context.clock.nowUnixNano(),
    dropped: context.dropped.bind(context),
  }
  const streams = new Intake({ ...intakeOptions, canWait: true })
  const datagrams = new Intake({ ...intakeOptions, canWait: false })
  const connections = new Connections({
    intake: streams,
    maxLength: config.max_length,
    mostConnections: config.max_connections,
    idleMs: config.idle_timeout,
    log: context.log,
    clock: context.clock,
    admission: context.admission,
    processOf,
    kernelEvents: config.kernel_events,
  })
  let receiver: DatagramReceiver | undefined
  const files: SocketFile[] = []
  let forget: () => void = () => undefined
  try {
    const usual = none ? defaults(ports.syslog, context.portOffset) : []
    const udp = config.udp === undefined ? usual : await endpointsOf(config.udp)
    receiver = await openDatagrams(config, context, datagrams, udp)
    const shed = () => receiver?.shed(context.admission.shed('log'))
    forget = context.admission.onShed(shed)
    shed()
    const opened = (receiver?.listen ?? []).map((one) =>
      'path' in one ? `unix-datagram:${one.path}` : urlOf('udp', one),
    )
    opened.push(...(await openStreams(config, context, connections, usual, files)))
    context.ready(opened.join(', '))
    await Promise.race([aborted(signal), ...(receiver ? [receiver.failed] : [])])
  } finally {
    forget()
    await Promise.all([connections.close(), receiver?.stop()])
    for (const { path, inode } of files) removeSocket(path, inode)
    await Promise.all([streams.end(), datagrams.end()])
  }
}

/** Opens what is configured of TCP, TLS and Unix streams; where they listen. */
async function openStreams(
  config: Config,
  context: Context,
  connections: Connections,
  usual: readonly Endpoint[],
  files: SocketFile[],
): Promise<string[]> {
  const opened: string[] = []
  for (const one of config.tcp === undefined ? usual : await endpointsOf(config.tcp)) {
    const server = createServer({ keepAlive: true, keepAliveInitialDelay: 60_000 })
    connections.serve(server, 'connection', false)
    opened.push(...(await listen(server, 'tcp', one)))
  }
  if (config.tls !== undefined) {
    const given = config.tls.listen
    const at = given ? await endpointsOf(given) : defaults(ports.syslogTls, context.portOffset)
    for (const one of at) {
      const server = tlsServer(config.tls, context)
      connections.serve(server, 'secureConnection', false)
      opened.push(...(await listen(server, 'tls', one)))
    }
  }
  if (config.unix !== undefined) {
    const server = createServer()
    connections.serve(server, 'connection', true)
    files.push(await listenUnix(server, config.unix, parseInt(config.socket_mode, 8)))
    opened.push(`unix:${config.unix}`)
  }
  return opened
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

const urlOf = (scheme: string, { host, port }: Address): string =>
  `${scheme}://${isIPv6(host) ? `[${host}]` : host}:${port}`

async function openDatagrams(
  config: Config,
  context: Context,
  intake: Intake,
  udp: readonly Endpoint[],
): Promise<DatagramReceiver | undefined> {
  const wanted: DatagramListen[] = [...udp]
  let receiver: DatagramReceiver | undefined
  let shedMs = -Infinity
  const unixPath = config.unix_datagram
  if (unixPath !== undefined) wanted.push({ path: unixPath, mode: parseInt(config.socket_mode, 8) })
  const options: Omit<DatagramOptions<Origin>, 'listen'> = {
    receiveBuffer: config.receive_buffer,
    longest: config.max_length,
    log: context.log,
    peer: (host, credentials) => {
      const sender = context.admission.sender(datagramSender(host, credentials, context.admission))
      const kernelEvents = makesKernelEvents(config.kernel_events, host === '' ? undefined : host)
      if (host === '') return { local: true, sender, kernelEvents }
      const isShed = () => receiver?.sheds === true
      const peer = encodeAttribute('network.peer.address', host)
      return { local: false, sender, isShed, peer, kernelEvents }
    },
    take: (bytes, start, end, origin, ascii, truncated) =>
      intake.take(bytes, start, end, origin, ascii, truncated),
    pause: () => intake.flush(),
    // Nobody has seen them, so they count for the least precious class.
    dropped: (count) => {
      const nowMs = context.clock.elapsedMs()
      // What the kernel was told to throw away it counts with what it had no room for, and tells a moment later.
      if (receiver?.sheds === true) shedMs = nowMs
      context.dropped('log', nowMs - shedMs < drainedMs ? 'budget' : 'overflow', count)
    },
  }
  while (wanted.length > 0) {
    try {
      return (receiver = await receiveDatagrams({ ...options, listen: wanted }))
    } catch (error) {
      if (!(error instanceof ListenError)) throw error
      const index = wanted.indexOf(error.listen)
      if (!udp[index]?.optional || !isMissing(error.code)) throw refusal(error, error.listen, 'udp')
      wanted.splice(index, 1)
      udp = udp.toSpliced(index, 1)
    }
  }
  return undefined
}

/** Where it listens; nothing where the machine has no such address and nobody asked for it by name. */
async function listen(server: Server, scheme: 'tcp' | 'tls', endpoint: Endpoint): Promise<string[]> {
  const { host, port, optional } = endpoint
  try {
    const listening = once(server, 'listening')
    server.listen({ host, port, ipv6Only: true, exclusive: true, backlog: 1024 })
    await listening
  } catch (error) {
    if (optional && isMissing((error as NodeJS.ErrnoException).code)) return []
    throw refusal(error as NodeJS.ErrnoException, endpoint, 'tcp')
  }
  const at = server.address()
  return [urlOf(scheme, { host, port: at !== null && typeof at === 'object' ? at.port : port })]
}

// What a machine without IPv6 says.
const isMissing = (code: string | undefined): boolean =>
  code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT' || code === 'EINVAL'

function tlsServer(options: NonNullable<Config['tls']>, context: Context): Server {
  const read = (file: string): Buffer => {
    try {
      return readFileSync(file)
    } catch (cause) {
      throw new PermanentError('CREDENTIAL_MISSING', `${file} cannot be read`, { cause })
    }
  }
  const files = {
    cert: read(options.cert),
    key: read(options.key),
    ...(options.ca === undefined ? {} : { ca: read(options.ca) }),
  }
  try {
    const server = createTlsServer({
      ...files,
      requestCert: options.client_auth,
      rejectUnauthorized: options.client_auth,
      minVersion: 'TLSv1.2',
      handshakeTimeout: 10_000,
    })
    server.on('tlsClientError', (error, socket) => {
      context.log.warn('TLS handshake failed', { peer: socket.remoteAddress, reason: error.message })
    })
    return server
  } catch (cause) {
    throw new PermanentError(
      'CONFIG_INVALID',
      `${options.cert} and ${options.key} are no certificate and key`,
      {
        cause,
      },
    )
  }
}

/** Listens on a socket file, in place of one that nobody listens on any more. */
async function listenUnix(server: Server, file: string, mode: number): Promise<SocketFile> {
  const found = lstatSync(file, { throwIfNoEntry: false })
  if (found !== undefined) {
    if (!found.isSocket() || (await answers(file)))
      throw refusal({ code: 'EADDRINUSE' }, { path: file }, 'tcp')
    unlinkSync(file)
  }
  try {
    const listening = once(server, 'listening')
    server.listen({ path: file })
    await listening
    chmodSync(file, mode)
  } catch (error) {
    throw refusal(error as NodeJS.ErrnoException, { path: file }, 'tcp')
  }
  return { path: file, inode: lstatSync(file).ino }
}

async function answers(file: string): Promise<boolean> {
  const socket = connect(file)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** What a person needs when a listener cannot be opened. */
function refusal(
  cause: { code?: string | undefined },
  at: Address | { path: string },
  transport: 'tcp' | 'udp',
): PermanentError {
  const where = 'path' in at ? at.path : urlOf(transport, at)
  if (cause.code === 'EADDRINUSE') {
    const text =
      'path' in at
        ? `${where} is taken${where === '/dev/log' ? ', as a rule by journald' : ''}, or no socket; choose another path`
        : portTaken('syslog', at.port, transport, '--port-offset N or the addresses of the source')
    return new PermanentError('ADDRESS_IN_USE', text, { cause })
  }
  if (cause.code === 'EACCES' || cause.code === 'EPERM') {
    const why = 'path' in at ? 'its directory' : 'ports below 1024 take CAP_NET_BIND_SERVICE'
    return new PermanentError('PERMISSION_DENIED', `this user may not listen on ${where}: ${why}`, { cause })
  }
  return new PermanentError('CONFIG_INVALID', `syslog cannot listen on ${where}`, { cause })
}
