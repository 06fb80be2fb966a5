// The filesystem group of the system source: which mounts count, and how full they are.
import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { Attributes } from '../contract/index.ts'
import { ratio } from './proc-reading.ts'
import type { Reading } from './proc-reading.ts'
import { parseMountinfo } from './proc.ts'
import type { Mount } from './proc.ts'

/** How long a file system may take to say how full it is. */
const answerLimitMs = 5000

interface Space {
  attributes: Attributes
  blockSize: bigint
  blocks: bigint
  free: bigint
  /** Free for users other than root. */
  available: bigint
  inodes: bigint
  inodesFree: bigint
}

const inState = (attributes: Attributes, state: string): Attributes => ({
  ...attributes,
  'system.filesystem.state': state,
})

export class Spaces {
  readonly #type: (name: string) => boolean
  readonly #mountPoint: (name: string) => boolean
  /** Mount points that have not answered yet: a dead server keeps a thread until it is back, and may keep only one. */
  readonly #asked = new Set<string>()

  constructor(type: (name: string) => boolean, mountPoint: (name: string) => boolean) {
    this.#type = type
    this.#mountPoint = mountPoint
  }

  async read(reading: Reading, signal: AbortSignal): Promise<void> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(answerLimitMs)])
    const measured = await Promise.all(this.#mounts(reading).map((mount) => this.#ask(reading, mount, limit)))
    const found = measured.filter((space) => space !== undefined)
    for (const { attributes, blockSize, blocks, free, available } of found) {
      const add = (state: string, amount: bigint) =>
        reading.add('system.filesystem.usage', amount * blockSize, inState(attributes, state))
      add('used', blocks - free)
      add('free', available)
      add('reserved', free - available)
    }
    for (const { attributes, blocks, free, available } of found) {
      const used = blocks - free
      if (used + available === 0n) continue
      reading.add('system.filesystem.utilization', ratio(used, used + available), attributes)
    }
    for (const { attributes, blocks, blockSize } of found) {
      reading.add('system.filesystem.limit', blocks * blockSize, attributes)
    }
    for (const { attributes, inodes, inodesFree } of found) {
      if (inodes === 0n) continue // btrfs and vfat have no fixed number
      reading.add('dpu.filesystem.inode.usage', inodes - inodesFree, inState(attributes, 'used'))
      reading.add('dpu.filesystem.inode.usage', inodesFree, inState(attributes, 'free'))
    }
  }

  #mounts(reading: Reading): Mount[] {
    const mounts = new Map<string, Mount>()
    const all = parseMountinfo(reading.ofMachine('mountinfo') ?? '')
    for (const mount of all.toSorted((a, b) => a.mountPoint.length - b.mountPoint.length)) {
      // A bind mount shows the same file system again.
      if (mounts.has(mount.id) || !this.#type(mount.type) || !this.#mountPoint(mount.mountPoint)) continue
      mounts.set(mount.id, mount)
    }
    return reading.first('file systems', [...mounts.values()], ({ mountPoint }) => mountPoint)
  }

  /** Undefined for a file system that does not answer: the others do not wait for it, nor does the next reading. */
  async #ask(reading: Reading, mount: Mount, limit: AbortSignal): Promise<Space | undefined> {
    const path = join(reading.roots.files, mount.mountPoint)
    if (this.#asked.has(path)) return undefined
    this.#asked.add(path)
    const late = Promise.withResolvers<never>()
    const giveUp = () => late.reject(new Error(`no answer within ${answerLimitMs} ms`))
    limit.addEventListener('abort', giveUp, { once: true })
    const asked = statfs(path, { bigint: true }).finally(() => this.#asked.delete(path))
    try {
      const { bsize, blocks, bfree, bavail, files, ffree } = await Promise.race([asked, late.promise])
      if (blocks === 0n) return undefined
      const attributes = {
        'system.device': mount.device,
        'system.filesystem.mountpoint': mount.mountPoint,
        'system.filesystem.type': mount.type,
        'system.filesystem.mode': mount.mode,
      }
      const space = { attributes, blockSize: bsize, blocks, free: bfree, available: bavail }
      return { ...space, inodes: files, inodesFree: ffree }
    } catch (cause) {
      asked.catch(() => undefined)
      reading.files.tell(path, cause)
      return undefined
    } finally {
      limit.removeEventListener('abort', giveUp)
    }
  }
}
