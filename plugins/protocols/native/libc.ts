// The few calls of libc that Node lacks (datagram sockets of the Unix domain, recvmmsg, socket buffers beyond the
// limit), by koffi. Loaded only where something needs it; whoever does can go on without.
import type { LibraryHandle } from 'koffi'
import { PermanentError } from '../../contract/errors.ts'

// Linux, the same on x86-64 and arm64.
export const AF_UNIX = 1
export const AF_INET = 2
export const AF_INET6 = 10
export const SOCK_DGRAM = 2
export const SOCK_SEQPACKET = 5
export const SOCK_NONBLOCK = 0o4000
export const SOCK_CLOEXEC = 0o2000000
export const SOL_SOCKET = 1
export const SO_RCVBUF = 8
export const SO_PASSCRED = 16
export const SO_PEERCRED = 17
export const SO_ATTACH_FILTER = 26
export const SO_DETACH_FILTER = 27
export const SO_RCVBUFFORCE = 33
export const SO_MEMINFO = 55
export const IPPROTO_IPV6 = 41
export const IPV6_V6ONLY = 26
export const MSG_DONTWAIT = 0x40
export const MSG_NOSIGNAL = 0x4000
export const MSG_TRUNC = 0x20
export const POLLIN = 1
export const EINTR = 4
export const EAGAIN = 11
export const EADDRINUSE = 98

type Pointer = Uint8Array | Uint32Array | Int32Array | null

export interface Libc {
  socket(family: number, type: number, protocol: number): number
  bind(fd: number, address: Pointer, length: number): number
  connect(fd: number, address: Pointer, length: number): number
  getsockname(fd: number, address: Pointer, length: Pointer): number
  setsockopt(fd: number, level: number, name: number, value: Pointer, length: number): number
  getsockopt(fd: number, level: number, name: number, value: Pointer, length: Pointer): number
  recvmmsg(fd: number, messages: Pointer, count: number, flags: number, timeout: Pointer): number
  poll(descriptors: Pointer, count: number, timeoutMs: number): number
  /** The same, waiting on a thread of its own. */
  pollLater(descriptors: Pointer, count: number, timeoutMs: number): Promise<number>
  send(fd: number, bytes: Pointer, length: number, flags: number): number
  /** The same in another thread, for a kernel that works while it is asked. */
  sendLater(fd: number, bytes: Pointer, length: number, flags: number): Promise<number>
  recv(fd: number, bytes: Pointer, length: number, flags: number): number
  eventfd(initial: number, flags: number): number
  ioctl(fd: number, request: number, argument: Pointer): number
  /** The same in another thread, for devices that take their time. */
  ioctlLater(fd: number, request: number, argument: Pointer): Promise<number>
  close(fd: number): number
  /** errno of the last call of this thread. */
  errno(): number
  /** The address of an array, for structures that hold pointers. Keep the array alive as long as C has the address. */
  address(of: Uint8Array): bigint
}

/** @throws PermanentError LIBRARY_MISSING where koffi has no binary for this platform, or libc is another one. */
export async function loadLibc(): Promise<Libc> {
  try {
    if (process.platform !== 'linux') throw new Error(`${process.platform} is not Linux`)
    const { default: koffi } = await import('koffi')
    // What Node itself is linked to: glibc or musl.
    const library: LibraryHandle = koffi.load(null)
    // koffi knows no types of what it declares; Libc says them.
    const declare = (prototype: string): never => library.func(prototype) as never
    const held = new Set<unknown>()
    /** On a thread of its own. C reads and writes what it is given meanwhile: that must not be collected. */
    const later =
      (call: ReturnType<LibraryHandle['func']>) =>
      (...parameters: (number | Pointer)[]): Promise<number> =>
        new Promise((resolve, reject) => {
          held.add(parameters)
          call.async(...parameters, (error: Error | null, result: number) => {
            held.delete(parameters)
            if (error) reject(error)
            else resolve(result)
          })
        })
    const ioctl = library.func('int ioctl(int, unsigned long, void *)')
    const poll = library.func('int poll(void *, unsigned long, int)')
    const send = library.func('int64_t send(int, const void *, size_t, int)')
    return {
      socket: declare('int socket(int, int, int)'),
      bind: declare('int bind(int, const void *, uint32_t)'),
      connect: declare('int connect(int, const void *, uint32_t)'),
      getsockname: declare('int getsockname(int, void *, void *)'),
      setsockopt: declare('int setsockopt(int, int, int, const void *, uint32_t)'),
      getsockopt: declare('int getsockopt(int, int, int, void *, void *)'),
      recvmmsg: declare('int recvmmsg(int, void *, unsigned int, int, void *)'),
      poll: poll as never,
      pollLater: later(poll),
      send: send as never,
      sendLater: later(send),
      recv: declare('int64_t recv(int, void *, size_t, int)'),
      eventfd: declare('int eventfd(unsigned int, int)'),
      ioctl: ioctl as never,
      ioctlLater: later(ioctl),
      close: declare('int close(int)'),
      errno: () => koffi.errno(),
      address: (of) => koffi.address(of),
    }
  } catch (cause) {
    throw new PermanentError('LIBRARY_MISSING', 'koffi cannot be loaded', { cause })
  }
}
