// What was found to be lost. Reading the same place again does not count it again.
import type { Damage } from './api.ts'

const MAX_KEPT = 1000

export class DamageList {
  readonly #found = new Map<string, Damage>()
  readonly #onDamage: ((damage: Damage) => void) | undefined

  constructor(onDamage: ((damage: Damage) => void) | undefined) {
    this.#onDamage = onDamage
  }

  report(damage: Damage): void {
    const key = damage.from === damage.to ? `${damage.file} ${damage.from}` : `${damage.topic} ${damage.to}`
    if (this.#found.has(key)) return
    this.#found.set(key, damage)
    if (this.#found.size > MAX_KEPT) {
      const [oldest] = this.#found.keys()
      if (oldest !== undefined) this.#found.delete(oldest)
    }
    this.#onDamage?.(damage)
  }

  get list(): Damage[] {
    return [...this.#found.values()]
  }
}
