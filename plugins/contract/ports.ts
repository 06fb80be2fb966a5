// Who holds a port that is taken, as far as /proc shows it, and the sentence that a person needs then.
// Used by whatever listens, and by `dpulse up` before it starts anything.
import { readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { basename } from 'node:path'

export type Transport = 'tcp' | 'udp'

export interface Holder {
  pid: number
  command: string
}

/** The process that listens on a port of this machine; undefined when it belongs to someone else or has gone. */
export function portHolder(port: number, transport: Transport): Holder | undefined {
  const inodes = new Set(socketInodes(`/proc/net/${transport}`, port, transport))
  for (const inode of socketInodes(`/proc/net/${transport}6`, port, transport)) inodes.add(inode)
  if (inodes.size === 0) return undefined
  for (const pid of list('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    for (const descriptor of list(`/proc/${pid}/fd`)) {
      const inode = /^socket:\[(\d+)\]$/.exec(link(`/proc/${pid}/fd/${descriptor}`))?.[1]
      if (inode !== undefined && inodes.has(inode)) return { pid: Number(pid), command: commandOf(pid) }
    }
  }
  return undefined
}

/** What to say when listening failed with EADDRINUSE. `move` names the option that chooses another port. */
export function portTaken(what: string, port: number, transport: Transport, move: string): string {
  const holder = portHolder(port, transport)
  const by = holder === undefined ? 'another process' : `process ${holder.pid} (${holder.command})`
  return `port ${port}/${transport} for ${what} is taken by ${by}; end it, or choose other ports with ${move}`
}

/** Whether the port can be bound now on this address. Other failures than "in use" count as free: the owner of the port will say them. */
export async function portIsFree(port: number, transport: Transport, host: string): Promise<boolean> {
  try {
    if (transport === 'tcp') {
      const server = createServer().listen({ port, host, exclusive: true })
      await once(server, 'listening')
      server.close()
      await once(server, 'close')
      return true
    }
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4').bind(port, host)
    await once(socket, 'listening')
    socket.close()
    await once(socket, 'close')
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'EADDRINUSE'
  }
}

// /proc/net/tcp: "sl local_address rem_address st … inode"; 0A is LISTEN, 07 an unconnected UDP socket.
function* socketInodes(file: string, port: number, transport: Transport): Generator<string> {
  const state = transport === 'tcp' ? '0A' : '07'
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  for (const line of read(file).split('\n').slice(1)) {
    const fields = line.trim().split(/\s+/)
    if (fields[1]?.endsWith(suffix) === true && fields[3] === state && fields[9] !== undefined)
      yield fields[9]
  }
}

function commandOf(pid: string): string {
  const words = read(`/proc/${pid}/cmdline`).split('\0').filter(Boolean)
  const [program = '', ...rest] = words
  return words.length > 0
    ? [basename(program), ...rest].join(' ').slice(0, 120)
    : read(`/proc/${pid}/comm`).trim()
}

// Entries of /proc come and go, and belong to others: what cannot be read does not count.
function read(file: string): string {
  try {
    return readFileSync(file, 'latin1')
  } catch {
    return ''
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}
