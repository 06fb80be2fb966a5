// What a reading suffers from, said once for each thing however often it is read; and limits that are said when reached.
import type { Log } from '../contract/index.ts'

/** More distinct complaints than anyone would read. */
const mostTold = 100

export class Complaints {
  readonly #log: Log
  readonly #message: string
  readonly #told = new Set<string>()

  constructor(log: Log, message: string) {
    this.#log = log
    this.#message = message
  }

  tell(reason: string): void {
    if (this.#told.has(reason) || this.#told.size >= mostTold) return
    this.#told.add(reason)
    this.#log.warn(this.#message, { reason })
  }

  /** As many as are allowed; says when there are more. */
  first<T>(kind: string, all: readonly T[], most: number): readonly T[] {
    if (all.length > most) this.tell(`${all.length} ${kind} found, ${most} are read`)
    return all.slice(0, most)
  }
}
