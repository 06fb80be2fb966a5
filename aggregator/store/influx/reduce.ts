// What is made of stored points: aggregates of steps, and what counters gained. The embedded store says the same in SQL.
import type { Aggregate } from '../../query.ts'
import { numberMask } from './line.ts'

export interface Point {
  /** The time that counts, Unix ns. */
  at: bigint
  /** The low bits of the stored time: among equal times, the order of arrival. */
  number: number
  start: bigint
  /** As a double; of histograms the mean, where there is one. */
  value: number | undefined
  /** Where it is an integer. */
  exact: bigint | undefined
  /** Of histograms and summaries. */
  count: bigint | undefined
}

/** Numbers begin anew after 2^20, so of two the one that is less than half of that ahead is the later. */
const isAfter = (a: Point, b: Point): boolean => ((a.number - b.number) & numberMask) <= numberMask / 2

/** Sorts by time, then by arrival. */
export function inOrder(points: Point[]): Point[] {
  return points.sort((a, b) => {
    if (a.at !== b.at) return a.at < b.at ? -1 : 1
    return a.number === b.number ? 0 : isAfter(a, b) ? 1 : -1
  })
}

/** A number, exact where it can be. */
export interface Value {
  value: number | undefined
  exact: bigint | undefined
}

export class Reduction {
  #count = 0
  #integers = 0
  #sum = 0
  #least = Infinity
  #most = -Infinity
  #exactSum = 0n
  #exactLeast: bigint | undefined
  #exactMost: bigint | undefined
  #last: Point | (Value & { at: bigint; number: number }) | undefined

  add(point: Value & { at: bigint; number: number }): void {
    const { value = 0, exact } = point
    this.#count++
    this.#sum += value
    if (value < this.#least) this.#least = value
    if (value > this.#most) this.#most = value
    if (exact !== undefined) {
      this.#integers++
      this.#exactSum += exact
      if (this.#exactLeast === undefined || exact < this.#exactLeast) this.#exactLeast = exact
      if (this.#exactMost === undefined || exact > this.#exactMost) this.#exactMost = exact
    }
    const last = this.#last
    if (!last || point.at > last.at || (point.at === last.at && isAfter(point as Point, last as Point))) {
      this.#last = point
    }
  }

  result(aggregate: Aggregate): Value {
    const exact = <T>(value: T): T | undefined => (this.#integers === this.#count ? value : undefined)
    switch (aggregate) {
      case 'mean':
        return { value: Number(exact(this.#exactSum) ?? this.#sum) / this.#count, exact: undefined }
      case 'min':
        return { value: this.#least, exact: exact(this.#exactLeast) }
      case 'max':
        return { value: this.#most, exact: exact(this.#exactMost) }
      case 'last':
        return { value: this.#last?.value, exact: this.#last?.exact }
      case 'sum':
      case 'increase':
      case 'rate':
        return { value: this.#sum, exact: exact(this.#exactSum) }
      default:
        return aggregate satisfies never
    }
  }
}

/** What a counter counts at a point: of histograms and summaries the number of observations. */
function countedOf(point: Point): Value {
  if (point.count === undefined) return point
  return { value: Number(point.count), exact: point.count }
}

/**
 * What each point of one series added. `mode`: 0 the difference, 1 the same with resets, 2 the point itself.
 * Without a `base` the first point only begins.
 */
export function gainsOf(
  points: readonly Point[],
  base: Point | undefined,
  mode: number,
): (Value & { at: bigint; number: number })[] {
  const gains: (Value & { at: bigint; number: number })[] = []
  let before = base
  for (const point of points) {
    const { at, number } = point
    const now = countedOf(point)
    if (mode === 2) gains.push({ at, number, ...pick(now) })
    else if (before) {
      const past = countedOf(before)
      const began = point.start > before.at
      const value =
        now.value === undefined || past.value === undefined
          ? undefined
          : difference(now.value, past.value, mode, began)
      gains.push({ at, number, value, exact: exactDifference(now.exact, past.exact, mode, began) })
    }
    before = point
  }
  return gains
}

const pick = ({ value, exact }: Value): Value => ({ value, exact })

const difference = (now: number, past: number, mode: number, began: boolean): number =>
  mode === 1 && (now < past || began) ? now : now - past

function exactDifference(
  now: bigint | undefined,
  past: bigint | undefined,
  mode: number,
  began: boolean,
): bigint | undefined {
  if (now === undefined) return undefined
  if (mode === 1 && (began || (past !== undefined && now < past))) return now
  return past === undefined ? undefined : now - past
}
