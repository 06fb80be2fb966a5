// Connections of a gRPC client: plain or TLS, straight or through an HTTP proxy (CONNECT) as HTTP_PROXY, HTTPS_PROXY
// and NO_PROXY say. Names are resolved anew for each connection.
import { once } from 'node:events'
import { request } from 'node:http'
import { BlockList, connect, isIP } from 'node:net'
import type { Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { ConnectionOptions } from 'node:tls'
import { RetryableError } from '../contract/errors.ts'

export interface Target {
  readonly host: string
  readonly port: number
  readonly secure: boolean
}

export interface ConnectOptions {
  tls?: Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'servername' | 'rejectUnauthorized'>
  /** Where the proxy variables are; upper case wins. */
  environment: NodeJS.ProcessEnv
  timeoutMs: number
}

/** `host:port`, with an IPv6 literal in brackets. */
export const authorityOf = ({ host, port }: Target): string =>
  `${host.includes(':') ? `[${host}]` : host}:${port}`

/** @throws RetryableError PEER_UNREACHABLE. */
export async function connectTo(target: Target, options: ConnectOptions): Promise<Socket> {
  const authority = authorityOf(target)
  const limit = AbortSignal.timeout(options.timeoutMs)
  try {
    const proxy = proxyFor(target, options.environment)
    const plain = proxy ? await tunnel(proxy, authority, limit) : await openPlain(target, limit)
    return target.secure ? await secure(plain, target, options, limit) : plain
  } catch (cause) {
    const code = limit.aborted ? 'PEER_TIMEOUT' : 'PEER_UNREACHABLE'
    throw new RetryableError(code, `no connection to ${authority}`, { cause })
  }
}

async function openPlain({ host, port }: Target, signal: AbortSignal): Promise<Socket> {
  const socket = connect({ host, port, noDelay: true })
  await opened(socket, 'connect', signal)
  return socket
}

async function secure(
  plain: Socket,
  target: Target,
  options: ConnectOptions,
  signal: AbortSignal,
): Promise<Socket> {
  const name = isIP(target.host) === 0 ? { servername: target.host } : {}
  const socket = connectTls({ socket: plain, ALPNProtocols: ['h2'], ...name, ...options.tls })
  await opened(socket, 'secureConnect', signal)
  if (socket.alpnProtocol === 'h2') return socket
  socket.destroy()
  throw new Error('the peer speaks TLS, but not HTTP/2')
}

async function opened(socket: Socket, event: string, signal: AbortSignal): Promise<void> {
  try {
    await once(socket, event, { signal })
  } catch (error) {
    socket.on('error', () => undefined)
    socket.destroy()
    throw error
  }
}

async function tunnel(proxy: URL, authority: string, signal: AbortSignal): Promise<Socket> {
  const { username, password, hostname, port } = proxy
  const login = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString(
    'base64',
  )
  const asking = request({
    host: hostname.replace(/^\[|\]$/g, ''),
    port: port || 80,
    method: 'CONNECT',
    path: authority,
    headers: { host: authority, ...(username === '' ? {} : { 'proxy-authorization': `Basic ${login}` }) },
    agent: false,
    signal,
  })
  asking.end()
  const answered = Promise.withResolvers<Socket>()
  asking.once('connect', (response, socket: Socket, head: Buffer) => {
    if (response.statusCode === 200) {
      if (head.length > 0) socket.unshift(head)
      answered.resolve(socket)
      return
    }
    socket.destroy()
    answered.reject(new Error(`the proxy ${proxy.host} answered ${response.statusCode}`))
  })
  asking.once('response', (response) => {
    response.destroy()
    answered.reject(new Error(`the proxy ${proxy.host} answered ${response.statusCode}`))
  })
  asking.once('error', answered.reject)
  return answered.promise
}

/** The proxy that the environment names for a target; undefined where it is to be reached straight. */
export function proxyFor(target: Target, environment: NodeJS.ProcessEnv): URL | undefined {
  const { secure, host, port } = target
  const found = secure
    ? (environment.HTTPS_PROXY ?? environment.https_proxy)
    : (environment.HTTP_PROXY ?? environment.http_proxy)
  if (!found) return undefined
  const exceptions = environment.NO_PROXY ?? environment.no_proxy ?? ''
  if (exceptions.split(/[\s,]+/).some((rule) => rule !== '' && excludes(rule, host.toLowerCase(), port))) {
    return undefined
  }
  return new URL(found.includes('://') ? found : `http://${found}`)
}

/** `*`, `host`, `.domain`, `*.domain`, any of them with `:port`, an address, a network in CIDR. */
function excludes(rule: string, host: string, port: number): boolean {
  if (rule === '*') return true
  const cidr = /^([0-9a-fA-F:.]+)\/(\d{1,3})$/.exec(rule)
  if (cidr?.[1] !== undefined) return isIP(host) !== 0 && isWithin(host, cidr[1], Number(cidr[2]))
  if (isIP(rule) === 6) return rule.toLowerCase() === host
  const match = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(rule.toLowerCase())
  if (!match || (match[3] !== undefined && Number(match[3]) !== port)) return false
  const name = match[1] ?? (match[2] ?? '').replace(/^\*/, '')
  return host === name.replace(/^\./, '') || host.endsWith(name.startsWith('.') ? name : `.${name}`)
}

function isWithin(host: string, network: string, bits: number): boolean {
  const kind = isIP(network) === 6 ? 'ipv6' : 'ipv4'
  if (isIP(host) !== isIP(network) || bits > (kind === 'ipv6' ? 128 : 32)) return false
  const list = new BlockList()
  list.addSubnet(network, bits, kind)
  return list.check(host, kind)
}
