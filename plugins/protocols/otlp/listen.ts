// Opens the addresses of a listener: several for one service, the loopback of IPv6 where there is one, Unix sockets.
import { once } from 'node:events'
import { chmodSync, readFileSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import type { AddressInfo, Server } from 'node:net'
import type * as z from 'zod'
import { PermanentError } from '../../contract/errors.ts'
import { portTaken } from '../../contract/ports.ts'
import type { Address, tls } from '../../contract/settings.ts'

/** Both loopbacks; that of IPv6 is left out where the machine has none. */
export const loopback = (port: number): Address[] => [
  { host: '127.0.0.1', port },
  { host: '::1', port },
]

export const printHost = (host: string): string => (host.includes(':') ? `[${host}]` : host)

/**
 * Listens with a server of its own on each address. Where the port is 0, all of them get the same free one.
 * @throws PermanentError ADDRESS_IN_USE that names the holder of the port.
 */
export async function listenAll(
  what: string,
  addresses: readonly Address[],
  create: () => Server,
  movePort: string,
): Promise<Server[]> {
  for (let attempt = 0; ; attempt++) {
    const servers: Server[] = []
    try {
      for (const { host, port } of addresses) {
        const chosen = port === 0 && servers[0] ? (servers[0].address() as AddressInfo).port : port
        const server = await listenOne(create(), host, chosen, addresses.length > 1)
        if (server) servers.push(server)
      }
      return servers
    } catch (cause) {
      for (const server of servers) server.close()
      const { code, port = 0 } = cause as NodeJS.ErrnoException & { port?: number }
      const free = addresses.every((one) => one.port === 0)
      if (code === 'EADDRINUSE' && free && attempt < 10) continue
      if (code !== 'EADDRINUSE') throw cause
      throw new PermanentError('ADDRESS_IN_USE', portTaken(what, port, 'tcp', movePort), { cause })
    }
  }
}

async function listenOne(
  server: Server,
  host: string,
  port: number,
  hasOthers: boolean,
): Promise<Server | undefined> {
  try {
    server.listen({ port, host: host || '::', exclusive: true, backlog: 1024 })
    await once(server, 'listening')
    return server
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // A machine without IPv6 is no reason to fail while IPv4 works.
    if (hasOthers && host === '::1' && (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT')) return undefined
    throw error
  }
}

/** Listens on a Unix socket that this user and its group may use; one that a killed process left is replaced. */
export async function listenUnix(what: string, path: string, server: Server): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      server.listen({ path, backlog: 1024 })
      await once(server, 'listening')
      chmodSync(path, 0o660)
      return
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw cause
      if (attempt > 0 || (await answers(path))) {
        throw new PermanentError('ADDRESS_IN_USE', `${path} for ${what} is taken by another process`, {
          cause,
        })
      }
      rmSync(path, { force: true })
    }
  }
}

async function answers(path: string): Promise<boolean> {
  const socket = connect(path)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

export interface ServerTls {
  cert: Buffer
  key: Buffer
  ca?: Buffer
  requestCert: boolean
  rejectUnauthorized: boolean
}

/** @throws PermanentError CREDENTIAL_MISSING where a file is not named or cannot be read. */
export function readServerTls({ cert, key, ca, verify }: z.output<typeof tls>): ServerTls {
  return {
    cert: pem('cert', cert),
    key: pem('key', key),
    ...(ca === undefined ? {} : { ca: pem('ca', ca) }),
    // With an authority, clients need a certificate of it.
    requestCert: ca !== undefined,
    rejectUnauthorized: ca !== undefined && verify,
  }
}

export function pem(name: string, file: string | undefined): Buffer {
  if (file === undefined)
    throw new PermanentError('CREDENTIAL_MISSING', `TLS needs ${name}, the path of a PEM file`)
  try {
    return readFileSync(file)
  } catch (cause) {
    throw new PermanentError('CREDENTIAL_MISSING', `the file ${file} cannot be read`, { cause })
  }
}
