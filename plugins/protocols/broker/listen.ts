// Opens an embedded broker's ports, plain and TLS, and tells for which collector a client's certificate speaks.
import { once } from 'node:events'
import { createServer as createTcpServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { TLSSocket, createServer as createTlsServer } from 'node:tls'
import type * as z from 'zod'
import type { Log } from '../../contract/define.ts'
import { messageOf } from '../../contract/errors.ts'
import type { Address, tls } from '../../contract/settings.ts'
import { listenAll, printHost, readServerTls } from '../otlp/listen.ts'

export interface ListenOptions {
  listen: readonly Address[]
  /** With `ca`, clients need a certificate, whose common name is the collector that they may speak for. */
  tls?: z.output<typeof tls> & { listen: readonly Address[] }
  /** Names the option that moves the port, for the error when it is taken. */
  movePort?: string
}

const handshakeMs = 10_000

/** @throws PermanentError ADDRESS_IN_USE where a port is taken, CREDENTIAL_MISSING where a certificate is absent. */
export async function listenMqtt(
  { listen, tls: secure, movePort = '--port-offset' }: ListenOptions,
  log: Log,
  accept: (socket: Socket) => void,
): Promise<Server[]> {
  const servers = await listenAll('MQTT', listen, () => createTcpServer(accept), movePort)
  if (!secure) return servers
  try {
    const files = readServerTls(secure)
    const create = (): Server => {
      const server = createTlsServer({ ...files, handshakeTimeout: handshakeMs }, accept)
      server.on('tlsClientError', (error, socket) =>
        log.warn('MQTT TLS handshake failed', { peer: socket.remoteAddress, error: messageOf(error) }),
      )
      return server
    }
    return [...servers, ...(await listenAll('MQTT over TLS', secure.listen, create, movePort))]
  } catch (error) {
    await Promise.all(servers.map(closeServer))
    throw error
  }
}

/** `127.0.0.1:1883`, `[::1]:1883`. */
export function addressOf(server: Server): string {
  const { address, port } = server.address() as AddressInfo
  return `${printHost(address)}:${port}`
}

export async function closeServer(server: Server): Promise<void> {
  server.close()
  await once(server, 'close')
}

/** The common name of a client's certificate, where one was asked for. */
export function ownerOf(socket: Socket): string | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined
  const name = socket.getPeerCertificate().subject?.CN
  return typeof name === 'string' ? name : ''
}
