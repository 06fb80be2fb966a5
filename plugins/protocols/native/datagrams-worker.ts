// The thread that receives datagrams: waits in poll, takes up to 64 at once with recvmmsg and passes them on through
// the ring. It lives in blocking calls of libc and never returns to its event loop until it is told to stop.
import { chmodSync, lstatSync, unlinkSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { messageOf } from '../../contract/errors.ts'
import * as c from './libc.ts'
import type { Libc } from './libc.ts'
import { RingWriter, truncatedFlag } from './ring.ts'
import type { SharedRing } from './ring.ts'
import { portOf } from './sockaddr.ts'
import { shedProgram } from './socket-filter.ts'

export interface WorkerSocket {
  family: number
  /** A sockaddr. */
  address: Uint8Array
  /** Unix domain only. */
  path?: string
  mode?: number
}

export interface WorkerInput {
  ring: SharedRing
  sockets: WorkerSocket[]
  receiveBuffer: number
  /** Datagrams of the Unix domain are cut there. */
  longest: number
}

/** Why a socket could not be opened. */
export interface Failure {
  type: 'failed'
  socket: number
  errno: number
  call: string
  message: string
}

export type WorkerMessage =
  | { type: 'opened'; ports: number[]; receiveBuffers: number[]; wake: number }
  | { type: 'bell' }
  | { type: 'ended' }
  /** libc cannot be called here. */
  | { type: 'missing'; message: string }
  | Failure

const udpSlots = 64
const udpSlotBytes = 65_536
const unixSlots = 16
const nameBytes = 32
/** struct cmsghdr (length, level, type) and struct ucred (pid, uid, gid), padded: what SO_PASSCRED adds to a datagram. */
const credentialBytes = 32
const credentialLength = 28
const headerBytes = 64
const pollMs = 200
/** Receives of one socket before the others have a turn. */
const rounds = 16
/** How long a stop waits for a reader that takes nothing more. */
const stopRoomMs = 2000
/** While the budget is short: waking up for each datagram costs ten times what the datagram does. */
const gatherMs = 10

class OpenError extends Error {
  readonly errno: number
  readonly call: string
  constructor(call: string, errno: number) {
    super(`${call} failed with errno ${errno}`)
    this.call = call
    this.errno = errno
  }
}

/** Buffers whose addresses C holds; whoever calls recvmmsg keeps this object. */
interface Slots {
  readonly messages: Buffer
  readonly messageWords: Uint32Array
  readonly vectors: Buffer
  readonly names: Uint32Array
  readonly nameBytes: Uint8Array
  /** Of the Unix domain: the credentials of each sender, as the kernel has checked them. */
  readonly credentials: Uint32Array
  readonly data: Buffer
  readonly words: Uint32Array
  readonly count: number
  readonly slotBytes: number
}

// struct mmsghdr, 64 bytes: name, namelen, iov, iovlen, control, controllen, flags, padding, len.
function makeSlots(libc: Libc, count: number, longest: number, named: boolean): Slots {
  // The ring copies whole words.
  const slotBytes = (longest + 7) & ~7
  const messages = Buffer.alloc(count * headerBytes)
  const vectors = Buffer.alloc(count * 16)
  const names = new Uint32Array((count * nameBytes) / 4)
  const nameView = new Uint8Array(names.buffer)
  // Never touched beyond what arrives, so that the system gives no memory for the rest.
  const data = Buffer.allocUnsafeSlow(count * slotBytes)
  const credentials = new Uint32Array((count * credentialBytes) / 4)
  const credentialsAt = libc.address(new Uint8Array(credentials.buffer))
  const dataAt = libc.address(data)
  const namesAt = libc.address(nameView)
  const vectorsAt = libc.address(vectors)
  for (let index = 0; index < count; index++) {
    const at = index * headerBytes
    vectors.writeBigUInt64LE(dataAt + BigInt(index * slotBytes), index * 16)
    vectors.writeBigUInt64LE(BigInt(longest), index * 16 + 8)
    messages.writeBigUInt64LE(named ? namesAt + BigInt(index * nameBytes) : 0n, at)
    messages.writeBigUInt64LE(vectorsAt + BigInt(index * 16), at + 16)
    messages.writeBigUInt64LE(1n, at + 24)
    messages.writeBigUInt64LE(named ? 0n : credentialsAt + BigInt(index * credentialBytes), at + 32)
  }
  return {
    messages,
    messageWords: new Uint32Array(messages.buffer, messages.byteOffset, messages.length / 4),
    vectors,
    names,
    nameBytes: nameView,
    credentials,
    data,
    words: new Uint32Array(data.buffer, data.byteOffset, data.length / 4),
    count,
    slotBytes,
  }
}

function open(libc: Libc, socket: WorkerSocket, receiveBuffer: number): number {
  const fd = libc.socket(socket.family, c.SOCK_DGRAM | c.SOCK_CLOEXEC, 0)
  if (fd < 0) throw new OpenError('socket', libc.errno())
  try {
    // IPv4 has its own socket, also on the same port.
    if (socket.family === c.AF_INET6) setInt(libc, fd, c.IPPROTO_IPV6, c.IPV6_V6ONLY, 1)
    // Beyond the system's limit only with CAP_NET_ADMIN; else as much as it allows.
    if (setInt(libc, fd, c.SOL_SOCKET, c.SO_RCVBUFFORCE, receiveBuffer) < 0) {
      setInt(libc, fd, c.SOL_SOCKET, c.SO_RCVBUF, receiveBuffer)
    }
    if (socket.path !== undefined) setInt(libc, fd, c.SOL_SOCKET, c.SO_PASSCRED, 1)
    if (socket.path !== undefined) makeWay(libc, socket.path, socket.address)
    if (libc.bind(fd, socket.address, socket.address.length) < 0) throw new OpenError('bind', libc.errno())
    if (socket.path !== undefined) chmodSync(socket.path, socket.mode ?? 0o666)
    return fd
  } catch (error) {
    libc.close(fd)
    throw error
  }
}

// A socket file that nobody listens on any more is left over from a process that was killed.
function makeWay(libc: Libc, path: string, address: Uint8Array): void {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket() && !found.isSymbolicLink()) throw new OpenError('bind', c.EADDRINUSE)
  const probe = libc.socket(c.AF_UNIX, c.SOCK_DGRAM | c.SOCK_CLOEXEC, 0)
  const taken = probe >= 0 && libc.connect(probe, address, address.length) === 0
  if (probe >= 0) libc.close(probe)
  if (taken) throw new OpenError('bind', c.EADDRINUSE)
  unlinkSync(path)
}

function setInt(libc: Libc, fd: number, level: number, name: number, value: number): number {
  return libc.setsockopt(fd, level, name, Int32Array.of(value), 4)
}

/** Senders of the Unix domain as a rule have no name: pid, uid and gid stand where the ring looks for an address. */
function nameByCredentials({ messageWords, credentials, names }: Slots, count: number): void {
  for (let index = 0; index < count; index++) {
    const at = (index * credentialBytes) / 4
    const name = (index * nameBytes) / 4
    const isThere = (messageWords[index * 16 + 10] ?? 0) >= credentialLength
    names[name] = isThere ? c.AF_UNIX : 0
    for (let word = 0; word < 3; word++)
      names[name + 2 + word] = isThere ? (credentials[at + 4 + word] ?? 0) : 0
  }
}

class Receiver {
  readonly #libc: Libc
  readonly #input: WorkerInput
  readonly #ring: RingWriter
  readonly #descriptors: number[]
  readonly #tell: (message: WorkerMessage) => void
  readonly #udp: Slots
  readonly #unix: Slots
  readonly #memory = new Uint32Array(16)
  readonly #memorySize = new Uint32Array(1)
  readonly #lost: number[]
  /** Of 65,536 messages that may be shed, those that the kernel throws away. */
  #shed = 0
  /** Datagrams since the last poll. */
  #received = 0

  constructor(libc: Libc, input: WorkerInput, descriptors: number[], tell: (message: WorkerMessage) => void) {
    this.#libc = libc
    this.#input = input
    this.#descriptors = descriptors
    this.#tell = tell
    this.#ring = new RingWriter(input.ring)
    const has = (unix: boolean) => input.sockets.some(({ family }) => (family === c.AF_UNIX) === unix)
    this.#udp = makeSlots(libc, has(false) ? udpSlots : 0, udpSlotBytes, true)
    this.#unix = makeSlots(libc, has(true) ? unixSlots : 0, input.longest, false)
    this.#lost = descriptors.map(() => 0)
  }

  run(wake: number): void {
    const count = this.#descriptors.length + 1
    // struct pollfd: int fd, short events, short revents.
    const polled = new Int32Array(count * 2)
    for (const [index, fd] of [...this.#descriptors, wake].entries()) {
      polled[index * 2] = fd
      polled[index * 2 + 1] = c.POLLIN
    }
    let countedAt = 0
    while (!this.#ring.stopping) {
      if (this.#ring.shed !== this.#shed) this.#filter(this.#ring.shed)
      for (let index = 0; index < count; index++) polled[index * 2 + 1] = c.POLLIN
      if (this.#shed > 0 && this.#received < udpSlots) this.#ring.waitForStop(gatherMs)
      this.#received = 0
      const ready = this.#libc.poll(polled, count, pollMs)
      for (const index of this.#descriptors.keys()) {
        if (ready > 0 && (polled[index * 2 + 1] ?? 0) >>> 16 !== 0) this.#receive(index, rounds)
      }
      const now = performance.now()
      if (now - countedAt >= pollMs) {
        countedAt = now
        this.#countDrops()
      }
    }
    // What the kernel holds already was sent before the end.
    for (const index of this.#descriptors.keys()) this.#receive(index, 65_536)
    this.#countDrops()
  }

  #receive(socket: number, limit: number): void {
    const isUnix = this.#input.sockets[socket]?.family === c.AF_UNIX
    const slots = isUnix ? this.#unix : this.#udp
    const fd = this.#descriptors[socket] ?? -1
    const { messages, messageWords } = slots
    for (let round = 0; round < limit; round++) {
      for (let index = 0; index < slots.count; index++) {
        messageWords[index * 16 + 2] = 28
        if (isUnix) messageWords[index * 16 + 10] = credentialBytes
      }
      const got = this.#libc.recvmmsg(fd, messages, slots.count, c.MSG_DONTWAIT, null)
      this.#received += Math.max(0, got)
      if (isUnix) nameByCredentials(slots, got)
      for (let index = 0; index < got; index++) this.#pass(socket, slots, index)
      if (got > 0 && this.#ring.takeBell()) this.#tell({ type: 'bell' })
      if (got < slots.count) return
    }
  }

  #pass(socket: number, slots: Slots, index: number): void {
    const header = index * 16
    const size = Math.min(slots.messageWords[header + 14] ?? 0, slots.slotBytes)
    const truncated = ((slots.messageWords[header + 12] ?? 0) & c.MSG_TRUNC) !== 0
    const from = (index * slots.slotBytes) / 4
    const flags = socket | (truncated ? truncatedFlag : 0)
    const name = (index * nameBytes) / 4
    if (this.#ring.write(slots.words, from, size, flags, slots.names, name)) return
    const began = performance.now()
    while (!this.#ring.write(slots.words, from, size, flags, slots.names, name)) {
      if (this.#ring.takeBell()) this.#tell({ type: 'bell' })
      this.#ring.waitForRoom(50)
      if (!this.#ring.stopping || performance.now() - began < stopRoomMs) continue
      this.#lost[socket] = (this.#lost[socket] ?? 0) + 1
      return
    }
  }

  /** Where the kernel does not take a filter, the reader sheds for itself. */
  #filter(shed: number): void {
    this.#shed = shed
    const program = shedProgram(shed / 65_536)
    // struct sock_fprog: the number of instructions, and where they are.
    const argument = Buffer.alloc(16)
    argument.writeUInt16LE(program.length / 8, 0)
    argument.writeBigUInt64LE(this.#libc.address(program), 8)
    const [name, size] = shed > 0 ? [c.SO_ATTACH_FILTER, 16] : [c.SO_DETACH_FILTER, 4]
    let isTaken = shed > 0
    for (const [index, fd] of this.#descriptors.entries()) {
      if (this.#input.sockets[index]?.family === c.AF_UNIX) continue
      if (this.#libc.setsockopt(fd, c.SOL_SOCKET, name, argument, size) < 0) isTaken = false
    }
    this.#ring.setFiltering(isTaken)
  }

  #countDrops(): void {
    let changed = false
    for (const [index, fd] of this.#descriptors.entries()) {
      this.#memorySize[0] = this.#memory.byteLength
      // SK_MEMINFO_DROPS is the ninth; kernels before 4.12 do not answer.
      if (this.#libc.getsockopt(fd, c.SOL_SOCKET, c.SO_MEMINFO, this.#memory, this.#memorySize) < 0) continue
      const total = (this.#memory[8] ?? 0) + (this.#lost[index] ?? 0)
      if (this.#ring.setDrops(index, total)) changed = true
    }
    if (changed && this.#ring.takeBell()) this.#tell({ type: 'bell' })
  }
}

async function main(input: WorkerInput, tell: (message: WorkerMessage) => void): Promise<void> {
  const descriptors: number[] = []
  let libc: Libc
  try {
    libc = await c.loadLibc()
  } catch (error) {
    return tell({ type: 'missing', message: messageOf(error) })
  }
  try {
    for (const socket of input.sockets) descriptors.push(open(libc, socket, input.receiveBuffer))
    const wake = libc.eventfd(0, 0)
    if (wake < 0) throw new OpenError('eventfd', libc.errno())
    const value = new Uint32Array(8)
    const size = new Uint32Array(1)
    const ports = descriptors.map((fd) => {
      size[0] = value.byteLength
      libc.getsockname(fd, value, size)
      return portOf(Buffer.from(value.buffer))
    })
    const receiveBuffers = descriptors.map((fd) => {
      size[0] = 4
      libc.getsockopt(fd, c.SOL_SOCKET, c.SO_RCVBUF, value, size)
      // The kernel doubles what it is asked for, for its own needs.
      return (value[0] ?? 0) / 2
    })
    const receiver = new Receiver(libc, input, descriptors, tell)
    tell({ type: 'opened', ports, receiveBuffers, wake })
    receiver.run(wake)
  } catch (error) {
    if (!(error instanceof OpenError)) throw error
    const { errno, call, message } = error
    tell({ type: 'failed', socket: descriptors.length, errno, call, message })
  } finally {
    for (const fd of descriptors) libc.close(fd)
  }
  tell({ type: 'ended' })
}

if (parentPort !== null) {
  const port = parentPort
  await main(workerData as WorkerInput, (message) => port.postMessage(message))
}
