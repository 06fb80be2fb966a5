// Five-minute values, made by a real InfluxDB: they say what the queries say of the raw points.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { downsampleScript } from '../../../aggregator/store/influx/downsample.ts'
import type { Aggregate } from '../../../aggregator/query.ts'
import { formatTime } from '../../../aggregator/time.ts'
import { random } from '../../support/kill-run.ts'
import { noState, nowNano, pointBatch, recordLog, secondNano } from './batches.ts'
import type { TestPoint } from './batches.ts'
import { never } from './fixture.ts'
import {
  askInflux,
  bucketsOf,
  influx,
  influxStore,
  newBucket,
  removeBuckets,
  removeTasks,
  runFlux,
  runTask,
  tasksOf,
} from './influx.ts'

const windowNano = 300n * secondNano

/** The field's values by window, as they lie in the bucket. */
async function kept(bucket: string, metric: string, field: string): Promise<[string, string][]> {
  const csv = await askInflux(`${bucket}-5m`, `SELECT "${field}" FROM "${metric}"`)
  const rows = csv.trim().split('\n').slice(1)
  return rows.map((row): [string, string] => {
    const [, , time = '0', value = ''] = row.split(',')
    return [formatTime(BigInt(time)), value]
  })
}

describe.skipIf(!influx)(`five-minute values in InfluxDB${influx ? '' : ' (INFLUX_URL names none)'}`, () => {
  let bucket = ''
  beforeEach(() => {
    bucket = newBucket()
  })
  afterEach(async () => {
    await removeTasks(bucket)
    await removeBuckets(bucket)
  })

  const day = 86_400_000
  const open = () => influxStore({ bucket, log: recordLog(), downsampledMs: 90 * day })

  test('equal the queries: sum, least, most, last and exact increase, with resets and at the borders', async () => {
    await using store = open()
    const next = random(5)
    const end = (nowNano() / windowNano) * windowNano
    const begin = end - 6n * windowNano
    const declared = {
      'test.count': { kind: 'counter', unit: '1' },
      'test.level': { kind: 'gauge', unit: '1' },
    } as const
    const points: TestPoint[] = []
    let total = 2n ** 60n
    // Every 10 s, so that some stand exactly on a border; some before the first window, which are its base.
    for (let at = begin - 60n * secondNano; at < end; at += 10n * secondNano) {
      total = next() < 0.05 ? BigInt(Math.floor(next() * 5)) : total + BigInt(Math.floor(next() * 1000))
      points.push({ time: at, name: 'test.count', value: total })
      points.push({ time: at, name: 'test.level', value: Math.floor(next() * 1000) / 8 })
    }
    await store.write([pointBatch({ seq: 1 }, declared, points)], noState)
    await runFlux(downsampleScript(bucket, `${bucket}-5m`, formatTime(begin), formatTime(end)))
    const ask = async (metric: string, aggregate: Aggregate) => {
      const range = { sinceUnixNano: begin, untilUnixNano: end, stepNano: windowNano }
      const [found] = await store.queries.query({ metric, aggregate, where: [], limit: 100, ...range }, never)
      return found?.points.map(([time, value]) => [time, String(value)])
    }
    for (const [aggregate, field] of [
      ['increase', 'counter_int_increase'],
      ['min', 'counter_int_min'],
      ['max', 'counter_int_max'],
      ['last', 'counter_int_last'],
    ] as const) {
      expect(await kept(bucket, 'test.count', field)).toEqual(await ask('test.count', aggregate))
    }
    for (const aggregate of ['min', 'max', 'last', 'sum'] as const) {
      expect(await kept(bucket, 'test.level', `gauge_${aggregate}`)).toEqual(
        await ask('test.level', aggregate),
      )
    }
    const counts = await kept(bucket, 'test.level', 'gauge_count')
    expect(counts.map(([, count]) => count)).toEqual(Array.from({ length: 6 }, () => '30'))
  })

  test('know of a counter that began anew though its value is larger', async () => {
    await using store = open()
    const end = (nowNano() / windowNano) * windowNano
    const begin = end - windowNano
    const at = (seconds: number) => begin + BigInt(seconds) * secondNano
    const declared = { 'test.count': { kind: 'counter', unit: '1' } } as const
    const point = (seconds: number, value: bigint) => ({ time: at(seconds), name: 'test.count', value })
    await store.write(
      [
        pointBatch({ seq: 1 }, declared, [point(10, 5n), point(20, 7n)], at(0)),
        pointBatch({ seq: 2 }, declared, [point(40, 100n), point(50, 101n)], at(30)),
      ],
      noState,
    )
    await runFlux(downsampleScript(bucket, `${bucket}-5m`, formatTime(begin), formatTime(end)))
    expect(await kept(bucket, 'test.count', 'counter_int_increase')).toEqual([[formatTime(begin), '103']])
  })

  test('are made by tasks, which a second start leaves as they are', async () => {
    const end = (nowNano() / windowNano) * windowNano
    const declared = { 'test.level': { kind: 'gauge', unit: '1' } } as const
    const point = { time: end - 60n * secondNano, name: 'test.level', value: 4 }
    {
      await using store = open()
      await store.write([pointBatch({ seq: 1 }, declared, [point])], noState)
    }
    const made = await tasksOf(bucket)
    expect(made.map(({ name }) => name).toSorted()).toEqual([
      `dpulse ${bucket} 5m`,
      `dpulse ${bucket} 5m, what came late`,
      `dpulse ${bucket}-error 5m`,
      `dpulse ${bucket}-error 5m, what came late`,
    ])
    {
      await using store = open()
      await store.queries.metrics(undefined, never)
    }
    expect((await tasksOf(bucket)).map(({ id }) => id).toSorted()).toEqual(
      made.map(({ id }) => id).toSorted(),
    )
    const first = made.find(({ name }) => name === `dpulse ${bucket} 5m`)
    expect(await runTask(first?.id ?? '')).toBe('success')
    expect(await kept(bucket, 'test.level', 'gauge_max')).toEqual([[formatTime(end - windowNano), '4']])
  })

  test('of aggregators that start at the same time are made once, and so are the buckets, without a complaint', async () => {
    const log = recordLog()
    const stores = [1, 2, 3, 4].map(() => influxStore({ bucket, log, downsampledMs: 90 * day }))
    expect(await Promise.all(stores.map(async (store) => (await store.status()).error))).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ])
    for (const store of stores) await store[Symbol.asyncDispose]()
    expect(log.lines.filter(({ level }) => level !== 'info')).toEqual([])
    expect((await bucketsOf(bucket)).map(({ name }) => name)).toEqual(
      ['', '-5m', '-error', '-event', '-usage'].map((suffix) => bucket + suffix),
    )
    expect(await tasksOf(bucket)).toHaveLength(4)
  })
})
