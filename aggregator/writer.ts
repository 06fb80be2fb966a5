// From journal to store: reads batches from the position that the store last committed, drops those that it has
// already (a set of sequence numbers for each stream), and gives batches, new position and the sets that changed to
// the store in one call. So a crash at any instant repeats work, and never a record.
import { decompressSync } from '../plugins/protocols/compression.ts'
import { findHeader, streamKey } from '../plugins/contract/batch.ts'
import type { Header } from '../plugins/contract/batch.ts'
import type { Clock, Log } from '../plugins/contract/define.ts'
import { RetryableError, messageOf } from '../plugins/contract/errors.ts'
import type { Class, Dropped, Signal } from '../plugins/contract/signal.ts'
import type { WriterFilter } from './filter.ts'
import type { Handover } from './owner.ts'
import { signalTopics } from './journal/journal.ts'
import type { Journal, JournalDamage, JournalEntry, JournalRead, Moves, Position } from './journal/journal.ts'
import type { StateKeeper } from './store/keeper.ts'
import type { Store, StoreBatch, StoreReceipt } from './store/store.ts'
import { isWindowRow } from './window-rows.ts'
import type { WindowStep } from './windows.ts'
import { added, decodeStream, opened, rowsOf } from './written.ts'
import type { WrittenStream } from './written.ts'

export interface WriterOptions {
  journal: Journal
  store: Store
  /** Keeps the state of a store that cannot. */
  keeper?: StateKeeper | undefined
  /** Where several aggregators share the journal: it says what is ours, and keeps what must outlive us. */
  handover?: Handover | undefined
  /** Asked of each batch before it is stored. */
  filter?: WriterFilter | undefined
  log: Log
  clock: Clock
  /** Most records that one commit of the store takes. */
  groupRecords?: number
  /** Most bytes of a group, as they lie in the journal. */
  groupBytes?: number
  /** How long a group of many records waits for more. */
  lingerMs?: number
  /** No batch is larger than this when it is decompressed. */
  maxBatchBytes?: number
}

export interface WriterCounters {
  batches: number
  records: number
  duplicates: number
  unreadable: number
  commits: number
  commitMs: number
  retries: number
}

export interface Writer {
  run(signal: AbortSignal): Promise<void>
  /** The streams as committed. */
  readonly streams: ReadonlyMap<string, WrittenStream>
  readonly position: Position
  /** Entries that the journal had promised and could not give. */
  readonly damage: readonly JournalDamage[]
  readonly counters: Readonly<WriterCounters>
  /** Forgets what was taken of these streams: a batch that comes again would be new. */
  forget(keys: readonly string[]): Promise<void>
  /** Runs `look` between two commits, so that the store and `streams` tell of the same instant. */
  between<T>(look: () => Promise<T>): Promise<T>
}

const signalOf: Readonly<Record<string, Signal>> = Object.fromEntries(
  Object.entries(signalTopics).map(([signal, topic]) => [topic, signal as Signal]),
)

interface Group {
  batches: StoreBatch[]
  headers: { header: Header; key: string; signal: Signal; dropped?: Dropped }[]
  /** Numbers of the batches in it, by stream: they are not yet in the committed sets. */
  fresh: Map<string, Set<number>>
  records: number
  bytes: number
  /** Something is in it that no flood of lines or readings may hold up. */
  isPrecious: boolean
  next: Position
  /** Partitions came or went: the group ends here. */
  moved?: Moves
}

/** With this many records a group waits for more: a large commit costs a tenth for each row of what a small one does. */
const bulkRecords = 4000

const damageLimit = 1000

/** A commit should take so long: whatever comes next waits for it, and for the group that was read meanwhile. */
const commitTargetMs = 400
/** Of the limits of a group: what is written however slow the store is. */
const leastPortion = 0.05

/** Loads the committed state. @throws what the store throws when it cannot be opened. */
export async function openWriter(options: WriterOptions): Promise<Writer> {
  const { journal, store, keeper, handover, filter, log, clock } = options
  const source = handover ?? journal
  const {
    groupRecords = 100_000,
    groupBytes = 16 * 1024 * 1024,
    lingerMs = 400,
    maxBatchBytes = 8 * 1024 * 1024,
  } = options
  const groupEntries = Math.ceil(groupRecords / 100)
  const loaded = await (keeper ?? store).load()
  const streams = new Map<string, WrittenStream>()
  const windows = filter?.windows
  takeUp(loaded.streams)
  // A shared journal says itself where to read on.
  let position: Position = handover ? {} : loaded.position
  const damage: JournalDamage[] = []
  const counters: WriterCounters = {
    batches: 0,
    records: 0,
    duplicates: 0,
    unreadable: 0,
    commits: 0,
    commitMs: 0,
    retries: 0,
  }
  let turn: Promise<unknown> = Promise.resolve()
  /** Of the limits of a group, as much as the store has lately been able to commit in the time that it should take. */
  let portion = 0.1

  /** Ends a wait for the journal: there is something to do for the windows. */
  let wake = new AbortController()

  function takeUp(rows: Iterable<readonly [string, Uint8Array]>): void {
    const all = [...rows]
    for (const [key, row] of all) if (!isWindowRow(key)) streams.set(key, decodeStream(row))
    windows?.restore(all)
  }

  /** Runs one after the other whatever touches the store's newest commit. */
  function exclusive<T>(task: () => Promise<T>): Promise<T> {
    const mine = turn.then(task, task)
    turn = mine.catch(() => undefined)
    return mine
  }

  function headerOf(entry: JournalEntry): Header | undefined {
    try {
      const header = findHeader(decompressSync(entry.value, maxBatchBytes))
      if (header) return header
    } catch (error) {
      log.error('journal entry unreadable', { ...where(entry), error: messageOf(error) })
    }
    counters.unreadable++
    return undefined
  }

  /** Adds what was read to the group; `before` is the one that is being committed. */
  function gather(group: Group, entries: readonly JournalEntry[], before: Group | undefined): void {
    for (const entry of entries) {
      group.bytes += entry.value.length
      const header = headerOf(entry)
      if (!header) continue
      const key = streamKey(header)
      let own = group.fresh.get(key)
      if (!own) group.fresh.set(key, (own = new Set()))
      if (
        own.has(header.seq) ||
        before?.fresh.get(key)?.has(header.seq) === true ||
        streams.get(key)?.seen.has(header.seq) === true
      ) {
        counters.duplicates++
        continue
      }
      own.add(header.seq)
      const signal = signalOf[entry.topic] ?? 'logs'
      const isKept = signal !== 'traces' && header.count > 0
      const { value, arrivedUnixNano } = entry
      const left = isKept ? filter?.apply(header, signal, value, arrivedUnixNano) : undefined
      group.headers.push({ header, key, signal, ...(left && { dropped: left.dropped }) })
      group.records += header.count
      if (isPrecious(header.class)) group.isPrecious = true
      if (!isKept) continue
      // As it lies in the journal: the store's thread opens it, and fewer bytes are handed over.
      if (!left) group.batches.push({ header, signal, value, arrivedUnixNano })
      else for (const part of left.parts) group.batches.push({ signal, arrivedUnixNano, ...part })
    }
  }

  /** The sets as they will be once the group is committed: copies, so that a failed commit leaves no trace. */
  function advance(group: Group): Map<string, WrittenStream> {
    const changed = new Map<string, WrittenStream>()
    for (const { header, key, signal, dropped } of group.headers) {
      const stream = opened(streams, changed, key)
      stream.seen.add(header.seq)
      if (signal === 'traces') stream.forwarded += header.count
      else stream.records += header.count
      if (dropped) stream.filtered = added(stream.filtered, dropped)
    }
    return changed
  }

  /** What windows make is counted when it is kept, and as written when it is given to the store. */
  function advanceMade({ made, store: given }: WindowStep, changed: Map<string, WrittenStream>): void {
    const lastMs = Number(clock.nowUnixNano() / 1_000_000n)
    for (const { stream: key, batch } of made) {
      const { seq: batches, produced: records } = batch.header
      opened(streams, changed, key).made = { batches, records, lastMs }
    }
    for (const { stream: key, batch } of given) {
      const stream = opened(streams, changed, key)
      if (stream.seen.add(batch.header.seq)) stream.records += batch.header.count
    }
  }

  /** Adds what the store took to what it had of each stream before. */
  function confirm(
    changed: ReadonlyMap<string, WrittenStream>,
    batches: readonly StoreBatch[],
    receipts: readonly StoreReceipt[],
  ): void {
    const added = new Map<string, { stored: number; rejected: number }>()
    for (const [index, { header }] of batches.entries()) {
      const key = streamKey(header)
      let sum = added.get(key)
      if (!sum) added.set(key, (sum = { stored: 0, rejected: 0, ...streams.get(key)?.confirmed }))
      sum.stored += receipts[index]?.stored ?? 0
      sum.rejected += receipts[index]?.rejected ?? 0
    }
    for (const [key, sum] of added) {
      const stream = changed.get(key)
      if (stream) stream.confirmed = sum
    }
  }

  async function commit(group: Group, signal: AbortSignal): Promise<void> {
    // Before anything is awaited: what is read meanwhile goes into windows too, and belongs to the next commit.
    const changed = advance(group)
    const step = windows?.step((key) => streams.get(key)?.made)
    if (step) advanceMade(step, changed)
    const batches = [...group.batches, ...(step?.store ?? []).map(({ batch }) => batch)]
    const rows = (): Map<string, Uint8Array | undefined> =>
      new Map([...rowsOf(changed), ...(step?.rows ?? [])])
    const state = { position: group.next, streams: rows() }
    for (let attempt = 0; ; attempt++) {
      const began = clock.elapsedMs()
      try {
        await exclusive(async () => {
          const receipts = await store.write(batches, state)
          if (store.keepsState === false) confirm(changed, batches, receipts)
          const kept = store.keepsState === false ? rows() : state.streams
          await keeper?.save({ position: group.next, streams: kept })
          const isOurs = await handover?.save(group.next, kept, step !== undefined && step.made.length > 0)
          for (const [key, stream] of changed) if (isOurs?.(key) ?? true) streams.set(key, stream)
          if (step) windows?.kept(step, isOurs ?? (() => true))
          position = group.next
        })
        if (windows?.dueInMs() === 0) wake.abort()
        counters.commits++
        counters.commitMs += clock.elapsedMs() - began
        adapt(clock.elapsedMs() - began, group)
        break
      } catch (error) {
        if (signal.aborted) throw error
        // The journal keeps everything: whatever ails the store, waiting is right and dropping never is.
        if (attempt === 0 || attempt % 20 === 0 || !(error instanceof RetryableError)) {
          log.error('store does not take a write', { error: messageOf(error), attempt })
        }
        counters.retries++
        await clock.delay(Math.min(10_000, 100 * 2 ** Math.min(attempt, 7)), signal)
      }
    }
    counters.batches += group.headers.length
    for (const { header } of group.headers) counters.records += header.count
  }

  function adapt(tookMs: number, { headers }: Group): void {
    const factor = Math.min(2, Math.max(0.5, commitTargetMs / Math.max(1, tookMs)))
    // A group that was small tells nothing of a large one.
    if (factor < 1 || headers.length >= (portion * groupEntries) / 2)
      portion = Math.min(1, Math.max(leastPortion, portion * factor))
  }

  function take(group: Group, read: JournalRead, before: Group | undefined): void {
    for (const lost of read.damage) {
      if (damage.length < damageLimit) damage.push(lost)
      log.error('journal lost entries', { ...lost })
    }
    gather(group, read.entries, before)
    group.next = read.next
    if (read.moved) group.moved = read.moved
  }

  /** Reads until the group is worth a commit: a few records at once, many together. */
  async function fill(from: Position, before: Group | undefined, signal: AbortSignal): Promise<Group> {
    const group: Group = {
      batches: [],
      headers: [],
      fresh: new Map(),
      records: 0,
      bytes: 0,
      isPrecious: false,
      next: from,
    }
    const began = clock.elapsedMs()
    let patience = waiting(signal)
    for (;;) {
      const most = { entries: Math.ceil(groupEntries * portion), bytes: Math.ceil(groupBytes * portion) }
      take(group, await source.read(group.next, most, patience), before)
      const left = lingerMs - (clock.elapsedMs() - began)
      const isFull = group.records >= groupRecords * portion || group.bytes >= most.bytes
      const isSmall = group.records < bulkRecords
      if (group.moved || signal.aborted || isFull || left <= 0 || isSmall || group.isPrecious) return group
      patience = AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(left))])
    }
  }

  /** Until there is something to do for the windows. */
  function waiting(signal: AbortSignal): AbortSignal {
    if (!windows) return signal
    wake = new AbortController()
    const dueInMs = windows.dueInMs()
    if (dueInMs === undefined) return AbortSignal.any([signal, wake.signal])
    return AbortSignal.any([signal, wake.signal, AbortSignal.timeout(Math.ceil(dueInMs))])
  }

  /** A little of what came while the group waited for the one before it: the journal gives the most precious first. */
  async function topUp(group: Group, before: Group | undefined, signal: AbortSignal): Promise<void> {
    const end = journal.end()
    // Never waits: a position is only read on where there is something.
    if (Object.entries(end).every(([partition, offset]) => (group.next[partition] ?? 0) >= offset)) return
    const read = await source.read(group.next, { entries: 64, bytes: 256 * 1024, wait: false }, signal)
    take(group, read, before)
  }

  /** Partitions change hands between two groups: what was known of those that went may be wrong from now on. */
  function move(moves: Moves): void {
    const moved = handover?.move(moves, position)
    if (!moved) return
    position = moved.position
    for (const key of moved.forgotten) if (store.keepsState === false) streams.delete(key)
    if (store.keepsState === false) windows?.forget(moved.isMoved)
    takeUp(moved.streams)
  }

  async function run(signal: AbortSignal): Promise<void> {
    // While the store commits one group, the next one is read and opened.
    let committing: Promise<void> = Promise.resolve()
    let before: Group | undefined
    try {
      while (!signal.aborted) {
        const group = await fill(before?.next ?? position, before, signal)
        await committing
        if (!group.moved) await topUp(group, before, signal)
        const { moved } = group
        if (moved) {
          if (group.headers.length > 0 || !samePosition(group.next, position)) await commit(group, signal)
          move(moved)
          before = undefined
          continue
        }
        const isIdle = group.headers.length === 0 && windows?.dueInMs() !== 0
        if (isIdle && samePosition(group.next, position)) continue
        before = group
        committing = commit(group, signal).then(() => journal.stored(group.next))
        // A failure is met at the next turn or at the end; until then nobody may call it unhandled.
        committing.catch(() => undefined)
      }
      await committing
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }

  return {
    run,
    streams,
    get position() {
      return position
    },
    damage,
    counters,
    between: exclusive,
    forget: (keys) =>
      exclusive(async () => {
        const known = keys.filter((key) => streams.has(key))
        if (known.length === 0) return
        const state = { position, streams: new Map(known.map((key) => [key, undefined])) }
        await (keeper ? keeper.save(state) : store.write([], state))
        for (const key of known) streams.delete(key)
      }),
  }
}

/** What a flood is made of waits for more of its kind. */
const isPrecious = (name: Class): boolean => name !== 'log' && name !== 'log_error' && name !== 'resource'

const samePosition = (one: Position, other: Position): boolean =>
  Object.entries(one).every(([partition, offset]) => other[partition] === offset)

const where = ({ topic, partition, offset, key }: JournalEntry) => ({ topic, partition, offset, device: key })
