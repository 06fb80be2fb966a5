// Socket addresses as C lays them out (bind, connect, recvmmsg), on Linux, little-endian.
//
//   sockaddr_in   u16 family | u16 port, big-endian | 4 bytes
//   sockaddr_in6  u16 family | u16 port, big-endian | u32 flow | 16 bytes | u32 scope
//   sockaddr_un   u16 family | path, NUL
import { isIPv4, isIPv6 } from 'node:net'
import { AF_INET, AF_INET6, AF_UNIX } from './libc.ts'

/** Longest path of a socket file, its NUL not counted (sockaddr_un.sun_path). */
export const longestPath = 107

/** Undefined where `host` is no IP address. A zone (`fe80::1%2`) must be an interface's number. */
export function inetAddress(host: string, port: number): Buffer | undefined {
  if (isIPv4(host)) {
    const out = Buffer.alloc(16)
    out.writeUInt16LE(AF_INET, 0)
    out.writeUInt16BE(port, 2)
    for (const [index, part] of host.split('.').entries()) out[4 + index] = Number(part)
    return out
  }
  if (!isIPv6(host)) return undefined
  const [bare = '', zone = '0'] = host.split('%')
  const out = Buffer.alloc(28)
  out.writeUInt16LE(AF_INET6, 0)
  out.writeUInt16BE(port, 2)
  out.writeUInt32LE(Number(zone) >>> 0, 24)
  // An IPv4 tail becomes two groups; then `::` is filled up to eight.
  const plain = bare.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a: string, b: string, c: string, d: string) =>
    [Number(a) * 256 + Number(b), Number(c) * 256 + Number(d)].map((group) => group.toString(16)).join(':'),
  )
  const [head = '', tail] = plain.split('::')
  const front = head === '' ? [] : head.split(':')
  const back = tail === undefined || tail === '' ? [] : tail.split(':')
  for (const [index, group] of front.entries()) out.writeUInt16BE(parseInt(group, 16), 8 + index * 2)
  for (const [index, group] of back.entries()) {
    out.writeUInt16BE(parseInt(group, 16), 8 + (8 - back.length + index) * 2)
  }
  return out
}

/** Undefined where the path is too long. */
export function unixAddress(path: string): Buffer | undefined {
  const size = Buffer.byteLength(path)
  if (size > longestPath || path.includes('\0')) return undefined
  const out = Buffer.alloc(2 + size + 1)
  out.writeUInt16LE(AF_UNIX, 0)
  out.write(path, 2)
  return out
}

export const portOf = (address: Buffer): number => address.readUInt16BE(2)

/** The text of an address whose family and bytes a `recvmmsg` gave: `10.0.0.1`, `fe80::1`. */
export function hostText(family: number, bytes: Uint8Array): string {
  if (family === AF_INET) return bytes.subarray(0, 4).join('.')
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16)
  const groups = Array.from({ length: 8 }, (_, index) => view.getUint16(index * 2).toString(16))
  if (groups.slice(0, 5).every((group) => group === '0') && groups[5] === 'ffff') {
    return bytes.subarray(12, 16).join('.')
  }
  // The longest run of zero groups, two at least, becomes `::` (RFC 5952).
  let best = { from: -1, size: 1 }
  for (let from = 0; from < 8; from++) {
    let size = 0
    while (from + size < 8 && groups[from + size] === '0') size++
    if (size > best.size) best = { from, size }
  }
  if (best.from < 0) return groups.join(':')
  return `${groups.slice(0, best.from).join(':')}::${groups.slice(best.from + best.size).join(':')}`
}
