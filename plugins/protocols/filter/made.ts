// What windows hold, written as Records: one device and class, no more than fit into a batch.
import { batchLimits } from '../../contract/batch.ts'
import type { Records } from '../../contract/batch.ts'
import type { Writer } from '../../contract/wire.ts'
import type { Series, SeriesHead } from './window.ts'

/** One more of the largest that a source may send still fits. */
const mostBytes = batchLimits.bytes / 2

export interface WrittenSeries {
  readonly records: Records
  /** Readings that they were made of. */
  readonly taken: number
  /** How many of the list are in it. */
  readonly written: number
}

/** Writes what the series of the list made, from `first` on, as many as fit; all are of one device and class. */
export function writeSeries(
  out: Writer,
  list: readonly { readonly series: Series }[],
  first: number,
): WrittenSeries {
  out.reset()
  const { device, class: name } = (list[first] as { series: Series }).series.head // nobody asks beyond the end
  let before: SeriesHead | undefined
  let [resourceMark, scopeMark] = [0, 0]
  let [count, taken] = [0, 0]
  let [from, to] = [0n, 0n]
  const close = () => {
    out.close(scopeMark)
    out.close(resourceMark)
  }
  let at = first
  for (; at < list.length && out.position < mostBytes; at++) {
    const { series } = list[at] as { series: Series } // below the length
    if (count + series.to.length > batchLimits.records) break
    const { head } = series
    if (!before?.resource.equals(head.resource) || !before.scope.equals(head.scope)) {
      if (before) close()
      out.byte(0x0a)
      resourceMark = out.open()
      out.byte(0x0a)
      out.bytes(head.resource)
      out.byte(0x12)
      scopeMark = out.open()
      out.byte(0x0a)
      out.bytes(head.scope)
    }
    before = head
    for (const made of series.to) {
      out.byte(0x12)
      const mark = out.open()
      series.write(out, made)
      out.close(mark)
      count++
    }
    taken += series.count
    if (from === 0n || series.until < from) from = series.until
    if (series.until > to) to = series.until
  }
  close()
  const records: Records = { device, class: name, signal: 'metrics', count, from, to, bytes: out.take() }
  return { records, taken, written: at - first }
}
