// What the parts of one open log share: where it is, how it speaks to the disk, and what it was told to keep to.
import type { LogFileSystem, OpenFiles } from './disk.ts'
import type { DamageList } from './damage.ts'
import type { Committer } from './group.ts'
import type { Writable } from './entry.ts'
import { MAX_KEY_BYTES } from './entry.ts'

export interface Place {
  directory: string
  fs: LogFileSystem
  files: OpenFiles
  committer: Committer
  damage: DamageList
  limits: { segmentBytes: number; maxValueBytes: number; maxTableBytes: number; rewriteBytes: number }
  /** Counts what is on disk. */
  grow: (bytes: number) => void
  /** Throws LogFullError when so many bytes more would exceed `maxBytes`. */
  checkRoom: (bytes: number) => void
  /** Files were given back to the file system. */
  freed: () => Promise<void>
}

const NAME = /^[a-z0-9_./-]{1,200}$/

export function checkName(name: string): string {
  if (NAME.test(name)) return name
  throw new RangeError(`${JSON.stringify(name)} is no name of a topic or table: ${NAME.source}`)
}

/** Checks what a caller gave, before anything of it is kept. */
export function writable(
  key: string,
  value: Uint8Array | undefined,
  limits: { maxValueBytes: number },
): Writable {
  const keyBytes = Buffer.byteLength(key)
  if (keyBytes > MAX_KEY_BYTES) {
    throw new RangeError(`a key of ${keyBytes} bytes: at most ${MAX_KEY_BYTES} are allowed`)
  }
  if (value !== undefined && value.length > limits.maxValueBytes) {
    throw new RangeError(`a value of ${value.length} bytes: at most ${limits.maxValueBytes} are allowed`)
  }
  return { key, keyBytes, value }
}
