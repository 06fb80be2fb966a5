// A TCP relay that can be shut: connections through it then hang, as at a server that stopped answering. It shows what a
// program costs up to the server behind the gate.
import { once } from 'node:events'
import { createConnection, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'

export interface Gate extends Disposable {
  readonly port: number
  shut(): void
  open(): void
}

export async function openGate(target: URL): Promise<Gate> {
  const sockets = new Set<Socket>()
  let isShut = false
  const server = createServer({ noDelay: true }, (near) => {
    const far = createConnection({ host: target.hostname, port: Number(target.port), noDelay: true })
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      if (isShut) from.pause()
      from.on('data', (bytes) => {
        if (!to.write(bytes)) from.pause()
      })
      to.on('drain', () => {
        if (!isShut) from.resume()
      })
      from.on('error', () => undefined)
      from.once('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    shut() {
      isShut = true
      for (const socket of sockets) socket.pause()
    },
    open() {
      isShut = false
      for (const socket of sockets) socket.resume()
    },
    [Symbol.dispose]() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}
