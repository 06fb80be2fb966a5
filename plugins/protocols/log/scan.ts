// Walks the entries of a part of a file, checks them, and finds the next intact one behind damage. Used to read, and
// when a log is opened to find where its newest files end.
import type { LogFile } from './disk.ts'
import { systemCode } from './errors.ts'
import { HEADER_BYTES, isBodyIntact, MAGIC, parseHeader, totalBytes } from './entry.ts'
import type { Header } from './entry.ts'

const SECTOR_BYTES = 512
const BLOCK_BYTES = 4096

export interface Part {
  file: LogFile
  start: number
  end: number
  salt: number
  /** The offset that should come first. */
  expected: number
  /** Entries from here on were given up when a write failed; they are written again in the next file. */
  below: number
}

export interface Visitor {
  /** Asked before each entry; true ends the walk in front of it. */
  full(header: Header | undefined): boolean
  entry(header: Header, window: Buffer, at: number, position: number): void
  /** Offsets [from, to) are missing in front of an entry, and so many bytes were unreadable. */
  gap(from: number, to: number, bytes: number): void
}

export interface End {
  /** Where the next entry belongs, or where the walk can go on. */
  position: number
  expected: number
  /** False when the visitor had enough. */
  atEnd: boolean
  /** What stands between `position` and the end, and which offsets are known to be lost in it: [expected, lostTo). */
  tail: { bytes: number; lostTo: number; kind: 'none' | 'torn' | 'damaged' }
}

/** A piece of the file in memory. */
export class Window {
  buffer: Buffer = Buffer.alloc(0)
  start = 0
  readonly #file: LogFile
  readonly #end: number
  readonly #chunkBytes: number
  readonly #reuse: boolean

  /** With `reuse` what was handed out before is overwritten: for walks that keep nothing. */
  constructor(file: LogFile, end: number, chunkBytes: number, reuse: boolean) {
    this.#file = file
    this.#end = end
    this.#chunkBytes = chunkBytes
    this.#reuse = reuse
  }

  has(position: number, bytes: number): boolean {
    return position >= this.start && position + bytes <= this.start + this.buffer.length
  }

  async load(position: number, bytes: number): Promise<void> {
    const wanted = Math.min(Math.max(bytes, this.#chunkBytes), this.#end - position)
    const room =
      this.#reuse && this.buffer.buffer.byteLength >= wanted
        ? Buffer.from(this.buffer.buffer, 0, wanted)
        : Buffer.allocUnsafeSlow(wanted)
    const filled = await readWhatCanBe(this.#file, room, position)
    room.fill(0, filled) // someone cut the file: zeros are no entries
    this.buffer = room
    this.start = position
  }
}

/** A block that the disk cannot read becomes zeros, so that it is found to be damaged like any other. */
async function readWhatCanBe(file: LogFile, into: Buffer, position: number): Promise<number> {
  try {
    return await file.read(into, position)
  } catch (error) {
    if (systemCode(error) !== 'EIO') throw error
  }
  for (let at = 0; at < into.length; at += BLOCK_BYTES) {
    const block = into.subarray(at, at + BLOCK_BYTES)
    try {
      block.fill(0, await file.read(block, position + at))
    } catch (error) {
      if (systemCode(error) !== 'EIO') throw error
      block.fill(0)
    }
  }
  return into.length
}

export async function walk(part: Part, window: Window, visitor: Visitor): Promise<End> {
  let { start: position, expected } = part
  let bad = -1 // where unreadable bytes began
  let lostTo = 0 // told by headers whose bodies are bad
  let torn = false
  const stop = (atEnd: boolean, kind: End['tail']['kind']): End => {
    const at = bad < 0 ? position : bad
    const bytes = atEnd ? part.end - at : 0
    return { position: at, expected, atEnd, tail: { bytes, lostTo: Math.max(lostTo, expected), kind } }
  }
  while (part.end - position >= HEADER_BYTES) {
    if (visitor.full(undefined)) return stop(false, 'none')
    if (!window.has(position, HEADER_BYTES)) await window.load(position, HEADER_BYTES)
    const header = parseHeader(window.buffer, position - window.start, part.salt)
    if (header === undefined) {
      if (bad < 0) bad = position
      position = await nextMagic(window, position + 1, part.end)
      continue
    }
    if (header.offset >= part.below) return stop(true, 'none')
    const total = totalBytes(header)
    if (position + total > part.end) {
      torn = true
      lostTo = Math.max(lostTo, header.offset)
      break
    }
    if (visitor.full(header)) return stop(false, 'none')
    if (!window.has(position, total)) await window.load(position, total)
    const at = position - window.start
    if (header.offset < expected || !isBodyIntact(header, window.buffer, at)) {
      if (bad < 0) bad = position
      const unwritten = await endsUnwritten(window, position, total, part.end)
      lostTo = Math.max(lostTo, header.offset + (unwritten ? 0 : 1))
      position += total
      continue
    }
    if (bad >= 0 || header.offset > expected) {
      visitor.gap(expected, header.offset, bad < 0 ? 0 : position - bad)
      bad = -1
    }
    visitor.entry(header, window.buffer, at, position)
    expected = header.offset + 1
    position += total
  }
  return stop(true, await kindOfTail(part, bad < 0 ? position : bad, torn && bad < 0, lostTo > expected))
}

/** Where the next entry may begin, or the end. */
async function nextMagic(window: Window, from: number, end: number): Promise<number> {
  let position = from
  while (end - position >= HEADER_BYTES) {
    if (!window.has(position, MAGIC.length)) await window.load(position, MAGIC.length)
    const found = window.buffer.indexOf(MAGIC, position - window.start)
    if (found >= 0) return window.start + found
    position = window.start + window.buffer.length - MAGIC.length + 1
  }
  return end
}

/**
 * A write that was cut short by a crash was never acknowledged, and is no damage: it ends in the middle of an entry or,
 * after a loss of power, in sectors that were never written. Other bytes that make no sense are.
 */
async function kindOfTail(
  part: Part,
  from: number,
  torn: boolean,
  lost: boolean,
): Promise<End['tail']['kind']> {
  const bytes = part.end - from
  if (bytes === 0) return 'none'
  if (lost) return 'damaged'
  if (torn || bytes < HEADER_BYTES) return 'torn'
  const sample = Buffer.alloc(Math.min(bytes, 16 * SECTOR_BYTES))
  await readWhatCanBe(part.file, sample, part.end - sample.length)
  return hasUnwrittenSector(sample, part.end - sample.length) ? 'torn' : 'damaged'
}

/** Looks at the entry up to the end of the sector in which it ends. */
async function endsUnwritten(window: Window, position: number, total: number, end: number): Promise<boolean> {
  const whole = Math.ceil((position + total) / SECTOR_BYTES) * SECTOR_BYTES
  const bytes = Math.min(whole, end) - position
  if (!window.has(position, bytes)) await window.load(position, bytes)
  const at = position - window.start
  return hasUnwrittenSector(window.buffer.subarray(at, at + bytes), position)
}

const zeros = Buffer.alloc(SECTOR_BYTES)

function hasUnwrittenSector(bytes: Buffer, position: number): boolean {
  let at = 0
  while (at < bytes.length) {
    const length = Math.min(SECTOR_BYTES - ((position + at) % SECTOR_BYTES), bytes.length - at)
    // A few zeros where a sector begins or ends say nothing.
    if (length >= 16 && bytes.compare(zeros, 0, length, at, at + length) === 0) return true
    at += length
  }
  return false
}
