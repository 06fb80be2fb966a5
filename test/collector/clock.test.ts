// The machine's clock: stamps between which nothing happened must not change places.
import { expect, test } from 'vitest'
import { systemClock } from '../../collector/clock.ts'

test('stamps that follow each other keep their order, and are those of the wall clock to a few milliseconds', () => {
  let before = 0n
  const until = performance.now() + 50
  while (performance.now() < until) {
    // Between two readings of the wall clock, however long this process waited for its turn in between.
    const earliest = Date.now() - 5
    const now = systemClock.nowUnixNano()
    const latest = Date.now() + 5
    expect(now).toBeGreaterThanOrEqual(before)
    expect(Number(now / 1_000_000n)).toBeGreaterThanOrEqual(earliest)
    expect(Number(now / 1_000_000n)).toBeLessThanOrEqual(latest)
    before = now
  }
})
