// Log records of Fluentd, Fluent Bit and everything else that speaks the Fluent forward protocol. A chunk is acknowledged
// when its records are safe; a sender that asks for no acknowledgement is held back by not being read.
import { hostname } from 'node:os'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import * as z from 'zod'
import type { Records } from '../contract/batch.ts'
import { defineSource } from '../contract/define.ts'
import type { Context, Emit } from '../contract/define.ts'
import { PermanentError, codeOf, messageOf } from '../contract/errors.ts'
import { ports } from '../contract/options.ts'
import { address, duration, secret, size, tls } from '../contract/settings.ts'
import {
  ForwardReader,
  MalformedPack,
  PackStream,
  PackWriter,
  helo,
  pong,
} from '../protocols/fluent/index.ts'
import type { ForwardMessage } from '../protocols/fluent/index.ts'
import { listenAll, loopback, printHost, readServerTls } from '../protocols/otlp/listen.ts'
import { accountOf, holdBack, withinQuota } from '../protocols/quota.ts'

const config = z.strictObject({
  listen: address.optional().describe('Address to listen on; otherwise port 24224 of loopback.'),
  tls: tls.optional().describe('TLS; with `ca`, senders need a certificate of it.'),
  shared_key: secret
    .optional()
    .describe('What senders must know, as `shared_key` of Fluentd and Fluent Bit.'),
  message_keys: z
    .array(z.string().min(1).max(200))
    .max(20)
    .default(['message', 'log', 'msg', 'MESSAGE'])
    .describe('Keys of a record that hold its text, the preferred one first; the others are attributes.'),
  max_message: size
    .prefault('16MiB')
    .refine((bytes) => bytes >= 1024 && bytes <= 128 * 1024 ** 2, 'expected 1KiB to 128MiB')
    .describe('Largest message, also decompressed.'),
  max_connections: z.int().min(1).max(100_000).default(500).describe('Most connections at once.'),
  idle_timeout: duration
    .refine((ms) => ms >= 1000 && ms <= 20 * 86_400_000, 'expected 1s to 20d')
    .prefault('1h')
    .describe('Connections that send nothing for so long are closed.'),
})
type Config = z.output<typeof config>

/** Messages whose records are not safe yet, of all connections: each holds its bytes. */
const mostUnanswered = 64
const handshakeMs = 10_000
const stopMs = 1000

export default defineSource({
  name: 'fluent_forward',
  summary: 'Log records of Fluentd, Fluent Bit and others that speak the Fluent forward protocol.',
  config,
  signals: ['logs'],
  create: (config, context) => ({ run: (emit, signal) => run(config, context, emit, signal) }),
  detect: async () => ({ leftOut: 'takes what programs send to its port, which only a configuration opens' }),
})

async function run(config: Config, context: Context, emit: Emit, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const connections = new Connections(config, context, emit, signal)
  const secure = config.tls ? readServerTls(config.tls) : undefined
  const create = (): Server => {
    const server = secure
      ? createTlsServer({ ...secure, minVersion: 'TLSv1.2', handshakeTimeout: handshakeMs })
      : createServer()
    connections.serve(server, secure ? 'secureConnection' : 'connection')
    return server
  }
  const addresses = config.listen ? [config.listen] : loopback(ports.fluent + context.portOffset)
  const move = '--port-offset N or the address of the source'
  const servers = await listenAll('the Fluent forward protocol', addresses, create, move)
  const named = servers.map((server) => {
    const at = server.address() as AddressInfo
    return `${secure ? 'tls' : 'tcp'}://${printHost(at.address)}:${at.port}`
  })
  context.ready(named.join(', '))
  if (!signal.aborted) {
    const { promise, resolve } = Promise.withResolvers<void>()
    signal.addEventListener('abort', () => resolve(), { once: true })
    await promise
  }
  await connections.close(servers)
}

class Connections {
  readonly #config: Config
  readonly #context: Context
  readonly #emit: Emit
  readonly #signal: AbortSignal
  readonly #reader: ForwardReader
  readonly #sockets = new Set<Socket>()
  readonly #readers = new Set<Promise<void>>()
  readonly #tasks = new Set<Promise<void>>()
  #unanswered = 0
  readonly #waiting: (() => void)[] = []
  #isStopping = false

  constructor(config: Config, context: Context, emit: Emit, signal: AbortSignal) {
    this.#config = config
    this.#context = context
    this.#emit = emit
    this.#signal = signal
    this.#reader = new ForwardReader({
      scope: { name: 'fluent_forward' },
      device: context.device,
      resource: context.resource({ 'service.name': 'fluent' }),
      messageKeys: config.message_keys,
      maxBytes: config.max_message,
      nowUnixNano: () => context.clock.nowUnixNano(),
    })
  }

  serve(server: Server, event: 'connection' | 'secureConnection'): void {
    server.on('error', () => undefined)
    server.on('tlsClientError', (error: Error) =>
      this.#context.log.warn('TLS handshake failed', { reason: error.message }),
    )
    server.on('connection', (socket: Socket) => this.#admit(socket))
    server.on(event, (socket: Socket) => {
      if (socket.destroyed) return
      socket.on('error', () => undefined)
      const reader = this.#serve(socket).finally(() => this.#readers.delete(reader))
      this.#readers.add(reader)
    })
  }

  #admit(socket: Socket): void {
    const { max_connections: limit } = this.#config
    socket.on('error', () => undefined)
    if (this.#isStopping || this.#sockets.size >= limit) {
      if (!this.#isStopping) this.#context.log.warn('connection refused: there are too many', { limit })
      socket.destroy()
      return
    }
    this.#sockets.add(socket)
    socket.on('close', () => this.#sockets.delete(socket))
  }

  async #serve(socket: Socket): Promise<void> {
    const stream = new PackStream(this.#config.max_message)
    const peer = socket.remoteAddress
    const { log } = this.#context
    let isBusy = false
    socket.setTimeout(this.#config.idle_timeout, () => {
      // Silence is no sign while it is we who do not read.
      if (!isBusy) socket.destroy()
    })
    try {
      const key = this.#config.shared_key?.reveal()
      let greeting = key === undefined ? undefined : helo()
      if (greeting) socket.write(greeting.bytes)
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        isBusy = true
        await this.#heldBack(peer)
        stream.push(chunk)
        for (let message = stream.next(); message; message = stream.next()) {
          const whole = message
          if (greeting && key !== undefined) {
            const { accepted, bytes } = pong(whole, greeting, key, hostname())
            socket.write(bytes)
            if (!accepted)
              throw new PermanentError('PERMISSION_DENIED', 'the sender does not know the shared key')
            greeting = undefined
          } else await this.#room(() => this.#take(whole, socket))
        }
        isBusy = false
      }
      if (!stream.isEmpty) log.warn('a connection ended within a message', { peer })
    } catch (error) {
      if (error instanceof MalformedPack) {
        this.#context.dropped('log', 'invalid', 1)
        log.warn('a sender was refused', { peer, reason: error.message })
      } else if (error instanceof PermanentError)
        log.warn('a sender was refused', { peer, reason: messageOf(error) })
      // Else the sender has gone: what it was not told to be safe it sends again.
    } finally {
      socket.destroy()
    }
  }

  /** An address beyond its quota is read from later. */
  async #heldBack(peer: string | undefined): Promise<void> {
    const { admission, clock } = this.#context
    if (!admission.hasQuota() || admission.senderBy() !== 'address') return
    await holdBack(admission.sender(peer ?? 'unknown'), clock, this.#signal)
  }

  /** What is within the quota. A connection waits as a whole; those behind one tag of several on it cannot. */
  #admitted({ records, tag }: ForwardMessage, size: number, peer: string | undefined): readonly Records[] {
    const { admission } = this.#context
    const sender = accountOf(admission, peer ?? 'unknown', () => tag)
    if (sender === undefined) return records
    if (admission.senderBy() === 'service')
      return withinQuota(records, sender, this.#context.dropped.bind(this.#context))
    sender.charge(
      records.reduce((sum, { count }) => sum + count, 0),
      size,
    )
    return records
  }

  /** Begins a task once few enough are under way. */
  async #room(task: () => Promise<void>): Promise<void> {
    while (this.#unanswered >= mostUnanswered && !this.#isStopping) {
      await new Promise<void>((resolve) => void this.#waiting.push(resolve))
    }
    // Nobody is told that it is safe, so it comes again.
    if (this.#isStopping) return
    this.#unanswered++
    const done = task().finally(() => {
      this.#unanswered--
      this.#tasks.delete(done)
      this.#waiting.shift()?.()
    })
    this.#tasks.add(done)
  }

  async #take(message: Buffer, socket: Socket): Promise<void> {
    const { log } = this.#context
    try {
      const read = await this.#reader.read(message)
      const { chunk, refused, reason } = read
      if (refused > 0) {
        this.#context.dropped('log', 'invalid', refused)
        log.warn('records were refused', { peer: socket.remoteAddress, count: refused, reason })
      }
      const records = this.#admitted(read, message.length, socket.remoteAddress)
      await Promise.all(records.map((one) => this.#emit(one)))
      if (chunk === undefined || socket.destroyed) return
      socket.write(new PackWriter().map(1).text('ack').text(chunk).take())
    } catch (error) {
      // As the program stops; the sender gets no answer and sends it again.
      if (codeOf(error) === 'STOPPING') return
      if (error instanceof MalformedPack || error instanceof PermanentError) {
        this.#context.dropped('log', 'invalid', 1)
        log.warn('a message was refused', { peer: socket.remoteAddress, reason: messageOf(error) })
      } else log.error('a message was not taken', { reason: messageOf(error) })
      socket.destroy()
    }
  }

  /** Takes no more, lets what is under way be answered, and closes. */
  async close(servers: readonly Server[]): Promise<void> {
    this.#isStopping = true
    const closed = servers.map((server) => new Promise<void>((resolve) => void server.close(() => resolve())))
    for (const socket of this.#sockets) socket.pause()
    const late = Promise.withResolvers<void>()
    const timer = setTimeout(late.resolve, stopMs)
    await Promise.race([Promise.all(this.#tasks), late.promise])
    clearTimeout(timer)
    for (const socket of this.#sockets) socket.destroy()
    for (const wake of this.#waiting.splice(0)) wake()
    await Promise.all([...this.#readers, ...closed])
  }
}
