// StatsD over TCP, as statsd's own TCP server takes it: lines that end with a newline, on connections that stay open.
// Nothing is answered: a line is added up where it arrives, and only who is beyond its quota has to wait.
import type { Server, Socket } from 'node:net'
import type { Clock, Log, SenderQuota } from '../../contract/define.ts'
import { LineSplitter } from '../lines/splitter.ts'
import { holdBack } from '../quota.ts'

export interface StatsdStreamOptions {
  /** A line of `peer`, an address; `wasCut` where it is longer than any may be, and is not whole. */
  readonly take: (bytes: Buffer, start: number, end: number, wasCut: boolean, peer: string) => void
  /** What the connections of an address are charged to, where they are. */
  readonly account: (peer: string) => SenderQuota | undefined
  readonly longest: number
  readonly mostConnections: number
  /** A connection that sends nothing for so long is closed. */
  readonly idleMs: number
  readonly log: Log
  readonly clock: Clock
}

/** When stopping: for so long whoever is connected may still end what it sends. */
const stopMs = 500

export class StatsdStreams {
  readonly #options: StatsdStreamOptions
  readonly #servers: Server[] = []
  readonly #sockets = new Set<Socket>()
  readonly #stopped = new AbortController()

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
    this.#stopped.abort()
    const closed = this.#servers.map((one) => new Promise<void>((done) => void one.close(() => done())))
    for (const socket of this.#sockets) socket.end()
    const deadline = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy()
    }, stopMs)
    await Promise.all(closed)
    clearTimeout(deadline)
  }

  #admit(socket: Socket): void {
    const { mostConnections, idleMs, longest, take, account, log } = this.#options
    const isStopping = this.#stopped.signal.aborted
    // A peer that resets is no failure: what it sent stands.
    socket.on('error', () => undefined)
    if (this.#sockets.size >= mostConnections || isStopping) {
      if (!isStopping) log.warn('connection refused: there are too many', { limit: mostConnections })
      socket.destroy()
      return
    }
    this.#sockets.add(socket)
    const peer = socket.remoteAddress ?? 'unknown'
    let count = 0
    const lines = new LineSplitter({
      longest,
      position: 0,
      take: (bytes, start, end, wasCut) => {
        count++
        take(bytes, start, end, wasCut, peer)
      },
    })
    socket.setTimeout(idleMs, () => socket.destroy())
    socket.on('data', (chunk: Buffer) => {
      count = 0
      lines.push(chunk)
      const sender = account(peer)
      sender?.charge(count, chunk.length)
      if (sender && sender.owedMs > 0) void this.#holdBack(socket, sender)
    })
    // Of a connection that is reset the last line may be cut in the middle of a number.
    socket.on('end', () => lines.end())
    socket.on('close', () => this.#sockets.delete(socket))
    const sender = account(peer)
    if (sender && sender.owedMs > 0) void this.#holdBack(socket, sender)
  }

  /** It is read from later. */
  async #holdBack(socket: Socket, sender: SenderQuota): Promise<void> {
    const { clock, idleMs } = this.#options
    socket.pause()
    // Silence is no sign while it is we who do not read.
    socket.setTimeout(0)
    await holdBack(sender, clock, this.#stopped.signal)
    socket.setTimeout(idleMs)
    socket.resume()
  }
}
