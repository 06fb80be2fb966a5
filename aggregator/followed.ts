// The books of the whole fleet where several aggregators share the journal: each follows the compacted tables into which
// the owners of all partitions write, so that any of them answers for all.
import { Accounts } from './account.ts'
import type { JournalTable } from './journal/journal.ts'
import { isWindowRow } from './window-rows.ts'
import { decodeStream } from './written.ts'
import type { WrittenStream } from './written.ts'

/** Accounts as `dpulse_ledger` has them, now and later. */
export function followAccounts(table: JournalTable): Accounts {
  const accounts = new Accounts(Infinity)
  accounts.load(table.entries())
  table.watch?.((key, row) => {
    accounts.forget(key)
    if (row) accounts.load([[key, row]])
  })
  return accounts
}

/** What writers have taken, as `dpulse_state` has it, now and later. */
export function followStreams(table: JournalTable): ReadonlyMap<string, WrittenStream> {
  const streams = new Map<string, WrittenStream>()
  const take = (key: string, row: Uint8Array | undefined): void => {
    if (isWindowRow(key)) return
    if (row) streams.set(key, decodeStream(row))
    else streams.delete(key)
  }
  for (const [key, row] of table.entries()) take(key, row)
  table.watch?.(take)
  return streams
}
