// The door of an embedded MQTT broker: lets connections in while there are not too many, ends those that begin a packet and
// never finish it, and tells why connections ended.
import type { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import type { Aedes } from 'aedes'
import type { Log } from '../../contract/define.ts'
import { messageOf } from '../../contract/errors.ts'
import { Connection } from './connection.ts'
import type { ConnectionLimits, Shared } from './connection.ts'
import { ownerOf } from './listen.ts'

export interface GateLimits extends ConnectionLimits {
  connections: number
  connectionsPerSecond: number
  /** A packet that has begun must be complete within this. */
  packetMs: number
}

export interface GateCounters {
  connections: number
  refusedConnections: number
  /** Clients that were sent away because they read too slowly. */
  slowClients: number
}

export interface Gate {
  accept: (socket: Socket) => void
  /** Ends all connections. */
  close: () => void
}

export function openGate(aedes: Aedes, limits: GateLimits, counters: GateCounters, log: Log): Gate {
  const shared: Shared = { limits, heldBytes: 0, unfinishedBytes: 0, outgoingBytes: 0 }
  const connections = new Set<Connection>()
  let tokens = limits.connectionsPerSecond
  const sweep = setInterval(() => {
    tokens = limits.connectionsPerSecond
    const late = performance.now() - limits.packetMs
    for (const connection of connections) {
      const { unfinishedSinceMs } = connection
      if (unfinishedSinceMs > 0 && unfinishedSinceMs < late) connection.refuse('a packet that does not end')
    }
  }, 1000).unref()

  function accept(socket: Socket): void {
    const peer = socket.remoteAddress === undefined ? 'local' : `${socket.remoteAddress}:${socket.remotePort}`
    if (tokens-- <= 0 || connections.size >= limits.connections || aedes.closed) {
      counters.refusedConnections++
      log.warn('MQTT connection refused', { peer, reason: tokens < 0 ? 'too many at once' : 'too many' })
      socket.on('error', () => undefined)
      socket.destroy()
      return
    }
    socket.setNoDelay(true)
    socket.setKeepAlive(true, 60_000)
    const connection = new Connection(socket, shared, peer, ownerOf(socket))
    connections.add(connection)
    counters.connections++
    connection.on('close', () => {
      connections.delete(connection)
      counters.connections--
      if (connection.refusal?.includes('too slowly') === true) counters.slowClients++
    })
    aedes.handle(connection)
  }
  function close(): void {
    clearInterval(sweep)
    for (const connection of connections) connection.destroy()
  }
  return { accept, close }
}

/** The broker's own errors, and those that ended a connection. */
export function tellErrors(aedes: Aedes, log: Log): void {
  const emitter: EventEmitter = aedes
  emitter.on('error', (error) => log.error('MQTT broker failed', { error: messageOf(error) }))
  for (const event of ['clientError', 'connectionError'] as const) {
    aedes.on(event, (client, error) => {
      const { refusal, remote } = client.conn as Connection
      const facts = { client: client.id, peer: remote, reason: refusal ?? messageOf(error) }
      if (refusal === undefined && isNoise(error)) log.debug('MQTT connection ended', facts)
      else log.warn('MQTT connection closed', facts)
    })
  }
}

const isNoise = (error: Error): boolean =>
  ['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE'].includes(
    (error as NodeJS.ErrnoException).code ?? '',
  ) || error.message === 'connection closed'
