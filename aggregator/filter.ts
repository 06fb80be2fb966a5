// The filter of the aggregator: the same rules as in a collector, asked by the writer behind the journal. The journal's
// batches stay as they are; what is dropped, and what windows have taken in, is counted in the state that the store's
// commit keeps with the position.
import { sealBatch } from '../plugins/contract/batch.ts'
import type { Header, Records } from '../plugins/contract/batch.ts'
import type { Clock, Log, RuleCount } from '../plugins/contract/define.ts'
import { messageOf } from '../plugins/contract/errors.ts'
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
  /** Undefined where the batch stays as it is, also one that cannot be read: the store says so. */
  apply(header: Header, signal: Signal, value: Uint8Array, arrivedUnixNano: bigint): Filtered | undefined
  counts(): RuleCount[]
  readonly windows: FilterWindows
  /** Those that rules give to records. */
  readonly classes: readonly Class[]
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
    const { device, class: name, count, from, to } = header
    const bytes = decompressSync(value, maxBatchBytes)
    const records: Records = { device, signal, class: name, count, from, to, bytes }
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
        // What windows have of a malformed batch must not be stored as well.
        return aggregated === 0
          ? undefined
          : { parts: [], dropped: { aggregated, invalid: count - aggregated } }
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
