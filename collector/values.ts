// `/metrics/values`: the newest value of every metric that passes. Until somebody asks, readings only wait in a ring of few
// megabytes, as they are; they are looked at when they are asked for, or when the ring is full and somebody asked lately.
import { WireError } from '../plugins/contract/index.ts'
import type { Records } from '../plugins/contract/index.ts'
import { Exposition } from '../plugins/protocols/prometheus/index.ts'
import { Fifo } from './fifo.ts'
import type { Meter } from './measure.ts'
import { heldBy } from './tail.ts'
import type { Tail } from './tail.ts'

export interface ValueLimits {
  /** Most series; 0 for none at all. */
  series: number
  expireMs: number
}

const mostBytes = 4 * 1024 * 1024
/** Who asks, asks again within this. */
const askedAgainMs = 5 * 60_000
/** Without an asker the ring is looked at this often at most. */
const unaskedMs = 10_000

export class Values {
  readonly #newest: Exposition
  readonly #meter: Meter
  readonly #nowMs: () => number
  readonly #ring = new Fifo<{ records: Records; atMs: number }>()
  #bytes = 0
  #askedMs = -Infinity
  #lookedMs = -Infinity
  readonly stop: () => void

  constructor(tail: Tail, limits: ValueLimits, meter: Meter, nowMs: () => number) {
    this.#newest = new Exposition({ mostSeries: limits.series, expireMs: limits.expireMs })
    this.#meter = meter
    this.#nowMs = nowMs
    this.stop = limits.series === 0 ? () => undefined : tail.listen(({ records }) => this.#see(records))
  }

  /** What an asker gets. */
  text(): string {
    const nowMs = this.#nowMs()
    this.#askedMs = nowMs
    this.#look(nowMs)
    return [...this.#newest.render(false, nowMs)].join('')
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

  /** How many points found no place. */
  #take(records: Records, atMs: number): number {
    try {
      return this.#newest.add(records, atMs)
    } catch (error) {
      if (!(error instanceof WireError)) throw error
      return records.count // who only looks on fails nobody
    }
  }

  #look(nowMs: number): void {
    for (const { records, atMs } of this.#ring) {
      const leftOut = this.#take(records, atMs)
      this.#meter.out += records.count - leftOut
      this.#meter.missed += leftOut
    }
    this.#ring.clear()
    this.#bytes = 0
    this.#lookedMs = nowMs
  }
}
