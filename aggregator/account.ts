// What the ingest knows of each stream: which batches were acknowledged, how many records they hold, and the totals
// that its collector announced. Rows go to the journal's table `dpulse_ledger` in the commit that holds the batches,
// so that after a crash the account never speaks of a batch that the journal has not.
import { parseStreamKey, streamKey } from '../plugins/contract/batch.ts'
import type { Header, StreamId } from '../plugins/contract/batch.ts'
import { RetryableError } from '../plugins/contract/errors.ts'
import { dropReasons } from '../plugins/contract/signal.ts'
import type { Dropped } from '../plugins/contract/signal.ts'
import { Reader, Writer } from '../plugins/contract/wire.ts'
import type { Status } from '../plugins/protocols/topics.ts'
import { IntervalSet } from './intervals.ts'

export interface Account extends StreamId {
  /** Sequence numbers of the batches that the journal has on disk. */
  readonly acknowledged: IntervalSet
  /** Records in them, each batch counted once. */
  readonly records: number
  /** The highest total that a header or birth announced, and what was dropped by then. */
  readonly produced: number
  readonly dropped: Readonly<Dropped>
  /** The highest sequence number announced; what is missing below it is in flight, or unknown. */
  readonly lastSeq: number
  readonly firstSeenMs: number
  readonly lastSeenMs: number
  /** A birth of a later session told where this stream ended. */
  readonly ended: boolean
  /** Records that the collector's newest birth still holds of it. */
  readonly held: number
}

type Mutable = { -readonly [K in keyof Account]: Account[K] }

const version = 1
/** Streams are as many as devices times classes times sessions that are remembered. */
const streamLimit = 100_000
/** Of all streams, as many may one collector or sender have: whoever makes up devices keeps nobody else out. */
const share = 1 / 4

export class Accounts {
  readonly #accounts = new Map<string, Mutable>()
  /** Streams of which the newest birth of their collector holds records. */
  readonly #held = new Map<string, Set<string>>()
  /** Streams of each collector. */
  readonly #counts = new Map<string, number>()
  readonly #limit: number

  constructor(limit = streamLimit) {
    this.#limit = limit
  }

  get size(): number {
    return this.#accounts.size
  }

  get(key: string): Account | undefined {
    return this.#accounts.get(key)
  }

  entries(): IterableIterator<[string, Account]> {
    return this.#accounts.entries()
  }

  /** Rows of the table, as `encode` made them. Keys of rows that cannot be read come back. */
  load(rows: Iterable<readonly [string, Uint8Array]>): string[] {
    const damaged: string[] = []
    for (const [key, row] of rows) {
      try {
        const account = decode(key, row)
        this.#keep(key, account)
        if (account.held > 0) this.#hold(account.collector, key)
      } catch {
        damaged.push(key)
      }
    }
    return damaged
  }

  has(header: Header): boolean {
    return this.#accounts.get(streamKey(header))?.acknowledged.has(header.seq) === true
  }

  /**
   * Takes a batch into the account. Totals only grow, so the order in which batches come does not matter.
   * @throws RetryableError PEER_OVERLOADED when there are too many streams to begin another.
   */
  record(header: Header, nowMs: number): 'new' | 'duplicate' {
    const account = this.#open(streamKey(header), header, nowMs)
    account.lastSeenMs = Math.max(account.lastSeenMs, nowMs)
    if (!account.acknowledged.add(header.seq)) return 'duplicate'
    account.records += header.count
    announce(account, header.seq, header.produced, header.dropped)
    return 'new'
  }

  /** Begins a commit: what is recorded in it shows only once it is applied. */
  stage(nowMs: number): Stage {
    return new Stage(this, nowMs)
  }

  /** What a birth says of earlier sessions. Keys of the accounts that changed. */
  birth(status: Status, nowMs: number): string[] {
    const changed = new Set<string>()
    const { collector } = status
    for (const end of status.ended) {
      const key = streamKey({ collector, ...end })
      if (!this.#accounts.has(key) && this.#isFullFor(collector)) continue
      const account = this.#open(key, { collector, ...end }, nowMs)
      announce(account, end.seq, end.produced, end.dropped)
      account.ended = true
      changed.add(key)
    }
    const before = this.#held.get(collector) ?? []
    this.#held.delete(collector)
    for (const key of before) {
      const account = this.#accounts.get(key)
      if (account) account.held = 0
      changed.add(key)
    }
    for (const { count, ...stream } of status.held) {
      const key = streamKey({ collector, ...stream })
      const account = this.#accounts.get(key)
      if (!account) continue
      account.held = count
      this.#hold(collector, key)
      changed.add(key)
    }
    return [...changed].filter((key) => this.#accounts.has(key))
  }

  /** The row of an account. */
  encode(key: string): Uint8Array {
    const account = this.#accounts.get(key)
    if (!account) throw new Error(`no account of ${key}`)
    const out = new Writer(128)
    out.byte(version)
    out.varint(account.records)
    out.varint(account.produced)
    out.varint(account.lastSeq)
    out.varint(account.firstSeenMs)
    out.varint(account.lastSeenMs)
    out.varint(account.held)
    out.byte(account.ended ? 1 : 0)
    for (const reason of dropReasons) out.varint(account.dropped[reason] ?? 0)
    account.acknowledged.encode(out)
    return out.take()
  }

  /** Streams of which nothing was heard since, and of which nothing is held: they may be forgotten. */
  silentSince(ms: number): string[] {
    const silent: string[] = []
    for (const [key, { lastSeenMs, held }] of this.#accounts)
      if (lastSeenMs < ms && held === 0) silent.push(key)
    return silent
  }

  forget(key: string): void {
    const account = this.#accounts.get(key)
    if (!account) return
    const { collector } = account
    this.#held.get(collector)?.delete(key)
    this.#accounts.delete(key)
    const left = (this.#counts.get(collector) ?? 0) - 1
    if (left > 0) this.#counts.set(collector, left)
    else this.#counts.delete(collector)
  }

  #keep(key: string, account: Mutable): void {
    if (!this.#accounts.has(key))
      this.#counts.set(account.collector, (this.#counts.get(account.collector) ?? 0) + 1)
    this.#accounts.set(key, account)
  }

  #isFullFor(collector: string): boolean {
    return (
      this.#accounts.size >= this.#limit ||
      (this.#counts.get(collector) ?? 0) >= Math.ceil(this.#limit * share)
    )
  }

  #open(key: string, { collector, device, session, class: name }: StreamId, nowMs: number): Mutable {
    const known = this.#accounts.get(key)
    if (known) return known
    if (this.#isFullFor(collector)) {
      const own = this.#counts.get(collector) ?? 0
      throw new RetryableError(
        'PEER_OVERLOADED',
        `no room for the stream ${key}: ${this.#accounts.size} are known, ${own} of them of ${collector}`,
      )
    }
    const account = {
      collector,
      device,
      session,
      class: name,
      acknowledged: new IntervalSet(),
      records: 0,
      produced: 0,
      dropped: {},
      lastSeq: 0,
      firstSeenMs: nowMs,
      lastSeenMs: nowMs,
      ended: false,
      held: 0,
    }
    this.#keep(key, account)
    return account
  }

  #hold(collector: string, key: string): void {
    const held = this.#held.get(collector)
    if (held) held.add(key)
    else this.#held.set(collector, new Set([key]))
  }
}

type Totals = Omit<Account, keyof StreamId | 'acknowledged'>

/**
 * What a commit of the journal will change. The rows must be known before the commit and the accounts must not tell of
 * it until it is on disk: so everything is recorded, written down and taken back, and recorded again afterwards.
 */
export class Stage {
  readonly #accounts: Accounts
  readonly #nowMs: number
  readonly #before = new Map<string, Totals | undefined>()
  readonly #fresh: Header[] = []

  constructor(accounts: Accounts, nowMs: number) {
    this.#accounts = accounts
    this.#nowMs = nowMs
  }

  /** As `Accounts.record`; batches of the same stage count. */
  record(header: Header): 'new' | 'duplicate' {
    const key = streamKey(header)
    const known = this.#accounts.get(key)
    const totals = known && totalsOf(known)
    const verdict = this.#accounts.record(header, this.#nowMs)
    if (verdict === 'duplicate') return verdict
    if (!this.#before.has(key)) this.#before.set(key, totals)
    this.#fresh.push(header)
    return verdict
  }

  /** The rows as they will be; takes everything back. Also of streams that changed otherwise, by `keys`. */
  rows(keys: Iterable<string>): [string, Uint8Array][] {
    const changed = new Set([...this.#before.keys(), ...keys])
    const rows: [string, Uint8Array][] = []
    for (const key of changed) if (this.#accounts.get(key)) rows.push([key, this.#accounts.encode(key)])
    for (const header of this.#fresh) this.#accounts.get(streamKey(header))?.acknowledged.remove(header.seq)
    for (const [key, totals] of this.#before) {
      if (totals) Object.assign(this.#accounts.get(key) ?? {}, totals)
      else this.#accounts.forget(key)
    }
    return rows
  }

  /** The commit is on disk. */
  apply(): void {
    for (const header of this.#fresh) this.#accounts.record(header, this.#nowMs)
  }
}

function totalsOf(account: Account): Totals {
  const { records, produced, dropped, lastSeq, firstSeenMs, lastSeenMs, ended, held } = account
  return { records, produced, dropped, lastSeq, firstSeenMs, lastSeenMs, ended, held }
}

function announce(
  account: Mutable,
  seq: number,
  produced: number,
  dropped: Readonly<Record<string, number>>,
) {
  account.lastSeq = Math.max(account.lastSeq, seq)
  account.produced = Math.max(account.produced, produced)
  for (const reason of dropReasons) {
    const total = dropped[reason] ?? 0
    if (total > (account.dropped[reason] ?? 0)) account.dropped = { ...account.dropped, [reason]: total }
  }
}

function decode(key: string, row: Uint8Array): Mutable {
  const from = new Reader(row)
  const found = from.varint()
  if (found !== version) throw new RangeError(`an account of version ${found}`)
  const [records, produced, lastSeq, firstSeenMs, lastSeenMs, held, ended] = [
    from.varint(),
    from.varint(),
    from.varint(),
    from.varint(),
    from.varint(),
    from.varint(),
    from.varint() === 1,
  ]
  const dropped: Dropped = {}
  for (const reason of dropReasons) {
    const total = from.varint()
    if (total > 0) dropped[reason] = total
  }
  const acknowledged = IntervalSet.decode(from)
  const id = parseStreamKey(key)
  return {
    ...id,
    acknowledged,
    records,
    produced,
    dropped,
    lastSeq,
    firstSeenMs,
    lastSeenMs,
    ended,
    held,
  }
}
