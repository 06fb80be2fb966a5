// What every journal owes to ingest and writer: one suite for the embedded log and for Kafka.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, onTestFinished, test as declare } from 'vitest'
import { signalTopics } from '../../aggregator/journal/journal.ts'
import type {
  Journal,
  JournalEntry,
  Position,
  ReadLimit,
  SignalTopic,
} from '../../aggregator/journal/journal.ts'
import { openLogJournal } from '../../aggregator/journal/log.ts'

export interface JournalUnderTest {
  open(): Promise<Journal>
}

export interface JournalSuite {
  /** Why these tests cannot run here. */
  missing?: string | undefined
  /** Of the property: a journal on a server takes seconds to open. */
  runs: number
}

const limit = { entries: 1000, bytes: 1 << 20 }
const entry = (text: string, topic: SignalTopic = 'otlp_logs', key = 'dpu-1') => ({
  topic,
  key,
  value: Buffer.from(text),
})
const text = ({ value }: JournalEntry): string => Buffer.from(value).toString()

/** The next read that brings something; that partitions came is no news here. */
export async function readSome(
  journal: Journal,
  from: Position,
  most: ReadLimit = limit,
  signal = AbortSignal.timeout(20_000),
) {
  for (;;) {
    const { moved, ...read } = await journal.read(from, most, signal)
    if (!moved) return read
  }
}

/** Reads on until so many entries have come. */
export async function readAll(journal: Journal, from: Position, count: number) {
  const entries: JournalEntry[] = []
  let next = from
  while (entries.length < count) {
    const read = await readSome(journal, next)
    if (read.entries.length === 0 && read.damage.length === 0) throw new Error('nothing came in time')
    expect(read.damage).toEqual([])
    entries.push(...read.entries.map((one) => ({ ...one, value: Buffer.from(one.value) })))
    next = read.next
  }
  return { entries, next }
}

/** `prepare` gives a place of its own for each test; opening it again finds what was there. */
export function conformsToJournal(
  name: string,
  prepare: () => Promise<JournalUnderTest>,
  { missing, runs }: JournalSuite = { runs: 30 },
): void {
  const test = (what: string, body: () => Promise<void>): void =>
    declare(
      what,
      async ({ skip }) => {
        if (missing !== undefined) skip(missing)
        await body()
      },
      90_000,
    )
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
        const waiting = readSome(journal, next)
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
      const few = await readSome(journal, {}, { entries: 3, bytes: 1 << 20 })
      expect(few.entries).toHaveLength(3)
      const one = await readSome(journal, few.next, { entries: 3, bytes: 1 })
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

    test('a read that does not wait answers at once at the end', async () => {
      const journal = await fresh()
      await journal.append([entry('a')], [])
      const { next } = await readAll(journal, {}, 1)
      expect(await readSome(journal, next, { ...limit, wait: false })).toMatchObject({ entries: [], next })
    })

    test('whatever is appended and however it is read, every key comes once and in order', async () => {
      const place = await prepare()
      const message = fc.record({
        topic: fc.constantFrom(...Object.values(signalTopics)),
        key: fc.constantFrom('dpu-1', 'dpu-2', 'dpu-3', 'dpu-4'),
        size: fc.oneof(fc.nat(100), fc.integer({ min: 1000, max: 200_000 })),
      })
      const step = fc.oneof(
        { weight: 6, arbitrary: fc.record({ append: fc.array(message, { minLength: 1, maxLength: 20 }) }) },
        {
          weight: 4,
          arbitrary: fc.record({
            entries: fc.integer({ min: 1, max: 30 }),
            bytes: fc.integer({ min: 1, max: 500_000 }),
          }),
        },
        { weight: 1, arbitrary: fc.constant('reopen' as const) },
      )
      let number = 0
      let journal = await place.open()
      let position: Position = {}
      const steps = fc.array(step, { minLength: 5, maxLength: 12 })
      try {
        await fc.assert(
          fc.asyncProperty(steps, async (all) => {
            const appended = new Map<string, number[]>()
            const found = new Map<string, number[]>()
            const take = ({ entries, next }: { entries: JournalEntry[]; next: Position }): number => {
              for (const { topic, key, value } of entries) {
                const list = found.get(`${topic} ${key}`) ?? []
                found.set(`${topic} ${key}`, list)
                list.push(Buffer.from(value).readUInt32BE())
              }
              position = next
              return entries.length
            }
            for (const one of all) {
              if (one === 'reopen') {
                await journal[Symbol.asyncDispose]()
                journal = await place.open()
              } else if ('append' in one) {
                const entries = one.append.map(({ topic, key, size }) => {
                  const value = Buffer.alloc(4 + size, number % 251)
                  value.writeUInt32BE(number)
                  const list = appended.get(`${topic} ${key}`) ?? []
                  appended.set(`${topic} ${key}`, list)
                  list.push(number++)
                  return { topic, key, value }
                })
                await journal.append(entries, [])
              } else take(await readSome(journal, position, { ...one, wait: false }))
            }
            const count = (map: Map<string, number[]>): number =>
              [...map.values()].reduce((sum, list) => sum + list.length, 0)
            while (count(found) < count(appended)) {
              if (take(await readSome(journal, position)) === 0) break
            }
            expect(found).toEqual(appended)
          }),
          { numRuns: runs },
        )
      } finally {
        await journal[Symbol.asyncDispose]()
      }
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
