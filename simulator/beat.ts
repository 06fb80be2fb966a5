// When a device is read: between two steps of physics, so that all that a reading tells is of one moment, however late the
// machine is, and a fleet of thousands has no timer for each of its sources.

interface Reader {
  readonly intervalMs: number
  readonly read: (atMs: number) => void
  readonly end: (error?: unknown) => void
  dueMs: number
}

export class Beat {
  #readers: readonly Reader[] = []
  /** When the next of them is due. */
  #nextMs = Infinity

  /**
   * Calls `read` from `firstMs` on at the interval, which is at least that of the steps, until aborted. What it throws
   * ends it, and reaches the caller.
   */
  async every(
    firstMs: number,
    intervalMs: number,
    signal: AbortSignal,
    read: (atMs: number) => void,
  ): Promise<void> {
    if (signal.aborted) return
    const ended = Promise.withResolvers<void>()
    const end = (error?: unknown) => (error === undefined ? ended.resolve() : ended.reject(error))
    const reader: Reader = { intervalMs, read, end, dueMs: firstMs }
    this.#readers = [...this.#readers, reader]
    this.#nextMs = Math.min(this.#nextMs, firstMs)
    const abort = () => end()
    signal.addEventListener('abort', abort, { once: true })
    try {
      await ended.promise
    } finally {
      signal.removeEventListener('abort', abort)
      this.#readers = this.#readers.filter((one) => one !== reader)
    }
  }

  /** The steps before that time are done. */
  pass(atMs: number): void {
    if (atMs < this.#nextMs) return
    this.#nextMs = Infinity
    for (const reader of this.#readers) {
      if (reader.dueMs <= atMs) {
        while (reader.dueMs <= atMs) reader.dueMs += reader.intervalMs
        try {
          reader.read(atMs)
        } catch (error) {
          reader.end(error)
        }
      }
      this.#nextMs = Math.min(this.#nextMs, reader.dueMs)
    }
  }
}
