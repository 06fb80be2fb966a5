// Writing, sealing, counting and asking at the same time: no question fails, and none sees a row twice or misses one.
import { expect, test } from 'vitest'
import { logBatch, noState, pointBatch, secondNano } from './batches.ts'
import { never, now, useStore } from './fixture.ts'

const fixture = useStore()
const perBatch = 100
const declared = { 'busy.level': { kind: 'gauge', unit: '1' } } as const
const batchesOf = (seq: number) => [
  logBatch(
    { seq },
    Array.from({ length: perBatch }, (_, index) => ({ time: now - BigInt(seq), body: `${seq}/${index}` })),
  ),
  pointBatch(
    { seq },
    declared,
    Array.from({ length: perBatch }, (_, index) => ({
      time: now - BigInt(index + 1),
      name: 'busy.level',
      value: seq,
      attributes: { id: index % 10 },
    })),
  ),
]

test('questions while rows are written and sealed are answered, each row once', async () => {
  await fixture.reopen({
    maintenanceMs: 1,
    segmentRows: { logs: 300, metrics: 300 },
    segmentMs: 0,
    segmentMinRows: 1,
    queries: 3,
  })
  const { store } = fixture
  const progress = { written: 0, asked: 0, done: false }
  const write = async (): Promise<void> => {
    for (let seq = 1; seq <= 40 || progress.asked < 15; seq++) {
      await store.write(batchesOf(seq), noState)
      progress.written = seq
    }
    progress.done = true
  }
  const count = async (): Promise<void> => {
    while (!progress.done) {
      const before = progress.written
      const counts = await store.count()
      for (const { stored, damaged } of counts) {
        expect(damaged).toEqual([])
        expect(stored).toBeGreaterThanOrEqual(before * perBatch)
        expect(stored).toBeLessThanOrEqual((progress.written + 1) * perBatch)
        expect(stored % perBatch).toBe(0)
      }
      progress.asked++
    }
  }
  const ask = async (): Promise<void> => {
    while (!progress.done) {
      const before = progress.written
      const { records } = await store.queries.logs({ limit: 10_000, where: [] }, never)
      const bodies = new Set(records.map(({ body }) => body))
      expect(bodies.size).toBe(records.length)
      expect(records.length).toBeGreaterThanOrEqual(Math.min(10_000, before * perBatch))
      const range = { sinceUnixNano: now - secondNano, untilUnixNano: now + secondNano }
      const [sum] = await store.queries.query(
        { metric: 'busy.level', where: [], ...range, by: [], aggregate: 'max', limit: 10 },
        never,
      )
      if (before > 0) expect(Number(sum?.points[0]?.[1])).toBeGreaterThanOrEqual(before)
      await store.queries.latest('dpu-1', never)
      progress.asked++
    }
  }
  await Promise.all([write(), count(), ask(), ask()])
  await store.maintain({ seal: 'all' })
  const { files, error } = await store.status()
  expect(error).toBeUndefined()
  expect(files).toBeGreaterThan(10)
})

test('closing in the middle of sealing loses nothing', async () => {
  const record = { time: now, body: 'y'.repeat(100) }
  const records = Array.from({ length: 500 }, () => record)
  const batches = Array.from({ length: 100 }, (_, index) => logBatch({ seq: index + 1 }, records))
  await fixture.store.write(batches, noState)
  const sealing = fixture.store.maintain({ seal: 'all' }).catch(() => undefined)
  await fixture.reopen()
  await sealing
  expect(await fixture.store.count()).toMatchObject([{ stored: 50_000, damaged: [] }])
  await fixture.store.maintain({ seal: 'all' })
  expect(await fixture.store.status()).toMatchObject({ rows: 50_000, files: 1 })
})
