// `/metrics/values`: the newest value of every metric that passes. Until somebody asks, readings only wait in a ring of few
// megabytes, as they are; they are looked at when they are asked for, or when the ring is full and somebody asked lately.
import { NewestValues } from '../plugins/protocols/prometheus-values.ts'
import type { ValueLimits } from '../plugins/protocols/prometheus-values.ts'
import { Fifo } from './fifo.ts'
import type { Meter } from './measure.ts'
import { heldBy } from './tail.ts'
import type { Tail } from './tail.ts'
import type { Records } from '../plugins/contract/index.ts'

const mostBytes = 4 * 1024 * 1024
/** Who asks, asks again within this. */
const askedAgainMs = 5 * 60_000
/** Without an asker the ring is looked at this often at most. */
const unaskedMs = 10_000

export class Values {
  readonly #newest: NewestValues
  readonly #meter: Meter
  readonly #nowMs: () => number
  readonly #ring = new Fifo<{ records: Records; atMs: number }>()
  #bytes = 0
  #askedMs = -Infinity
  #lookedMs = -Infinity
  readonly stop: () => void

  constructor(tail: Tail, limits: ValueLimits, meter: Meter, nowMs: () => number) {
    this.#newest = new NewestValues(limits)
    this.#meter = meter
    this.#nowMs = nowMs
    this.stop = limits.series === 0 ? () => undefined : tail.listen(({ records }) => this.#see(records))
  }

  /** What an asker gets. */
  text(): string {
    const nowMs = this.#nowMs()
    this.#askedMs = nowMs
    this.#look(nowMs)
    return this.#newest.text(nowMs)
  }

  /** In the middle of the pipeline. */
  #see(records: Records): void {
    if (records.signal !== 'metrics') return
    const nowMs = this.#nowMs()
    this.#meter.in += records.count
    this.#ring.push({ records, atMs: nowMs })
    this.#bytes += heldBy(records)
    if (this.#bytes <= mostBytes) return
    const isDue = nowMs - this.#askedMs < askedAgainMs || nowMs - this.#lookedMs > unaskedMs
    if (isDue) return this.#look(nowMs)
    while (this.#bytes > mostBytes) {
      const oldest = this.#ring.shift()
      if (!oldest) break
      this.#bytes -= heldBy(oldest.records)
      this.#meter.missed += oldest.records.count
    }
  }

  #look(nowMs: number): void {
    const before = this.#newest.leftOut
    let count = 0
    for (const { records, atMs } of this.#ring) {
      this.#newest.take(records.bytes, atMs)
      count += records.count
    }
    const leftOut = this.#newest.leftOut - before
    this.#meter.out += count - leftOut
    this.#meter.missed += leftOut
    this.#ring.clear()
    this.#bytes = 0
    this.#lookedMs = nowMs
  }
}
