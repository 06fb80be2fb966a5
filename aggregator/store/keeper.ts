// For a store that keeps rows and nothing else: what the writer must find again (position, sets of sequence numbers)
// and what the store confirmed of each stream are kept elsewhere, after the rows. The store's writes are idempotent,
// so a crash between the two repeats a write and changes nothing.
import { parseStreamKey } from '../../plugins/contract/batch.ts'
import { Reader, Writer } from '../../plugins/contract/wire.ts'
import type { JournalTable, Position } from '../journal/journal.ts'
import type { RowStore, Store, StoreBatch, StoreReceipt, StreamCount, WriterState } from './store.ts'
import { streamKey } from '../../plugins/contract/batch.ts'

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

interface Tally {
  stored: number
  rejected: number
}

/** A row as it is kept: stored, rejected, then the writer's own row. */
function encodeRow({ stored, rejected }: Tally, row: Uint8Array): Uint8Array {
  const out = new Writer(row.length + 20)
  out.varint(stored)
  out.varint(rejected)
  out.raw(row)
  return out.take()
}

function decodeRow(bytes: Uint8Array): { tally: Tally; row: Uint8Array } {
  const reader = new Reader(bytes)
  const tally = { stored: reader.varint(), rejected: reader.varint() }
  return { tally, row: bytes.subarray(reader.position) }
}

/** The store with its state: what the writer and the ledger work with. */
export function withKeeper(rows: RowStore, keeper: StateKeeper): Store {
  const tallies = new Map<string, Tally>()

  /** What the tallies will be once the receipts count: copies, so that a failed save leaves no trace. */
  function advance(batches: readonly StoreBatch[], receipts: readonly StoreReceipt[]): Map<string, Tally> {
    const changed = new Map<string, Tally>()
    for (const [index, { header }] of batches.entries()) {
      const key = streamKey(header)
      let tally = changed.get(key)
      if (!tally) changed.set(key, (tally = { stored: 0, rejected: 0, ...tallies.get(key) }))
      tally.stored += receipts[index]?.stored ?? 0
      tally.rejected += receipts[index]?.rejected ?? 0
    }
    return changed
  }

  return {
    queries: rows.queries,
    status: () => rows.status(),
    async load() {
      const { position, streams } = await keeper.load()
      const own = new Map<string, Uint8Array>()
      for (const [key, value] of streams) {
        const { tally, row } = decodeRow(value)
        tallies.set(key, tally)
        own.set(key, row)
      }
      return { position, streams: own }
    },
    async write(batches, { position, streams }) {
      const receipts = await rows.put(batches)
      const changed = advance(batches, receipts)
      const kept = new Map<string, Uint8Array | undefined>()
      for (const [key, row] of streams) {
        const tally = changed.get(key) ?? tallies.get(key) ?? { stored: 0, rejected: 0 }
        kept.set(key, row && encodeRow(tally, row))
      }
      await keeper.save({ position, streams: kept })
      for (const [key, tally] of changed) tallies.set(key, tally)
      return receipts
    },
    async count(device) {
      const counts: StreamCount[] = []
      for (const [stream, tally] of tallies) {
        if (tally.stored + tally.rejected === 0) continue
        if (device !== undefined && parseStreamKey(stream).device !== device) continue
        counts.push({ stream, ...tally, damaged: [] })
      }
      return counts
    },
    [Symbol.asyncDispose]: () => rows[Symbol.asyncDispose](),
  }
}
