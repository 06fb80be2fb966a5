// The filter of the aggregator: the same rules as in a collector, asked by the writer behind the journal. The journal's
// batches stay as they are; what is dropped, and what windows have taken in, is counted in the state that the store's
// commit keeps with the position.
import { sealBatch } from '../plugins/contract/batch.ts'
import type { Header, Records } from '../plugins/contract/batch.ts'
import type { Clock, Log, RuleCount } from '../plugins/contract/define.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import { WireError } from '../plugins/contract/wire.ts'
import type { Class, Dropped, Signal } from '../plugins/contract/signal.ts'
import { decompressSync } from '../plugins/protocols/compression.ts'
import { Filter } from '../plugins/protocols/filter/index.ts'
import type { FilterSettings } from '../plugins/protocols/filter/index.ts'
import { FilterWindows } from './windows.ts'

/** Records of a batch that are stored together; the parts of a batch follow each other, as `StoreBatch` has it. */
export interface FilteredPart {
  /** That of the stream, also where a rule gave the records another class. */
  readonly header: Header
  readonly class: Class
  readonly first: number
  readonly value: Uint8Array
}

export interface Filtered {
  /** What is left: one for each class, none where nothing is. */
  readonly parts: readonly FilteredPart[]
  readonly dropped: Dropped
}

export interface WriterFilter {
  /** Undefined where the batch stays as it is. One that cannot be read is dropped as `invalid`. */
  apply(header: Header, signal: Signal, value: Uint8Array, arrivedUnixNano: bigint): Filtered | undefined
  counts(): RuleCount[]
  readonly windows: FilterWindows
  /** Those that rules give to records. */
  readonly classes: readonly Class[]
}

/** Log records of a batch that are left for those who look on; `first` is the number of the first of them, as above. */
export interface LivePart {
  readonly first: number
  readonly bytes: Uint8Array
}

/** What of a batch of log records is left for those who look on. */
export type LiveFilter = (header: Header, request: Uint8Array) => readonly LivePart[]

const recordsOf = (header: Header, signal: Signal, bytes: Uint8Array): Records => {
  const { device, class: name, count, from, to } = header
  return { device, signal, class: name, count, from, to, bytes }
}

/**
 * The same rules for the live tail, which does not wait for the writer: what is redacted or dropped must be seen nowhere.
 * They count nothing, and a rule that limits a rate has its own account here, full when it is first asked.
 */
export function openLiveFilter(settings: Pick<FilterSettings, 'rules'>, clock: Clock): LiveFilter {
  const filter = new Filter(settings, () => clock.elapsedMs())
  return (header, request) => {
    if (filter.rules.length === 0) return [{ first: 0, bytes: request }]
    try {
      let first = 0
      return filter.pass(recordsOf(header, 'logs', request)).kept.map(({ bytes, count }) => {
        const part = { first, bytes }
        first += count
        return part
      })
    } catch (error) {
      // The writer says what is wrong with it; what cannot be redacted is not shown.
      if (error instanceof WireError) return []
      throw error
    }
  }
}

/** Without rules it still ends the windows of those that there were. */
export function openWriterFilter(
  settings: Pick<FilterSettings, 'rules'>,
  options: { clock: Clock; log: Log; maxBatchBytes: number },
): WriterFilter {
  const { clock, log, maxBatchBytes } = options
  const windows = new FilterWindows(clock, log)
  const filter = new Filter(
    settings,
    () => clock.elapsedMs(),
    (rule, aggregate) => windows.of(rule, aggregate),
  )

  function pass(header: Header, signal: Signal, value: Uint8Array): Filtered | undefined {
    const records = recordsOf(header, signal, decompressSync(value, maxBatchBytes))
    const { kept, dropped, taken } = filter.pass(records)
    if (kept[0] === records) return undefined
    if (taken > 0) dropped.aggregated = (dropped.aggregated ?? 0) + taken
    return { parts: partsOf(header, signal, kept), dropped }
  }

  return {
    windows,
    classes: filter.rules.flatMap((rule) => rule.class ?? []),
    counts: () => filter.counts(),
    apply(header, signal, value, arrivedUnixNano) {
      if (filter.rules.length === 0) return undefined
      windows.begin(arrivedUnixNano)
      const before = windows.taken
      try {
        return pass(header, signal, value)
      } catch (error) {
        const { device, class: name, count, seq } = header
        log.error('batch not filtered', { device, class: name, seq, error: messageOf(error) })
        const aggregated = Math.min(count, windows.taken - before)
        // What could not be redacted must not be stored, nor what windows have of it stored as well.
        const dropped = { ...(aggregated > 0 && { aggregated }), invalid: count - aggregated }
        return { parts: [], dropped }
      } finally {
        if (windows.taken > before) windows.noteTaken()
      }
    },
  }
}

function partsOf(header: Header, signal: Signal, kept: readonly Records[]): FilteredPart[] {
  let left = kept.reduce((sum, { count }) => sum + count, 0)
  let first = 0
  return kept.map(({ class: name, count, bytes }) => {
    left -= count
    const own = { ...header, count, produced: header.produced - left }
    const part = { header: own, class: name, first, value: sealBatch(own, signal, [bytes]).bytes }
    first += count
    return part
  })
}
