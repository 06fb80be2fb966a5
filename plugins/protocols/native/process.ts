// Which process is at the other end of a Unix socket (SO_PEERCRED) or sent a datagram (SCM_CREDENTIALS), by a name that it cannot choose: the container or
// service that its control group stands for, else its user.
import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import type { Admission } from '../../contract/define.ts'
import { SOL_SOCKET, SO_PEERCRED, loadLibc } from './libc.ts'
import type { Libc } from './libc.ts'
import type { Credentials } from './listen.ts'

let libc: Promise<Libc | undefined> | undefined

/** `container 3f2a…`, `nginx.service`, `uid 1000`; undefined where the system does not tell. */
export async function processOf(socket: Socket): Promise<string | undefined> {
  libc ??= loadLibc().catch(() => undefined)
  const calls = await libc
  // Node has the descriptor, and no other way to it.
  const fd = (socket as { _handle?: { fd?: number } | null })._handle?.fd
  if (!calls || fd === undefined || fd < 0) return undefined
  // struct ucred: pid, uid, gid.
  const credentials = new Uint32Array(3)
  const size = Uint32Array.of(credentials.byteLength)
  if (calls.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, size) < 0) return undefined
  const [pid = 0, uid = 0] = credentials
  return processName(pid, uid)
}

/**
 * Who sent a datagram, for the account of its quota: its address, or in the Unix domain its process, which is looked up
 * only where senders have quotas.
 */
export function datagramSender(
  host: string,
  credentials: Credentials | undefined,
  admission: Admission,
): string {
  if (host !== '') return host
  return credentials && admission.hasQuota() ? processName(credentials.pid, credentials.uid) : 'unix'
}

const processName = (pid: number, uid: number): string => nameOf(pid) ?? `uid ${uid}`

/** From `0::/system.slice/docker-3f2a….scope`: of the path the last part that names a container or service. */
export function groupName(text: string): string | undefined {
  const path =
    text
      .split('\n')
      .find((line) => line.startsWith('0::'))
      ?.slice(3) ?? ''
  for (const part of path.split('/').reverse()) {
    const id = /(?:^|-)([0-9a-f]{64})(?:\.scope)?$/.exec(part)?.[1]
    if (id !== undefined) return `container ${id.slice(0, 12)}`
    if (part.endsWith('.service') && !part.startsWith('user@')) return part
  }
  return undefined
}

function nameOf(pid: number): string | undefined {
  try {
    return groupName(readFileSync(`/proc/${pid}/cgroup`, 'latin1'))
  } catch {
    return undefined // it has gone, or belongs to another
  }
}
