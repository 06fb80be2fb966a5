// How an entry lies on disk, in segments of topics and in files of tables. Little-endian, entries back to back, no
// header of the file: what a file is, its first offset and its salt are in its name, which no flipped bit reaches.
//
//    0  u32  magic, "\x9dLg1"
//    4  u32  check of bytes 8..36: CRC-32, begun with the file's salt
//    8  u32  check of key and value: CRC-32
//   12  u32  length of the value
//   16  u16  length of the key
//   18  u16  flags: 1 = the key was removed (tables)
//   20  u64  offset
//   28  u64  appended, Unix ns
//   36       key (UTF-8), value
//
// The header has a check of its own, so that a value that went bad still tells which offset was lost and where the next
// entry begins. The salt is random for each file: a value that holds a copy of log files (a record may hold anything)
// is never taken for entries when the reader looks for the next one behind damage.
import { crc32 } from 'node:zlib'

export const HEADER_BYTES = 36
export const MAX_KEY_BYTES = 0xffff
/** Lengths are u32 and a Buffer must hold one entry. */
export const MAX_VALUE_BYTES = 0x3fff_ffff
export const MAGIC = Buffer.from([0x9d, 0x4c, 0x67, 0x31])
const MAGIC_NUMBER = MAGIC.readUInt32LE()
const REMOVED = 1
/** Smaller values are copied together, larger ones go to the disk from where they are. */
const COPY_BYTES = 4096

/** `value` undefined: the key is removed. */
export interface Writable {
  key: string
  keyBytes: number
  value: Uint8Array | undefined
}

export interface Header {
  offset: number
  keyBytes: number
  valueBytes: number
  removed: boolean
  bodyCheck: number
}

export const entryBytes = (entry: Writable): number =>
  HEADER_BYTES + entry.keyBytes + (entry.value?.length ?? 0)

/** The buffers to write, one after the other, for entries with consecutive offsets. */
export function encode(
  entries: readonly Writable[],
  firstOffset: number,
  unixNano: bigint,
  salt: number,
): Uint8Array[] {
  let bytes = 0
  for (const entry of entries) bytes += entryBytes(entry) - (isCopied(entry) ? 0 : (entry.value?.length ?? 0))
  const copied = Buffer.allocUnsafe(bytes)
  const buffers: Uint8Array[] = []
  let from = 0
  let at = 0
  let offset = firstOffset
  for (const entry of entries) {
    const keyAt = at + HEADER_BYTES
    copied.write(entry.key, keyAt, 'utf8')
    const valueAt = keyAt + entry.keyBytes
    let check = crc32(copied.subarray(keyAt, valueAt))
    if (entry.value !== undefined) check = crc32(entry.value, check)
    writeHeader(copied, at, entry, offset++, unixNano, check, salt)
    at = valueAt
    if (entry.value === undefined) continue
    if (isCopied(entry)) {
      copied.set(entry.value, at)
      at += entry.value.length
    } else {
      buffers.push(copied.subarray(from, at), entry.value)
      from = at
    }
  }
  if (at > from) buffers.push(copied.subarray(from, at))
  return buffers
}

const isCopied = (entry: Writable): boolean => entry.value === undefined || entry.value.length <= COPY_BYTES

function writeHeader(
  into: Buffer,
  at: number,
  entry: Writable,
  offset: number,
  unixNano: bigint,
  bodyCheck: number,
  salt: number,
): void {
  into.writeUInt32LE(MAGIC_NUMBER, at)
  into.writeUInt32LE(bodyCheck, at + 8)
  into.writeUInt32LE(entry.value?.length ?? 0, at + 12)
  into.writeUInt16LE(entry.keyBytes, at + 16)
  into.writeUInt16LE(entry.value === undefined ? REMOVED : 0, at + 18)
  into.writeUInt32LE(offset % 0x1_0000_0000, at + 20)
  into.writeUInt32LE(Math.floor(offset / 0x1_0000_0000), at + 24)
  into.writeBigUInt64LE(unixNano, at + 28)
  into.writeUInt32LE(crc32(into.subarray(at + 8, at + HEADER_BYTES), salt), at + 4)
}

/** Undefined when no intact header of this file stands there. 36 bytes must be at hand. */
export function parseHeader(from: Buffer, at: number, salt: number): Header | undefined {
  if (from.readUInt32LE(at) !== MAGIC_NUMBER) return undefined
  if (from.readUInt32LE(at + 4) !== crc32(from.subarray(at + 8, at + HEADER_BYTES), salt)) return undefined
  const high = from.readUInt32LE(at + 24)
  const valueBytes = from.readUInt32LE(at + 12)
  if (high > 0x1f_ffff || valueBytes > MAX_VALUE_BYTES) return undefined
  return {
    offset: high * 0x1_0000_0000 + from.readUInt32LE(at + 20),
    keyBytes: from.readUInt16LE(at + 16),
    valueBytes,
    removed: (from.readUInt16LE(at + 18) & REMOVED) !== 0,
    bodyCheck: from.readUInt32LE(at + 8),
  }
}

export const totalBytes = (header: Header): number => HEADER_BYTES + header.keyBytes + header.valueBytes

export function isBodyIntact(header: Header, from: Buffer, at: number): boolean {
  return crc32(from.subarray(at + HEADER_BYTES, at + totalBytes(header))) === header.bodyCheck
}

export const keyOf = (header: Header, from: Buffer, at: number): string =>
  from.toString('utf8', at + HEADER_BYTES, at + HEADER_BYTES + header.keyBytes)

export const valueOf = (header: Header, from: Buffer, at: number): Buffer =>
  from.subarray(at + HEADER_BYTES + header.keyBytes, at + totalBytes(header))

export const unixNanoOf = (from: Buffer, at: number): bigint => from.readBigUInt64LE(at + 28)
