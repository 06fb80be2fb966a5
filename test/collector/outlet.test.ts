import { describe, expect, test, vi } from 'vitest'
import { PermanentError, RetryableError } from '../../plugins/contract/index.ts'
import { settle } from '../support/clock.ts'
import { accept, bench } from './bench.ts'
import { fresh, idsOf, idsOfBatches, recordsOf } from './records.ts'

const seen = async (fact: () => boolean) =>
  vi.waitFor(() => expect(fact()).toBe(true), { interval: 2, timeout: 30_000 })

describe('an outlet', () => {
  test('joins records of one stream into one batch, sealed after 100 ms', async () => {
    await using it = await bench()
    it.peer.behaviour = accept
    const [one, two] = [fresh(3), fresh(2)]
    const done = Promise.all([it.outlet.accept(recordsOf(one), true), it.outlet.accept(recordsOf(two), true)])
    expect(it.peer.order).toHaveLength(0)
    await it.clock.advance(100)
    await done
    expect(it.peer.order).toHaveLength(1)
    expect(it.peer.order[0]?.header).toMatchObject({
      seq: 1,
      count: 5,
      produced: 5,
      class: 'log',
      dropped: {},
    })
    expect(idsOf(it.peer.order[0]?.bytes ?? new Uint8Array())).toEqual([...one, ...two])
  })

  test('seals at 500 records without waiting', async () => {
    await using it = await bench()
    it.peer.behaviour = accept
    await it.outlet.accept(recordsOf(fresh(500)), true)
    expect(it.peer.order).toHaveLength(1)
  })

  test('answers when the peer acknowledges, and not before', async () => {
    await using it = await bench()
    let isSafe = false
    void it.outlet.accept(recordsOf(fresh(500)), true).then(() => (isSafe = true))
    await settle()
    expect(it.peer.pending).toHaveLength(1)
    expect(isSafe).toBe(false)
    it.peer.answer(accept)
    await settle()
    expect(isSafe).toBe(true)
    expect(it.outlet.buffer.diskBatches).toBe(0)
  })

  test('answers when the log has it, one second later, where the peer does not answer', async () => {
    await using it = await bench()
    const done = it.outlet.accept(recordsOf(fresh(500)), true)
    await it.clock.advance(1000)
    await done
    expect(it.outlet.buffer.diskBatches).toBe(1)
    it.peer.answer(accept)
    await seen(() => it.outlet.buffer.diskBatches === 0)
  })

  test('answers at once, from the log, while the peer has been silent for longer than that', async () => {
    await using it = await bench()
    const first = it.outlet.accept(recordsOf(fresh(500)), true)
    await it.clock.advance(1100)
    await first
    const began = it.clock.elapsedMs()
    const second = it.outlet.accept(recordsOf(fresh(500)), true)
    await it.clock.advance(20)
    await second
    expect(it.clock.elapsedMs() - began).toBe(20)
    // Once it answers again, the disk is spared again.
    it.peer.behaviour = accept
    while (it.peer.pending.length > 0) it.peer.answer(accept)
    await seen(() => it.outlet.buffer.diskBatches === 0)
    it.peer.behaviour = undefined
    void it.outlet.accept(recordsOf(fresh(500)), true)
    await it.clock.advance(500)
    expect(it.outlet.buffer.diskBatches).toBe(0)
  })

  test('sends under its old session what a crash left in the log, and tells where the session ended', async () => {
    await using it = await bench()
    const ids = fresh(500)
    const done = it.outlet.accept(recordsOf(ids), true)
    await it.clock.advance(1000)
    await done
    const { session } = it.outlet
    await it.crash()
    expect(it.outlet.buffer.held).toEqual([{ session, device: 'dpu-1', class: 'log', count: 500 }])
    expect(it.outlet.buffer.ended).toMatchObject([{ session, seq: 1, produced: 500 }])
    it.peer.behaviour = accept
    it.outlet.sender.pump()
    await seen(() => it.peer.accepted.size === 1)
    expect(it.peer.batches[0]?.header).toMatchObject({ session, seq: 1, count: 500 })
    expect(idsOfBatches(it.peer.batches)).toEqual(ids)
    await seen(() => it.outlet.buffer.held.length === 0)
  })

  test('keeps over a clean stop what the peer did not take, and leaves nothing behind when it took all', async () => {
    await using it = await bench()
    it.peer.behaviour = () => new RetryableError('PEER_UNREACHABLE', 'gone')
    const ids = fresh(700)
    const done = it.outlet.accept(recordsOf(ids.slice(0, 500)), true)
    const more = it.outlet.accept(recordsOf(ids.slice(500)), true)
    await it.restart()
    await Promise.all([done, more])
    expect(it.outlet.buffer.held).toMatchObject([{ count: 700 }])
    it.peer.behaviour = accept
    it.outlet.sender.pump()
    await seen(() => it.peer.accepted.size === 2)
    await it.restart()
    expect(it.outlet.buffer.diskBatches).toBe(0)
    expect(idsOfBatches(it.peer.batches).toSorted((a, b) => a - b)).toEqual(ids)
  })

  test('counts what the peer refuses for good, and tells it when the stream is idle', async () => {
    await using it = await bench()
    it.peer.behaviour = (batch) =>
      batch.header.seq === 1
        ? new PermanentError('PEER_REFUSED', 'no')
        : { rejected: batch.header.seq === 2 ? 3 : 0 }
    const done = [1, 2].map(() => it.outlet.accept(recordsOf(fresh(500)), true))
    await it.clock.advance(1300)
    await Promise.all(done)
    expect(it.peer.order.at(-1)?.header).toMatchObject({
      seq: 3,
      count: 0,
      produced: 1000,
      dropped: { rejected: 503 },
    })
  })

  test('sends precious classes first, and one of each class whatever else is under way', async () => {
    await using it = await bench({ window: 2 })
    for (let batch = 0; batch < 6; batch++) void it.outlet.accept(recordsOf(fresh(500)), true)
    void it.outlet.accept(recordsOf(fresh(500), { class: 'environment' }), true)
    void it.outlet.accept(recordsOf(fresh(500), { class: 'event' }), true)
    await settle()
    expect(it.peer.pending.map(({ batch }) => batch.header.class)).toEqual([
      'log',
      'log',
      'environment',
      'event',
    ])
    void it.outlet.accept(recordsOf(fresh(500), { class: 'event' }), true)
    it.peer.answer(accept)
    await settle()
    expect(it.peer.pending.map(({ batch }) => batch.header.class).toSorted()).toEqual(['event', 'log'])
  })

  test('makes sources wait when memory is full, and lets precious classes in before others', async () => {
    const limits = { memory: 100_000, disk: 0, ageMs: 1e9, spillMs: 1000 }
    await using it = await bench({ withoutLog: true, limits })
    const order: string[] = []
    const emit = (name: 'log' | 'event') =>
      it.outlet.accept(recordsOf(fresh(500), { class: name }), true).then(() => order.push(name))
    const all = [emit('log'), emit('log'), emit('log'), emit('event')]
    await settle()
    const begun = it.peer.order.length
    expect(begun).toBeLessThan(4)
    expect(it.outlet.waiting).toBeGreaterThan(0)
    it.peer.behaviour = accept
    it.peer.answer(accept)
    await it.clock.advance(200)
    await Promise.all(all)
    expect(order.indexOf('event')).toBeLessThan(3)
    expect(it.outlet.waiting).toBe(0)
  })

  test('drops the oldest of the least precious class for records that cannot wait, and counts them', async () => {
    const limits = { memory: 200_000, disk: 0, ageMs: 1e9, spillMs: 1000 }
    await using it = await bench({ withoutLog: true, limits })
    it.outlet.ready(false)
    const kept: number[] = []
    for (let batch = 0; batch < 10; batch++) {
      const ids = fresh(500)
      kept.push(...ids)
      await Promise.race([it.outlet.accept(recordsOf(ids), false), settle()])
    }
    const precious = fresh(500)
    void it.outlet.accept(recordsOf(precious, { class: 'event' }), false)
    await settle()
    it.peer.behaviour = accept
    it.outlet.ready(true)
    await it.clock.advance(3000)
    const ids = idsOfBatches(it.peer.batches)
    expect(ids).toEqual(expect.arrayContaining(precious))
    const [stream] = it.outlet.streams
    const arrived = kept.filter((id) => ids.includes(id))
    expect(arrived).toEqual(kept.slice(-arrived.length))
    expect(stream?.dropped.overflow).toBe(kept.length - arrived.length)
    expect(stream?.produced).toBe(kept.length)
  })

  test('keeps the newest on a full disk although batches that were tried, and may not be dropped, stand in front', async () => {
    // Several times what can have been tried before the first is late.
    const limits = { memory: 16 << 20, disk: 3 << 20, ageMs: 1e9, spillMs: 1000 }
    await using it = await bench({ limits, timeoutMs: 2000 })
    const all: number[] = []
    let safe = 0
    for (let batch = 0; batch < 100; batch++) {
      const ids = fresh(500)
      all.push(...ids)
      it.outlet.accept(recordsOf(ids), false).then(
        () => safe++,
        () => undefined,
      )
      await it.clock.advance(200)
      expect(it.outlet.buffer.diskBytes).toBeLessThan(limits.disk)
    }
    await vi.waitFor(
      async () => {
        await it.clock.advance(100)
        expect(safe).toBe(100)
      },
      { interval: 2, timeout: 30_000 },
    )
    const tried = new Set(it.peer.order.map(({ header }) => header.seq))
    expect(tried.size).toBeGreaterThan(1)
    const dropped = it.outlet.streams[0]?.dropped.overflow ?? 0
    // The log's share of the disk is full but for what making room takes at once, not empty.
    expect(it.outlet.buffer.diskBytes).toBeGreaterThan(limits.disk / 3)

    await it.crash()
    it.peer.behaviour = accept
    await it.clock.advance(60_000)
    await seen(() => it.outlet.buffer.diskBatches === 0)
    const taken = new Set(it.peer.batches.map(({ header }) => header.seq))
    expect([...tried].filter((seq) => !taken.has(seq))).toEqual([])
    const arrived = idsOfBatches(it.peer.batches)
    expect(arrived.length).toBe(new Set(arrived).size)
    expect(arrived).toContain(all.at(-1))
    const kept = [...taken].filter((seq) => !tried.has(seq)).toSorted((a, b) => a - b)
    const [oldest = 0, newest = 0] = [kept[0], kept.at(-1)]
    const since = Array.from({ length: newest - oldest + 1 }, (_, index) => oldest + index)
    expect(kept).toEqual(since.filter((seq) => !tried.has(seq)))
    expect(kept.length).toBeGreaterThan(4)
    expect(arrived.length + dropped).toBe(all.length)
  })

  test('tries again after a failure with one batch, and with all once it succeeds', async () => {
    await using it = await bench()
    it.peer.behaviour = () => new RetryableError('PEER_UNREACHABLE', 'gone')
    for (let batch = 0; batch < 5; batch++) void it.outlet.accept(recordsOf(fresh(500)), true)
    await settle()
    const first = it.peer.order.length
    it.peer.behaviour = undefined
    await it.clock.advance(600)
    expect(it.peer.order.length - first).toBe(1)
    it.peer.behaviour = accept
    it.peer.answer(accept)
    await it.clock.advance(10)
    expect(it.peer.accepted.size).toBe(5)
  })

  test('does not ask a peer before the time that it named', async () => {
    await using it = await bench()
    it.peer.behaviour = () => new RetryableError('PEER_OVERLOADED', 'later', { retryAfterMs: 5000 })
    void it.outlet.accept(recordsOf(fresh(500)), true)
    await it.clock.advance(4900)
    expect(it.peer.order).toHaveLength(1)
    it.peer.behaviour = accept
    await it.clock.advance(200)
    await seen(() => it.peer.order.length === 2)
  })

  test('gives an attempt up after its timeout and makes another', async () => {
    await using it = await bench({ timeoutMs: 2000 })
    void it.outlet.accept(recordsOf(fresh(500)), true)
    await it.clock.advance(2000)
    expect(it.peer.order).toHaveLength(1)
    await it.clock.advance(1000)
    await seen(() => it.peer.order.length === 2)
    expect(it.peer.order[1]?.header.seq).toBe(1)
  })

  test('sets a batch aside after five unexpected errors, and goes on with the others', async () => {
    await using it = await bench()
    it.peer.behaviour = (batch) => (batch.header.seq === 1 ? new TypeError('bug') : accept())
    void it.outlet.accept(recordsOf(fresh(500)), true)
    void it.outlet.accept(recordsOf(fresh(500)), true)
    await it.clock.advance(60_000)
    await seen(() => it.outlet.streams[0]?.dropped.rejected === 500)
    expect(it.peer.order.filter(({ header }) => header.seq === 1)).toHaveLength(5)
    expect(it.outlet.streams[0]?.delivered).toBe(500)
  })

  test('cuts records that are too large for a batch along their boundaries, and counts what no batch can hold', async () => {
    await using it = await bench()
    it.peer.behaviour = accept
    const ids = fresh(30)
    const large = recordsOf(ids, { pad: 100_000 })
    const huge = recordsOf(fresh(1), { pad: 1_100_000 })
    const done = Promise.all([it.outlet.accept(large, true), it.outlet.accept(huge, true)])
    await it.clock.advance(1200)
    await done
    expect(idsOfBatches(it.peer.batches)).toEqual(ids)
    for (const { bytes } of it.peer.batches) expect(bytes.length).toBeLessThanOrEqual(1_000_000)
    expect(it.outlet.streams[0]).toMatchObject({ produced: 31, dropped: { invalid: 1 } })
  })

  test('refuses a device too many, and tells it in the account of the collector', async () => {
    await using it = await bench({ maxStreams: 2 })
    it.peer.behaviour = accept
    await it.outlet.accept(recordsOf(fresh(500), { device: 'dpu-1' }), true)
    await it.outlet.accept(recordsOf(fresh(500), { device: 'dpu-2' }), true)
    await it.outlet.accept(recordsOf(fresh(7), { device: 'dpu-3' }), true)
    expect(it.outlet.streams[0]).toMatchObject({ device: 'dpu-1', produced: 507, dropped: { budget: 7 } })
  })

  test('drops what got older than it may, and counts it as expired', async () => {
    const limits = { memory: 32 << 20, disk: 64 << 20, ageMs: 3_600_000, spillMs: 1000 }
    await using it = await bench({ limits })
    it.outlet.ready(false)
    const done = it.outlet.accept(recordsOf(fresh(500)), true)
    await it.clock.advance(1000)
    await done
    await it.clock.advance(2 * 3_600_000)
    await seen(() => it.outlet.streams[0]?.dropped.expired === 500)
    expect(it.outlet.streams[0]).toMatchObject({ onDisk: 0, held: 0, produced: 500 })
  })
})
