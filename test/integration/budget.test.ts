// Limits of a collector under five times what they let in: they hold for the whole process group, what is precious
// arrives whole, and every record is stored or counted. `npm run soak budget` is the same for two minutes.
import { describe, expect, onTestFinished, test } from 'vitest'
import {
  budgetConfiguration,
  budgetLimits,
  budgetRun,
  memoryConfiguration,
  memoryLimit,
  memoryRun,
} from '../support/budget-run.ts'
import { fleetOf } from '../support/fleet.ts'

const portOffset = 20_100

describe('a collector that is offered five times what its limits let in', () => {
  test('keeps within CPU and memory, delivers the precious classes whole, and counts the rest as budget', async () => {
    const fleet = fleetOf({ portOffset, collector: budgetConfiguration(portOffset), onTestFinished })
    await fleet.startBoth()
    const run = await budgetRun(fleet, 20)
    const { cpu, pssMiB, sent, ledger, sustained, offered } = run
    process.stdout.write(
      `${JSON.stringify({ sustained, offered, cpu, pssMiB, sent, dropped: ledger.dropped })}\n`,
    )
    // The account lets a burst of two seconds' worth through.
    expect(cpu).toBeLessThan(budgetLimits.cpu * (1 + 2 / 20) + 0.005)
    expect(pssMiB).toBeLessThan(budgetLimits.memory / 1024 / 1024)
    expect(ledger).toMatchObject({ balanced: true, unknown: 0 })
    expect(Object.keys(ledger.dropped).filter((reason) => reason !== 'overflow')).toEqual(['budget'])
    const of = (name: string) => ledger.streams.filter((stream) => stream.class === name)
    const sum = (name: string, key: 'produced' | 'stored') =>
      of(name).reduce((total, stream) => total + stream[key], 0)
    expect(sum('log', 'produced')).toBe(sent.datagrams)
    expect([sum('event', 'produced'), sum('event', 'stored')]).toEqual([sent.events, sent.events])
    expect([sum('log_error', 'produced'), sum('log_error', 'stored')]).toEqual([sent.errors, sent.errors])
    expect(ledger.dropped.budget).toBeGreaterThan(0)
  }, 300_000)
})

test('a flood over TCP that nothing but a limit of memory slows never takes the collector beyond it', async () => {
  const fleet = fleetOf({ portOffset, collector: memoryConfiguration(portOffset), onTestFinished })
  await fleet.startBoth()
  const { sent, pssMiB, ledger } = await memoryRun(fleet, 5)
  process.stdout.write(`${JSON.stringify({ pssMiB, sent, produced: ledger.produced })}\n`)
  expect(pssMiB * 2 ** 20).toBeLessThan(memoryLimit)
  const { produced, stored } = ledger.streams
    .filter(({ class: name }) => name === 'log')
    .reduce((sum, one) => ({ produced: sum.produced + one.produced, stored: sum.stored + one.stored }), {
      produced: 0,
      stored: 0,
    })
  // What can wait waits: nothing is dropped.
  expect({ produced, stored, balanced: ledger.balanced }).toEqual({
    produced: sent,
    stored: sent,
    balanced: true,
  })
}, 300_000)
