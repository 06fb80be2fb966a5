// The state of a store that keeps none, in a table of the journal: all of a save or nothing, wherever a crash cut it off.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { JournalTable, TableRow } from '../../../aggregator/journal/journal.ts'
import { journalKeeper } from '../../../aggregator/store/keeper.ts'

/** A table of which a crash leaves the first rows of the last write, as our log's does. */
function tableOf() {
  const rows = new Map<string, Uint8Array>()
  let left = Infinity
  const put = (key: string, value: Uint8Array | undefined): void => {
    if (left-- <= 0) return
    if (value) rows.set(key, value)
    else rows.delete(key)
  }
  const table: JournalTable = {
    get: (key) => rows.get(key),
    entries: () => rows.entries(),
    set: (key, value) => Promise.resolve(put(key, value)),
    setAll: (all: readonly TableRow[]) => Promise.resolve(all.forEach(([key, value]) => put(key, value))),
  }
  return { table, cutAfter: (count: number) => void (left = count) }
}

const value = fc.option(fc.uint8Array({ maxLength: 20 }), { nil: undefined })
const save = fc.dictionary(fc.constantFrom('a', 'b', '$window/c', '$made/d'), value)

test('a save that a crash cuts off is there whole or not at all', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(save, { minLength: 1 }), fc.nat(8), async (saves, kept) => {
      const { table, cutAfter } = tableOf()
      const keeper = journalKeeper(table)
      const state = new Map<string, Uint8Array>()
      const states: unknown[] = [{ position: {}, streams: new Map() }]
      for (const [index, rows] of saves.entries()) {
        if (index === saves.length - 1) cutAfter(kept)
        await keeper.save({ position: { 'otlp_logs/0': index }, streams: new Map(Object.entries(rows)) })
        for (const [key, bytes] of Object.entries(rows)) {
          if (bytes) state.set(key, bytes)
          else state.delete(key)
        }
        states.push({ position: { 'otlp_logs/0': index }, streams: new Map(state) })
      }
      const loaded = await journalKeeper(table).load()
      const found = {
        ...loaded,
        streams: new Map([...loaded.streams].map(([key, row]) => [key, Uint8Array.from(row)])),
      }
      expect(states.slice(-2)).toContainEqual(found)
      if (kept > 0) expect(found).toEqual(states.at(-1))
    }),
  )
})
