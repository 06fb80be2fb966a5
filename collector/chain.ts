// The processors of one pipeline, applied to Records in one walk: each record meets them in their order until one drops
// it. Records of which all are kept as they are go on untouched; others are written again without what was dropped.
import { WireError } from '../plugins/contract/index.ts'
import type {
  Attributes,
  Class,
  Dropped,
  DropReason,
  Log as Logger,
  Processor,
  Records,
} from '../plugins/contract/index.ts'
import type { Meter } from './measure.ts'
import { Rewriter, cursorFor, replaced } from '../plugins/contract/rewrite.ts'
import { CursorView } from './view.ts'

export interface Stage {
  id: string
  processor: Processor
  meter: Meter
}

export interface Passed {
  /** Absent when all were dropped. */
  kept: Records | undefined
  dropped: Dropped
}

/** What `aggregated` records of a stream wait for. */
export interface Flushed {
  records: Records | undefined
  device: string
  class: Class
  /** Records that became these: all but `records.count` of them are dropped as `aggregated`. */
  consumed: number
  dropped: Dropped
}

export class Chain {
  readonly #stages: readonly Stage[]
  readonly #logger: Logger
  readonly #view = new CursorView()
  readonly #rewriter = new Rewriter()
  readonly #verdicts: (Attributes | boolean)[] = []
  /** Consumed by stages that aggregate and not told yet, by stage, device and class. */
  readonly #consumed = new Map<string, { stage: number; device: string; class: Class; count: number }>()

  constructor(stages: readonly Stage[], logger: Logger) {
    this.#stages = stages
    this.#logger = logger
  }

  get isEmpty(): boolean {
    return this.#stages.length === 0
  }

  /** What is left of Records after the stages from `first` on. Malformed ones are dropped whole, as `invalid`. */
  pass(records: Records, first = 0): Passed {
    if (this.#stages.length <= first) return { kept: records, dropped: {} }
    const dropped: Dropped = {}
    try {
      const count = this.#decide(records, first, dropped)
      if (count === undefined) return { kept: records, dropped }
      return { kept: count === 0 ? undefined : replaced(records, this.#rewrite(records), count), dropped }
    } catch (error) {
      if (!(error instanceof WireError)) throw error
      this.#logger.error('malformed records from a source are dropped', { error, device: records.device })
      return { kept: undefined, dropped: { invalid: records.count } }
    }
  }

  /** What stages that aggregate have ready, after the stages behind them. */
  *flush(nowUnixNano: bigint): Generator<Flushed> {
    for (const [at, { processor, id }] of this.#stages.entries()) {
      if (!processor.flush) continue
      for (let turn = 0; turn < 1000; turn++) {
        const made = this.#guard(id, () => processor.flush?.(nowUnixNano))
        if (!made) break
        const key = `${at}/${made.device}/${made.class}`
        const consumed = this.#consumed.get(key)?.count ?? 0
        this.#consumed.delete(key)
        const { kept, dropped } = this.pass(made, at + 1)
        const aggregated = consumed - made.count
        if (aggregated > 0) dropped.aggregated = (dropped.aggregated ?? 0) + aggregated
        yield { records: kept, device: made.device, class: made.class, consumed, dropped }
      }
    }
  }

  /** At the end: what was consumed and will not be told any more. */
  *rest(): Generator<Flushed> {
    for (const { device, class: name, count } of this.#consumed.values()) {
      yield { records: undefined, device, class: name, consumed: count, dropped: { aggregated: count } }
    }
    this.#consumed.clear()
  }

  /** How many are kept, their verdicts in `#verdicts`; undefined where all are kept as they are. */
  #decide(records: Records, first: number, dropped: Dropped): number | undefined {
    const cursor = cursorFor(records.signal).reset(records.bytes)
    const view = this.#view.over(records, cursor)
    const verdicts = this.#verdicts
    let kept = 0
    let seen = 0
    let isChanged = false
    for (; cursor.next(); seen++) {
      const verdict = this.#verdict(view, first, dropped)
      verdicts[seen] = verdict
      if (verdict !== false) kept++
      if (verdict !== true) isChanged = true
    }
    // What the source counted and what there is must agree, or the account would not.
    const missing = records.count - seen
    if (missing > 0) dropped.invalid = (dropped.invalid ?? 0) + missing
    return isChanged || missing !== 0 ? kept : undefined
  }

  #verdict(view: CursorView, first: number, dropped: Dropped): Attributes | boolean {
    let overlay: Attributes | undefined
    view.overlay = overlay
    for (let at = first; at < this.#stages.length; at++) {
      const stage = this.#stages[at] as Stage // below the length
      stage.meter.in++
      const verdict = this.#guard(stage.id, () => stage.processor.decide(view)) ?? 'keep'
      if (verdict === 'keep') stage.meter.out++
      else if (typeof verdict === 'string') {
        stage.meter.drop(verdict, 1)
        this.#drop(view, at, verdict, dropped)
        return false
      } else {
        stage.meter.out++
        overlay = { ...overlay, ...verdict.set }
        view.overlay = overlay
      }
    }
    return overlay ?? true
  }

  /** One that will come out of `flush` again, with others, is not dropped yet. */
  #drop(view: CursorView, at: number, reason: DropReason, dropped: Dropped): void {
    if (reason !== 'aggregated' || !this.#stages[at]?.processor.flush) {
      dropped[reason] = (dropped[reason] ?? 0) + 1
      return
    }
    const { device, class: name } = view
    const key = `${at}/${device}/${name}`
    const known = this.#consumed.get(key)
    if (known) known.count++
    else this.#consumed.set(key, { stage: at, device, class: name, count: 1 })
  }

  #rewrite(records: Records): Uint8Array {
    const cursor = cursorFor(records.signal).reset(records.bytes)
    this.#rewriter.begin(records.bytes)
    for (let at = 0; cursor.next(); at++) {
      const verdict = this.#verdicts[at]
      if (verdict === false || verdict === undefined) continue
      this.#rewriter.keep(cursor, verdict === true ? undefined : verdict)
    }
    return this.#rewriter.finish()
  }

  /** A processor that throws has a bug: the record is kept. */
  #guard<T>(id: string, call: () => T): T | undefined {
    try {
      return call()
    } catch (error) {
      if (error instanceof WireError) throw error
      this.#logger.error('unexpected error of a processor', { processor: id, error })
      return undefined
    }
  }
}
