// How much of the records that cannot wait is dropped before any work is done with them, by class: a level that rises
// through the classes from the least precious, the first step of it a part of `log`, the last one all but everything.
import { classes, rank } from '../plugins/contract/index.ts'
import type { Class } from '../plugins/contract/index.ts'

/** Of the least precious class so much is let through whatever comes, to see when the flood is over. */
const leastKept = 0.002
/** In one step, what is kept of it becomes so much less, or more. */
const [fastestLess, fastestMore] = [0.6, 1.2]
/** What is more precious is shed only where shedding that class was not enough, and slowly: the load lags behind. */
const [slowlyMore, soonLess] = [0.05, 0.1]
/** What may be used while the account is in debt, so that it comes out of it. */
const leastTarget = 0.7

export class Shedding {
  readonly #listeners = new Set<() => void>()
  /** 0 sheds nothing, 1 all of `log`, 1.5 half of `resource` besides, up to the number of classes. */
  level = 0
  #ofLoad = 0
  #ofMemory = 0

  /** Of a class, the part that is dropped. */
  part(name: Class): number {
    const step = this.level - (classes.length - 1 - rank[name])
    return step <= 0 ? 0 : Math.min(1, step)
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /**
   * One step, from what was used of what may be used (1 for all), and how full the account is (1 full, 0 empty, below
   * that in debt).
   */
  adjust(load: number, account: number): void {
    // A burst is what the account is for.
    const target = account > 0.5 ? 4 : account > 0 ? 1 + account / 5 : Math.max(leastTarget, 1 + account / 20)
    const ratio = target / Math.max(load, 0.001)
    let level = this.#ofLoad
    if (level > 1) level += ratio < 0.9 ? slowlyMore : ratio > 1.1 ? -soonLess : 0
    else {
      const kept = Math.max(leastKept, 1 - level) * Math.max(fastestLess, Math.min(fastestMore, ratio))
      level = kept < leastKept && ratio < 0.9 ? 1 + slowlyMore : 1 - Math.max(leastKept, kept)
    }
    this.#ofLoad = Math.max(0, Math.min(classes.length, level))
    this.#set()
  }

  /** How short memory is, 0 to 1: it follows at once what is let in, so there are no steps. */
  shortOf(memory: number): void {
    this.#ofMemory = memory * classes.length
    this.#set()
  }

  /** Sheds nothing until it is adjusted again. */
  reset(): void {
    this.#ofLoad = this.#ofMemory = 0
    this.#set()
  }

  #set(): void {
    const bounded = Math.min(classes.length, Math.max(this.#ofLoad, this.#ofMemory))
    if (bounded === this.level) return
    this.level = bounded
    for (const listener of this.#listeners) listener()
  }
}
