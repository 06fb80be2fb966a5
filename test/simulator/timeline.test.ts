// Simulated time: what is due comes in its order, live and virtual, and never before its time.
import { setImmediate as turn } from 'node:timers/promises'
import { assert, array, integer, property, record } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { clockOf } from '../../simulator/clock.ts'
import { timesOf } from '../../simulator/times.ts'
import { Timeline, driveLive, driveVirtual } from '../../simulator/timeline.ts'

const never = new AbortController().signal
const nothing = () => undefined

describe('the time line', () => {
  test('wakes what is left in the order of its times, the older of two first, whatever is taken out between', () => {
    const plan = array(record({ dueMs: integer({ min: 0, max: 20 }), goes: integer({ min: 0, max: 3 }) }))
    assert(
      property(plan, (list) => {
        const timeline = new Timeline(0)
        const woken: number[] = []
        const timers = list.map(({ dueMs }, index) => timeline.add(dueMs, () => woken.push(index)))
        const left = list.flatMap(({ dueMs, goes }, index) => {
          const timer = timers[index]
          if (goes > 0 || !timer) return [{ dueMs, index }]
          timeline.remove(timer)
          timeline.remove(timer)
          return []
        })
        while (timeline.next) timeline.fire()
        expect(woken).toEqual(left.toSorted((a, b) => a.dueMs - b.dueMs).map(({ index }) => index))
      }),
    )
  })

  test('jumps from one delay to the next when it is virtual, and ends with what it was asked to await', async () => {
    const timeline = new Timeline(0)
    const clock = clockOf(timeline, { offsetMs: 0 })
    const seen: number[] = []
    const work = async () => {
      for (const ms of [3_600_000, 1, 500]) {
        await clock.delay(ms, never)
        seen.push(clock.elapsedMs())
      }
    }
    await driveVirtual(timeline, work(), nothing)
    expect(seen).toEqual([3_600_000, 3_600_001, 3_600_501])
  })

  test('hands on what the awaited work threw', async () => {
    const timeline = new Timeline(0)
    const fails = clockOf(timeline, { offsetMs: 0 })
      .delay(5, never)
      .then(() => Promise.reject(new Error('broken')))
    await expect(driveVirtual(timeline, fails, nothing)).rejects.toThrow('broken')
  })

  test('goes sixty times as fast as the machine until it has caught up, and then with it', async () => {
    const timeline = new Timeline(0)
    const clock = clockOf(timeline, { offsetMs: 0 })
    const behindMs = 590
    using _ = driveLive(timeline, { speed: 60, behindMs })
    const beganMs = performance.now()
    // 600 ms of simulated time are 10 of the machine: as far as it may go ahead of it.
    await clock.delay(600, never)
    const tookMs = performance.now() - beganMs
    expect(tookMs).toBeGreaterThanOrEqual(9)
    const beforeMs = performance.now()
    await clock.delay(40, never)
    expect(performance.now() - beforeMs).toBeGreaterThan(30)
    expect(clock.elapsedMs()).toBeLessThanOrEqual(behindMs + performance.now() - beganMs + 1)
  })

  test('forgets a delay that is aborted', async () => {
    const timeline = new Timeline(0)
    const stop = new AbortController()
    const late = clockOf(timeline, { offsetMs: 0 }).delay(1000, stop.signal)
    stop.abort(new Error('no longer'))
    await expect(late).rejects.toThrow('no longer')
    expect(timeline.next).toBeUndefined()
  })
})

describe("a device's clock", () => {
  test('shows the simulated time with the error of the device, which may change under way', async () => {
    const error = { offsetMs: -1.5 }
    const timeline = new Timeline(1_767_225_600_000)
    const clock = clockOf(timeline, error)
    const read = async () => {
      const before = clock.nowUnixNano()
      error.offsetMs = 2000
      await clock.delay(250, never)
      await turn()
      return [before, clock.nowUnixNano(), BigInt(clock.elapsedMs())]
    }
    const reading = read()
    await driveVirtual(timeline, reading, nothing)
    expect(await reading).toEqual([1_767_225_599_998_500_000n, 1_767_225_602_250_000_000n, 250n])
  })
})

describe('the times of a run', () => {
  const options = { devices: 1, seed: 1, speed: 1, interval: 10_000, faults: '', portOffset: 0 }
  const now = 1_790_000_000_000

  test('begin now, where it is as fast as the clock', () =>
    expect(timesOf(options, now)).toMatchObject({ epochMs: now, behindMs: 0, untilMs: Infinity }))

  test('end now, where an hour is replayed in a minute', () => {
    const { epochMs, behindMs, untilMs } = timesOf({ ...options, speed: 60, duration: 3_600_000 }, now)
    expect({ epochMs, behindMs, untilMs }).toEqual({
      epochMs: now - 3_540_000,
      behindMs: 3_540_000,
      untilMs: 3_600_000,
    })
  })

  test('do not depend on the day, where they go into a file', () =>
    expect(timesOf({ ...options, to: 'file:x' }, now)).toEqual(timesOf({ ...options, to: 'file:x' }, 5)))
})
