// The account of every record: what collectors say they produced against what the store holds. Two books that share
// no code: `produced`, `dropped` and what was acknowledged come from headers and births (account.ts, on the journal's
// own table), `stored` is counted from the store's rows. Where they disagree, the stream is not balanced.
//
//   produced = stored + dropped + in flight + unknown
//
//   in flight  not yet acknowledged while its session may still send, or acknowledged and not yet written
//   unknown    announced, never acknowledged, and its session has ended and holds it no more
//   lost       acknowledged, and neither in the store nor on the way: in no term of the sum, so it does not add up
import { parseStreamKey } from '../plugins/contract/batch.ts'
import type { Clock, Log } from '../plugins/contract/define.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import { lossReasons } from '../plugins/contract/signal.ts'
import type { Dropped } from '../plugins/contract/signal.ts'
import { IntervalSet } from './intervals.ts'
import type { Range } from './intervals.ts'
import type { Journal, Position } from './journal/journal.ts'
import type { Ledger, LedgerReport, StreamAccount } from './query.ts'
import type { Store, StreamCount } from './store/store.ts'
import type { Writer } from './writer.ts'
import type { WrittenStream } from './written.ts'

/** What the ingest knows of a stream. */
export interface Acknowledged {
  /** Batches that were acknowledged: the journal had them on disk. */
  readonly acknowledged: IntervalSet
  /** Records in them. */
  readonly records: number
  /** The highest total that a header or birth announced, and the drops that it told with it. */
  readonly produced: number
  readonly dropped: Dropped
  readonly lastSeq: number
  /** Records that a buffer still holds of this stream, when its session has ended; absent while it may send. */
  readonly held?: number
}

/** The ingest's book. */
export interface Book {
  entries(): Iterable<readonly [key: string, stream: Acknowledged]>
  get(key: string): Acknowledged | undefined
}

export interface LedgerOptions {
  book: Book
  writer: Pick<Writer, 'streams' | 'position' | 'between'>
  store: Store
  journal: Journal
  clock: Clock
  log: Log
  /** Whether the session of a stream is over, so that nothing more can come of it but what is held. */
  readonly ended: (key: string) => boolean
}

export interface RunningLedger extends Ledger {
  /** Compares both books every `intervalMs` and names what is lost, until aborted. */
  run(intervalMs: number, signal: AbortSignal): Promise<void>
  /** Streams of which acknowledged batches are gone. */
  lost(): number
}

/** Records that each device has lost, for want of room or because nobody could take them. */
export function lossesOf({ streams }: LedgerReport): ReadonlyMap<string, number> {
  const losses = new Map<string, number>()
  for (const { device, dropped } of streams) {
    const lost = lossReasons.reduce((sum, reason) => sum + (dropped[reason] ?? 0), 0)
    losses.set(device, (losses.get(device) ?? 0) + lost)
  }
  return losses
}

/** Acknowledged up to an end of the journal: once the writer is past it, all of it must have been written. */
interface Claim {
  end: Position
  streams: Map<string, [number, number][]>
}

export function openLedger(options: LedgerOptions): RunningLedger {
  const { book, writer, store, journal, clock, log, ended } = options
  const lost = new Map<string, IntervalSet>()
  /** Size of the acknowledged set at the last comparison, so that only streams that moved are looked at. */
  const compared = new Map<string, number>()
  let claim: Claim | undefined

  function passed(end: Position): boolean {
    const { position } = writer
    return Object.entries(end).every(([partition, offset]) => (position[partition] ?? 0) >= offset)
  }

  function makeClaim(): Claim {
    // The end is read first: whatever is acknowledged by now lies before an end read now, or later.
    const streams = new Map<string, [number, number][]>()
    for (const [key, stream] of book.entries()) {
      if (compared.get(key) === stream.acknowledged.size) continue
      compared.set(key, stream.acknowledged.size)
      streams.set(
        key,
        stream.acknowledged.ranges().map(([from, to]) => [from, to]),
      )
    }
    return { end: journal.end(), streams }
  }

  function settle({ streams }: Claim): void {
    for (const [key, ranges] of streams) {
      const gone = absent(ranges, writer.streams.get(key)?.seen)
      const before = lost.get(key)?.size ?? 0
      if (gone.size > before) {
        log.error('acknowledged batches are lost', { ...parseStreamKey(key), batches: gone.ranges() })
      }
      if (gone.size > 0) lost.set(key, gone)
      else lost.delete(key)
    }
  }

  /** One step of the comparison; cheap while nothing moves. */
  function compare(): void {
    claim ??= makeClaim()
    if (!passed(claim.end)) return
    settle(claim)
    claim = undefined
  }

  async function report(devices?: readonly string[]): Promise<LedgerReport> {
    return writer.between(async () => {
      const only = devices?.length === 1 ? devices[0] : undefined
      const counted = new Map<string, StreamCount>()
      const counts = store.keepsState === false ? confirmedOf(writer.streams) : await store.count(only)
      for (const count of counts) counted.set(count.stream, count)
      compare()
      const keys = new Set<string>(counted.keys())
      for (const [key] of book.entries()) keys.add(key)
      for (const [key, { made }] of writer.streams) if (made) keys.add(key)
      // Once the writer has all that the journal holds, nothing is on the way between the two.
      const caughtUp = passed(journal.end())
      const streams: StreamAccount[] = []
      for (const key of keys) {
        if (devices && !devices.includes(parseStreamKey(key).device)) continue
        streams.push(account(key, counted.get(key), caughtUp))
      }
      streams.sort((a, b) => (order(a) < order(b) ? -1 : 1))
      return sum(streams)
    })
  }

  function account(key: string, count: StreamCount | undefined, caughtUp: boolean): StreamAccount {
    const known = book.get(key)
    const written = writer.streams.get(key)
    return accountOf(key, {
      known,
      written,
      count,
      lost: lost.get(key),
      caughtUp,
      ended: ended(key),
    })
  }

  return {
    report,
    lost: () => lost.size,
    async run(intervalMs, signal) {
      await clock.every(intervalMs, signal, () => {
        try {
          compare()
        } catch (error) {
          log.error('ledger not compared', { error: messageOf(error) })
        }
      })
    },
  }
}

/** What the store confirmed, where it does not count its rows itself. */
function confirmedOf(streams: ReadonlyMap<string, WrittenStream>): StreamCount[] {
  const counts: StreamCount[] = []
  for (const [stream, { confirmed }] of streams)
    if (confirmed) counts.push({ stream, ...confirmed, damaged: [] })
  return counts
}

interface Evidence {
  known: Acknowledged | undefined
  written: WrittenStream | undefined
  count: StreamCount | undefined
  lost: IntervalSet | undefined
  caughtUp: boolean
  ended: boolean
}

/** The account of one stream from what each side knows of it; pure. */
export function accountOf(key: string, evidence: Evidence): StreamAccount {
  const { known, written, count, lost, caughtUp, ended } = evidence
  const id = parseStreamKey(key)
  const forwarded = written?.forwarded ?? 0
  const processed = written?.records ?? 0
  // What windows made nobody announced: they are its producer.
  const made = written?.made
  const acknowledged = made?.records ?? Math.max(0, (known?.records ?? 0) - forwarded)
  const produced = made?.records ?? Math.max(0, (known?.produced ?? 0) - forwarded)
  const dropped: Record<string, number> = { ...known?.dropped }
  const told = total(dropped)
  for (const [reason, number] of Object.entries(written?.filtered ?? {})) {
    dropped[reason] = (dropped[reason] ?? 0) + number
  }
  const rejected = count?.rejected ?? 0
  if (rejected > 0) dropped.rejected = (dropped.rejected ?? 0) + rejected
  const unsent = Math.max(0, produced - told - acknowledged)
  const unknown = ended ? Math.max(0, unsent - (known?.held ?? 0)) : 0
  const unwritten = caughtUp && !made ? 0 : Math.max(0, acknowledged - processed)
  const inFlight = unsent - unknown + unwritten
  const stored = count?.stored ?? 0
  const absentRanges = [
    ...(known?.acknowledged.missing(known.lastSeq) ?? []),
    ...(lost?.ranges() ?? []),
    ...(count?.damaged ?? []).map(({ seq }): Range => [seq, seq]),
  ]
  const broken = (lost?.size ?? 0) > 0 || (count?.damaged.length ?? 0) > 0
  return {
    collector: id.collector,
    device: id.device,
    session: id.session,
    class: id.class,
    produced,
    stored,
    inFlight,
    dropped,
    lastSeq: known?.lastSeq ?? made?.batches ?? 0,
    missing: joined(absentRanges),
    unknown,
    balanced: !broken && produced === stored + total(dropped) + inFlight + unknown,
    ...(forwarded > 0 ? { forwarded } : {}),
  }
}

function sum(streams: StreamAccount[]): LedgerReport {
  const report: LedgerReport = {
    produced: 0,
    stored: 0,
    inFlight: 0,
    dropped: {},
    unknown: 0,
    balanced: true,
    streams,
  }
  let forwarded = 0
  for (const stream of streams) {
    report.produced += stream.produced
    report.stored += stream.stored
    report.inFlight += stream.inFlight
    report.unknown += stream.unknown
    forwarded += stream.forwarded ?? 0
    report.balanced &&= stream.balanced
    for (const [reason, count] of Object.entries(stream.dropped)) {
      report.dropped[reason] = (report.dropped[reason] ?? 0) + count
    }
  }
  return forwarded > 0 ? { ...report, forwarded } : report
}

const total = (dropped: Readonly<Record<string, number>>): number =>
  Object.values(dropped).reduce((all, count) => all + count, 0)

const order = (stream: StreamAccount): string =>
  `${stream.device}/${stream.class}/${stream.collector}/${stream.session}`

/** What of the ranges the set lacks. */
function absent(ranges: readonly (readonly [number, number])[], from: IntervalSet | undefined): IntervalSet {
  const gone = new IntervalSet()
  for (const [first, last] of ranges) {
    let next = first
    while (next <= last) {
      const held = from?.rangeOf(next)
      if (held) next = held[1] + 1
      else {
        gone.add(next)
        next++
      }
    }
  }
  return gone
}

/** Ascending, ends included, those that touch made one. */
function joined(ranges: readonly Range[]): [number, number][] {
  const result: [number, number][] = []
  for (const [from, to] of ranges.toSorted((a, b) => a[0] - b[0])) {
    const last = result.at(-1)
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to)
    else result.push([from, to])
  }
  return result
}
