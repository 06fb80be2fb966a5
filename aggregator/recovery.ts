// After a crash the journal may hold batches of its last commit whose accounts were not written with them: entries go
// first, so that an account never speaks of a batch that is not there. Nobody was told of them, but they will be
// stored, so the accounts learn of them before anything else happens.
import { findHeader, streamKey } from '../plugins/contract/batch.ts'
import type { Log } from '../plugins/contract/define.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import { decompressSync } from '../plugins/protocols/compression.ts'
import type { Accounts } from './account.ts'
import type { Journal, JournalEntry, Position } from './journal/journal.ts'

const maxBatchBytes = 16 * 1024 * 1024

/**
 * Reads the journal from where the store ended, which is before anything that a crash can have cut off, and takes what
 * the accounts lack into them, on disk too. Returns how many batches that were.
 */
export async function recoverAccounts(
  journal: Journal,
  accounts: Accounts,
  from: Position,
  nowMs: number,
  log: Log,
): Promise<number> {
  const end = journal.end()
  const changed = new Set<string>()
  let found = 0
  let position = from
  while (!isPast(position, end)) {
    const { entries, next } = await journal.read(
      position,
      { entries: 1000, bytes: 8 * 1024 * 1024 },
      AbortSignal.timeout(60_000),
    )
    for (const entry of entries) {
      const header = headerOf(entry, log)
      if (!header || accounts.has(header)) continue
      accounts.record(header, nowMs)
      changed.add(streamKey(header))
      found++
    }
    position = next
  }
  if (changed.size > 0) {
    await journal.append(
      [],
      [...changed].map((key) => [key, accounts.encode(key)] as const),
    )
    log.info('accounts completed from the journal', { batches: found, streams: changed.size })
  }
  return found
}

const isPast = (position: Position, end: Position): boolean =>
  Object.entries(end).every(([partition, offset]) => (position[partition] ?? 0) >= offset)

function headerOf(entry: JournalEntry, log: Log): ReturnType<typeof findHeader> {
  try {
    return findHeader(decompressSync(entry.value, maxBatchBytes))
  } catch (error) {
    // The writer names it when it comes to it.
    log.debug('journal entry unreadable', { offset: entry.offset, error: messageOf(error) })
    return undefined
  }
}
