// Builds the parts of a request that has to be divided: each record is copied as it came, inside copies of the
// shells around it (Resource, scope and metric with every field but the records), unknown fields included.
import { batchLimits, usualHeadroom } from '../../contract/batch.ts'
import type { Records } from '../../contract/batch.ts'
import { PointCursor } from '../../contract/point-cursor.ts'
import type { MetricType } from '../../contract/point-cursor.ts'
import type { Class, Signal } from '../../contract/signal.ts'
import { Reader, Writer, bytesType } from '../../contract/wire.ts'
import type { Walk } from './walk.ts'

/** A part of a request is below this: with its header it still is a batch. */
export const maxPartBytes = 900_000
/**
 * A shell is copied into every part that needs it. One that is larger would let 16 MiB of request become
 * gigabytes of parts.
 */
export const maxShellBytes = 64 * 1024

/** What stands around a record at one level: the tag in the level above, and the fields that are not the way down. */
export interface Shell {
  /** 0 for the request itself. */
  readonly tag: number
  /** Where its message begins in the request: unique among shells of a level. */
  readonly start: number
  /** Pairs of offsets. */
  readonly ranges: readonly number[]
  readonly size: number
}

const dataKeys: Readonly<Record<MetricType, number>> = {
  gauge: 0x2a,
  sum: 0x3a,
  histogram: 0x4a,
  exponential_histogram: 0x52,
  summary: 0x5a,
}

/** The extents of `bytes[start, end)` that hold anything but fields with one of these keys. */
function shellOf(bytes: Buffer, tag: number, start: number, end: number, ...without: number[]): Shell {
  const reader = new Reader(bytes)
  reader.position = start
  reader.end = end
  const ranges: number[] = []
  let size = 0
  while (!reader.done) {
    const began = reader.position
    const key = reader.key()
    reader.skip(key)
    if (without.includes(key)) continue
    size += reader.position - began
    // What is too large is refused; only its size is still told.
    if (size > maxShellBytes) continue
    if (ranges.at(-1) === began) ranges[ranges.length - 1] = reader.position
    else ranges.push(began, reader.position)
  }
  return { tag, start, ranges, size }
}

const headerKey = 7200 * 8 + bytesType

/** Follows a walk and keeps the shells around its current record. */
export class Shells {
  readonly levels: Shell[] = []
  /** The sum of their sizes. */
  size = 0
  readonly #walk: Walk
  readonly #points: PointCursor | undefined

  constructor(walk: Walk) {
    const { cursor } = walk
    this.#walk = walk
    this.#points = cursor instanceof PointCursor ? cursor : undefined
    this.levels.push(shellOf(cursor.bytes, 0, 0, cursor.bytes.length, 0x0a, headerKey))
  }

  get bytes(): Buffer {
    return this.#walk.cursor.bytes
  }

  follow(): void {
    const { cursor } = this.#walk
    const { container, scopeContainer } = cursor
    let changed = this.#level(1, 0x0a, container.start, container.end, 0x12)
    changed = this.#level(2, 0x12, scopeContainer.start, scopeContainer.end, 0x12) || changed
    if (this.#points) {
      const { metric, data, type } = this.#points
      changed = this.#level(3, 0x12, metric.start, metric.end, dataKeys[type]) || changed
      changed = this.#level(4, dataKeys[type], data.start, data.end, 0x0a) || changed
    }
    if (!changed) return
    this.size = 0
    for (const shell of this.levels) this.size += shell.size
  }

  #level(index: number, tag: number, start: number, end: number, without: number): boolean {
    if (this.levels[index]?.start === start) return false
    this.levels[index] = shellOf(this.#walk.cursor.bytes, tag, start, end, without)
    return true
  }
}

/** Two halves of Unix nanoseconds, and the first and last of them. */
export class Times {
  #fromLow = 0xffffffff
  #fromHigh = 0xffffffff
  #toLow = 0
  #toHigh = 0

  see(low: number, high: number): void {
    if (high < this.#fromHigh || (high === this.#fromHigh && low < this.#fromLow)) {
      this.#fromLow = low
      this.#fromHigh = high
    }
    if (high > this.#toHigh || (high === this.#toHigh && low > this.#toLow)) {
      this.#toLow = low
      this.#toHigh = high
    }
  }

  get from(): bigint {
    return (BigInt(this.#fromHigh) << 32n) | BigInt(this.#fromLow)
  }

  get to(): bigint {
    return (BigInt(this.#toHigh) << 32n) | BigInt(this.#toLow)
  }
}

/** One part in the making: records of one device and class. */
export class Part {
  readonly #out: Writer
  readonly #open: Shell[] = []
  readonly #marks: number[] = []
  readonly #times = new Times()
  #count = 0
  /** Records that follow each other in the request are copied together: the extent that is still to be copied. */
  #runStart = 0
  #runEnd = 0
  readonly device: string
  readonly class: Class

  /** `size` is what it may come to, in bytes: a guess too low costs copies. */
  constructor(device: string, name: Class, size: number) {
    this.device = device
    this.class = name
    this.#out = new Writer(usualHeadroom + size)
    this.#out.position = usualHeadroom
  }

  /** True where the record and the shells that it needs would make a begun part larger than a batch should be. */
  isFullFor(recordBytes: number, shells: Shells): boolean {
    if (this.#count === 0) return false
    const begun = this.#out.position - usualHeadroom + this.#runEnd - this.#runStart
    return (
      this.#count >= batchLimits.records || begun + sizeWithin(recordBytes, shells.size) > batchLimits.bytes
    )
  }

  add(walk: Walk, shells: Shells): void {
    const { cursor, record } = walk
    const { bytes } = cursor
    this.#times.see(walk.low, walk.high)
    this.#count++
    const tag = cursor instanceof PointCursor ? 0x0a : 0x12
    if (this.#isIn(shells.levels)) {
      if (this.#isNext(bytes, tag, record.start, record.end)) {
        this.#runEnd = record.end
        return
      }
      this.#copyRun(bytes)
    } else {
      this.#copyRun(bytes)
      this.#enter(bytes, shells.levels)
    }
    this.#out.byte(tag)
    this.#out.varint(record.end - record.start)
    this.#runStart = record.start
    this.#runEnd = record.end
  }

  #isIn(levels: readonly Shell[]): boolean {
    // Each level is within the one before it.
    return this.#open.length === levels.length && this.#open.at(-1) === levels.at(-1)
  }

  /** Whether nothing but its own tag and length, in their shortest form, is between the run and the record. */
  #isNext(bytes: Buffer, tag: number, start: number, end: number): boolean {
    const between = start - this.#runEnd
    if (between < 2 || between > 4 || bytes[this.#runEnd] !== tag) return false
    const size = end - start
    return between === (size < 0x80 ? 2 : size < 0x4000 ? 3 : 4) && size < 0x200000
  }

  #copyRun(bytes: Buffer): void {
    if (this.#runEnd > this.#runStart) this.#out.raw(bytes, this.#runStart, this.#runEnd)
    this.#runStart = this.#runEnd = 0
  }

  /** Leaves the shells that the record is not in, and opens those that it is in. */
  #enter(bytes: Buffer, levels: readonly Shell[]): void {
    let same = 0
    while (same < levels.length && this.#open[same] === levels[same]) same++
    this.#leave(same)
    for (const shell of levels.slice(same)) {
      if (shell.tag !== 0) {
        this.#out.varint(shell.tag)
        this.#marks.push(this.#out.open())
      } else this.#marks.push(-1)
      this.#open.push(shell)
      for (let index = 0; index < shell.ranges.length; index += 2) {
        this.#out.raw(bytes, shell.ranges[index], shell.ranges[index + 1])
      }
    }
  }

  #leave(depth: number): void {
    while (this.#open.length > depth) {
      this.#open.pop()
      const mark = this.#marks.pop() ?? -1
      if (mark >= 0) this.#out.close(mark)
    }
  }

  /** `bytes` is the request that all of it was read from. */
  finish(signal: Signal, bytes: Buffer): Records {
    this.#copyRun(bytes)
    this.#leave(0)
    const { from, to } = this.#times
    return {
      device: this.device,
      signal,
      class: this.class,
      count: this.#count,
      from,
      to,
      bytes: this.#out.release().subarray(usualHeadroom),
      headroom: usualHeadroom,
    }
  }
}

/** The most that a record takes with its shells, each with tag and length. */
export const sizeWithin = (recordBytes: number, shellBytes: number): number => recordBytes + shellBytes + 40
