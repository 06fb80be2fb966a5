// The wall clock of a device jumps when NTP sets it: nothing waiting becomes older or younger by that, and no timer
// runs early, late or never.
import { describe, expect, test, vi } from 'vitest'
import { accept, bench } from './bench.ts'
import { fresh, idsOfBatches, recordsOf } from './records.ts'

const dayMs = 86_400_000
const seen = async (fact: () => boolean) =>
  vi.waitFor(() => expect(fact()).toBe(true), { interval: 2, timeout: 30_000 })
const limits = { memory: 32 << 20, disk: 64 << 20, ageMs: 7 * dayMs, spillMs: 1000 }

describe.each([
  ['a year forward', 365],
  ['ten years back, before this program existed', -3650],
])('a wall clock that jumps %s', (_, days) => {
  const step = (clock: { nowUnixNano(): bigint; step(to: bigint): void }) =>
    clock.step(clock.nowUnixNano() + BigInt(days * dayMs) * 1_000_000n)

  test('expires nothing that waits on the disk, and delivers it', async () => {
    await using it = await bench({ limits })
    it.outlet.ready(false)
    const ids = fresh(500)
    const done = it.outlet.accept(recordsOf(ids), true)
    await it.clock.advance(1000)
    await done
    // Out of memory, so that only the log has it.
    await it.clock.advance(5000)
    step(it.clock)
    await it.clock.advance(120_000)
    expect(it.outlet.streams[0]?.dropped).toEqual({})
    it.peer.behaviour = accept
    it.outlet.ready(true)
    await it.clock.advance(1000)
    await seen(() => it.outlet.streams[0]?.delivered === 500)
    expect(idsOfBatches(it.peer.batches)).toEqual(ids)
  })

  test('nor what an earlier run left there, once it is open', async () => {
    await using it = await bench({ limits })
    it.outlet.ready(false)
    const ids = fresh(500)
    const done = it.outlet.accept(recordsOf(ids), true)
    await it.clock.advance(1000)
    await done
    await it.restart(0)
    it.outlet.ready(false)
    step(it.clock)
    await it.clock.advance(120_000)
    it.peer.behaviour = accept
    it.outlet.ready(true)
    await it.clock.advance(1000)
    await seen(() => it.peer.batches.length > 0)
    expect(idsOfBatches(it.peer.batches)).toEqual(ids)
  })

  test('makes nothing immortal: what waited for its time is expired by the time that really passed', async () => {
    await using it = await bench({ limits })
    it.outlet.ready(false)
    const done = it.outlet.accept(recordsOf(fresh(500)), true)
    await it.clock.advance(1000)
    await done
    step(it.clock)
    await it.clock.advance(6.5 * dayMs)
    expect(it.outlet.streams[0]?.dropped).toEqual({})
    await it.clock.advance(0.6 * dayMs)
    await seen(() => it.outlet.streams[0]?.dropped.expired === 500)
  }, 60_000)

  test('seals, sends and writes at the times that it did before', async () => {
    await using it = await bench({ limits })
    const first = it.outlet.accept(recordsOf(fresh(3)), true)
    step(it.clock)
    await it.clock.advance(100)
    expect(it.peer.pending).toHaveLength(1)
    await it.clock.advance(1000)
    await first
    expect(it.outlet.buffer.diskBatches).toBe(1)
  })
})
