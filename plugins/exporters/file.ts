// Appends batches to a file as OTLP/JSON, one request a line, as the OpenTelemetry Collector's file exporter does. A
// batch is delivered when its line is on disk; lines that come together share one fsync.
import { mkdir, open, rename, rm, stat } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import * as z from 'zod'
import { defineExporter } from '../contract/define.ts'
import type { Context, Exporter } from '../contract/define.ts'
import { RetryableError } from '../contract/errors.ts'
import { size } from '../contract/settings.ts'
import { requestToJson } from '../protocols/otlp/json.ts'

const config = z.strictObject({
  path: z.string().min(1).describe('File to append to; its directory is made where it is missing.'),
  max_size: size
    .refine((bytes) => bytes >= 4096, 'expected at least 4KiB')
    .prefault('100MiB')
    .describe('A file that would grow beyond it is renamed to PATH.1, that one to PATH.2, and so on.'),
  max_files: z.int().min(1).max(1000).default(5).describe('Files kept, the one being written included.'),
})
type Config = z.output<typeof config>

export default defineExporter({
  name: 'file',
  summary: 'Appends batches to a file as OTLP/JSON, one request a line, with rotation by size.',
  config,
  create: (config, context) => create(config, context),
})

interface Waiting {
  line: Buffer
  resolve: () => void
  reject: (error: Error) => void
}

function create(config: Config, context: Context): Exporter {
  const file = new RotatingFile(config)
  let waiting: Waiting[] = []
  let writing: Promise<void> | undefined

  /** Writes what has come together, again and again, until nothing waits. */
  async function drain(): Promise<void> {
    while (waiting.length > 0) {
      const lines = waiting
      waiting = []
      try {
        await file.append(lines.map(({ line }) => line))
        for (const { resolve } of lines) resolve()
      } catch (cause) {
        for (const { reject } of lines) reject(failureOf(config.path, cause))
      }
    }
    writing = undefined
  }

  return {
    async export({ signal, bytes, header }, abort) {
      abort.throwIfAborted()
      // A batch of totals only is for the ledger; there is nothing in it to write.
      if (header.count === 0) return { rejected: 0 }
      const line = Buffer.from(`${requestToJson(signal, bytes)}\n`)
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      waiting.push({ line, resolve, reject })
      writing ??= drain()
      await promise
      return { rejected: 0 }
    },
    async run(signal) {
      context.ready(config.path)
      if (!signal.aborted) {
        const { promise, resolve } = Promise.withResolvers<void>()
        signal.addEventListener('abort', () => resolve(), { once: true })
        await promise
      }
      await writing
      await file.close()
    },
  }
}

function failureOf(path: string, cause: unknown): Error {
  const { code } = cause as NodeJS.ErrnoException
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new RetryableError('DISK_FULL', `no space left for ${path}`, { cause })
  }
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return new RetryableError('PERMISSION_DENIED', `${path} cannot be written`, { cause })
  }
  return cause instanceof RetryableError
    ? cause
    : new RetryableError('PEER_UNREACHABLE', `${path} cannot be written`, { cause })
}

/** One file and its predecessors. Only one call of `append` at a time. */
class RotatingFile {
  readonly #config: Config
  #handle: FileHandle | undefined
  #size = 0

  constructor(config: Config) {
    this.#config = config
  }

  /** Resolves when the lines are on disk. What a failed write left is cut off again, so that no line is broken. */
  async append(lines: readonly Buffer[]): Promise<void> {
    let from = 0
    while (from < lines.length) {
      const handle = await this.#opened(lines[from]?.length ?? 0)
      let to = from
      let bytes = 0
      while (
        to < lines.length &&
        (to === from || this.#size + bytes + (lines[to]?.length ?? 0) <= this.#config.max_size)
      ) {
        bytes += lines[to++]?.length ?? 0
      }
      await this.#write(handle, Buffer.concat(lines.slice(from, to), bytes))
      from = to
    }
  }

  async #write(handle: FileHandle, bytes: Buffer): Promise<void> {
    try {
      for (let written = 0; written < bytes.length;) {
        const result = await handle.write(bytes, written, bytes.length - written, this.#size + written)
        written += result.bytesWritten
      }
      await handle.datasync()
    } catch (error) {
      await handle.truncate(this.#size).catch(() => undefined)
      throw error
    }
    this.#size += bytes.length
  }

  /** The file with room for a line; a line larger than the limit gets a file of its own. */
  async #opened(lineBytes: number): Promise<FileHandle> {
    const { path, max_size } = this.#config
    if (this.#handle && (await this.#isGone(this.#handle))) await this.close()
    this.#handle ??= await this.#open()
    if (this.#size > 0 && this.#size + lineBytes > max_size) {
      await this.close()
      await this.#rotate(path)
      this.#handle = await this.#open()
    }
    return this.#handle
  }

  /** Somebody else moved or removed the file: go on in a new one, as a reader of PATH expects. */
  async #isGone(handle: FileHandle): Promise<boolean> {
    const [ours, there] = await Promise.all([handle.stat(), stat(this.#config.path).catch(() => undefined)])
    return there?.ino !== ours.ino
  }

  async #open(): Promise<FileHandle> {
    const { path } = this.#config
    await mkdir(dirname(path), { recursive: true })
    // Not "append": a position is needed to cut off what a failed write left.
    const handle = await open(path, 'r+').catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
      return open(path, 'wx+', 0o640)
    })
    try {
      if (!(await handle.stat()).isFile()) {
        throw new RetryableError('CONFIG_INVALID', `${path} is no regular file`)
      }
      this.#size = await endOfLines(handle)
      return handle
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  async #rotate(path: string): Promise<void> {
    const { max_files } = this.#config
    const name = (index: number): string => (index === 0 ? path : `${path}.${index}`)
    await rm(name(max_files - 1), { force: true })
    for (let index = max_files - 2; index >= 0; index--) {
      await rename(name(index), name(index + 1)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error
      })
    }
  }

  async close(): Promise<void> {
    const handle = this.#handle
    this.#handle = undefined
    await handle?.close()
  }
}

/** How each line of ours begins. */
const lineStart = Buffer.from('{"resource')
const longestTail = 4 * 1024 * 1024

/**
 * The position to go on from. A process that was killed may have left a part of a line, whose batch comes again: it
 * is cut off. Anything else without a newline at its end is not ours, and only gets one.
 */
async function endOfLines(handle: FileHandle): Promise<number> {
  const { size } = await handle.stat()
  const tail = Buffer.alloc(Math.min(size, longestTail))
  await handle.read(tail, 0, tail.length, size - tail.length)
  const start = tail.lastIndexOf(0x0a) + 1
  if (start === tail.length) return size
  const rest = tail.subarray(start)
  const shared = Math.min(rest.length, lineStart.length)
  if ((start > 0 || tail.length === size) && rest.subarray(0, shared).equals(lineStart.subarray(0, shared))) {
    const end = size - rest.length
    await handle.truncate(end)
    return end
  }
  await handle.write('\n', size)
  return size + 1
}
