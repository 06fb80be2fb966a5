// The account of one stream, against lives of streams made up at random; the whole ledger on real parts is in
// test/integration.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { streamKey } from '../../plugins/contract/batch.ts'
import { IntervalSet } from '../../aggregator/intervals.ts'
import { accountOf } from '../../aggregator/ledger.ts'

const key = streamKey({
  collector: 'dpu-1',
  device: 'dpu-1',
  session: '01K0000000000000000000000A',
  class: 'log',
})

/** What became of each batch of a stream, in the order of their numbers. */
const fate = fc.constantFrom('stored', 'journal', 'sender', 'overflow', 'gone')
const life = fc.array(fc.record({ fate, count: fc.integer({ min: 1, max: 500 }) }), {
  minLength: 1,
  maxLength: 60,
})

type Life = { fate: 'stored' | 'journal' | 'sender' | 'overflow' | 'gone'; count: number }[]

/** The books of both sides after such a life. */
function booksOf(batches: Life, ended: boolean) {
  const acknowledged = new IntervalSet()
  const seen = new IntervalSet()
  let [produced, records, written, overflow, held] = [0, 0, 0, 0, 0]
  for (const [index, { fate, count }] of batches.entries()) {
    const seq = index + 1
    produced += count
    if (fate === 'overflow') overflow += count
    if (fate === 'sender') held += count
    if (fate !== 'stored' && fate !== 'journal') continue
    acknowledged.add(seq)
    records += count
    if (fate === 'journal') continue
    seen.add(seq)
    written += count
  }
  const dropped = overflow > 0 ? { overflow } : {}
  return {
    known: { acknowledged, records, produced, dropped, lastSeq: batches.length, held },
    written: { seen, records: written, forwarded: 0 },
    count: { stream: key, stored: written, rejected: 0, damaged: [] },
    lost: undefined as IntervalSet | undefined,
    caughtUp: records === written,
    ended,
  }
}

const sumOf = (fates: readonly string[], batches: Life): number =>
  batches.filter(({ fate }) => fates.includes(fate)).reduce((all, { count }) => all + count, 0)

describe('the account of a stream', () => {
  test('adds up whatever became of its batches, and names each share', () => {
    fc.assert(
      fc.property(life, fc.boolean(), (batches, ended) => {
        const account = accountOf(key, booksOf(batches, ended))
        expect(account.balanced).toBe(true)
        expect(account.stored).toBe(sumOf(['stored'], batches))
        expect(account.unknown).toBe(ended ? sumOf(['gone'], batches) : 0)
        const underWay = ended ? ['journal', 'sender'] : ['journal', 'sender', 'gone']
        expect(account.inFlight).toBe(sumOf(underWay, batches))
      }),
    )
  })

  test('is not balanced once a stored row is gone, and names the batch', () => {
    fc.assert(
      fc.property(life, fc.nat(), (batches, pick) => {
        const stored = batches.flatMap(({ fate, count }, index) =>
          fate === 'stored' ? [{ count, seq: index + 1 }] : [],
        )
        fc.pre(stored.length > 0)
        const { seq, count } = stored[pick % stored.length] ?? { seq: 0, count: 0 }
        const books = booksOf(batches, false)
        const damaged = [{ seq, written: count, found: count - 1 }]
        const account = accountOf(key, {
          ...books,
          count: { ...books.count, stored: books.count.stored - 1, damaged },
        })
        expect(account.balanced).toBe(false)
        expect(account.missing.some(([from, to]) => from <= seq && seq <= to)).toBe(true)
      }),
    )
  })

  test('is not balanced once an acknowledged batch left the journal without being stored', () => {
    fc.assert(
      fc.property(life, (batches) => {
        const at = batches.findIndex(({ fate }) => fate === 'journal')
        fc.pre(at >= 0)
        const lost = new IntervalSet()
        for (const [index, { fate }] of batches.entries()) if (fate === 'journal') lost.add(index + 1)
        // The writer is past the end of the journal, and these were not in it.
        const account = accountOf(key, { ...booksOf(batches, false), lost, caughtUp: true })
        expect(account.balanced).toBe(false)
        expect(account.missing.some(([from, to]) => from <= at + 1 && at + 1 <= to)).toBe(true)
      }),
    )
  })

  test('counts what the store refused as dropped', () => {
    const books = booksOf([{ fate: 'stored', count: 10 }], false)
    const account = accountOf(key, { ...books, count: { ...books.count, stored: 7, rejected: 3 } })
    expect(account).toMatchObject({ balanced: true, stored: 7, dropped: { rejected: 3 }, produced: 10 })
  })

  test('leaves traces out of the sum and tells how many were passed on', () => {
    const books = booksOf([{ fate: 'stored', count: 10 }], false)
    const account = accountOf(key, {
      ...books,
      written: { ...books.written, records: 6, forwarded: 4 },
      count: { ...books.count, stored: 6 },
    })
    expect(account).toMatchObject({ balanced: true, produced: 6, stored: 6, forwarded: 4, inFlight: 0 })
  })
})
