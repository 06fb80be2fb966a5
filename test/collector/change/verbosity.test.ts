// How long a verbosity lasts: exactly as long as was said while the machine is up, whatever the wall clock does, and never
// longer over a reboot than what was left when that was last written.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { counted, floorsOf, merged, remainingMs } from '../../../collector/change/verbosity.ts'
import type { BootClock } from '../../../collector/change/verbosity.ts'

const hour = 3_600_000
const wished = {
  id: 'a',
  source: 'syslog',
  severity: 'debug' as const,
  forMs: hour,
  by: 'ada',
  time: '2026-11-21T09:55:00.000Z',
}
const at = (boot: string, uptimeMs: number, unixMs: number): BootClock => ({
  boot,
  uptimeMs: () => uptimeMs,
  unixMs: () => unixMs,
})

describe('a verbosity', () => {
  test('ends after its time since boot, over any steps of the wall clock', () =>
    fc.assert(
      fc.property(
        fc.array(fc.record({ passedMs: fc.nat(hour / 4), stepMs: fc.integer({ min: -1e12, max: 1e12 }) })),
        (moments) => {
          let uptime = 1000
          let unix = 1_790_000_000_000
          let [row] = merged([], [wished], at('one', uptime, unix))
          for (const { passedMs, stepMs } of moments) {
            uptime += passedMs
            unix += passedMs + stepMs
            // As a restart of the process: only the row is left.
            if (row) row = counted(row, at('one', uptime, unix))
            expect(row?.state).toBe(uptime - 1000 >= hour ? 'ended' : 'in_force')
          }
        },
      ),
    ))

  test('is never prolonged by a reboot', () =>
    fc.assert(
      fc.property(fc.array(fc.record({ passedMs: fc.nat(hour), unixMs: fc.nat(2e12) })), (boots) => {
        let [row] = merged([], [wished], at('boot 0', 5000, 1_790_000_000_000))
        let left = hour
        for (const [index, { passedMs, unixMs }] of boots.entries()) {
          if (!row) return
          const began = at(`boot ${index + 1}`, 7000, unixMs)
          expect(remainingMs(row, began)).toBeLessThanOrEqual(left)
          row = counted(counted(row, began), at(`boot ${index + 1}`, 7000 + passedMs, unixMs + passedMs))
          left = remainingMs(row, at(`boot ${index + 1}`, 7000 + passedMs, 0))
          expect(left).toBeLessThanOrEqual(hour)
        }
      }),
    ))

  test('counts the time that a reboot took by the wall clock', () => {
    const [row] = merged([], [wished], at('one', 1000, 1_790_000_000_000))
    expect(row && remainingMs(row, at('two', 10, 1_790_000_000_000 + hour / 2))).toBe(hour / 2)
    expect(row && remainingMs(row, at('two', 10, 1_790_000_000_000 + 2 * hour))).toBe(0)
    // A clock that was never set says nothing: what was left is the most.
    expect(row && remainingMs(row, at('two', 10, 0))).toBe(hour)
  })

  test('that has ended stays so while it is wished, and another one of the source begins anew', () => {
    const clock = at('one', 1000, 0)
    const [row] = merged([], [wished], clock)
    const ended = row && [counted(row, at('one', 1000 + hour, 0))]
    expect(merged(ended ?? [], [wished], clock)).toMatchObject([{ id: 'a', state: 'ended' }])
    expect(floorsOf(ended ?? [])).toEqual(new Map())
    const again = merged(ended ?? [], [{ ...wished, id: 'b', severity: 'warn' }], clock)
    expect(again).toMatchObject([{ id: 'b', state: 'in_force' }])
    expect(floorsOf(again)).toEqual(new Map([['syslog', 'warn']]))
    expect(merged(again, [], clock)).toEqual([])
  })
})
