// Many streams of lines, one emission at a time: what all of them brought while one was under way leaves together.
import type { Emit } from '../../contract/index.ts'
import type { LogBatches } from './batches.ts'

export class GroupedEmission {
  readonly #batches: LogBatches
  readonly #emit: Emit
  /** Called when an emission begins; what it returns when that emission is safe. */
  readonly #begin: () => () => Promise<void>
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  constructor(batches: LogBatches, emit: Emit, begin: () => () => Promise<void>) {
    this.#batches = batches
    this.#emit = emit
    this.#begin = begin
  }

  /** Resolves when all that was written up to now is safe. */
  flushed(): Promise<void> {
    if (this.#running === undefined) return this.#run()
    this.#next ??= this.#running.then(
      () => this.#run(),
      () => this.#run(),
    )
    return this.#next
  }

  #run(): Promise<void> {
    this.#next = undefined
    const safe = this.#begin()
    const running = this.#batches
      .emit(this.#emit)
      .then(safe)
      .finally(() => {
        if (this.#running === running) this.#running = undefined
      })
    this.#running = running
    return running
  }
}
