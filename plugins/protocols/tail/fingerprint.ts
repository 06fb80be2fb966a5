// How a file is known again after a rename, a copy or a restart: by device and inode, and by the bytes at its beginning.
// An inode alone is given to the next file soon after the first is removed.
import { hash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'

/** A hash of the first `size` bytes of a file. */
export interface Head {
  readonly size: number
  readonly hash: string
}

/** Bytes by which files are told apart. */
export const headSize = 1024

export const noHead: Head = { size: 0, hash: '' }

export const headOf = (bytes: Uint8Array): Head => ({
  size: bytes.length,
  hash: hash('sha256', bytes, 'base64url').slice(0, 24),
})

/** Whether bytes from the beginning of a file are those of the head. */
export const isHead = (head: Head, bytes: Uint8Array): boolean =>
  bytes.length >= head.size && (head.size === 0 || headOf(bytes.subarray(0, head.size)).hash === head.hash)

/** The first bytes of an open file, up to `size`. */
export async function firstBytes(file: FileHandle, size: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(size)
  let filled = 0
  while (filled < size) {
    const { bytesRead } = await file.read(bytes, filled, size - filled, filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return bytes.subarray(0, filled)
}
