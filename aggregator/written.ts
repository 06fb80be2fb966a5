// What the writer has taken of each stream, and what windows made: the rows that the store's commit keeps with the
// position.
import { dropReasons } from '../plugins/contract/signal.ts'
import type { Dropped } from '../plugins/contract/signal.ts'
import { Reader, Writer as Encoder } from '../plugins/contract/wire.ts'
import { IntervalSet } from './intervals.ts'
import type { StoreReceipt } from './store/store.ts'

/** What windows have made, stored or not yet. */
export interface MadeTotals {
  readonly batches: number
  readonly records: number
  /** When the newest was made. */
  readonly lastMs: number
}

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
  /** Of a stream that the filter's windows made. */
  made?: MadeTotals
}

/** A stream among those that a commit changes: a copy of what was committed, so that a failure leaves no trace. */
export function opened(
  committed: ReadonlyMap<string, WrittenStream>,
  changed: Map<string, WrittenStream>,
  key: string,
): WrittenStream {
  const known = changed.get(key)
  if (known) return known
  const old = committed.get(key)
  const seen = new IntervalSet()
  if (old) seen.merge(old.seen)
  const stream: WrittenStream = { records: 0, forwarded: 0, ...old, seen }
  changed.set(key, stream)
  return stream
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
/** And here what windows made. */
const madeMark = 2 ** 52 + 1

// A row: records, forwarded, then the set; then what the filter dropped, what windows made, and what was confirmed, where it
// is known by receipts.
function encodeStream({ seen, records, forwarded, confirmed, filtered, made }: WrittenStream): Uint8Array {
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
  if (made) for (const number of [madeMark, made.batches, made.records, made.lastMs]) out.varint(number)
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
  if (next === madeMark) {
    stream.made = { batches: reader.varint(), records: reader.varint(), lastMs: reader.varint() }
    if (reader.done) return stream
    next = reader.varint()
  }
  stream.confirmed = { stored: next, rejected: reader.varint() }
  return stream
}
