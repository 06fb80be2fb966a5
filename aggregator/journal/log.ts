// The embedded journal: the interface of journal.ts on our durable log. Each class is a partition of its topic, 0 the
// least precious, so that what reads the journal meets an event behind a million lines of log at once. Positions are the
// log's offsets, tables are the log's tables.
import { RetryableError } from '../../plugins/contract/errors.ts'
import { classes, rank } from '../../plugins/contract/signal.ts'
import type { Class } from '../../plugins/contract/signal.ts'
import {
  LogBusyError,
  LogClosedError,
  LogFullError,
  LogWriteError,
  openLog,
} from '../../plugins/protocols/log/index.ts'
import type { Log, LogOptions, Topic } from '../../plugins/protocols/log/index.ts'
import { positionKey, signalTopics } from './journal.ts'
import type {
  Journal,
  JournalDamage,
  JournalEntry,
  JournalRead,
  JournalTable,
  Position,
  ReadLimit,
  SignalTopic,
} from './journal.ts'

export type LogJournalOptions = Pick<LogOptions, 'maxBytes' | 'segmentBytes' | 'fs' | 'now'> & {
  /** Entries that the disk lost, as soon as that is known; `read` tells them too, where they are passed. */
  onDamage?: (damage: JournalDamage & { bytes: number; file: string }) => void
}

/** One partition, as a topic of the log. */
interface Lane {
  readonly topic: SignalTopic
  readonly partition: number
  /** Of positions. */
  readonly key: string
  readonly log: Topic
}

const partitionOf = (name: Class): number => classes.length - 1 - rank[name]
const nameOf = (topic: SignalTopic, partition: number): string =>
  partition === 0 ? topic : `${topic}-${partition}`

/** The other way round; also of tables and of what else lies there, whose name is as good as a topic. */
function laneOf(name: string): { topic: string; partition: number } {
  const found = /^(otlp_\w+)-(\d+)$/.exec(name)
  return found?.[1] === undefined
    ? { topic: name, partition: 0 }
    : { topic: found[1], partition: Number(found[2]) }
}

/** @throws LogLockedError where another process has the directory open. */
export async function openLogJournal(directory: string, options: LogJournalOptions = {}): Promise<Journal> {
  const { onDamage, ...rest } = options
  const log = await openLog(directory, {
    ...rest,
    ...(onDamage && { onDamage: (damage) => onDamage({ ...damage, ...laneOf(damage.topic) }) }),
  })
  // The most precious first.
  const lanes = classes.flatMap((name) =>
    Object.values(signalTopics).map((topic): Lane => {
      const partition = partitionOf(name)
      return {
        topic,
        partition,
        key: positionKey(topic, partition),
        log: log.topic(nameOf(topic, partition)),
      }
    }),
  )
  return {
    async append(entries, account) {
      try {
        await log.commit({
          append: entries.map(({ topic, class: name = 'log', key, value }) => ({
            topic: nameOf(topic, partitionOf(name)),
            key,
            value,
          })),
          set: account.map(([key, value]) => ({ table: 'dpulse_ledger', key, value })),
        })
      } catch (error) {
        throw failure(error)
      }
    },
    read: (from, limit, signal) => read(lanes, from, limit, signal),
    end: () => Object.fromEntries(lanes.map(({ key, log }) => [key, log.next])),
    table: (name) => openTable(log, name),
    async stored(position) {
      for (const { key, log: topic } of lanes) {
        const before = position[key]
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
    async setAll(rows) {
      try {
        await log.commit({ set: rows.map(([key, value]) => ({ table: name, key, value })) })
      } catch (error) {
        throw failure(error)
      }
    },
  }
}

/** Lanes are read one after the other, each at least one entry, the least precious last: it gets what the others left. */
async function read(
  lanes: readonly Lane[],
  from: Position,
  limit: ReadLimit,
  signal: AbortSignal,
): Promise<JournalRead> {
  const at = ({ key }: Lane): number => from[key] ?? 0
  const entries: JournalEntry[] = []
  const damage: JournalDamage[] = []
  const next: Record<string, number> = { ...from }
  if (limit.wait !== false && !(await waitAny(lanes, at, signal))) return { entries, next, damage }
  const ready = lanes.filter((lane) => lane.log.next > at(lane))
  let bytes = 0
  for (const [index, lane] of ready.entries()) {
    const { topic, partition, key, log } = lane
    const left = ready.length - index
    const share = {
      entries: Math.max(1, Math.floor((limit.entries - entries.length) / left)),
      bytes: Math.max(1, Math.floor((limit.bytes - bytes) / left)),
    }
    // Taken before reading: what is appended meanwhile is no damage when this read does not bring it.
    const end = log.next
    let expected = at(lane)
    const lost = (to: number): void => {
      if (to > expected) damage.push({ topic, partition, from: expected, to })
      expected = Math.max(expected, to)
    }
    const found = await log.read(expected, share)
    for (const { offset, key: device, value, appendedUnixNano } of found) {
      lost(offset)
      entries.push({ topic, partition, offset, key: device, value, arrivedUnixNano: appendedUnixNano })
      bytes += value.length
      expected = offset + 1
    }
    if (found.length === 0) lost(end)
    next[key] = expected
  }
  return { entries, next, damage }
}

/** False when aborted first. */
async function waitAny(
  lanes: readonly Lane[],
  at: (lane: Lane) => number,
  signal: AbortSignal,
): Promise<boolean> {
  if (signal.aborted) return false
  if (lanes.some((lane) => lane.log.next > at(lane))) return true
  const enough = new AbortController()
  const either = AbortSignal.any([signal, enough.signal])
  const waiting = lanes.map((lane) => lane.log.wait(at(lane), either))
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
