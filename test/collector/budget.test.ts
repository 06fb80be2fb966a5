import { describe, expect, test } from 'vitest'
import { Bandwidth } from '../../collector/bandwidth.ts'
import { Budget } from '../../collector/budget.ts'
import { limitsSettings } from '../../collector/limits.ts'
import type { Class } from '../../plugins/contract/index.ts'
import { FakeClock, settle } from '../support/clock.ts'
import { testContext } from '../support/context.ts'

function budgetOf(limits: object) {
  const clock = new FakeClock()
  const used = { seconds: 0 }
  const budget = new Budget({ clock, logger: testContext().log, ownCpuSeconds: () => used.seconds })
  budget.configure(limitsSettings.parse(limits), 1)
  const entered: Class[] = []
  const enter = (name: Class) => {
    const wait = budget.enter(name, 1000)
    if (wait) void wait.then(() => entered.push(name))
    else entered.push(name)
  }
  return { clock, used, budget, entered, enter }
}

describe('the budget of CPU', () => {
  test('lets everything in while less is used than may be', async () => {
    const it = budgetOf({ cpu: '10%' })
    for (let turn = 0; turn < 50; turn++) {
      it.enter('log')
      it.used.seconds += 0.009
      await it.clock.advance(100)
    }
    expect(it.entered).toHaveLength(50)
    expect(it.budget.admission.shed('log')).toBe(0)
  })

  test('makes log wait when the account is empty, and an event not', async () => {
    const it = budgetOf({ cpu: '10%' })
    it.used.seconds += 0.3 // 0.2 were in it
    await it.clock.advance(20)
    it.enter('log')
    it.enter('event')
    await settle()
    expect(it.entered).toEqual(['event'])
    expect(it.budget.waiting).toBe(1)
  })

  test('lets in who has waited half a second, however deep the debt', async () => {
    const it = budgetOf({ cpu: '0.5%' })
    it.used.seconds += 100
    await it.clock.advance(20)
    for (let turn = 0; turn < 3; turn++) it.enter('log')
    await it.clock.advance(400)
    expect(it.entered).toHaveLength(0)
    await it.clock.advance(1000)
    expect(it.entered).toHaveLength(3)
  })

  test('sheds log in a flood and nothing that is more precious, and stops when the flood is over', async () => {
    const it = budgetOf({ cpu: '10%' })
    // What is used follows what is let in; five times too much comes.
    for (let turn = 0; turn < 400; turn++) {
      it.used.seconds += 0.025 * 0.1 + 0.025 * 0.5 * (1 - it.budget.admission.shed('log'))
      await it.clock.advance(25)
    }
    expect(it.budget.admission.shed('log')).toBeGreaterThan(0.5)
    for (const name of ['event', 'usage', 'error', 'log_error', 'environment', 'resource'] as const)
      expect(it.budget.admission.shed(name)).toBe(0)
    expect(it.used.seconds).toBeLessThan(10 * 0.1 * 1.5)
    await it.clock.advance(30_000)
    expect(it.budget.admission.shed('log')).toBe(0)
  })

  test('lets everyone in at the stop, and afterwards', async () => {
    const it = budgetOf({ cpu: '1%' })
    it.used.seconds += 10
    await it.clock.advance(20)
    it.enter('log')
    it.budget.stop()
    it.enter('log')
    await settle()
    expect(it.entered).toHaveLength(2)
  })

  test('is lifted by a configuration without it', async () => {
    const it = budgetOf({ cpu: '1%' })
    it.used.seconds += 10
    await it.clock.advance(20)
    it.enter('log')
    it.budget.configure(limitsSettings.parse({}), 1)
    await settle()
    expect(it.entered).toHaveLength(1)
  })
})

test('a limit of memory bounds the buffers of all exporters together', () => {
  const MiB = 1024 * 1024
  const { budget } = budgetOf({ memory: '128MiB' })
  budget.configure(limitsSettings.parse({ memory: '120MiB' }), 4)
  expect(budget.bufferBytes(32 * MiB) * 4).toBeLessThanOrEqual(12 * MiB)
  expect(budgetOf({}).budget.bufferBytes(32 * MiB)).toBe(32 * MiB)
})

describe('bandwidth', () => {
  test('lets out what the rate allows, by what batches came to on the wire', async () => {
    const clock = new FakeClock()
    const bandwidth = new Bandwidth(clock)
    bandwidth.configure(1000)
    let sent = 0
    for (let turn = 0; turn < 10_000; turn++) {
      if (bandwidth.waitMs('log') === 0) {
        const charged = bandwidth.take(5000)
        bandwidth.settle(5000, charged, 500)
        sent += 500
      }
      await clock.advance(10)
    }
    expect(sent).toBeGreaterThan(95_000)
    expect(sent).toBeLessThan(103_000)
    expect(bandwidth.isShort).toBe(true)
  })

  test('lets an event go ahead of what log may not', () => {
    const bandwidth = new Bandwidth(new FakeClock())
    bandwidth.configure(1000)
    bandwidth.take(1500)
    expect(bandwidth.waitMs('log')).toBeGreaterThan(0)
    expect(bandwidth.waitMs('event')).toBe(0)
  })

  test('limits nothing where none is set', () => {
    const bandwidth = new Bandwidth(new FakeClock())
    bandwidth.take(1e12)
    expect(bandwidth.waitMs('log')).toBe(0)
  })
})

test.each([
  [{ cpu: 'much' }, 'cpu'],
  [{ cpu: '0.1%' }, 'cpu'],
  [{ memory: '3MiB' }, 'memory'],
  [{ bandwidth: 5 }, 'bandwidth'],
  [{ disk: '1B' }, 'disk'],
  [{ senders: { burst: '1ms' } }, 'burst'],
  [{ senders: { by: 'name' } }, 'by'],
  [{ ram: '1GiB' }, 'ram'],
])('%j is refused, naming %s', (limits, name) => {
  const { error } = limitsSettings.safeParse(limits)
  expect(JSON.stringify(error?.issues)).toContain(name)
})
