import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { batchLimits } from '../../plugins/contract/index.ts'
import type { Class, Records } from '../../plugins/contract/index.ts'
import { Inbox } from '../../collector/inbox.ts'

const recordsOf = (name: Class, count: number, size: number, device = 'dpu-1'): Records => ({
  device,
  signal: 'logs',
  class: name,
  count,
  from: 0n,
  to: 0n,
  bytes: new Uint8Array(size),
})

type Step = { do: 'offer'; class: Class; count: number; size: number } | { do: 'take' }
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant('offer' as const),
    class: fc.constantFrom<Class>('event', 'log', 'resource'),
    count: fc.integer({ min: 1, max: 300 }),
    size: fc.integer({ min: 1, max: 30_000 }),
  }),
  fc.record({ do: fc.constant('take' as const) }),
)

describe('the inbox of a local subscriber', () => {
  test('holds no more than it may, and every record is taken or counted as missed', () =>
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const limit = 64 * 1024
        let [offered, taken, missed] = [0, 0, 0]
        const inbox = new Inbox(limit, (count) => (missed += count))
        const take = () => {
          const group = inbox.take()
          if (!group) return false
          expect(group.parts.reduce((sum, part) => sum + part.length, 0)).toBe(group.size)
          taken += group.count
          return true
        }
        for (const one of steps) {
          if (one.do === 'take') take()
          else {
            offered += one.count
            inbox.offer(recordsOf(one.class, one.count, one.size))
          }
          expect(inbox.bytes).toBeLessThanOrEqual(limit)
        }
        while (take());
        expect([taken + missed, inbox.bytes, inbox.isEmpty]).toEqual([offered, 0, true])
        expect(inbox.takeMissed()).toBe(missed)
        expect(inbox.takeMissed()).toBe(0)
      }),
    ))

  test('joins what goes to one place until that fills a batch, and keeps the order of groups', () => {
    const inbox = new Inbox(1024 * 1024, () => undefined)
    inbox.offer(recordsOf('log', batchLimits.records - 1, 10))
    inbox.offer(recordsOf('event', 1, 10))
    inbox.offer(recordsOf('log', 1, 10))
    inbox.offer(recordsOf('log', 7, 10))
    inbox.offer(recordsOf('log', 5, 10, 'bmc-2'))
    const groups = [inbox.take(), inbox.take(), inbox.take(), inbox.take(), inbox.take()]
    expect(groups.map((group) => group && [group.class, group.device, group.count])).toEqual([
      ['log', 'dpu-1', batchLimits.records],
      ['event', 'dpu-1', 1],
      ['log', 'dpu-1', 7],
      ['log', 'bmc-2', 5],
      undefined,
    ])
  })

  test('keeps a small part of a large request without the rest of it', () => {
    const inbox = new Inbox(64 * 1024, () => undefined)
    const large = new Uint8Array(8 * 1024 * 1024)
    inbox.offer({ ...recordsOf('log', 1, 0), bytes: large.subarray(100, 200) })
    expect(inbox.bytes).toBe(100)
    expect(inbox.take()?.parts[0]?.buffer.byteLength).toBe(100)
  })
})
