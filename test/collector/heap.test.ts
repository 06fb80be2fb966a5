// Garbage of the collector: what is collected although V8 sees no reason to.
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'
import { describe, expect, test } from 'vitest'
import { Heap } from '../../collector/heap.ts'
import { FakeClock, settle } from '../support/clock.ts'

const garbage = (): WeakRef<object> => new WeakRef({ made: 'by a reading' })

describe('a heap that is tidied', () => {
  test('keeps nothing of the start, and later nothing of what came since, until it is stopped', async () => {
    const clock = new FakeClock()
    const stop = new AbortController()
    const tidying = new Heap(clock).tidy(stop.signal)
    const first = garbage()
    await settle()
    expect(first.deref()).toBeDefined()
    await clock.advance(15_000)
    await settle()
    expect(first.deref()).toBeUndefined()
    const second = garbage()
    await settle()
    await clock.advance(120_000)
    await settle()
    expect(second.deref()).toBeUndefined()
    stop.abort()
    await tidying
    expect(clock.waiting).toBe(0)
  })

  test('gives back the room that young objects had', async () => {
    setFlagsFromString('--no-concurrent-marking')
    const room = () =>
      getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space')?.space_size ?? 0
    // What survives makes the room grow.
    let kept: object[] = []
    for (let count = 0; count < 1_000_000; count++) kept.push({ count })
    const grown = room()
    kept = []
    const clock = new FakeClock()
    const stop = new AbortController()
    const tidying = new Heap(clock).tidy(stop.signal)
    await clock.advance(15_000)
    await settle()
    expect(room()).toBeLessThan(grown / 2)
    expect(kept).toHaveLength(0)
    stop.abort()
    await tidying
  })
})
