// Files that logrotate and its like made of a file that is followed: app.log.1, app.log-20261121, app.log.2.gz. Finds
// them, and reads them whole or compressed from a position on.
import { createReadStream } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { createBrotliDecompress, createGunzip, createZstdDecompress } from 'node:zlib'
import { firstBytes } from './fingerprint.ts'

const compressions: Readonly<Record<string, () => NodeJS.ReadWriteStream>> = {
  '.gz': createGunzip,
  '.zst': createZstdDecompress,
  '.br': createBrotliDecompress,
}
/** What follows a file's name in that of a rotated one: a number, a date, or a word for old. */
const suffix = /^[._-](?:\d{1,14}|\d{4}-\d\d-\d\d(?:[T_-][\d:.-]+)?|\d{8}-\d{1,10}|old|bak|orig)$/
const compression = /\.(?:gz|zst|br|bz2|xz|lz4)$/
/** More than anyone keeps; a folder with more is not a log folder. */
const mostSiblings = 4096

export const isCompressed = (path: string): boolean => compression.test(path)

const decompressorOf = (path: string) => compressions[compression.exec(path)?.[0] ?? '']

/** Whether `name` is what rotation makes of `base`; both are names in one folder. */
export function isRotationOf(name: string, base: string): boolean {
  const plain = name.replace(compression, '')
  if (!plain.startsWith(base)) return followsStem(plain, base)
  const rest = plain.slice(base.length)
  return rest === '' ? plain !== name : suffix.test(rest)
}

/** `app-20261121.log` of `app.log`. */
function followsStem(plain: string, base: string): boolean {
  const dot = base.lastIndexOf('.')
  if (dot <= 0 || !plain.startsWith(base.slice(0, dot)) || !plain.endsWith(base.slice(dot))) return false
  return suffix.test(plain.slice(dot, plain.length - (base.length - dot)))
}

export interface Rotated {
  readonly path: string
  readonly dev: number
  readonly ino: number
  readonly size: number
  readonly mtimeMs: number
  readonly isCompressed: boolean
}

/** What rotation made of a file, the oldest first. What cannot be looked at is left out. */
export async function rotationsOf(path: string): Promise<Rotated[]> {
  const folder = dirname(path)
  const base = basename(path)
  const names = (await readdir(folder).catch(() => [])).filter((name) => isRotationOf(name, base))
  const found: Rotated[] = []
  for (const name of names.slice(0, mostSiblings)) {
    const at = join(folder, name)
    const stat = await statOf(at)
    if (stat?.isFile() !== true) continue
    const { dev, ino, size, mtimeMs } = stat
    found.push({ path: at, dev, ino, size, mtimeMs, isCompressed: isCompressed(name) })
  }
  return found.toSorted((a, b) => a.mtimeMs - b.mtimeMs)
}

async function statOf(path: string) {
  try {
    await using file = await open(path, 'r')
    return await file.stat()
  } catch {
    return undefined
  }
}

/** The first bytes of what a rotated file holds; empty where they cannot be read. */
export async function firstOf(rotated: Rotated, size: number): Promise<Buffer> {
  if (size === 0) return Buffer.alloc(0)
  try {
    if (!rotated.isCompressed) {
      await using file = await open(rotated.path, 'r')
      return await firstBytes(file, size)
    }
    const parts: Buffer[] = []
    let filled = 0
    for await (const part of readRotated(rotated, 0)) {
      parts.push(part)
      filled += part.length
      if (filled >= size) break
    }
    return Buffer.concat(parts).subarray(0, size)
  } catch {
    return Buffer.alloc(0)
  }
}

/** What a rotated file holds, from a position in it as it was before it was compressed. @throws where it is damaged. */
export async function* readRotated({ path }: Rotated, from: number): AsyncGenerator<Buffer> {
  if (!isCompressed(path)) {
    yield* createReadStream(path, { start: from }) as AsyncIterable<Buffer>
    return
  }
  const make = decompressorOf(path)
  if (make === undefined) throw new Error(`${path} is compressed in a way that is not known here`)
  const file = createReadStream(path)
  const decompressor = make() as unknown as Readable & NodeJS.WritableStream
  file.on('error', (error) => decompressor.destroy(error))
  file.pipe(decompressor)
  let skip = from
  try {
    for await (const part of decompressor as AsyncIterable<Buffer>) {
      if (part.length > skip) yield skip === 0 ? part : part.subarray(skip)
      skip = Math.max(0, skip - part.length)
    }
  } finally {
    file.destroy()
    decompressor.destroy()
  }
}
