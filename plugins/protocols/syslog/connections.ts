// Connections of stream listeners (TCP, TLS, Unix): each has its own framing, waits when too much of it is not
// acknowledged yet, and loses no line when either side closes.
import type { Server, Socket } from 'node:net'
import { messageOf } from '../../contract/errors.ts'
import type { Admission, Clock, Log } from '../../contract/define.ts'
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

interface Connection {
  readonly socket: Socket
  waiting: boolean
}

export class Connections {
  readonly #options: ConnectionOptions
  readonly #servers: Server[] = []
  readonly #open = new Set<Connection>()
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
    const { intake, maxLength, idleMs, log, clock, admission, processOf, kernelEvents } = this.#options
    const peer = socket.remoteAddress
    const origin = {
      local,
      peer: peer === undefined ? peer : encodeAttribute('network.peer.address', peer),
      kernelEvents: makesKernelEvents(kernelEvents, peer),
    }
    const named = peer === undefined && admission.hasQuota() ? await processOf(socket) : peer
    const sender = admission.sender(named ?? 'unix')
    let lines = 0
    const framer = new Framer(maxLength, (bytes, start, end, valid, truncated) => {
      lines++
      intake.take(bytes, start, end, origin, valid, truncated)
    })
    const connection: Connection = { socket, waiting: false }
    this.#open.add(connection)
    socket.setTimeout(this.#stopping ? quietMs : idleMs)
    socket.on('timeout', () => {
      // Silence is no sign while it is we who do not read.
      if (!connection.waiting) socket.destroy()
      else socket.setTimeout(this.#stopping ? quietMs : idleMs)
    })
    const pending = new Set<Promise<void>>()
    try {
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        connection.waiting = true
        if (pending.size >= mostPending) await Promise.race(pending)
        while (!intake.hasRoom) await intake.room()
        // Beyond its quota a sender is read from later.
        if (sender.owedMs > 0) await holdBack(sender, clock, this.#stopped.signal)
        connection.waiting = false
        lines = 0
        framer.push(chunk)
        if (admission.senderBy() === 'address') sender.charge(lines, chunk.length)
        const safe = intake.flushed()
        pending.add(safe)
        void safe.then(() => pending.delete(safe))
      }
    } catch (error) {
      // Reset by the peer, or closed by us for its silence: what it sent stands.
      log.debug('connection ended', { peer, reason: messageOf(error) })
    } finally {
      framer.end()
      this.#open.delete(connection)
      socket.destroy()
      await intake.flushed()
    }
  }
}
