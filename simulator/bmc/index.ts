// The BMCs of a fleet: one Redfish service for all, told apart by port. Device i listens at basePort + i; what it answers is made
// of the device's state when asked, and nothing of it exists before.
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { createServer as createTcpServer } from 'node:net'
import type { AddressInfo, Server as TcpServer, Socket } from 'node:net'
import { PermanentError, messageOf } from '../../plugins/contract/errors.ts'
import { portTaken } from '../../plugins/contract/ports.ts'
import type { Device } from '../model.ts'
import type { Random } from '../random.ts'
import { Bmc } from './bmc.ts'
import { selfSigned } from './certificate.ts'
import type { Certificate } from './certificate.ts'
import { Refusal } from './messages.ts'
import { answer } from './service.ts'

export interface BmcsOptions {
  /** Device i listens on `basePort + i`; 0 gives each a free port. */
  readonly basePort: number
  /** Loopback where it is not given. */
  readonly host?: string | undefined
  /** HTTPS, with a certificate of its own or one that is made now; else HTTP. */
  readonly tls?: boolean | Certificate | undefined
  readonly user?: string | undefined
  readonly password?: string | undefined
}

export interface Bmcs {
  /** Of the device with that index in the list. */
  url(index: number): string
  /** PEM, where it is HTTPS: what clients may trust. */
  readonly certificate: string | undefined
  /** For tests and figures: what the BMC of a device holds; undefined where none was asked yet. */
  held(index: number): { sessions: number; subscriptions: number; streams: number; tasks: number } | undefined
  close(): Promise<void>
}

/** As OpenBMC's is, out of the box. */
export const defaultLogin = { user: 'root', password: '0penBmc' } as const

const mostConnections = 64
/** How often what nobody asks for moves on: tasks, deliveries, new entries for streams. */
const beatMs = 200

/** Listens for all devices. @throws PermanentError where a port is taken; then none is held. */
export async function startBmcs(devices: readonly Device[], options: BmcsOptions): Promise<Bmcs> {
  const fleet = new Fleet(devices, options)
  try {
    await fleet.listen()
  } catch (error) {
    await fleet.close()
    throw error
  }
  return fleet
}

class Fleet implements Bmcs {
  readonly #devices: readonly Device[]
  readonly #options: BmcsOptions
  readonly #host: string
  readonly #tls: Certificate | undefined
  /** Speaks HTTP on the connections that the others accept; does not listen itself. */
  readonly #server: Server
  readonly #doors: TcpServer[] = []
  readonly #ports: number[] = []
  readonly #byPort = new Map<number, number>()
  readonly #bmcs = new Map<number, Bmc>()
  readonly #draws = new Map<number, Random>()
  /** Connections on which a request hangs. */
  readonly #hanging = new Set<{ readonly device: Device; readonly socket: Socket }>()
  readonly #beat: NodeJS.Timeout

  constructor(devices: readonly Device[], options: BmcsOptions) {
    this.#devices = devices
    this.#options = options
    this.#host = options.host ?? '127.0.0.1'
    this.#tls = options.tls === true ? selfSigned('dpu-bmc') : options.tls || undefined
    const limits = {
      maxHeaderSize: 16 * 1024,
      headersTimeout: 10_000,
      requestTimeout: 120_000,
      keepAliveTimeout: 60_000,
    }
    const listener = (request: IncomingMessage, response: ServerResponse): void =>
      this.#take(request, response)
    this.#server = this.#tls
      ? createHttpsServer({ ...limits, ...this.#tls }, listener)
      : createHttpServer(limits, listener)
    // It never listens itself, and begins to watch over its connections only when it is told so.
    this.#server.emit('listening')
    this.#beat = setInterval(() => this.#advance(), beatMs)
    this.#beat.unref()
  }

  get certificate(): string | undefined {
    return this.#tls?.cert
  }

  url(index: number): string {
    const port = this.#ports[index]
    if (port === undefined) throw new RangeError(`there is no device ${index}`)
    return `${this.#tls ? 'https' : 'http'}://${this.#host.includes(':') ? `[${this.#host}]` : this.#host}:${port}`
  }

  held(index: number) {
    const bmc = this.#bmcs.get(index)
    return (
      bmc && {
        sessions: bmc.access.sessions.size,
        subscriptions: bmc.events.subscriptions.size,
        streams: bmc.events.streams,
        tasks: bmc.tasks.all.size,
      }
    )
  }

  async listen(): Promise<void> {
    // Some at a time: each is a round trip to the kernel, and a fleet has thousands.
    for (let at = 0; at < this.#devices.length; at += 100) {
      const some = this.#devices.slice(at, at + 100).map((_, offset) => this.#open(at + offset))
      const failed = (await Promise.allSettled(some)).find(({ status }) => status === 'rejected')
      if (failed?.status === 'rejected') throw failed.reason
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#beat)
    for (const bmc of this.#bmcs.values()) bmc.close()
    for (const { socket } of this.#hanging) socket.destroy()
    this.#server.closeAllConnections()
    this.#server.close()
    await Promise.all(
      this.#doors.filter(({ listening }) => listening).map((door) => once(door.close(), 'close')),
    )
  }

  async #open(index: number): Promise<void> {
    const { basePort } = this.#options
    const wanted = basePort === 0 ? 0 : basePort + index
    const door = createTcpServer((socket) => void this.#server.emit('connection', socket))
    door.maxConnections = mostConnections
    this.#doors.push(door)
    door.listen({ host: this.#host, port: wanted })
    try {
      await once(door, 'listening')
    } catch (cause) {
      const isTaken = (cause as NodeJS.ErrnoException).code === 'EADDRINUSE'
      const text = isTaken
        ? portTaken('the BMC of a simulated device', wanted, 'tcp', 'another first port for the BMCs')
        : messageOf(cause)
      throw new PermanentError(isTaken ? 'ADDRESS_IN_USE' : 'CONFIG_INVALID', text, { cause })
    }
    // Where the process has no descriptor left, the client is not served, and no more.
    door.on('error', () => undefined)
    const { port } = door.address() as AddressInfo // it listens on TCP
    this.#ports[index] = port
    this.#byPort.set(port, index)
  }

  #take(request: IncomingMessage, response: ServerResponse): void {
    const index = this.#byPort.get(request.socket.localPort ?? -1)
    const device = index === undefined ? undefined : this.#devices[index]
    if (index === undefined || !device) return void request.socket.destroy()
    request.on('error', () => undefined)
    response.on('error', () => undefined)
    if (device.state.bmc.hung) return this.#hang(device, response)
    const bmc = this.#bmcOf(index, device)
    bmc.advance()
    if (bmc.isAway) return void request.socket.destroy()
    const delayMs = device.kind.bmc.answerMs + device.state.bmc.delayMs
    const timer = setTimeout(() => this.#answer(index, bmc, request, response), delayMs)
    response.once('close', () => clearTimeout(timer))
  }

  /** Nothing ever comes back; the connection is given up when the BMC is well again. */
  #hang(device: Device, response: ServerResponse): void {
    const { socket } = response
    if (!socket) return
    const held = { device, socket }
    this.#hanging.add(held)
    response.once('close', () => this.#hanging.delete(held))
  }

  #answer(index: number, bmc: Bmc, request: IncomingMessage, response: ServerResponse): void {
    const { errorRate } = bmc.device.state.bmc
    const draw = errorRate > 0 ? this.#drawOf(index, bmc.device) : undefined
    if (draw?.chance(errorRate)) return fail(draw, request, response)
    answer(bmc, request, response).catch(() => response.destroy())
  }

  #bmcOf(index: number, device: Device): Bmc {
    const found = this.#bmcs.get(index)
    if (found) return found
    const { user = defaultLogin.user, password = defaultLogin.password } = this.#options
    const bmc = new Bmc(device, { user, password })
    this.#bmcs.set(index, bmc)
    return bmc
  }

  #drawOf(index: number, device: Device): Random {
    const found = this.#draws.get(index) ?? device.random('bmc answers')
    this.#draws.set(index, found)
    return found
  }

  #advance(): void {
    for (const bmc of this.#bmcs.values()) if (bmc.isActive && !bmc.device.state.bmc.hung) bmc.advance()
    for (const { device, socket } of this.#hanging) if (!device.state.bmc.hung) socket.destroy()
  }
}

/** What a BMC answers that is not itself. */
function fail(draw: Random, request: IncomingMessage, response: ServerResponse): void {
  const how = draw.below(3)
  if (how === 0) return void request.socket.destroy()
  const refusal =
    how === 1
      ? new Refusal('InternalError')
      : new Refusal('ServiceTemporarilyUnavailable', ['5'], { 'Retry-After': '5' })
  response.writeHead(refusal.status, {
    'Content-Type': 'application/json',
    Connection: 'close',
    ...refusal.headers,
  })
  response.end(JSON.stringify(refusal.body))
}
