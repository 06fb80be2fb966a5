// Connections of stream listeners (TCP, TLS, Unix): each has its own framing, waits when too much of it is not
// acknowledged yet, and loses no line when either side closes. What is read is worked off in the same turn, and while the
// intake has no room nobody reads: nothing piles up between the kernel and the intake, however many connections there are.
import type { Server, Socket } from 'node:net'
import { messageOf } from '../../contract/errors.ts'
import type { Admission, Clock, Log, SenderQuota } from '../../contract/define.ts'
import { holdBack } from '../quota.ts'
import { encodeAttribute } from './attributes.ts'
import { Framer } from './framing.ts'
import type { Intake } from './intake.ts'
import { makesKernelEvents } from './kernel.ts'
import type { KernelSenders } from './kernel.ts'

export interface ConnectionOptions {
  readonly intake: Intake
  readonly maxLength: number
  readonly mostConnections: number
  /** A connection that sends nothing for so long is closed. */
  readonly idleMs: number
  readonly log: Log
  readonly clock: Clock
  readonly admission: Admission
  /** Who is at the other end of a connection of this machine, where the system tells. */
  readonly processOf: (socket: Socket) => Promise<string | undefined>
  /** Whose lines of the kernel are made events. */
  readonly kernelEvents: KernelSenders
}

/** Turns of the event loop whose lines may be unacknowledged, per connection. */
const mostPending = 64
/** When stopping: a connection without a byte for so long has nothing under way. */
const quietMs = 100
const stopMs = 2000

/** Connections that are read from again at one time: together they may bring more than there is room for. */
const mostAtOnce = 16

interface Connection {
  readonly socket: Socket
  readonly sender: SenderQuota
  readonly framer: Framer
  /** Turns whose lines are not acknowledged. */
  readonly pending: Set<Promise<void>>
  /** Frames of the chunk at hand. */
  lines: number
  /** It is we who do not read. */
  waiting: boolean
}

// A stream that is paused reads on until its buffer is full, 64 KiB of each connection, and Node has no public way to
// stop that: so the handle below is told as well, where there is one.
interface Reading {
  reading: boolean
  readStart?: () => number
  readStop?: () => number
}
const handleOf = (socket: Socket): Reading | null | undefined =>
  (socket as { _handle?: Reading | null })._handle // it is not in the types

function stopReading(socket: Socket): void {
  socket.pause()
  const handle = handleOf(socket)
  if (!handle?.readStop || !handle.reading) return
  handle.reading = false
  handle.readStop()
}

function startReading(socket: Socket): void {
  const handle = handleOf(socket)
  if (handle?.readStart && !handle.reading) {
    handle.reading = true
    handle.readStart()
  }
  socket.resume()
}

export class Connections {
  readonly #options: ConnectionOptions
  readonly #servers: Server[] = []
  readonly #open = new Set<Connection>()
  /** Those that are read from. */
  readonly #reading = new Set<Connection>()
  /** Those that are to be read from again, in turn. */
  #turns: (() => void)[] = []
  #givesTurns = false
  /** Those that have not finished their handshake count too. */
  readonly #sockets = new Set<Socket>()
  readonly #readers = new Set<Promise<void>>()
  #stopping = false
  readonly #stopped = new AbortController()

  constructor(options: ConnectionOptions) {
    this.#options = options
  }

  /** Takes over a server; `local` for one that only programs of this machine can reach. */
  serve(server: Server, event: 'connection' | 'secureConnection', local: boolean): void {
    this.#servers.push(server)
    server.on('connection', (socket: Socket) => this.#admit(socket))
    server.on(event, (socket: Socket) => {
      if (socket.destroyed) return
      const reader = this.#read(socket, local).finally(() => this.#readers.delete(reader))
      this.#readers.add(reader)
    })
  }

  /** Takes no more connections, reads what is under way, and closes. */
  async close(): Promise<void> {
    // Whoever is connected already may have sent something: the system gives them to us in the next turn.
    await new Promise(setImmediate)
    this.#stopping = true
    this.#stopped.abort()
    const closed = this.#servers.map(
      (server) => new Promise<void>((resolve) => void server.close(() => resolve())),
    )
    for (const { socket } of this.#open) {
      socket.setTimeout(quietMs)
      // Says to the sender that nobody will read on.
      socket.end()
    }
    const deadline = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy()
    }, stopMs)
    await Promise.all(this.#readers)
    // What has not finished its TLS handshake has sent nothing.
    for (const socket of this.#sockets) socket.destroy()
    clearTimeout(deadline)
    await Promise.all(closed)
  }

  #admit(socket: Socket): void {
    const { mostConnections, log } = this.#options
    if (this.#sockets.size >= mostConnections || this.#stopping) {
      log.warn('connection refused: there are too many', { limit: mostConnections })
      socket.destroy()
      return
    }
    this.#sockets.add(socket)
    socket.on('close', () => this.#sockets.delete(socket))
    // A peer that resets before it is read from.
    socket.on('error', () => undefined)
  }

  async #read(socket: Socket, local: boolean): Promise<void> {
    const { intake, idleMs, log } = this.#options
    const peer = socket.remoteAddress
    const connection = await this.#connection(socket, local)
    this.#open.add(connection)
    socket.setTimeout(this.#stopping ? quietMs : idleMs)
    socket.on('timeout', () => {
      // Silence is no sign while it is we who do not read.
      if (!connection.waiting) socket.destroy()
      else socket.setTimeout(this.#stopping ? quietMs : idleMs)
    })
    // Reset by the peer, or closed by us for its silence: what it sent stands.
    socket.on('error', (error) => log.debug('connection ended', { peer, reason: messageOf(error) }))
    const { promise: ended, resolve: end } = Promise.withResolvers<void>()
    socket.on('end', end)
    socket.on('close', end)
    if (socket.destroyed) end()
    socket.on('data', (chunk: Buffer) => this.#take(connection, chunk))
    if (!intake.hasRoom || connection.sender.owedMs > 0) this.#hold(connection)
    else this.#reading.add(connection)
    await ended
    connection.framer.end()
    this.#open.delete(connection)
    this.#reading.delete(connection)
    socket.destroy()
    await intake.flushed()
  }

  async #connection(socket: Socket, local: boolean): Promise<Connection> {
    const { intake, maxLength, admission, processOf, kernelEvents } = this.#options
    const peer = socket.remoteAddress
    const origin = {
      local,
      peer: peer === undefined ? peer : encodeAttribute('network.peer.address', peer),
      kernelEvents: makesKernelEvents(kernelEvents, peer),
    }
    const named = peer === undefined && admission.hasQuota() ? await processOf(socket) : peer
    const connection: Connection = {
      socket,
      sender: admission.sender(named ?? 'unix'),
      framer: new Framer(maxLength, (bytes, start, end, valid, truncated) => {
        connection.lines++
        intake.take(bytes, start, end, origin, valid, truncated)
      }),
      pending: new Set(),
      lines: 0,
      waiting: false,
    }
    return connection
  }

  #take(connection: Connection, chunk: Buffer): void {
    const { intake, admission } = this.#options
    const { framer, sender, pending } = connection
    connection.lines = 0
    framer.push(chunk)
    if (admission.senderBy() === 'address') sender.charge(connection.lines, chunk.length)
    const safe = intake.flushed()
    pending.add(safe)
    void safe.then(() => pending.delete(safe))
    if (!intake.hasRoom) for (const one of this.#reading) this.#hold(one)
    else if (pending.size >= mostPending || sender.owedMs > 0) this.#hold(connection)
  }

  /** Reads no more from it, until there is room and it is not beyond its quota. */
  #hold(connection: Connection): void {
    this.#reading.delete(connection)
    connection.waiting = true
    stopReading(connection.socket)
    void this.#readAgain(connection)
  }

  async #readAgain(connection: Connection): Promise<void> {
    const { socket, pending, sender } = connection
    if (pending.size >= mostPending) await Promise.race(pending)
    if (sender.owedMs > 0) await holdBack(sender, this.#options.clock, this.#stopped.signal)
    await this.#turn()
    if (socket.destroyed) return
    connection.waiting = false
    this.#reading.add(connection)
    startReading(socket)
  }

  /** Whose turn it is once there is room: in the order in which they asked. */
  #turn(): Promise<void> {
    return new Promise((resolve) => {
      this.#turns.push(resolve)
      if (!this.#givesTurns) void this.#giveTurns()
    })
  }

  async #giveTurns(): Promise<void> {
    this.#givesTurns = true
    while (this.#turns.length > 0) {
      await this.#options.intake.room()
      for (const go of this.#turns.splice(0, mostAtOnce)) go()
      // What those have sent is here then.
      await new Promise(setImmediate)
    }
    this.#givesTurns = false
  }
}
