// StatsD over TCP, as statsd's own TCP server takes it: lines that end with a newline, on connections that stay open.
// Nothing is answered, and nothing has to wait: a line is added up where it arrives.
import type { Server, Socket } from 'node:net'
import type { Log } from '../../contract/define.ts'
import { LineSplitter } from '../lines/splitter.ts'

export interface StatsdStreamOptions {
  /** A line; `wasCut` where it is longer than any may be, and is not whole. */
  readonly take: (bytes: Buffer, start: number, end: number, wasCut: boolean) => void
  readonly longest: number
  readonly mostConnections: number
  /** A connection that sends nothing for so long is closed. */
  readonly idleMs: number
  readonly log: Log
}

/** When stopping: for so long whoever is connected may still end what it sends. */
const stopMs = 500

export class StatsdStreams {
  readonly #options: StatsdStreamOptions
  readonly #servers: Server[] = []
  readonly #sockets = new Set<Socket>()
  #isStopping = false

  constructor(options: StatsdStreamOptions) {
    this.#options = options
  }

  /** Takes over a server. */
  serve(server: Server): void {
    this.#servers.push(server)
    server.on('connection', (socket: Socket) => this.#admit(socket))
  }

  /** Takes what has been sent up to now, and closes. */
  async close(): Promise<void> {
    // Whoever is connected already may have sent something: the system gives it to us in the next turn.
    await new Promise(setImmediate)
    this.#isStopping = true
    const closed = this.#servers.map((one) => new Promise<void>((done) => void one.close(() => done())))
    for (const socket of this.#sockets) socket.end()
    const deadline = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy()
    }, stopMs)
    await Promise.all(closed)
    clearTimeout(deadline)
  }

  #admit(socket: Socket): void {
    const { mostConnections, idleMs, longest, take, log } = this.#options
    // A peer that resets is no failure: what it sent stands.
    socket.on('error', () => undefined)
    if (this.#sockets.size >= mostConnections || this.#isStopping) {
      if (!this.#isStopping) log.warn('connection refused: there are too many', { limit: mostConnections })
      socket.destroy()
      return
    }
    this.#sockets.add(socket)
    const lines = new LineSplitter({ longest, position: 0, take })
    socket.setTimeout(idleMs, () => socket.destroy())
    socket.on('data', (chunk: Buffer) => lines.push(chunk))
    // Of a connection that is reset the last line may be cut in the middle of a number.
    socket.on('end', () => lines.end())
    socket.on('close', () => this.#sockets.delete(socket))
  }
}
