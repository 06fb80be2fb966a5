// The embedded journal: the interface of journal.ts on our durable log, with one partition for each topic. Positions
// are the log's offsets, tables are the log's tables.
import { RetryableError } from '../../plugins/contract/errors.ts'
import {
  LogBusyError,
  LogClosedError,
  LogFullError,
  LogWriteError,
  openLog,
} from '../../plugins/protocols/log/index.ts'
import type { Log, LogOptions, Topic } from '../../plugins/protocols/log/index.ts'
import { positionKey, signalTopics } from './journal.ts'
import type { Journal, JournalDamage, JournalEntry, JournalTable, Position, SignalTopic } from './journal.ts'

export type LogJournalOptions = Pick<LogOptions, 'maxBytes' | 'segmentBytes' | 'fs' | 'now'> & {
  /** Entries that the disk lost, as soon as that is known; `read` tells them too, where they are passed. */
  onDamage?: (damage: JournalDamage & { bytes: number; file: string }) => void
}

const partition = 0
const names: readonly SignalTopic[] = Object.values(signalTopics)

/** @throws LogLockedError where another process has the directory open. */
export async function openLogJournal(directory: string, options: LogJournalOptions = {}): Promise<Journal> {
  const { onDamage, ...rest } = options
  const log = await openLog(directory, {
    ...rest,
    ...(onDamage && { onDamage: (damage) => onDamage({ partition, ...damage }) }),
  })
  const topics = names.map((name) => log.topic(name))
  return {
    async append(entries, account) {
      try {
        await log.commit({
          append: entries,
          set: account.map(([key, value]) => ({ table: 'dpulse_ledger', key, value })),
        })
      } catch (error) {
        throw failure(error)
      }
    },
    read: (from, limit, signal) => read(topics, from, limit, signal),
    end: () => Object.fromEntries(topics.map(({ name, next }) => [keyOf(name), next])),
    table: (name) => openTable(log, name),
    async stored(position) {
      for (const topic of topics) {
        const before = position[keyOf(topic.name)]
        if (before !== undefined && before > topic.first) await topic.truncate(before)
      }
    },
    get bytes() {
      return log.bytes
    },
    async [Symbol.asyncDispose]() {
      await log.close()
    },
  }
}

const keyOf = (topic: string): string => positionKey(topic as SignalTopic, partition)

function openTable(log: Log, name: string): JournalTable {
  const table = log.table(name)
  return {
    get: (key) => table.get(key),
    entries: () => table.entries(),
    async set(key, value) {
      try {
        await table.set(key, value)
      } catch (error) {
        throw failure(error)
      }
    },
  }
}

/** Topics are read one after the other, each at least one entry, so that a flood of one signal starves no other. */
async function read(
  topics: readonly Topic[],
  from: Position,
  limit: { entries: number; bytes: number },
  signal: AbortSignal,
): Promise<{ entries: JournalEntry[]; next: Position; damage: JournalDamage[] }> {
  const at = (topic: Topic): number => from[keyOf(topic.name)] ?? 0
  const entries: JournalEntry[] = []
  const damage: JournalDamage[] = []
  const next: Record<string, number> = { ...from }
  if (!(await waitAny(topics, at, signal))) return { entries, next, damage }
  const ready = topics.filter((topic) => topic.next > at(topic))
  const share = {
    entries: Math.max(1, Math.floor(limit.entries / ready.length)),
    bytes: Math.max(1, Math.floor(limit.bytes / ready.length)),
  }
  for (const topic of ready) {
    const name = topic.name as SignalTopic
    // Taken before reading: what is appended meanwhile is no damage when this read does not bring it.
    const end = topic.next
    let expected = at(topic)
    const lost = (to: number): void => {
      if (to > expected) damage.push({ topic: name, partition, from: expected, to })
      expected = Math.max(expected, to)
    }
    const found = await topic.read(expected, share)
    for (const { offset, key, value, appendedUnixNano } of found) {
      lost(offset)
      entries.push({ topic: name, partition, offset, key, value, arrivedUnixNano: appendedUnixNano })
      expected = offset + 1
    }
    if (found.length === 0) lost(end)
    next[keyOf(name)] = expected
  }
  return { entries, next, damage }
}

/** False when aborted first. */
async function waitAny(
  topics: readonly Topic[],
  at: (topic: Topic) => number,
  signal: AbortSignal,
): Promise<boolean> {
  if (signal.aborted) return false
  if (topics.some((topic) => topic.next > at(topic))) return true
  const enough = new AbortController()
  const either = AbortSignal.any([signal, enough.signal])
  const waiting = topics.map((topic) => topic.wait(at(topic), either))
  try {
    await Promise.race(waiting)
    return !signal.aborted
  } catch (error) {
    if (signal.aborted) return false
    throw failure(error)
  } finally {
    enough.abort()
    await Promise.allSettled(waiting)
  }
}

function failure(error: unknown): unknown {
  if (error instanceof LogFullError) {
    return new RetryableError('DISK_FULL', 'the journal has no room', { cause: error })
  }
  if (error instanceof LogBusyError) {
    return new RetryableError('PEER_OVERLOADED', 'the journal has too much to write', { cause: error })
  }
  if (error instanceof LogWriteError) {
    return new RetryableError('UNEXPECTED', 'the journal cannot be written', { cause: error })
  }
  if (error instanceof LogClosedError) {
    return new RetryableError('STOPPING', 'the journal is closed', { cause: error })
  }
  return error
}
