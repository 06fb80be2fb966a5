// Seeded randomness: a stream for each name, so that what one part of the fleet draws changes nothing for another, and
// two runs of one seed draw the same.
import type { RandomGenerator } from 'pure-rand/types/RandomGenerator'
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus'

export class Random {
  readonly #words: RandomGenerator

  /** The stream of that name under the seed. */
  constructor(seed: number, name: string) {
    // FNV-1a and the finish of MurmurHash3: names that differ in one letter give seeds that have nothing in common.
    let hash = 0x811c9dc5 ^ (seed | 0)
    for (let index = 0; index < name.length; index++) {
      hash = Math.imul(hash ^ name.charCodeAt(index), 0x01000193)
    }
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
    this.#words = xoroshiro128plus(hash ^ (hash >>> 16))
    for (let index = 0; index < 8; index++) this.#words.next() // the first few show the seed
  }

  /** Uniform, 0 inclusive to 1 exclusive. */
  float(): number {
    return (this.#words.next() >>> 0) / 2 ** 32
  }

  /** Uniform whole number below `limit`. */
  below(limit: number): number {
    return Math.floor(this.float() * limit)
  }

  between(low: number, high: number): number {
    return low + this.float() * (high - low)
  }

  chance(part: number): boolean {
    return this.float() < part
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T // of a list with something in it
  }

  /** Normal distribution, mean 0, deviation 1 (Box and Muller). */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.float())) * Math.cos(2 * Math.PI * this.float())
  }

  /** Heavy-tailed, at least `least`: most are small, a few are huge; the smaller the `exponent`, the huger. */
  pareto(least: number, exponent: number): number {
    return least / (1 - this.float()) ** (1 / exponent)
  }

  /** Time to the next event of a Poisson process, of which one comes in `mean`. */
  until(mean: number): number {
    return -mean * Math.log(1 - this.float())
  }

  /** How many events of a Poisson process with that mean. */
  poisson(mean: number): number {
    if (mean > 30) return Math.max(0, Math.round(mean + Math.sqrt(mean) * this.normal()))
    const limit = Math.exp(-mean)
    let count = 0
    for (let product = this.float(); product > limit; product *= this.float()) count++
    return count
  }
}
