// The processors of one pipeline, applied to Records in one walk: each record meets them in their order until one drops
// it. Records of which all are kept as they are go on untouched; others are written again without what was dropped.
import { WireError } from '../plugins/contract/index.ts'
import type {
  Attributes,
  Class,
  Decider,
  Dropped,
  DropReason,
  Log as Logger,
  Passed,
  Passer,
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

/** What a stage made of records that it had taken in, after the stages behind it. */
export interface Flushed {
  /** The stage that made it. */
  readonly stage: Stage
  readonly records: readonly Records[]
  readonly device: string
  readonly class: Class
  readonly dropped: Dropped
  /** Rows of the stage's state that all this stands for. */
  readonly rows: readonly string[]
}

/** One flush makes no more than this; the rest comes with the next. */
const mostFlushed = 1000

export class Chain {
  readonly stages: readonly Stage[]
  readonly #logger: Logger
  readonly #view = new CursorView()
  /** It has room for tens of kilobytes, and many a pipeline never writes anything again. */
  #rewriter: Rewriter | undefined
  readonly #verdicts: (Attributes | boolean)[] = []

  constructor(stages: readonly Stage[], logger: Logger) {
    this.stages = stages
    this.#logger = logger
  }

  /** Whether any stage has something of its own to hand over when its time is there. */
  get flushes(): boolean {
    return this.stages.some(({ processor }) => processor.flush !== undefined)
  }

  /** What is left of Records after the stages from `first` on. Malformed ones are dropped whole, as `invalid`. */
  pass(records: Records, first = 0): Passed {
    if (this.stages.length <= first) return { kept: [records], dropped: {}, taken: 0 }
    const dropped: Dropped = {}
    let kept: readonly Records[] = [records]
    let taken = 0
    for (let at = first; at < this.stages.length;) {
      const end = this.#endOfWalk(at)
      const next: Records[] = []
      for (const each of kept) {
        const passed = this.#step(each, at, end)
        next.push(...passed.kept)
        taken += passed.taken
        add(dropped, passed.dropped)
      }
      kept = next
      at = end
    }
    return { kept, dropped, taken }
  }

  /** What stages that take records in have ready, after the stages behind them. */
  *flush(nowUnixNano: bigint, last: boolean): Generator<Flushed> {
    for (const [at, stage] of this.stages.entries()) {
      const { processor, id } = stage
      if (!processor.flush) continue
      const most = last ? Infinity : mostFlushed
      for (let turn = 0; turn < most; turn++) {
        const made = this.#guard(id, () => processor.flush?.(nowUnixNano, last))
        if (!made) break
        const { device, class: name, count } = made.records
        const { kept, dropped } = this.pass(made.records, at + 1)
        if (made.taken > count) add(dropped, { aggregated: made.taken - count })
        yield { stage, records: kept, device, class: name, dropped, rows: made.rows }
      }
    }
  }

  /** Stages that decide record by record share a walk; one that works on the bytes is alone. */
  #endOfWalk(first: number): number {
    let end = first
    while (end < this.stages.length && !isPasser(this.stages[end])) end++
    return Math.max(end, first + 1)
  }

  #step(records: Records, first: number, end: number): Passed {
    try {
      const stage = this.stages[first] as Stage // below the length
      if ('pass' in stage.processor) return this.#whole(records, stage, stage.processor)
      const dropped: Dropped = {}
      const tally = { taken: 0 }
      const count = this.#decide(records, first, end, dropped, tally)
      if (count === undefined) return { kept: [records], dropped, taken: 0 }
      const kept = count === 0 ? [] : [replaced(records, this.#rewrite(records), count)]
      return { kept, dropped, taken: tally.taken }
    } catch (error) {
      if (!(error instanceof WireError)) throw error
      this.#logger.error('malformed records from a source are dropped', { error, device: records.device })
      return { kept: [], dropped: { invalid: records.count }, taken: 0 }
    }
  }

  #whole(records: Records, { id, meter }: Stage, processor: Passer): Passed {
    meter.in += records.count
    const passed = this.#guard(id, () => processor.pass(records)) ?? {
      kept: [records],
      dropped: {},
      taken: 0,
    }
    for (const { count } of passed.kept) meter.out += count
    for (const reason in passed.dropped) {
      meter.drop(reason as DropReason, passed.dropped[reason as DropReason] ?? 0)
    }
    meter.drop('aggregated', passed.taken)
    return passed
  }

  /** How many are kept, their verdicts in `#verdicts`; undefined where all are kept as they are. */
  #decide(
    records: Records,
    first: number,
    end: number,
    dropped: Dropped,
    tally: { taken: number },
  ): number | undefined {
    const cursor = cursorFor(records.signal).reset(records.bytes)
    const view = this.#view.over(records, cursor)
    const verdicts = this.#verdicts
    let kept = 0
    let seen = 0
    let isChanged = false
    for (; cursor.next(); seen++) {
      const verdict = this.#verdict(view, first, end, dropped, tally)
      verdicts[seen] = verdict
      if (verdict !== false) kept++
      if (verdict !== true) isChanged = true
    }
    // What the source counted and what there is must agree, or the account would not.
    const missing = records.count - seen
    if (missing > 0) dropped.invalid = (dropped.invalid ?? 0) + missing
    return isChanged || missing !== 0 ? kept : undefined
  }

  #verdict(
    view: CursorView,
    first: number,
    end: number,
    dropped: Dropped,
    tally: { taken: number },
  ): Attributes | boolean {
    let overlay: Attributes | undefined
    view.overlay = overlay
    for (let at = first; at < end; at++) {
      const { id, meter, processor } = this.stages[at] as Stage // below the length
      meter.in++
      const verdict = this.#guard(id, () => (processor as Decider).decide(view)) ?? 'keep'
      if (verdict === 'keep') meter.out++
      else if (typeof verdict === 'string') {
        meter.drop(verdict, 1)
        // One that will come out of `flush` again, with others, is not dropped yet.
        if (verdict === 'aggregated' && processor.flush) tally.taken++
        else dropped[verdict] = (dropped[verdict] ?? 0) + 1
        return false
      } else {
        meter.out++
        overlay = { ...overlay, ...verdict.set }
        view.overlay = overlay
      }
    }
    return overlay ?? true
  }

  #rewrite(records: Records): Uint8Array {
    const cursor = cursorFor(records.signal).reset(records.bytes)
    const rewriter = (this.#rewriter ??= new Rewriter())
    rewriter.begin(records.bytes)
    for (let at = 0; cursor.next(); at++) {
      const verdict = this.#verdicts[at]
      if (verdict === false || verdict === undefined) continue
      rewriter.keep(cursor, verdict === true ? undefined : verdict)
    }
    return rewriter.finish()
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

const isPasser = (stage: Stage | undefined): boolean => stage !== undefined && 'pass' in stage.processor

function add(to: Dropped, more: Dropped): void {
  for (const reason in more) {
    const count = more[reason as DropReason] ?? 0
    if (count > 0) to[reason as DropReason] = (to[reason as DropReason] ?? 0) + count
  }
}
