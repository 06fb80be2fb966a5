// A set of sequence numbers as merged ranges: how account and writer know which batches of a stream they have had.
// A healthy stream is one range, whatever its length; brokers reorder, and buffers drop, so there may be gaps.
import type { Reader, Writer } from '../plugins/contract/wire.ts'

export type Range = readonly [from: number, to: number]

/** More gaps than this are closed, oldest first: sequence numbers in them count as gone for good. */
export const maxRanges = 4096

export class IntervalSet {
  /** from, to, from, to …: ascending, never touching, ends included. */
  readonly #bounds: number[] = []
  readonly #limit: number
  #size = 0
  #closed = 0

  constructor(limit = maxRanges) {
    this.#limit = limit
  }

  /** How many numbers were added; those of closed gaps do not count. */
  get size(): number {
    return this.#size
  }

  /** How many numbers lay in gaps that were closed because there were too many. `has` is true for them. */
  get closed(): number {
    return this.#closed
  }

  get rangeCount(): number {
    return this.#bounds.length / 2
  }

  /** The largest number, or 0. */
  get last(): number {
    return this.#bounds.at(-1) ?? 0
  }

  /** All from 1 to this are there; 0 when 1 is missing. */
  get through(): number {
    return this.#bounds[0] === 1 ? (this.#bounds[1] ?? 0) : 0
  }

  /** True when the number was not there. */
  add(seq: number): boolean {
    const bounds = this.#bounds
    const last = bounds.length - 1
    if (last > 0 && seq === (bounds[last] ?? 0) + 1) {
      bounds[last] = seq
      this.#size++
      return true
    }
    const at = this.#find(seq)
    if (seq >= (bounds[at] ?? Infinity)) return false
    const touchesBefore = at > 0 && (bounds[at - 1] ?? 0) + 1 === seq
    const touchesAfter = bounds[at] === seq + 1
    if (touchesBefore && touchesAfter) bounds.splice(at - 1, 2)
    else if (touchesBefore) bounds[at - 1] = seq
    else if (touchesAfter) bounds[at] = seq
    else {
      bounds.splice(at, 0, seq, seq)
      this.#closeOldest()
    }
    this.#size++
    return true
  }

  /** Takes back what `add` did. False when the number is not there. */
  remove(seq: number): boolean {
    const bounds = this.#bounds
    const at = this.#find(seq)
    const from = bounds[at]
    const to = bounds[at + 1]
    if (from === undefined || to === undefined || seq < from) return false
    if (from === to) bounds.splice(at, 2)
    else if (seq === from) bounds[at] = seq + 1
    else if (seq === to) bounds[at + 1] = seq - 1
    else {
      bounds.splice(at + 1, 0, seq - 1, seq + 1)
      this.#closeOldest()
    }
    this.#size--
    return true
  }

  has(seq: number): boolean {
    return seq >= (this.#bounds[this.#find(seq)] ?? Infinity)
  }

  /** The range that holds the number. */
  rangeOf(seq: number): Range | undefined {
    const at = this.#find(seq)
    const from = this.#bounds[at]
    const to = this.#bounds[at + 1]
    return from !== undefined && to !== undefined && seq >= from ? [from, to] : undefined
  }

  ranges(): Range[] {
    const ranges: Range[] = []
    for (let at = 0; at < this.#bounds.length; at += 2) {
      ranges.push([this.#bounds[at] ?? 0, this.#bounds[at + 1] ?? 0])
    }
    return ranges
  }

  /** Gaps from 1 up to and including `upTo`; closed ones are not among them (`closed` counts them). */
  missing(upTo: number): Range[] {
    const gaps: Range[] = []
    let expected = 1
    for (const [from, to] of this.ranges()) {
      if (from > upTo) break
      if (from > expected) gaps.push([expected, from - 1])
      expected = to + 1
    }
    if (expected <= upTo) gaps.push([expected, upTo])
    return gaps
  }

  /** Adds all that the other holds. */
  merge(other: IntervalSet): void {
    const all = [...this.ranges(), ...other.ranges()].sort((a, b) => a[0] - b[0])
    const bounds: number[] = []
    let covered = 0
    for (const [from, to] of all) {
      const end = bounds.length - 1
      if (end > 0 && from <= (bounds[end] ?? 0) + 1) bounds[end] = Math.max(bounds[end] ?? 0, to)
      else bounds.push(from, to)
    }
    for (let at = 0; at < bounds.length; at += 2) covered += (bounds[at + 1] ?? 0) - (bounds[at] ?? 0) + 1
    this.#bounds.splice(0, this.#bounds.length, ...bounds)
    // A number in a gap that either side closed may have been added by the other: the larger count is the safer one.
    this.#closed = Math.max(this.#closed, other.closed)
    this.#size = covered - this.#closed
    this.#closeOldest()
  }

  clone(): IntervalSet {
    const copy = new IntervalSet(this.#limit)
    copy.#bounds.push(...this.#bounds)
    copy.#size = this.#size
    copy.#closed = this.#closed
    return copy
  }

  /** The numbers of these ranges, in any order. */
  static from(ranges: readonly Range[], limit = maxRanges): IntervalSet {
    const given = new IntervalSet(Infinity)
    let ascending = true
    for (const [from, to] of ranges) {
      ascending &&= from > given.last + 1 || given.last === 0
      if (!ascending) break
      given.#bounds.push(from, to)
      given.#size += to - from + 1
    }
    const set = new IntervalSet(limit)
    if (ascending) set.merge(given)
    else for (const range of ranges) set.merge(IntervalSet.from([range]))
    return set
  }

  /** Ranges as distances, so that a healthy stream takes a few bytes. */
  encode(out: Writer): void {
    out.varint(this.#closed)
    out.varint(this.rangeCount)
    let previous = 0
    for (const bound of this.#bounds) {
      out.varint(bound - previous)
      previous = bound
    }
  }

  /** @throws WireError when truncated or not ascending. */
  static decode(from: Reader, limit = maxRanges): IntervalSet {
    const set = new IntervalSet(limit)
    set.#closed = from.varint()
    const count = from.varint()
    let previous = 0
    for (let index = 0; index < count; index++) {
      const start = previous + from.varint()
      const end = start + from.varint()
      if (start < 1 || (index > 0 && start <= previous + 1)) throw new RangeError('ranges that do not ascend')
      set.#bounds.push(start, end)
      set.#size += end - start + 1
      previous = end
    }
    set.#size -= set.#closed
    set.#closeOldest()
    return set
  }

  /** Index of the first range that ends at or after the number; the length when there is none. */
  #find(seq: number): number {
    const bounds = this.#bounds
    let low = 0
    let high = bounds.length / 2
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((bounds[middle * 2 + 1] ?? 0) < seq) low = middle + 1
      else high = middle
    }
    return low * 2
  }

  #closeOldest(): void {
    const bounds = this.#bounds
    while (bounds.length > this.#limit * 2) {
      this.#closed += (bounds[2] ?? 0) - (bounds[1] ?? 0) - 1
      bounds.splice(1, 2)
    }
  }
}
