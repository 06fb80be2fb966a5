// Ports for tests that cannot ask for port 0: below those that the system hands out to whoever connects, so that no
// connection of anybody takes one meanwhile, and above those that tests of whole programs use.
import { ports } from '../../plugins/contract/options.ts'
import { portIsFree } from '../../plugins/contract/ports.ts'

const [lowest, highest] = [31_800, 32_760]
const attempts = 200
const between = (low: number, high: number): number => low + Math.floor(Math.random() * (high - low))

/** So many ports of 127.0.0.1 on which nobody listens. */
export async function freePorts(count: number): Promise<number[]> {
  const found = new Set<number>()
  for (let tries = 0; tries < attempts && found.size < count; tries++) {
    const candidate = between(lowest, highest)
    if (await portIsFree(candidate, 'tcp', '127.0.0.1')) found.add(candidate)
  }
  if (found.size < count) throw new Error(`no ${count} free ports from ${lowest} to ${highest}`)
  return [...found]
}

export async function freePort(): Promise<number> {
  const [port = 0] = await freePorts(1)
  return port
}

/** An offset at which nobody listens on any port of both programs. */
export async function freeOffset(): Promise<number> {
  for (let tries = 0; tries < attempts; tries++) {
    const candidate = between(10_000, 23_000)
    const tcp = Object.values(ports).map((port) => portIsFree(port + candidate, 'tcp', '127.0.0.1'))
    const free = await Promise.all([...tcp, portIsFree(ports.syslog + candidate, 'udp', '127.0.0.1')])
    if (free.every(Boolean)) return candidate
  }
  throw new Error('no offset at which all ports are free')
}
