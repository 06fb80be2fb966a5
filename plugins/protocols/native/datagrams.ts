// Receives datagrams for a source: UDP and the Unix domain, through a thread with recvmmsg where libc can be called,
// by node:dgram where not. The source sees one interface, and every datagram in place.
import { closeSync, lstatSync, unlinkSync, writeSync } from 'node:fs'
import { getSystemErrorName } from 'node:util'
import { Worker } from 'node:worker_threads'
import { PermanentError } from '../../contract/errors.ts'
import type { WorkerInput, WorkerMessage, WorkerSocket } from './datagrams-worker.ts'
import { AF_INET, AF_INET6, AF_UNIX } from './libc.ts'
import { ListenError } from './listen.ts'
import type { DatagramListen, DatagramOptions, DatagramReceiver } from './listen.ts'
import { RingReader, createRing } from './ring.ts'
import { hostText, inetAddress, unixAddress } from './sockaddr.ts'
import { receivePlain } from './plain.ts'

const ringBytes = 4 * 1024 * 1024
/** Datagrams that are handed over before other work has a turn. */
const turn = 2048
const mostPeers = 4096
/** Numbers of processes are given again: who has one is looked at anew after so long. */
const processMs = 5000

/**
 * @throws ListenError where a socket cannot be opened; PermanentError LIBRARY_MISSING where a socket file is wanted
 * and libc cannot be called.
 */
export async function receiveDatagrams<Peer>(options: DatagramOptions<Peer>): Promise<DatagramReceiver> {
  const ring = createRing(ringBytes)
  const input: WorkerInput = {
    ring,
    sockets: options.listen.map(socketOf),
    receiveBuffer: options.receiveBuffer,
    longest: options.longest,
  }
  const worker = new Worker(new URL('./datagrams-worker.ts', import.meta.url), {
    workerData: input,
    execArgv: [],
    name: 'datagrams',
    // It builds nothing on its heap.
    resourceLimits: { maxOldGenerationSizeMb: 24, maxYoungGenerationSizeMb: 2 },
  })
  const failure = Promise.withResolvers<never>()
  failure.promise.catch(() => undefined)
  const begun = Promise.withResolvers<WorkerMessage>()
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
  worker.once('message', begun.resolve)
  const fail = (error: Error) => {
    begun.reject(error)
    failure.reject(error)
  }
  worker.on('error', fail)
  worker.on('exit', () => fail(new Error('the receiving thread has ended')))
  const first = await begun.promise
  if (first.type !== 'opened') {
    await exited
    if (first.type !== 'missing') throw errorOf(first, options.listen)
    if (options.listen.some((one) => 'path' in one)) {
      throw new PermanentError('LIBRARY_MISSING', `sockets of this kind need koffi: ${first.message}`)
    }
    options.log.warn('datagrams are received one by one: libc cannot be called', { cause: first.message })
    return receivePlain(options)
  }
  const small = Math.min(...first.receiveBuffers)
  if (small < options.receiveBuffer) {
    options.log.info(
      'receive buffer is smaller than configured; it takes CAP_NET_ADMIN or net.core.rmem_max',
      {
        bytes: small,
        configured: options.receiveBuffer,
      },
    )
  }
  return new NativeReceiver(options, worker, new RingReader(ring), first.ports, first.wake, failure)
}

function errorOf(message: WorkerMessage, listen: readonly DatagramListen[]): Error {
  if (message.type !== 'failed') return new Error(`the receiving thread said ${message.type}`)
  const cause = new Error(message.message)
  const one = listen[message.socket]
  return one ? new ListenError(getSystemErrorName(-message.errno), one, { cause }) : cause
}

function socketOf(listen: DatagramListen): WorkerSocket {
  if ('path' in listen) {
    const address = unixAddress(listen.path)
    if (address === undefined) throw new ListenError('ENAMETOOLONG', listen)
    return { family: AF_UNIX, address, path: listen.path, mode: listen.mode }
  }
  const address = inetAddress(listen.host, listen.port)
  if (address === undefined) throw new ListenError('EAI_NONAME', listen)
  return { family: address.readUInt16LE(0), address }
}

class NativeReceiver<Peer> implements DatagramReceiver {
  readonly native = true
  readonly listen: readonly DatagramListen[]
  readonly failed: Promise<never>
  readonly #options: DatagramOptions<Peer>
  readonly #worker: Worker
  readonly #ring: RingReader
  readonly #wake: number
  readonly #drops: number[]
  readonly #ended = Promise.withResolvers<void>()
  readonly #four = new Map<number, Peer>()
  readonly #six = new Map<string, Peer>()
  readonly #processes = new Map<number, Peer>()
  #processesMs = 0
  readonly #nobody: Peer
  readonly #inodes: readonly (readonly [string, number])[]
  #scheduled = false

  constructor(
    options: DatagramOptions<Peer>,
    worker: Worker,
    ring: RingReader,
    ports: readonly number[],
    wake: number,
    failure: PromiseWithResolvers<never>,
  ) {
    this.#options = options
    this.#worker = worker
    this.#ring = ring
    this.#wake = wake
    this.failed = failure.promise
    this.listen = options.listen.map((one, index) =>
      'path' in one ? one : { host: one.host, port: ports[index] ?? one.port },
    )
    this.#drops = ports.map(() => 0)
    this.#nobody = options.peer('')
    this.#inodes = options.listen.flatMap((one) =>
      'path' in one ? [[one.path, lstatSync(one.path).ino] as const] : [],
    )
    worker.on('message', (message: WorkerMessage) => {
      if (message.type === 'bell') this.#drain()
      else if (message.type === 'ended') this.#ended.resolve()
    })
    worker.on('exit', () => this.#ended.resolve())
    this.#drain()
  }

  shed(part: number): void {
    this.#ring.shed(part)
  }

  get sheds(): boolean {
    return this.#ring.isFiltering
  }

  async stop(): Promise<void> {
    this.#ring.stop()
    writeSync(this.#wake, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0))
    await this.#ended.promise
    while (this.#take() >= turn) await new Promise(setImmediate)
    this.#options.pause()
    this.#countDrops()
    await this.#worker.terminate()
    closeSync(this.#wake)
    for (const [path, inode] of this.#inodes) removeSocket(path, inode)
  }

  #drain(): void {
    if (this.#scheduled) return
    const taken = this.#take()
    this.#countDrops()
    this.#options.pause()
    // What was dropped since it was counted rang no bell.
    if (taken < turn && this.#ring.sleep()) return this.#countDrops()
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#drain()
    })
  }

  #take(): number {
    const ring = this.#ring
    const { entry, buffer } = ring
    const nowMs = performance.now()
    if (nowMs - this.#processesMs > processMs) {
      this.#processesMs = nowMs
      this.#processes.clear()
    }
    let count = 0
    while (count < turn && ring.read()) {
      this.#options.take(buffer, entry.start, entry.end, this.#peer(), entry.ascii, entry.truncated)
      if ((++count & 127) === 0) ring.release()
    }
    ring.release()
    return count
  }

  #peer(): Peer {
    const { entry } = this.#ring
    if (entry.family === AF_INET) {
      const known = this.#four.get(entry.address)
      if (known !== undefined) return known
      return remember(this.#four, entry.address, this.#options.peer(this.#host(4)))
    }
    if (entry.family === AF_UNIX) return this.#process()
    if (entry.family !== AF_INET6) return this.#nobody
    const key = this.#ring.buffer.toString('latin1', entry.addressAt, entry.addressAt + 16)
    const known = this.#six.get(key)
    return known ?? remember(this.#six, key, this.#options.peer(this.#host(16)))
  }

  #process(): Peer {
    const { entry, buffer } = this.#ring
    const pid = entry.address
    const uid = buffer.readUInt32LE(entry.addressAt + 4)
    // Those of other process namespaces are all 0. A number of a process has at most 22 bits.
    const key = uid * 2 ** 22 + pid
    const known = this.#processes.get(key)
    return known ?? remember(this.#processes, key, this.#options.peer('', { pid, uid }))
  }

  #host(size: number): string {
    const { entry, buffer } = this.#ring
    return hostText(entry.family, Uint8Array.from(buffer.subarray(entry.addressAt, entry.addressAt + size)))
  }

  #countDrops(): void {
    for (const [index, before] of this.#drops.entries()) {
      const total = this.#ring.drops(index)
      if (total === before) continue
      this.#drops[index] = total
      this.#options.dropped((total - before) >>> 0)
    }
  }
}

// Addresses can be forged: those who invent them must not fill the memory.
function remember<Key, Peer>(map: Map<Key, Peer>, key: Key, peer: Peer): Peer {
  if (map.size >= mostPeers) map.clear()
  map.set(key, peer)
  return peer
}

/** Removes a socket file, unless another process has put its own there meanwhile. */
export function removeSocket(path: string, inode: number): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.ino === inode) unlinkSync(path)
}
