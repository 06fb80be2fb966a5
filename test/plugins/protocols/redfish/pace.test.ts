// How a BMC is spared: slots, fewer of them where it is slow, none while it asks for peace.
import { describe, expect, test } from 'vitest'
import { Pace } from '../../../../plugins/protocols/redfish/pace.ts'
import { FakeClock, settle } from '../../../support/clock.ts'

const never = new AbortController().signal

function paced(most = 4) {
  const clock = new FakeClock()
  const pace = new Pace(clock, most)
  let running = 0
  let highest = 0
  const ask = (ms: number) =>
    pace.run(never, async () => {
      highest = Math.max(highest, ++running)
      await clock.delay(ms, never)
      running--
    })
  return { clock, pace, ask, running: () => running, highest: () => highest }
}

describe('the pace of requests', () => {
  test('never has more under way than its slots', async () => {
    const { clock, ask, highest } = paced()
    const all = Promise.all(Array.from({ length: 20 }, () => ask(10)))
    await clock.advance(1000)
    await all
    expect(highest()).toBe(4)
  })

  test('falls where answers are late, and rises where they are quick again', async () => {
    const { clock, pace, ask } = paced()
    const slow = ask(5000)
    await clock.advance(5000)
    await slow
    expect(pace.allowed).toBe(2)
    for (let left = 3; left > 0; left--) {
      const quick = ask(10)
      await clock.advance(10)
      await quick
    }
    expect(pace.allowed).toBe(4)
  })

  test('pauses longer with each failure, up to a minute', async () => {
    const { clock, pace, ask, running } = paced()
    const pauses: number[] = []
    for (let failure = 0; failure < 8; failure++) {
      pace.backOff(undefined)
      const began = clock.elapsedMs()
      const asked = ask(2000)
      while (running() === 0) await clock.advance(500)
      pauses.push(clock.elapsedMs() - began)
      await clock.advance(2000)
      await asked
    }
    expect(pauses).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000])
    expect(pace.allowed).toBe(1)
  })

  test('lets nobody wait who has been stopped', async () => {
    const { clock, pace, ask } = paced(1)
    const first = ask(1000)
    const stop = new AbortController()
    const second = pace.run(stop.signal, () => {
      stop.signal.throwIfAborted()
      return Promise.resolve()
    })
    second.catch(() => undefined)
    await settle()
    stop.abort()
    await expect(second).rejects.toThrow('aborted')
    await clock.advance(1000)
    await first
  })
})
