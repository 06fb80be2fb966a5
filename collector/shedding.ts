// How much of the records that cannot wait is dropped before any work is done with them, by class: a level that rises
// through the classes from the least precious, the first step of it a part of `log`, the last one all but everything.
import { classes, rank } from '../plugins/contract/index.ts'
import type { Class } from '../plugins/contract/index.ts'

/** Above it the account recovers without help; below it more is shed. */
const wellOff = 0.25
const fastest = 0.25
/** While all of a class is shed, a little is let through again to see whether the flood is over. */
const easing = 0.02

export class Shedding {
  readonly #listeners = new Set<() => void>()
  /** 0 sheds nothing, 1 all of `log`, 1.5 half of `resource` besides, up to the number of classes. */
  level = 0

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
   * One step, from what was used of what may be used (1 for all), how full the account is (1 full, 0 empty, below that
   * in debt), and how short memory is (0 to 1).
   */
  adjust(load: number, account: number, memoryShort: number): void {
    let { level } = this
    if (memoryShort > 0) level += fastest * memoryShort
    else if (account < 0 && load > 0.95) {
      // What is kept of the class that is shed now is cut by as much as is too much, the debt included.
      const kept = Math.ceil(level + 1e-9) - level
      const wanted = Math.max(1 - account / 4, 1) * load
      level += Math.min(fastest, Math.max(kept * (1 - 1 / wanted), 0.01))
    } else if (account > 0 && load < 1) {
      level -= level <= 0 ? 0 : Math.max(easing, (1 - load) * (account > wellOff ? 0.1 : 0.03))
    }
    this.set(level)
  }

  set(level: number): void {
    const bounded = Math.max(0, Math.min(classes.length, level))
    if (bounded === this.level) return
    this.level = bounded
    for (const listener of this.#listeners) listener()
  }
}
