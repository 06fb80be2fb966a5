// Who may put Records into a buffer, and who waits: the more precious a class, the more of the memory it may fill, so
// that a flood of one leaves room for those above it.
import { classes, rank } from '../plugins/contract/index.ts'
import type { Class } from '../plugins/contract/index.ts'

/** Of a limit, how much each class may bring to use: all for events, 72 % for logs. */
export const share = (name: Class): number => 1 - 0.04 * rank[name]

interface Waiter {
  bytes: number
  enter: () => void
  refuse: (error: Error) => void
}

export class Gate {
  readonly #limit: () => number
  readonly #used: () => number
  readonly #waiters: Waiter[][] = classes.map(() => [])
  waiting = 0

  constructor(limit: () => number, used: () => number) {
    this.#limit = limit
    this.#used = used
  }

  /** Whether Records of so many bytes may enter now. One that is alone always may, however large. */
  hasRoom(name: Class, bytes: number): boolean {
    const used = this.#used()
    return used === 0 || used + bytes <= this.#limit() * share(name)
  }

  /** The same, and nobody of this class or a more precious one waits. */
  mayEnter(name: Class, bytes: number): boolean {
    if (this.waiting > 0) {
      for (let at = 0; at <= rank[name]; at++) if ((this.#waiters[at]?.length ?? 0) > 0) return false
    }
    return this.hasRoom(name, bytes)
  }

  /** Calls `enter` when there is room. */
  wait(name: Class, bytes: number, enter: () => void, refuse: (error: Error) => void): void {
    this.waiting++
    this.#waiters[rank[name]]?.push({ bytes, enter, refuse })
  }

  /** Room was made. */
  admit(): void {
    for (const name of classes) {
      if (this.waiting === 0) return
      const queue = this.#waiters[rank[name]] ?? []
      let entered = 0
      for (const waiter of queue) {
        if (!this.hasRoom(name, waiter.bytes)) break
        entered++
        this.waiting--
        waiter.enter() // takes the room at once
      }
      if (entered > 0) queue.splice(0, entered)
    }
  }

  refuseAll(error: Error): void {
    for (const queue of this.#waiters) for (const waiter of queue.splice(0)) waiter.refuse(error)
    this.waiting = 0
  }
}
