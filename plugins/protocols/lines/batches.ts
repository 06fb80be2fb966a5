// Log records of one source on their way out: sorted into Records by class, cut where a batch is full. No object is
// built for a record.
import { LogsEncoder, classOfLog } from '../../contract/index.ts'
import type { Class, Emit, Records, Scope } from '../../contract/index.ts'

/** Most Records that a source of lines lets wait for their acknowledgement. */
export const mostOutstanding = 32

/** Emits many, a bounded number of them at once; resolves when all are safe. */
export async function emitInGroups(emit: Emit, all: readonly Records[]): Promise<void> {
  for (let at = 0; at < all.length; at += mostOutstanding) {
    await Promise.all(all.slice(at, at + mostOutstanding).map((records) => emit(records)))
  }
}

export interface LogBatchesOptions {
  readonly scope: Scope
  readonly device: string
  readonly resource: Uint8Array
}

export class LogBatches {
  readonly #options: LogBatchesOptions
  readonly #encoders = new Map<Class, LogsEncoder>()
  #done: Records[] = []
  #open: { encoder: LogsEncoder; class: Class } | undefined
  #observedSeconds = 0
  #observedNanos = 0
  count = 0

  constructor(options: LogBatchesOptions) {
    this.#options = options
  }

  /** The arrival of what follows. */
  observedAt(unixNano: bigint): void {
    this.#observedSeconds = Number(unixNano / 1_000_000_000n)
    this.#observedNanos = Number(unixNano % 1_000_000_000n)
  }

  /** Begins a record: write its fields to what this gives, then call `end`. Without a time it is that of its arrival. */
  begin(severity: number, eventName = '', seconds = -1, nanos = 0): LogsEncoder {
    const name = classOfLog(severity, eventName !== '')
    let encoder = this.#encoders.get(name)
    if (encoder === undefined) {
      encoder = new LogsEncoder(this.#options.scope, 16 * 1024)
      this.#encoders.set(name, encoder)
    }
    if (encoder.count === 0) encoder.begin(this.#options.resource)
    const [from, part] = seconds < 0 ? [this.#observedSeconds, this.#observedNanos] : [seconds, nanos]
    encoder.record(from, part, this.#observedSeconds, this.#observedNanos, severity)
    if (eventName !== '') encoder.eventName(eventName)
    this.#open = { encoder, class: name }
    return encoder
  }

  end(): void {
    const open = this.#open
    if (open === undefined) return
    this.#open = undefined
    open.encoder.end()
    this.count++
    if (open.encoder.full) this.#finish(open.class, open.encoder)
  }

  /** Records that are whole; more than a few should be emitted before more is added. */
  get waiting(): number {
    return this.#done.length
  }

  /** Everything so far. */
  finish(): Records[] {
    for (const [name, encoder] of this.#encoders) if (encoder.count > 0) this.#finish(name, encoder)
    const done = this.#done
    this.#done = []
    this.count = 0
    return done
  }

  /** Emits everything so far; resolves when all of it is safe. */
  async emit(emit: Emit): Promise<void> {
    await emitInGroups(emit, this.finish())
  }

  #finish(name: Class, encoder: LogsEncoder): void {
    this.#done.push(encoder.finish(this.#options.device, name))
    encoder.count = 0
  }
}
