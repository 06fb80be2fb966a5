// What every journal owes to ingest and writer: one suite for the embedded log and for Kafka.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { signalTopics } from '../../aggregator/journal/journal.ts'
import type { Journal, JournalEntry, Position, SignalTopic } from '../../aggregator/journal/journal.ts'
import { openLogJournal } from '../../aggregator/journal/log.ts'

export interface JournalUnderTest {
  open(): Promise<Journal>
}

const limit = { entries: 1000, bytes: 1 << 20 }
const entry = (text: string, topic: SignalTopic = 'otlp_logs', key = 'dpu-1') => ({
  topic,
  key,
  value: Buffer.from(text),
})
const text = ({ value }: JournalEntry): string => Buffer.from(value).toString()

/** Reads on until so many entries have come. */
export async function readAll(journal: Journal, from: Position, count: number) {
  const entries: JournalEntry[] = []
  let next = from
  while (entries.length < count) {
    const read = await journal.read(next, limit, AbortSignal.timeout(30_000))
    if (read.entries.length === 0 && read.damage.length === 0) throw new Error('nothing came in time')
    expect(read.damage).toEqual([])
    entries.push(...read.entries.map((one) => ({ ...one, value: Buffer.from(one.value) })))
    next = read.next
  }
  return { entries, next }
}

/** `prepare` gives a place of its own for each test; opening it again finds what was there. */
export function conformsToJournal(name: string, prepare: () => Promise<JournalUnderTest>): void {
  const opened = async (place: JournalUnderTest): Promise<Journal> => {
    const journal = await place.open()
    onTestFinished(async () => journal[Symbol.asyncDispose]())
    return journal
  }
  const fresh = async (): Promise<Journal> => opened(await prepare())

  describe(`${name} as a journal`, () => {
    test('gives back what was appended, in the order of each key, from any position on', async () => {
      const journal = await fresh()
      await journal.append([entry('a'), entry('b'), entry('c', 'otlp_metrics')], [])
      await journal.append([entry('d')], [])
      const all = await readAll(journal, {}, 4)
      const logs = all.entries.filter(({ topic }) => topic === 'otlp_logs')
      expect(logs.map(text)).toEqual(['a', 'b', 'd'])
      expect(logs.map(({ key }) => key)).toEqual(['dpu-1', 'dpu-1', 'dpu-1'])
      expect(all.entries.filter(({ topic }) => topic === 'otlp_metrics').map(text)).toEqual(['c'])
      expect(journal.end()).toEqual(expect.objectContaining(all.next))
      await journal.append([entry('e')], [])
      const more = await readAll(journal, all.next, 1)
      expect(more.entries.map(text)).toEqual(['e'])
    })

    test('stamps entries with the time at which it took them', async () => {
      const journal = await fresh()
      const before = BigInt(Date.now() - 1000) * 1_000_000n
      await journal.append([entry('a')], [])
      const { entries } = await readAll(journal, {}, 1)
      expect(entries[0]?.arrivedUnixNano).toBeGreaterThan(before)
      expect(entries[0]?.arrivedUnixNano).toBeLessThan(BigInt(Date.now() + 1000) * 1_000_000n)
    })

    test('a read at the end waits for the next entry, of any topic', async () => {
      for (const topic of Object.values(signalTopics)) {
        const journal = await fresh()
        await journal.append([entry('old')], [])
        const { next } = await readAll(journal, {}, 1)
        const waiting = journal.read(next, limit, AbortSignal.timeout(30_000))
        await journal.append([entry('new', topic)], [])
        expect((await waiting).entries.map(text)).toEqual(['new'])
      }
    })

    test('a read that is aborted gives nothing, and the position it was given', async () => {
      const journal = await fresh()
      await journal.append([entry('a')], [])
      const { next } = await readAll(journal, {}, 1)
      const stopping = new AbortController()
      const waiting = journal.read(next, limit, stopping.signal)
      stopping.abort()
      expect(await waiting).toEqual({ entries: [], next, damage: [] })
    })

    test('keeps to the limit of a read, but gives at least one entry', async () => {
      const journal = await fresh()
      await journal.append(
        Array.from({ length: 20 }, (_, index) => entry(`${index}`.padEnd(1000))),
        [],
      )
      const few = await journal.read({}, { entries: 3, bytes: 1 << 20 }, AbortSignal.timeout(30_000))
      expect(few.entries).toHaveLength(3)
      const one = await journal.read(few.next, { entries: 3, bytes: 1 }, AbortSignal.timeout(30_000))
      expect(one.entries.map((found) => text(found).trim())).toEqual(['3'])
    })

    test('account rows are there after the entries, and both survive a restart', async () => {
      const place = await prepare()
      {
        await using journal = await place.open()
        await journal.append([entry('a')], [['stream-1', Buffer.from('row')]])
        expect(Buffer.from(journal.table('dpulse_ledger').get('stream-1') ?? []).toString()).toBe('row')
      }
      const again = await opened(place)
      expect(Buffer.from(again.table('dpulse_ledger').get('stream-1') ?? []).toString()).toBe('row')
      expect((await readAll(again, {}, 1)).entries.map(text)).toEqual(['a'])
    })

    test('tables keep the newest value of each key, and forget what was deleted', async () => {
      const place = await prepare()
      {
        await using journal = await place.open()
        const table = journal.table('dpulse_registry')
        await table.set('one', Buffer.from('1'))
        await table.set('two', Buffer.from('2'))
        await table.set('one', Buffer.from('3'))
        await table.set('two', undefined)
      }
      const table = (await opened(place)).table('dpulse_registry')
      expect([...table.entries()].map(([key, value]) => [key, Buffer.from(value).toString()])).toEqual([
        ['one', '3'],
      ])
      expect(table.get('two')).toBeUndefined()
    })

    test('what is stored may be forgotten, and reading goes on behind it', async () => {
      const place = await prepare()
      let next: Position
      {
        await using journal = await place.open()
        await journal.append([entry('a'), entry('b')], [])
        next = (await readAll(journal, {}, 2)).next
        await journal.stored(next)
        await journal.append([entry('c')], [])
        expect((await readAll(journal, next, 1)).entries.map(text)).toEqual(['c'])
      }
      expect((await readAll(await opened(place), next, 1)).entries.map(text)).toEqual(['c'])
    })
  })
}

/** The embedded journal in a folder of its own, closed and gone at the end of the test. */
export async function openTestJournal(directory?: string): Promise<Journal> {
  const path = directory ?? (await mkdtemp(join(tmpdir(), 'dpulse-journal-')))
  const journal = await openLogJournal(path)
  onTestFinished(async () => {
    await journal[Symbol.asyncDispose]()
    if (directory === undefined) await rm(path, { recursive: true, force: true })
  })
  return journal
}
