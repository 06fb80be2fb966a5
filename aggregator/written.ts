// What the writer has taken of each stream: the rows that the store's commit keeps with the position.
import { dropReasons } from '../plugins/contract/signal.ts'
import type { Dropped } from '../plugins/contract/signal.ts'
import { Reader, Writer as Encoder } from '../plugins/contract/wire.ts'
import { IntervalSet } from './intervals.ts'
import type { StoreReceipt } from './store/store.ts'

/** What the writer has taken of a stream, as the store's last commit has it. */
export interface WrittenStream {
  readonly seen: IntervalSet
  /** Records of the batches in `seen`, traces left out. */
  records: number
  /** Spans: passed on, not stored. */
  forwarded: number
  /** By the receipts of a store that does not count its rows itself. */
  confirmed?: StoreReceipt
  /** What the filter dropped of `records`, by reason. */
  filtered?: Dropped
}

export const copyOf = (set: IntervalSet): IntervalSet => {
  const copy = new IntervalSet()
  copy.merge(set)
  return copy
}

export const rowsOf = (streams: ReadonlyMap<string, WrittenStream>): Map<string, Uint8Array> =>
  new Map([...streams].map(([key, stream]) => [key, encodeStream(stream)]))

export function added(sum: Dropped | undefined, more: Dropped): Dropped {
  const result: Dropped = { ...sum }
  for (const reason of dropReasons) {
    const count = more[reason] ?? 0
    if (count > 0) result[reason] = (result[reason] ?? 0) + count
  }
  return result
}

/** No count of records gets there: what follows is what the filter dropped. */
const filteredMark = 2 ** 52

// A row: records, forwarded, then the set; then what the filter dropped, and what was confirmed, where it is known by
// receipts.
function encodeStream({ seen, records, forwarded, confirmed, filtered }: WrittenStream): Uint8Array {
  const out = new Encoder(64)
  out.varint(records)
  out.varint(forwarded)
  seen.encode(out)
  if (filtered) {
    const totals = dropReasons.flatMap((reason, index) => {
      const count = filtered[reason]
      return count === undefined ? [] : [[index, count] as const]
    })
    out.varint(filteredMark)
    out.varint(totals.length)
    for (const pair of totals) for (const number of pair) out.varint(number)
  }
  if (confirmed) {
    out.varint(confirmed.stored)
    out.varint(confirmed.rejected)
  }
  return out.take()
}

export function decodeStream(row: Uint8Array): WrittenStream {
  const reader = new Reader(row)
  const records = reader.varint()
  const forwarded = reader.varint()
  const stream: WrittenStream = { records, forwarded, seen: IntervalSet.decode(reader) }
  if (reader.done) return stream
  let next = reader.varint()
  if (next === filteredMark) {
    stream.filtered = {}
    for (let left = reader.varint(); left > 0; left--) {
      const reason = dropReasons[reader.varint()]
      const total = reader.varint()
      if (reason) stream.filtered[reason] = total
    }
    if (reader.done) return stream
    next = reader.varint()
  }
  stream.confirmed = { stored: next, rejected: reader.varint() }
  return stream
}
