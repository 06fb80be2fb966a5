// Opens the embedded broker's ports, plain and TLS, and lets in as many clients as it is allowed to.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer as createTcpServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { TLSSocket, createServer as createTlsServer } from 'node:tls'
import type { Log } from '../plugins/contract/define.ts'
import { PermanentError, messageOf } from '../plugins/contract/errors.ts'
import { portTaken } from '../plugins/contract/ports.ts'
import type { Address } from '../plugins/contract/settings.ts'

export interface ListenOptions {
  listen: readonly Address[]
  /** Names the option that moves the port, for the error when it is taken. */
  movePort?: string
  /** With `ca`, clients need a certificate, whose common name is the collector that they may speak for. */
  tls?: { listen: readonly Address[]; cert: string; key: string; ca?: string }
}

/** @throws PermanentError ADDRESS_IN_USE where a port is taken, CREDENTIAL_MISSING where a certificate is absent. */
export async function listenMqtt(
  options: ListenOptions,
  log: Log,
  accept: (socket: Socket) => void,
): Promise<Server[]> {
  const servers = await listen(() => createTcpServer(accept), options, log)
  if (!options.tls) return servers
  try {
    return [
      ...servers,
      ...(await listen(tlsServer(options.tls, log, accept), { ...options, ...options.tls }, log)),
    ]
  } catch (error) {
    for (const server of servers) server.close()
    throw error
  }
}

/** `127.0.0.1:1883`, `[::1]:1883`. */
export function addressOf(server: Server): string {
  const { address, family, port } = server.address() as AddressInfo
  return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`
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

function pem(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (cause) {
    throw new PermanentError('CREDENTIAL_MISSING', `the file ${file} cannot be read`, { cause })
  }
}

function tlsServer(tls: NonNullable<ListenOptions['tls']>, log: Log, accept: (socket: Socket) => void) {
  const cert = pem(tls.cert)
  const key = pem(tls.key)
  const ca = tls.ca === undefined ? {} : { ca: pem(tls.ca), requestCert: true, rejectUnauthorized: true }
  return () => {
    const server = createTlsServer({ cert, key, handshakeTimeout: 10_000, ...ca }, accept)
    server.on('tlsClientError', (error, socket) =>
      log.warn('MQTT TLS handshake failed', { peer: socket.remoteAddress, error: messageOf(error) }),
    )
    return server
  }
}

async function listen(
  create: () => Server,
  { listen: addresses, movePort = '--port-offset' }: Omit<ListenOptions, 'tls'>,
  log: Log,
): Promise<Server[]> {
  const servers: Server[] = []
  for (const { host, port } of addresses) {
    const server = create()
    try {
      server.listen({ port, host: host || '::', exclusive: true, backlog: 1024 })
      await once(server, 'listening')
      servers.push(server)
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException
      // A machine without IPv6 is no reason to fail while IPv4 works.
      if ((code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT') && addresses.length > 1) {
        log.info('address not available', { host, port })
        continue
      }
      for (const one of servers) one.close()
      if (code === 'EADDRINUSE') {
        throw new PermanentError('ADDRESS_IN_USE', portTaken('MQTT', port, 'tcp', movePort), { cause })
      }
      throw cause
    }
  }
  return servers
}
