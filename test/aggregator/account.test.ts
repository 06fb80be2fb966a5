import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Accounts } from '../../aggregator/account.ts'
import { streamKey } from '../../plugins/contract/batch.ts'
import type { Header } from '../../plugins/contract/batch.ts'
import { statusSchema } from '../../plugins/protocols/topics.ts'

const stream = {
  collector: 'dpu-1',
  device: 'dpu-1',
  session: '01K00000000000000000000001',
  class: 'log',
} as const
const key = streamKey(stream)
const header = (seq: number, more: Partial<Header> = {}): Header => ({
  ...stream,
  seq,
  count: 10,
  from: 0n,
  to: 0n,
  produced: seq * 10,
  dropped: {},
  ...more,
})

describe('Accounts', () => {
  test('the order and the number of times in which batches come change nothing', () => {
    const order = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 60 })
    fc.assert(
      fc.property(order, (order) => {
        const accounts = new Accounts()
        const seen = new Set<number>()
        for (const seq of order) {
          const more = { dropped: { filter: seq * 2, overflow: seq > 5 ? seq - 5 : 0 } }
          expect(accounts.record(header(seq, more), 1000)).toBe(seen.has(seq) ? 'duplicate' : 'new')
          seen.add(seq)
        }
        const highest = Math.max(...seen)
        const account = accounts.get(key)
        expect(account?.records).toBe(seen.size * 10)
        expect(account?.produced).toBe(highest * 10)
        expect(account?.lastSeq).toBe(highest)
        expect(account?.dropped.filter).toBe(highest * 2)
        expect(account?.dropped.overflow ?? 0).toBe(Math.max(0, highest - 5))
        expect(account?.acknowledged.size).toBe(seen.size)
      }),
    )
  })

  test('a row holds all that is known of a stream', () => {
    const accounts = new Accounts()
    accounts.record(header(1, { dropped: { filter: 3 } }), 1_790_000_000_000)
    accounts.record(header(4, { dropped: { filter: 3, corrupted: 1 } }), 1_790_000_000_500)
    const status = statusSchema.parse({
      state: 'online',
      collector: 'dpu-1',
      instance: 'i',
      ended: [{ ...stream, seq: 6, produced: 60, dropped: { expired: 2 } }],
      held: [{ ...stream, count: 20 }],
    })
    expect(accounts.birth(status, 1_790_000_001_000)).toEqual([key])
    const back = new Accounts()
    expect(back.load([[key, accounts.encode(key)]])).toEqual([])
    expect(back.get(key)).toEqual(accounts.get(key))
    expect(back.get(key)).toMatchObject({
      records: 20,
      produced: 60,
      lastSeq: 6,
      dropped: { filter: 3, corrupted: 1, expired: 2 },
      ended: true,
      held: 20,
      firstSeenMs: 1_790_000_000_000,
    })
    expect(back.get(key)?.acknowledged.missing(6)).toEqual([
      [2, 3],
      [5, 6],
    ])
  })

  test('what a later birth no longer holds is held no more, also after a restart', () => {
    const birth = (held: object[]) =>
      statusSchema.parse({ state: 'online', collector: 'dpu-1', instance: 'i', held })
    const accounts = new Accounts()
    accounts.record(header(1), 1)
    accounts.birth(birth([{ ...stream, count: 20 }]), 2)
    const back = new Accounts()
    back.load([[key, accounts.encode(key)]])
    expect(back.birth(birth([]), 3)).toEqual([key])
    expect(back.get(key)?.held).toBe(0)
  })

  test('what is staged shows in the rows at once, and in the accounts only when it is applied', () => {
    const steps = fc.array(fc.tuple(fc.array(fc.integer({ min: 1, max: 15 })), fc.boolean()), {
      maxLength: 10,
    })
    fc.assert(
      fc.property(steps, (steps) => {
        const accounts = new Accounts()
        const expected = new Accounts()
        for (const [seqs, durable] of steps) {
          const stage = accounts.stage(1000)
          for (const seq of seqs) {
            const more = { dropped: { filter: seq } }
            const verdict = stage.record(header(seq, more))
            if (!durable) continue
            expect(verdict).toBe(expected.record(header(seq, more), 1000))
          }
          const before = accounts.get(key)?.records ?? 0
          const rows = stage.rows([])
          expect(accounts.get(key)?.records ?? 0).toBeLessThanOrEqual(before)
          if (!durable) continue
          const back = new Accounts()
          back.load(rows)
          if (rows.length > 0) expect(back.get(key)).toEqual(expected.get(key))
          stage.apply()
          expect(accounts.get(key)).toEqual(expected.get(key))
        }
        expect(accounts.get(key)).toEqual(expected.get(key))
      }),
    )
  })

  test('refuses one stream too many, and goes on with those it knows', () => {
    const accounts = new Accounts(1)
    accounts.record(header(1), 1)
    expect(() => accounts.record(header(1, { device: 'dpu-2' }), 1)).toThrow(/no room for the stream/)
    expect(accounts.record(header(2), 1)).toBe('new')
    expect(accounts.silentSince(2)).toEqual([key])
    accounts.forget(key)
    expect(accounts.record(header(1, { device: 'dpu-2' }), 1)).toBe('new')
  })

  test('a collector that makes up devices fills its share, and others still find room', () => {
    const accounts = new Accounts(8)
    const rows: [string, Uint8Array][] = []
    for (const device of ['a', 'b']) {
      const one = header(1, { device })
      accounts.record(one, 1)
      rows.push([streamKey(one), accounts.encode(streamKey(one))])
    }
    const back = new Accounts(8)
    back.load(rows)
    for (const each of [accounts, back]) {
      expect(() => each.record(header(1, { device: 'c' }), 1)).toThrow(/2 are known, 2 of them of /)
      expect(each.record(header(1, { collector: 'another', device: 'c' }), 1)).toBe('new')
      each.forget(streamKey(header(1, { device: 'a' })))
      expect(each.record(header(1, { device: 'c' }), 1)).toBe('new')
    }
  })

  test('a damaged row is named, and the others are loaded', () => {
    const accounts = new Accounts()
    accounts.record(header(1), 1)
    const back = new Accounts()
    const damaged = back.load([
      ['a/b/c/log', Buffer.from([9])],
      [key, accounts.encode(key)],
      ['d/e/f/log', accounts.encode(key).subarray(0, 5)],
    ])
    expect(damaged).toEqual(['a/b/c/log', 'd/e/f/log'])
    expect(back.size).toBe(1)
  })
})
