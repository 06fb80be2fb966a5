// The limit of memory, with a process whose size the test decides: when records are let in, when they wait, and when
// those that cannot are shed.
import { describe, expect, test } from 'vitest'
import { Budget } from '../../collector/budget.ts'
import { Heap } from '../../collector/heap.ts'
import { limitsSettings } from '../../collector/limits.ts'
import { Memory } from '../../collector/memory.ts'
import { FakeClock, settle } from '../support/clock.ts'
import { testContext } from '../support/context.ts'

const MiB = 1024 * 1024

function budgetOf(limit: string) {
  const clock = new FakeClock()
  const size = { resident: 80 * MiB, shared: 0, asked: 0 }
  const heap = new Heap(clock)
  const memory = new Memory({
    clock,
    heap,
    resident: () => size.resident,
    proportional: () => {
      size.asked++
      return size.resident - size.shared
    },
  })
  const budget = new Budget({ clock, logger: testContext().log, heap, memory })
  budget.configure(limitsSettings.parse({ memory: limit }), 1)
  return { clock, size, budget }
}

describe('the limit of memory', () => {
  test('is not passed by a flood that comes all at once: what is let in is charged before it shows', () => {
    const { budget, size } = budgetOf('100MiB')
    let entered = 0
    while (budget.enter('log', MiB / 4) === undefined && entered < 1000) entered++
    expect(size.resident + entered * (MiB / 4)).toBeLessThan(100 * MiB)
    expect(entered).toBeGreaterThan(10)
    budget.stop()
  })

  test('makes log wait as soon as it is nearly reached, an event not, and lets it in when there is room', async () => {
    const { budget, size, clock } = budgetOf('100MiB')
    size.resident = 94 * MiB
    await clock.advance(20)
    const wait = budget.enter('log', 1000)
    expect(wait).toBeDefined()
    expect(budget.enter('event', 1000)).toBeUndefined()
    let isIn = false
    void wait?.then(() => (isIn = true))
    await clock.advance(100)
    expect(isIn).toBe(false)
    size.resident = 70 * MiB
    await clock.advance(100)
    await settle()
    expect(isIn).toBe(true)
    budget.stop()
  })

  test('sheds what cannot wait with the records that reach it, not with the next tick', async () => {
    const { budget, size, clock } = budgetOf('100MiB')
    await clock.advance(20)
    expect(budget.sheds('log', 1000)).toBe(false)
    size.resident = 97 * MiB
    await clock.advance(11)
    budget.sheds('log', 1000)
    expect(budget.sheds('log', 1000)).toBe(true)
    expect(budget.sheds('event', 1000)).toBe(false)
    budget.stop()
  })

  test('is not about pages that others share, and asks for these seldom', async () => {
    const { budget, size, clock } = budgetOf('100MiB')
    size.resident = 120 * MiB
    size.shared = 60 * MiB
    size.asked = 0
    await clock.advance(10_000)
    expect(budget.enter('log', 1000)).toBeUndefined()
    expect(budget.used()).toEqual([{ name: 'memory', share: expect.closeTo(0.6, 1) as number }])
    expect(size.asked).toBeLessThanOrEqual(21)
    budget.stop()
  })
})
