// Streams end with their session, and would be as many as sessions there ever were. Once nothing was heard of one for
// longer than anything of it is kept, and the store holds no row of it, its books are closed: the first one, the writer's
// and the store's, in this order, so that a crash in between leaves nothing but totals that the next look closes. The first
// is the ingest's, or on a shared journal that of whoever owns the partition.
import { parseStreamKey } from '../plugins/contract/batch.ts'
import type { Clock, Log } from '../plugins/contract/define.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import { classes } from '../plugins/contract/signal.ts'
import type { Class } from '../plugins/contract/signal.ts'
import type { Accounts } from './account.ts'
import type { RunningHandover } from './owner.ts'
import type { Ingest } from './ingest.ts'
import type { Store } from './store/store.ts'
import type { Writer } from './writer.ts'

const hourMs = 3_600_000
/** Files of the store span up to a day, and go whole. */
const graceMs = 48 * hourMs

/** The first of the books: what was acknowledged. */
export interface Books {
  /** Those that are ours to close. */
  readonly accounts: Pick<Accounts, 'entries'>
  /** Closes them for good, in the journal, and answers which of them. */
  forget(keys: readonly string[]): Promise<readonly string[]>
  /** Whether the first book of a stream was closed, and perhaps not the others. */
  isClosed(key: string): boolean
}

/** Of a journal of our own. */
export const ownBooks = (ingest: Pick<Ingest, 'accounts' | 'forget'>): Books => ({
  accounts: ingest.accounts,
  async forget(keys) {
    await ingest.forget(keys)
    return keys
  },
  isClosed: (key) => !ingest.accounts.get(key),
})

/** Of a journal that several share: each closes the books of what it owns. `all` are those of everybody. */
export const sharedBooks = (
  handover: Pick<RunningHandover, 'accounts' | 'forget' | 'counters'>,
  all: Pick<Accounts, 'get'>,
  storeKeepsState: boolean,
): Books => ({
  accounts: handover.accounts,
  forget: (keys) => handover.forget(keys),
  // Where the journal keeps what the writer knows, one transaction closes both. And a stream beyond the limit of accounts
  // never had one.
  isClosed: (key) =>
    storeKeepsState && handover.counters.unaccounted === 0 && !handover.accounts.get(key) && !all.get(key),
})

export interface ForgettingOptions {
  books: Books
  writer: Pick<Writer, 'streams' | 'forget'>
  store: Pick<Store, 'count' | 'forget'>
  retentionMs: Readonly<Record<Class, number>>
  clock: Clock
  log: Log
}

/** How long rows of a stream may be there: those that the filter gave one of these classes are kept as such. */
export function longestKept(
  retentionMs: Readonly<Record<Class, number>>,
  given: readonly Class[],
): Readonly<Record<Class, number>> {
  const longest = Math.max(0, ...given.map((name) => retentionMs[name]))
  const entries = classes.map((name) => [name, Math.max(retentionMs[name], longest)] as const)
  return Object.fromEntries(entries) as Record<Class, number> // one for each
}

/** Looks at once and then every hour, until aborted. */
export async function forgetSettled(options: ForgettingOptions, signal: AbortSignal): Promise<void> {
  await options.clock.every(hourMs, signal, async () => {
    try {
      await forgetOnce(options)
    } catch (error) {
      if (!signal.aborted) options.log.error('settled streams not forgotten', { error: messageOf(error) })
    }
  })
}

/** Streams of windows, which are in the writer's book alone. */
function settledMade(
  { writer, retentionMs }: ForgettingOptions,
  nowMs: number,
  isEmpty: (key: string) => boolean,
): string[] {
  const settled: string[] = []
  for (const [key, { made, records }] of writer.streams) {
    if (made?.records !== records || !isEmpty(key)) continue
    if (made.lastMs <= nowMs - retentionMs[parseStreamKey(key).class] - graceMs) settled.push(key)
  }
  return settled
}

/** How many streams were forgotten. */
export async function forgetOnce(options: ForgettingOptions): Promise<number> {
  const { books, writer, store, retentionMs, clock } = options
  const nowMs = Number(clock.nowUnixNano() / 1_000_000n)
  const counts = new Map((await store.count()).map((count) => [count.stream, count]))
  const isEmpty = (key: string): boolean => {
    const { kept = 0, damaged = [] } = counts.get(key) ?? {}
    // What is lost stays in the books until somebody has looked.
    return kept === 0 && damaged.length === 0
  }
  const settled = settledMade(options, nowMs, isEmpty)
  for (const [key, { class: name, held, lastSeenMs, records }] of books.accounts.entries()) {
    if (held > 0 || lastSeenMs > nowMs - retentionMs[name] - graceMs || !isEmpty(key)) continue
    const taken = writer.streams.get(key)
    const { stored, rejected } = counts.get(key) ?? taken?.confirmed ?? { stored: 0, rejected: 0 }
    const filtered = Object.values(taken?.filtered ?? {}).reduce((sum, count) => sum + count, 0)
    if (records === (taken?.forwarded ?? 0) + stored + rejected + filtered) settled.push(key)
  }
  const isKept = (key: string): boolean =>
    writer.streams.get(key)?.made !== undefined && !settled.includes(key)
  const closed = new Set(await books.forget(settled))
  // Those too of which an earlier look closed the first book only.
  const left = [...new Set([...writer.streams.keys(), ...counts.keys()])]
  const orphans = left.filter(
    (key) => closed.has(key) || (books.isClosed(key) && isEmpty(key) && !isKept(key)),
  )
  await writer.forget(orphans)
  await store.forget?.(orphans)
  return closed.size
}
