// Windows of the aggregator against all readings: whatever the order in which these come, whenever a commit is cut off,
// what is stored in the end was made of each reading once.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openWriterFilter } from '../../aggregator/filter.ts'
import type { WriterFilter } from '../../aggregator/filter.ts'
import type { MadeTotals } from '../../aggregator/written.ts'
import { Readings, encodeResource, sealBatch } from '../../plugins/contract/index.ts'
import type { Batch } from '../../plugins/contract/index.ts'
import { filterSettings } from '../../plugins/protocols/filter/index.ts'
import { FakeClock } from '../support/clock.ts'
import { testContext } from '../support/context.ts'
import { collectPoints } from '../support/records.ts'

const epochMs = 1_790_000_000_000
const intervalMs = 10_000

interface Reading {
  series: number
  /** Since the epoch of the test. */
  atMs: number
  value: number
}

const declared = {
  'test.level': { kind: 'gauge', unit: '1' },
  'test.total': { kind: 'counter', unit: '1' },
} as const

/** A batch of a collector, each reading with its own time. */
function batchOf(
  seq: number,
  readings: readonly Reading[],
  name: keyof typeof declared = 'test.level',
): Batch {
  const parts = readings.flatMap(({ series, atMs, value }) => {
    const one = new Readings({
      scope: { name: 'test' },
      declared,
      device: 'dpu-1',
      resource: encodeResource({ 'host.id': 'dpu-1' }),
      timeUnixNano: BigInt(epochMs + atMs) * 1_000_000n,
    })
    one.add(name, value, { series })
    return one.finish().map(({ bytes }) => bytes)
  })
  const id = {
    collector: 'dpu-1',
    device: 'dpu-1',
    session: '01J00000000000000000000000',
    class: 'resource' as const,
  }
  const count = readings.length
  return sealBatch(
    { ...id, seq, count, from: 0n, to: 0n, produced: seq * count, dropped: {} },
    'metrics',
    parts,
  )
}

/** What lies between two crashes: the filter; and what outlives them: the rows, and the store. */
class World {
  readonly clock = new FakeClock(BigInt(epochMs) * 1_000_000n)
  readonly stored = new Map<string, Uint8Array>()
  readonly #settings: ReturnType<typeof filterSettings.parse>
  readonly #journal: Batch[] = []
  #rows = new Map<string, Uint8Array>()
  #totals = new Map<string, MadeTotals>()
  #position = 0
  #read = 0
  #filter: WriterFilter

  constructor(to: readonly string[]) {
    this.#settings = filterSettings.parse({
      rules: [{ name: 'level', match: { name: 'test.*' }, aggregate: { interval: '10s', to } }],
    })
    this.#filter = this.#open()
  }

  #open(): WriterFilter {
    const { log } = testContext()
    const filter = openWriterFilter(this.#settings, { clock: this.clock, log, maxBatchBytes: 1_000_000 })
    filter.windows.restore(this.#rows)
    return filter
  }

  append(readings: readonly Reading[], name?: keyof typeof declared): void {
    this.#journal.push(batchOf(this.#journal.length + 1, readings, name))
  }

  read(): void {
    for (const { header, bytes } of this.#journal.slice(this.#read)) {
      const left = this.#filter.apply(header, 'metrics', bytes, this.clock.nowUnixNano())
      expect(left).toEqual({ parts: [], dropped: { aggregated: header.count } })
    }
    this.#read = this.#journal.length
  }

  /** As the writer does: the store has what it was given also where the commit is cut off after that. */
  commit(isCutOff: boolean): void {
    const step = this.#filter.windows.step((stream) => this.#totals.get(stream))
    for (const { stream, batch } of step.store) {
      const key = `${stream}/${batch.header.seq}`
      const known = this.stored.get(key)
      if (known) expect(Buffer.compare(batch.value, known)).toBe(0)
      this.stored.set(key, Uint8Array.from(batch.value))
    }
    if (isCutOff) return this.crash()
    for (const [key, value] of step.rows) {
      if (value) this.#rows.set(key, value)
      else this.#rows.delete(key)
    }
    for (const { stream, batch } of step.made) {
      const { seq: batches, produced: records } = batch.header
      this.#totals.set(stream, { batches, records, lastMs: 0 })
    }
    this.#position = this.#read
    this.#filter.windows.kept(step, () => true)
  }

  crash(): void {
    this.#read = this.#position
    this.#filter = this.#open()
  }

  /** All that is open ends. */
  async settle(): Promise<void> {
    this.read()
    for (let round = 0; round < 4; round++) {
      this.commit(false)
      await this.clock.advance(10 * intervalMs)
    }
    expect([...this.#rows.keys()].filter((key) => !key.endsWith('/last'))).toEqual([])
    expect(this.#filter.windows.dueInMs()).toBeUndefined()
    const made = [...this.#totals.values()].reduce((sum, { records }) => sum + records, 0)
    expect(this.points()).toHaveLength(made)
  }

  points() {
    return [...this.stored.values()].flatMap((bytes) =>
      collectPoints(bytes).map(({ name, value, time, attributes }) => ({
        name,
        value: Number(value),
        atMs: Number(time / 1_000_000n) - epochMs,
        series: Number(attributes.series),
      })),
    )
  }
}

const windowOf = ({ series, atMs }: { series: number; atMs: number }): string =>
  `${series}/${Math.floor((epochMs + atMs) / intervalMs)}`

const fold = (values: readonly number[]) => ({
  count: values.length,
  min: Math.min(...values),
  max: Math.max(...values),
})

describe('the windows of the aggregator', () => {
  const reading = fc.record({
    series: fc.nat(2),
    // From long before to a little ahead of the clock.
    atMs: fc.integer({ min: -60_000, max: 20_000 }),
    value: fc.integer({ min: -1000, max: 1000 }),
  })
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.array(reading, { minLength: 1, maxLength: 8 }) },
    fc.constantFrom('read', 'commit', 'cut off', 'crash'),
    fc.integer({ min: 1, max: 30_000 }),
  )

  test('make of all readings what a look at all of them makes, over crashes between any two steps', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const world = new World(['count', 'min', 'max', 'last'])
        const all: Reading[] = []
        for (const one of steps) {
          if (typeof one === 'number') await world.clock.advance(one)
          else if (one === 'read') world.read()
          else if (one === 'crash') world.crash()
          else if (typeof one === 'string') world.commit(one === 'cut off')
          else {
            world.append(one)
            all.push(...one)
          }
        }
        await world.settle()
        const points = world.points()
        const of = (name: string) => points.filter((point) => point.name === `test.level.${name}`)
        const readings = Map.groupBy(all, windowOf)
        const counts = Map.groupBy(of('count'), windowOf)
        expect(new Set(counts.keys())).toEqual(new Set(readings.keys()))
        for (const [window, some] of readings) {
          const { count, min, max } = fold(some.map(({ value }) => value))
          const made = (name: string) => of(name).filter((point) => windowOf(point) === window)
          expect(made('count').reduce((sum, { value }) => sum + value, 0)).toBe(count)
          expect(Math.min(...made('min').map(({ value }) => value))).toBe(min)
          expect(Math.max(...made('max').map(({ value }) => value))).toBe(max)
          const last = Math.max(...some.map(({ atMs }) => atMs))
          const ends = made('last').filter(({ atMs }) => atMs === last)
          const newest = some.filter(({ atMs }) => atMs === last).map(({ value }) => value)
          expect(ends.every(({ value }) => newest.includes(value)) && ends.length > 0).toBe(true)
        }
      }),
      { numRuns: 150 },
    )
  })

  test('count a counter on from window to window, and over its crashes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(500), fc.constantFrom('', 'commit', 'cut off', 'crash')), { minLength: 1 }),
        async (steps) => {
          const world = new World(['increase'])
          let value = 100
          for (const [index, [more, what]] of steps.entries()) {
            world.append([{ series: 0, atMs: index * 3000, value: (value += more) }], 'test.total')
            world.read()
            await world.clock.advance(3000)
            if (what === 'crash') world.crash()
            else if (what !== '') world.commit(what === 'cut off')
          }
          await world.settle()
          const first = 100 + (steps[0]?.[0] ?? 0)
          expect(world.points().reduce((sum, point) => sum + point.value, 0)).toBe(value - first)
        },
      ),
      { numRuns: 100 },
    )
  })

  test('that have ended get another point for what comes late: the first stays, and both add up', async () => {
    const world = new World(['count', 'min', 'last'])
    const counters = new World(['increase'])
    const settled = async (one: World, atMs: number, value: number, name?: keyof typeof declared) => {
      one.append([{ series: 0, atMs, value }], name)
      await one.settle()
      return one.points().map((point) => [point.name, point.value, point.atMs])
    }
    const first = await settled(world, 6000, 5)
    expect(first).toEqual([
      ['test.level.count', 1, 6000],
      ['test.level.min', 5, 6000],
      ['test.level.last', 5, 6000],
    ])
    // By the time of its own readings, so that it takes no place of the first in the store.
    expect(await settled(world, 2000, 3)).toEqual([
      ...first,
      ['test.level.count', 1, 2000],
      ['test.level.min', 3, 2000],
      ['test.level.last', 3, 2000],
    ])
    await settled(counters, 1000, 100, 'test.total')
    await settled(counters, 12_000, 130, 'test.total')
    const increases = await settled(counters, 5000, 110, 'test.total')
    // What it grew by is in the reading that came before it already.
    expect(increases.map(([, value]) => value)).toEqual([0, 30, 0])
  })

  test('that find no room leave readings as they are', () => {
    const clock = new FakeClock(BigInt(epochMs) * 1_000_000n)
    const settings = filterSettings.parse({
      rules: [{ aggregate: { interval: '10s', to: ['mean'], max_series: 2 } }],
    })
    const { log } = testContext()
    const filter = openWriterFilter(settings, { clock, log, maxBatchBytes: 1_000_000 })
    const { header, bytes } = batchOf(
      1,
      [0, 1, 2, 0].map((series) => ({ series, atMs: 0, value: 1 })),
    )
    const left = filter.apply(header, 'metrics', bytes, clock.nowUnixNano())
    expect(left?.dropped).toEqual({ aggregated: 3 })
    expect(left?.parts.map(({ header: { count } }) => count)).toEqual([1])
    // The rest of a malformed batch is in no account twice.
    const cut = Buffer.concat([bytes, Buffer.from([0x0a, 0x7f])])
    const broken = filter.apply({ ...header, seq: 2 }, 'metrics', cut, clock.nowUnixNano())
    expect(broken).toEqual({ parts: [], dropped: { aggregated: 3, invalid: 1 } })
  })
})
