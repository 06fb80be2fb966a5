// Receives UDP by node:dgram, for platforms on which libc cannot be called; four times the CPU of recvmmsg.
import { createSocket } from 'node:dgram'
import type { Socket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { isIPv6 } from 'node:net'
import { ListenError } from './listen.ts'
import type { DatagramListen, DatagramOptions, DatagramReceiver } from './listen.ts'
import { inetAddress } from './sockaddr.ts'

const countMs = 1000
const stopMs = 1000
const mostPeers = 4096

/** @throws ListenError where a socket cannot be opened. */
export async function receivePlain<Peer>(options: DatagramOptions<Peer>): Promise<DatagramReceiver> {
  const failure = Promise.withResolvers<never>()
  failure.promise.catch(() => undefined)
  const sockets: Socket[] = []
  const listen: DatagramListen[] = []
  try {
    for (const one of options.listen) {
      if ('path' in one) throw new ListenError('EAFNOSUPPORT', one)
      const socket = await open(one, options.receiveBuffer)
      sockets.push(socket)
      listen.push({ host: one.host, port: socket.address().port })
    }
  } catch (error) {
    for (const socket of sockets) socket.close()
    throw error
  }
  const receiving = receive(sockets, options, failure.reject)
  const counter = new DropCounter(listen, (count) => options.dropped(count))
  const timer = setInterval(() => counter.count(), countMs)
  return {
    listen,
    native: false,
    sheds: false,
    shed: () => undefined,
    failed: failure.promise,
    async stop() {
      clearInterval(timer)
      // What has arrived already comes by a few datagrams each turn of the event loop.
      const deadline = performance.now() + stopMs
      for (let before = -1; before !== receiving.count && performance.now() < deadline;) {
        before = receiving.count
        await new Promise(setImmediate)
        await new Promise(setImmediate)
      }
      counter.count()
      for (const socket of sockets) {
        socket.close()
        await once(socket, 'close')
      }
      receiving.pause()
    },
  }
}

async function open(listen: { host: string; port: number }, receiveBuffer: number): Promise<Socket> {
  const socket = isIPv6(listen.host)
    ? createSocket({ type: 'udp6', ipv6Only: true, recvBufferSize: receiveBuffer })
    : createSocket({ type: 'udp4', recvBufferSize: receiveBuffer })
  try {
    const listening = once(socket, 'listening')
    socket.bind({ address: listen.host, port: listen.port, exclusive: true })
    await listening
    return socket
  } catch (cause) {
    socket.close()
    throw new ListenError((cause as NodeJS.ErrnoException).code ?? 'UNKNOWN', listen, { cause })
  }
}

function receive<Peer>(
  sockets: readonly Socket[],
  options: DatagramOptions<Peer>,
  fail: (error: Error) => void,
): { count: number; pause: () => void } {
  const peers = new Map<string, Peer>()
  let paused = true
  const receiving = {
    count: 0,
    pause() {
      if (paused) return
      paused = true
      options.pause()
    },
  }
  for (const socket of sockets) {
    socket.on('error', fail)
    socket.on('message', (bytes, { address }) => {
      let peer = peers.get(address)
      if (peer === undefined) {
        peer = options.peer(address)
        if (peers.size >= mostPeers) peers.clear()
        peers.set(address, peer)
      }
      receiving.count++
      const end = Math.min(bytes.length, options.longest)
      options.take(bytes, 0, end, peer, false, end < bytes.length)
      if (!paused) return
      paused = false
      setImmediate(() => receiving.pause())
    })
  }
  return receiving
}

/** Reads what the kernel has dropped from /proc/net/udp and udp6, where Node has no call for it. */
class DropCounter {
  readonly #names: ReadonlyMap<string, string>
  readonly #totals = new Map<string, number>()
  readonly #dropped: (count: number) => void

  constructor(listen: readonly DatagramListen[], dropped: (count: number) => void) {
    this.#names = new Map(
      listen.flatMap((one) => ('path' in one ? [] : [[localName(one), fileOf(one.host)]])),
    )
    this.#dropped = dropped
    this.count()
  }

  count(): void {
    for (const file of new Set(this.#names.values())) {
      for (const line of linesOf(file)) {
        const fields = line.trim().split(/\s+/)
        const name = fields[1] ?? ''
        if (this.#names.get(name) !== file) continue
        const total = Number(fields[12])
        const before = this.#totals.get(name) ?? 0
        this.#totals.set(name, total)
        if (total > before) this.#dropped(total - before)
      }
    }
  }
}

const fileOf = (host: string): string => (isIPv6(host) ? '/proc/net/udp6' : '/proc/net/udp')

// As the kernel prints it: words of 32 bits in the order of the machine, then the port.
function localName({ host, port }: { host: string; port: number }): string {
  const address = inetAddress(host, port)
  if (address === undefined) return ''
  const bytes = address.length === 16 ? address.subarray(4, 8) : address.subarray(8, 24)
  let words = ''
  for (let at = 0; at < bytes.length; at += 4) words += bytes.readUInt32LE(at).toString(16).padStart(8, '0')
  return `${words}:${port.toString(16).padStart(4, '0')}`.toUpperCase()
}

function linesOf(file: string): string[] {
  try {
    return readFileSync(file, 'latin1').split('\n').slice(1)
  } catch {
    return []
  }
}
