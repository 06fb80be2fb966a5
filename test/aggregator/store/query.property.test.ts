// Both stores against plain JavaScript on random data: aggregates of steps with resets, equal and disordered times, and
// paging that yields every record once.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { aggregates } from '../../../aggregator/query.ts'
import type { Aggregate } from '../../../aggregator/query.ts'
import { formatTime } from '../../../aggregator/time.ts'
import { logBatch, noState, nowNano, pointBatch, secondNano } from './batches.ts'
import type { TestPoint } from './batches.ts'
import { describeStores, never, oneStore } from './fixture.ts'

const begin = nowNano() - 3000n * secondNano
let run = 0

interface Sample {
  at: bigint
  value: number | bigint
}

/** What was stored of one series, in order of time, then of arrival. */
function ordered(samples: readonly Sample[]): Sample[] {
  return samples
    .map((sample, index) => ({ ...sample, index }))
    .sort((a, b) => (a.at === b.at ? a.index - b.index : a.at < b.at ? -1 : 1))
}

const add = (a: number | bigint, b: number | bigint): number | bigint =>
  typeof a === 'bigint' && typeof b === 'bigint' ? a + b : Number(a) + Number(b)
const less = (a: number | bigint, b: number | bigint): boolean => Number(a) < Number(b) || a < b

/** What each sample added to a counter; undefined for the first. */
function gains(samples: readonly Sample[], counter: boolean): (Sample | undefined)[] {
  return samples.map(({ at, value }, index) => {
    const before = samples[index - 1]
    if (!before) return undefined
    if (counter && value < before.value) return { at, value }
    const negative = typeof before.value === 'bigint' ? -before.value : -before.value
    return { at, value: add(value, negative) }
  })
}

function reduce(values: readonly (number | bigint)[], aggregate: Aggregate): number | bigint {
  const [first = 0] = values
  if (aggregate === 'mean')
    return values.reduce<number>((sum, value) => sum + Number(value), 0) / values.length
  if (aggregate === 'min') return values.reduce((best, value) => (less(value, best) ? value : best), first)
  if (aggregate === 'max') return values.reduce((best, value) => (less(best, value) ? value : best), first)
  if (aggregate === 'last') return values.at(-1) ?? 0
  return values.reduce(add)
}

interface Question {
  aggregate: Aggregate
  step: bigint
  since: bigint
  until: bigint
  counter: boolean
}

function model(samples: readonly Sample[], question: Question): [string, number | bigint][] {
  const { aggregate, step, since, until, counter } = question
  const sorted = ordered(samples)
  const grows = aggregate === 'increase' || aggregate === 'rate'
  const chosen = grows ? gains(sorted, counter) : sorted
  const buckets = new Map<bigint, (number | bigint)[]>()
  for (const sample of chosen) {
    if (!sample || sample.at < since || sample.at >= until) continue
    const bucket = sample.at / step
    const values = buckets.get(bucket)
    if (values) values.push(sample.value)
    else buckets.set(bucket, [sample.value])
  }
  return [...buckets].map(([bucket, values]) => {
    const from = bucket * step
    const covered = (from + step < until ? from + step : until) - (from > since ? from : since)
    const value = reduce(values, aggregate)
    return [formatTime(from), aggregate === 'rate' ? Number(value) / (Number(covered) / 1e9) : value]
  })
}

const integers = fc.oneof(fc.bigInt({ min: 0n, max: 50n }), fc.bigInt({ min: 0n, max: 2n ** 62n }))
const doubles = fc.integer({ min: -400, max: 400 }).map((n) => n / 4)
const samplesOf = (value: fc.Arbitrary<number | bigint>): fc.Arbitrary<Sample[]> =>
  fc.array(
    fc.record({
      at: fc.integer({ min: 0, max: 1200 }).map((n) => begin + (BigInt(n) * secondNano) / 2n),
      value,
    }),
    { minLength: 1, maxLength: 40 },
  )

describeStores('aggregates', oneStore, (fixture, kind) => {
  test('equal those of a plain model, on integers and doubles, with resets and disordered times', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.boolean().chain((exact) => samplesOf(exact ? integers : doubles)),
        fc.boolean(),
        fc.constantFrom(...aggregates),
        fc.integer({ min: 1, max: 90 }),
        fc.integer({ min: 0, max: 300 }),
        fc.integer({ min: 1, max: 400 }),
        fc.boolean(),
        async (samples, counter, aggregate, step, from, length, seal) => {
          const metric = `random.${++run}`
          const declared = { [metric]: { kind: counter ? 'counter' : 'gauge', unit: '1' } } as const
          const points: TestPoint[] = samples.map(({ at, value }) => ({ time: at, name: metric, value }))
          const half = Math.floor(points.length / 2)
          // Two writes, so that segments, batches and their order take part.
          await fixture.store.write([pointBatch({ seq: 2 * run }, declared, points.slice(0, half))], noState)
          if (seal && run % 5 === 0) await fixture.settle()
          await fixture.store.write([pointBatch({ seq: 2 * run + 1 }, declared, points.slice(half))], noState)
          const question = {
            aggregate,
            step: BigInt(step) * secondNano,
            since: begin + BigInt(from) * secondNano,
            until: begin + BigInt(from + length) * secondNano,
            counter,
          }
          const answer = await fixture.store.queries.query(
            {
              metric,
              where: [],
              sinceUnixNano: question.since,
              untilUnixNano: question.until,
              stepNano: question.step,
              aggregate,
              limit: 10_000,
            },
            never,
          )
          const expected = model(samples, question)
          const found = answer[0]?.points ?? []
          expect(found.map(([time]) => time)).toEqual(expected.map(([time]) => time))
          for (const [index, [, value]] of expected.entries()) {
            const got = found[index]?.[1] ?? ''
            if (typeof value === 'bigint') expect(BigInt(got)).toBe(value)
            else expect(Number(got)).toBeCloseTo(value, 6 - Math.max(0, Math.log10(Math.abs(value) + 1)))
          }
        },
      ),
      { numRuns: kind === 'DuckDB' ? 150 : 60 },
    )
  })

  test('joined by an attribute equal the sum over the series that share it', async () => {
    const declared = { 'joined.count': { kind: 'counter', unit: '1' } } as const
    const points = ['dpu-a', 'dpu-b'].flatMap((device, number) =>
      ['x', 'y'].flatMap((port) =>
        [0, 1, 2].map((step) => ({
          device,
          point: {
            time: begin + BigInt(step * 10) * secondNano,
            name: 'joined.count',
            value: BigInt(step * (number + 1)),
            attributes: { port },
          },
        })),
      ),
    )
    const batches = ['dpu-a', 'dpu-b'].map((device) =>
      pointBatch(
        { seq: 1, device },
        declared,
        points.filter((each) => each.device === device).map(({ point }) => point),
      ),
    )
    await fixture.store.write(batches, noState)
    const ask = (by: string[]) =>
      fixture.store.queries.query(
        {
          metric: 'joined.count',
          where: [],
          sinceUnixNano: begin,
          untilUnixNano: begin + 60n * secondNano,
          aggregate: 'increase',
          by,
          limit: 100,
        },
        never,
      )
    const shape = (answer: Awaited<ReturnType<typeof ask>>) =>
      answer.map(({ device, attributes, points }) => ({ device, attributes, value: points[0]?.[1] }))
    expect(shape(await ask(['port']))).toEqual([
      { device: '', attributes: { port: 'x' }, value: 6 },
      { device: '', attributes: { port: 'y' }, value: 6 },
    ])
    expect(shape(await ask(['device']))).toEqual([
      { device: 'dpu-a', attributes: {}, value: 4 },
      { device: 'dpu-b', attributes: {}, value: 8 },
    ])
    expect(shape(await ask([]))).toEqual([{ device: '', attributes: {}, value: 12 }])
  })
})

describeStores('paging', oneStore, (fixture, kind) => {
  test('yields every record once, newest first, with equal times, seals and writes in between', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.integer({ min: 0, max: 8 }), { minLength: 1, maxLength: 30 }), {
          minLength: 1,
          maxLength: 6,
        }),
        fc.integer({ min: 1, max: 25 }),
        fc.boolean(),
        async (batches, limit, seal) => {
          const device = `page-${++run}`
          const expected = new Set<string>()
          for (const [index, times] of batches.entries()) {
            const records = times.map((time, place) => {
              expected.add(`${index}/${place}`)
              return { time: begin + BigInt(time), body: `${index}/${place}` }
            })
            await fixture.store.write([logBatch({ seq: index + 1, device }, records)], noState)
            if (seal && index === 1 && run % 5 === 0) await fixture.settle()
          }
          const bodies: unknown[] = []
          let before: string | undefined
          let oldest = '9999'
          for (let page = 0; page === 0 || before !== undefined; page++) {
            const query = { limit, where: [], device: [device], ...(before === undefined ? {} : { before }) }
            const { records, next } = await fixture.store.queries.logs(query, never)
            for (const { time, body } of records.toReversed()) {
              expect(time <= oldest).toBe(true)
              oldest = time
              bodies.push(body)
            }
            before = next
            // What arrives meanwhile is newer, and changes nothing behind the cursor.
            const late = { time: begin + secondNano, body: 'late' }
            if (page === 0) await fixture.store.write([logBatch({ seq: 1000, device }, [late])], noState)
          }
          expect(bodies).toHaveLength(expected.size)
          expect(new Set(bodies)).toEqual(expected)
        },
      ),
      { numRuns: kind === 'DuckDB' ? 40 : 15 },
    )
  })

  test('a page holds some 16 MiB at most, and the rest follows', async () => {
    const body = 'b'.repeat(700_000)
    for (let seq = 1; seq <= 60; seq++) {
      await fixture.store.write(
        [logBatch({ seq, device: 'large' }, [{ time: begin + BigInt(seq), body }])],
        noState,
      )
    }
    const sizes: number[] = []
    let before: string | undefined
    do {
      const query = { limit: 1000, where: [], device: ['large'], ...(before === undefined ? {} : { before }) }
      const { records, next } = await fixture.store.queries.logs(query, never)
      sizes.push(records.length)
      before = next
    } while (before !== undefined)
    expect(sizes.reduce((sum, size) => sum + size)).toBe(60)
    expect(Math.max(...sizes)).toBeLessThan(25)
  })
})
