// For a store that keeps rows and nothing else: what the writer must find again is kept by the journal, after the rows.
// The store's writes are idempotent, so a crash between the two repeats a write and changes nothing.
import type { JournalTable, Position } from '../journal/journal.ts'
import type { WriterState } from './store.ts'

/** Where position and streams are kept. */
export interface StateKeeper {
  load(): Promise<{ position: Position; streams: Map<string, Uint8Array> }>
  /** Resolves when on disk. Where it is not one transaction, streams come before the position. */
  save(state: WriterState): Promise<void>
}

const positionRow = 'position'

/** Keeps them in a table of the journal: rows of streams first, so that a position never speaks of what they lack. */
export function journalKeeper(table: JournalTable): StateKeeper {
  return {
    async load() {
      let position: Position = {}
      const streams = new Map<string, Uint8Array>()
      for (const [key, value] of table.entries()) {
        if (key === positionRow) position = JSON.parse(Buffer.from(value).toString('utf8')) as Position
        else streams.set(key, value)
      }
      return { position, streams }
    },
    async save({ position, streams }) {
      await Promise.all([...streams].map(([key, value]) => table.set(key, value)))
      await table.set(positionRow, Buffer.from(JSON.stringify(position)))
    },
  }
}
