// Group commit: while one group is being written, what comes meanwhile is collected into the next. So an idle journal
// answers at once, and a busy one writes few large groups. What waits is bounded: `add` then waits for room.

/** One thing of a group. Settled when the group is, unless it failed alone. */
export interface Member<T> {
  readonly value: T
  /** Rejects this one; the group goes on without it. */
  fail: (error: unknown) => void
}

interface Waiting<T> extends Member<T> {
  readonly bytes: number
  readonly done: PromiseWithResolvers<void>
}

export class GroupCommit<T> {
  readonly #commit: (group: readonly Member<T>[]) => Promise<void>
  readonly #limits: { waitingBytes: number; groupBytes: number }
  #waiting: Waiting<T>[] = []
  #bytes = 0
  #room: PromiseWithResolvers<void> | undefined
  #running: Promise<void> | undefined

  constructor(
    commit: (group: readonly Member<T>[]) => Promise<void>,
    limits: { waitingBytes: number; groupBytes: number },
  ) {
    this.#commit = commit
    this.#limits = limits
  }

  /** Of all that waits or is being written. */
  get bytes(): number {
    return this.#bytes
  }

  /** Resolves when there is room for more. */
  async room(): Promise<void> {
    while (this.#isFull) await this.#nextRoom()
  }

  get #isFull(): boolean {
    return this.#bytes >= this.#limits.waitingBytes
  }

  #nextRoom(): Promise<void> {
    this.#room ??= Promise.withResolvers<void>()
    return this.#room.promise
  }

  /** Resolves when the group that holds the value is committed; rejects with what `commit` or `fail` said. */
  async add(value: T, bytes: number): Promise<void> {
    // Not room(): between its answer and this line others would take the room.
    while (this.#isFull) await this.#nextRoom()
    const done = Promise.withResolvers<void>()
    this.#bytes += bytes
    this.#waiting.push({ value, bytes, done, fail: done.reject })
    this.#running ??= this.#run()
    return done.promise
  }

  /** Resolves when nothing waits any more. */
  async drained(): Promise<void> {
    while (this.#running) await this.#running
  }

  async #run(): Promise<void> {
    // What arrives in the same turn belongs together.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const group = this.#take()
      try {
        await this.#commit(group)
        for (const { done } of group) done.resolve()
      } catch (error) {
        for (const { done } of group) done.reject(error)
      }
      for (const { bytes } of group) this.#bytes -= bytes
      this.#room?.resolve()
      this.#room = undefined
    }
    this.#running = undefined
  }

  #take(): Waiting<T>[] {
    let count = 0
    let bytes = 0
    for (const one of this.#waiting) {
      if (count > 0 && bytes + one.bytes > this.#limits.groupBytes) break
      bytes += one.bytes
      count++
    }
    return this.#waiting.splice(0, count)
  }
}
