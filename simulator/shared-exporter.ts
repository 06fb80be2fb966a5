// One exporter for all devices of a run into a file. A device hears that its batch is delivered after a moment of simulated
// time, not when the disk is done: what a run writes does not depend on how fast the machine is. The disk is waited for
// between two moments, and what it refuses ends the run.
import type { Context, Exporter, ExporterDefinition } from '../plugins/contract/index.ts'

/** Simulated milliseconds that a delivery takes. */
const deliveryMs = 5
/** Batches on their way to the disk, for which one sync is enough. */
const mostPending = 1024

export class SharedExporter {
  readonly #definition: ExporterDefinition
  readonly #config: unknown
  readonly #stopped = new AbortController()
  readonly #failed = Promise.withResolvers<never>()
  readonly #pending = new Set<Promise<unknown>>()
  #shared: { exporter: Exporter; running: Promise<void> | undefined } | undefined

  constructor(definition: ExporterDefinition, config: unknown) {
    this.#definition = definition
    this.#config = config
    this.#failed.promise.catch(() => undefined) // whoever awaits it hears
  }

  /** Rejects when something could not be written. */
  get failed(): Promise<never> {
    return this.#failed.promise
  }

  /** What each device has of it. */
  get forDevices(): ExporterDefinition {
    return {
      ...this.#definition,
      create: (_, context) => ({
        export: (batch) => {
          const task = this.#open(context).exporter.export(batch, this.#stopped.signal)
          const pending = task.catch(this.#failed.reject).finally(() => this.#pending.delete(pending))
          this.#pending.add(pending)
          return context.clock.delay(deliveryMs, this.#stopped.signal).then(() => ({ rejected: 0 }))
        },
      }),
    }
  }

  /** While more is on its way to the disk than should be. */
  busy(): Promise<unknown> | undefined {
    return this.#pending.size < mostPending ? undefined : this.written()
  }

  /** All that was exported until now is on disk. */
  written(): Promise<unknown> {
    return Promise.race([Promise.all(this.#pending), this.failed])
  }

  async close(): Promise<void> {
    this.#stopped.abort()
    await this.#shared?.running
  }

  /** The first device lends it its context. */
  #open(context: Context): { exporter: Exporter } {
    if (!this.#shared) {
      const exporter = this.#definition.create(this.#config, context)
      this.#shared = { exporter, running: exporter.run?.(this.#stopped.signal) }
    }
    return this.#shared
  }
}
