// The machine's clock: stamps between which nothing happened must not change places.
import { expect, test } from 'vitest'
import { systemClock } from '../../collector/clock.ts'

test('stamps that follow each other keep their order, and are those of the wall clock to a few milliseconds', () => {
  let before = 0n
  const until = performance.now() + 50
  while (performance.now() < until) {
    const now = systemClock.nowUnixNano()
    expect(now).toBeGreaterThanOrEqual(before)
    expect(Math.abs(Number(now / 1_000_000n) - Date.now())).toBeLessThan(5)
    before = now
  }
})
