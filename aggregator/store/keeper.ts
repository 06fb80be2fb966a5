// For a store that keeps rows and nothing else: what the writer must find again is kept by the journal, after the rows.
// The store's writes are idempotent, so a crash between the two repeats a write and changes nothing.
import { randomBytes } from 'node:crypto'
import { Reader, Writer } from '../../plugins/contract/wire.ts'
import type { JournalTable, Position, TableRow } from '../journal/journal.ts'
import type { WriterState } from './store.ts'

/** Where position and streams are kept. */
export interface StateKeeper {
  load(): Promise<{ position: Position; streams: Map<string, Uint8Array> }>
  /** Resolves when on disk: all or nothing. */
  save(state: WriterState): Promise<void>
}

const positionRow = 'position'
const redoPrefix = 'redo/'

/** The redo rows of one save; a table takes a value of 64 MiB. */
const redoBytes = 16 * 1024 * 1024

/**
 * Keeps them in a table of the journal. A save is not one transaction: after a crash the first of its rows may be there,
 * and a window that has a reading twice or not at all would be wrong for good. So all of it goes in front as redo rows,
 * and whoever finds all of those goes by them.
 */
export function journalKeeper(table: JournalTable): StateKeeper {
  return {
    async load() {
      let position: Position = {}
      const streams = new Map<string, Uint8Array>()
      const rows = new Map<string, Uint8Array | undefined>(table.entries())
      for (const [key, value] of redone(table)) rows.set(key, value)
      for (const [key, value] of rows) {
        if (key === positionRow) position = JSON.parse(Buffer.from(value ?? []).toString('utf8')) as Position
        else if (value && !key.startsWith(redoPrefix)) streams.set(key, value)
      }
      return { position, streams }
    },
    async save({ position, streams }) {
      const rows: TableRow[] = [...streams, [positionRow, Buffer.from(JSON.stringify(position))]]
      if (table.setAll) await table.setAll([...redoRows(rows), ...rows])
      else throw new Error('a journal that is shared keeps this state itself')
    },
  }
}

/** All rows of a save, in as many parts as it takes; each says of how many, and of which save. */
function redoRows(rows: readonly TableRow[]): TableRow[] {
  const parts: Buffer[] = []
  const out = new Writer(64 * 1024)
  for (const [key, value] of rows) {
    out.string(key)
    out.byte(value ? 1 : 0)
    if (value) out.bytes(value)
    if (out.position < redoBytes) continue
    parts.push(out.take())
    out.reset()
  }
  parts.push(out.take())
  const save = randomBytes(8)
  return parts.map((part, index) => {
    const count = Buffer.from(Uint32Array.of(parts.length).buffer)
    return [`${redoPrefix}${index}`, Buffer.concat([save, count, part])]
  })
}

/** What the newest save wrote; nothing where its end, before any of its rows, is missing. */
function redone(table: JournalTable): TableRow[] {
  const first = table.get(`${redoPrefix}0`)
  if (!first) return []
  const save = Buffer.from(first.subarray(0, 12))
  const rows: TableRow[] = []
  for (let index = 0; index < save.readUInt32LE(8); index++) {
    const part = table.get(`${redoPrefix}${index}`)
    if (!part || !save.equals(part.subarray(0, 12))) return []
    const from = new Reader(part.subarray(12))
    while (!from.done) {
      const key = from.string()
      const has = from.varint() === 1
      rows.push([key, has ? Uint8Array.from(from.bytes()) : undefined])
    }
  }
  return rows
}
