// The filter of the aggregator: the same rules as in a collector, asked by the writer behind the journal. The journal's
// batches stay as they are; what is dropped is counted in the state that the store's commit keeps with the position.
import { sealBatch } from '../plugins/contract/batch.ts'
import type { Header, Records } from '../plugins/contract/batch.ts'
import type { Clock, Log, RuleCount } from '../plugins/contract/define.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import type { Dropped, Signal } from '../plugins/contract/signal.ts'
import { decompressSync } from '../plugins/protocols/compression.ts'
import { Filter, filterSettings } from '../plugins/protocols/filter/index.ts'
import type { FilterSettings } from '../plugins/protocols/filter/index.ts'

/** What a collector alone can do: its windows and streams are its own. */
const onlyCollectors = ['aggregate', 'class'] as const

export const writerFilterSettings = filterSettings.superRefine(({ rules }, context) => {
  for (const [index, rule] of rules.entries()) {
    for (const action of onlyCollectors) {
      if (rule[action] === undefined) continue
      const message = `${action} is for collectors: here every batch keeps its stream, and is written whole`
      context.issues.push({ code: 'custom', input: rule, path: ['rules', index, action], message })
    }
  }
})

export interface Filtered {
  /** Of what is left; `count` 0 where nothing is. */
  readonly header: Header
  readonly value: Uint8Array
  readonly dropped: Dropped
}

export interface WriterFilter {
  /** Undefined where the batch stays as it is, also one that cannot be read: the store says so. */
  apply(header: Header, signal: Signal, value: Uint8Array): Filtered | undefined
  counts(): RuleCount[]
}

export function openWriterFilter(
  settings: Pick<FilterSettings, 'rules'>,
  options: { clock: Clock; log: Log; maxBatchBytes: number },
): WriterFilter {
  const { clock, log, maxBatchBytes } = options
  const filter = new Filter(settings, () => clock.elapsedMs())
  return {
    counts: () => filter.counts(),
    apply(header, signal, value) {
      const { device, class: name, count, from, to } = header
      try {
        const bytes = decompressSync(value, maxBatchBytes)
        const records: Records = { device, signal, class: name, count, from, to, bytes }
        const { kept, dropped } = filter.pass(records)
        if (kept[0] === records) return undefined
        const left = kept.reduce((sum, one) => sum + one.count, 0)
        const parts = kept.map((one) => one.bytes)
        const changed = { ...header, count: left }
        return { header: changed, value: sealBatch(changed, signal, parts).bytes, dropped }
      } catch (error) {
        log.error('batch not filtered', { device, class: name, seq: header.seq, error: messageOf(error) })
        return undefined
      }
    },
  }
}
