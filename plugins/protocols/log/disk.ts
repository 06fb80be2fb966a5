// The few file operations that the log is made of, so that the crash test can put a simulated disk in their place, and
// their implementation on node:fs. Callbacks are used where it counts: a FileHandle costs several times as much.
import * as fs from 'node:fs'
import { dirname } from 'node:path'
import { systemCode } from './errors.ts'
import { lockDirectory } from './lock.ts'

export interface LogFile {
  /** Fills `into` from the position on; fewer bytes only at the end of the file. */
  read(into: Uint8Array, position: number): Promise<number>
  /** All of it, or rejects, having perhaps written a part. */
  write(buffers: readonly Uint8Array[], position: number): Promise<void>
  /** fdatasync: content and length are on disk. */
  sync(): Promise<void>
  truncate(bytes: number): Promise<void>
  close(): Promise<void>
}

export interface LogFileSystem {
  makeDirectory(path: string): Promise<void>
  list(directory: string): Promise<string[]>
  size(path: string): Promise<number>
  /** `create` fails on a file that exists. Both read and write. */
  open(path: string, mode: 'create' | 'update'): Promise<LogFile>
  rename(from: string, to: string): Promise<void>
  unlink(path: string): Promise<void>
  /** Names that were made, changed or removed in the directory are so on disk. */
  syncDirectory(path: string): Promise<void>
  /** Keeps other processes out; resolves with the release. */
  lock(directory: string): Promise<() => Promise<void>>
}

type Done<T> = (error: NodeJS.ErrnoException | null, value: T) => void

const call = <T>(start: (done: Done<T>) => void): Promise<T> =>
  new Promise((resolve, reject) => start((error, value) => (error ? reject(error) : resolve(value))))

class NodeFile implements LogFile {
  readonly #fd: number
  constructor(fd: number) {
    this.#fd = fd
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    let filled = 0
    while (filled < into.length) {
      const count = await call<number>((done) =>
        fs.read(this.#fd, into, filled, into.length - filled, position + filled, done),
      )
      if (count === 0) break
      filled += count
    }
    return filled
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    let rest = buffers
    let at = position
    while (rest.length > 0) {
      const count = await call<number>((done) => fs.writev(this.#fd, rest, at, done))
      if (count === 0) throw new Error('the file system wrote nothing')
      at += count
      rest = after(rest, count)
    }
  }

  sync(): Promise<void> {
    return call((done) => fs.fdatasync(this.#fd, done as fs.NoParamCallback))
  }

  truncate(bytes: number): Promise<void> {
    return call((done) => fs.ftruncate(this.#fd, bytes, done as fs.NoParamCallback))
  }

  close(): Promise<void> {
    return call((done) => fs.close(this.#fd, done as fs.NoParamCallback))
  }
}

/** What is left of the buffers when `count` bytes were taken: a full disk writes a part before it says so. */
function after(buffers: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  let index = 0
  let left = count
  for (const buffer of buffers) {
    if (left < buffer.length) break
    left -= buffer.length
    index++
  }
  const partial = buffers[index]
  if (partial === undefined) return []
  return [partial.subarray(left), ...buffers.slice(index + 1)]
}

export const nodeFileSystem: LogFileSystem = {
  async makeDirectory(path) {
    const made = await fs.promises.mkdir(path, { recursive: true, mode: 0o700 })
    if (made === undefined) return
    await this.syncDirectory(dirname(made)) // else a loss of power takes the whole directory
    for (let parent = dirname(path); parent.startsWith(made); parent = dirname(parent)) {
      await this.syncDirectory(parent)
    }
  },
  list: (directory) => fs.promises.readdir(directory),
  size: async (path) => (await fs.promises.stat(path)).size,
  open: async (path, mode) =>
    new NodeFile(await call<number>((done) => fs.open(path, mode === 'create' ? 'wx+' : 'r+', 0o600, done))),
  rename: (from, to) => fs.promises.rename(from, to),
  unlink: (path) => fs.promises.unlink(path),
  async syncDirectory(path) {
    const fd = await call<number>((done) => fs.open(path, 'r', done))
    const directory = new NodeFile(fd)
    try {
      await call((done) => fs.fsync(fd, done as fs.NoParamCallback))
    } catch (error) {
      if (systemCode(error) !== 'EINVAL') throw error // file systems that cannot, such as some network mounts
    } finally {
      await directory.close()
    }
  },
  lock: lockDirectory,
}

const MAX_OPEN = 64

/** Keeps the files used last open, at most 64, and none closed under its user. */
export class OpenFiles {
  readonly #fs: LogFileSystem
  readonly #open = new Map<string, { file: Promise<LogFile>; users: number; gone: boolean }>()

  constructor(fs: LogFileSystem) {
    this.#fs = fs
  }

  async use<T>(
    path: string,
    work: (file: LogFile) => Promise<T>,
    mode: 'create' | 'update' = 'update',
  ): Promise<T> {
    const held = this.#open.get(path) ?? { file: this.#fs.open(path, mode), users: 0, gone: false }
    this.#open.delete(path)
    this.#open.set(path, held) // newest last
    held.users++
    try {
      return await work(await held.file)
    } catch (error) {
      // An open that failed must be tried again the next time.
      if (this.#open.get(path) === held && (await failed(held.file))) this.#open.delete(path)
      throw error
    } finally {
      held.users--
      if (held.users === 0 && held.gone) await shut(held.file)
      if (this.#open.size > MAX_OPEN) await this.#evict()
    }
  }

  /** Closes the file once nobody uses it. */
  async release(path: string): Promise<void> {
    const held = this.#open.get(path)
    if (held === undefined) return
    this.#open.delete(path)
    held.gone = true
    if (held.users === 0) await shut(held.file)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open.keys()].map((path) => this.release(path)))
  }

  async #evict(): Promise<void> {
    for (const [path, held] of this.#open) {
      if (this.#open.size <= MAX_OPEN) return
      if (held.users === 0) await this.release(path)
    }
  }
}

const failed = (file: Promise<LogFile>): Promise<boolean> =>
  file.then(
    () => false,
    () => true,
  )

/** What was written is synced, so that an error of close loses nothing. */
const shut = (file: Promise<LogFile>): Promise<void> =>
  file.then((open) => open.close()).catch(() => undefined)
