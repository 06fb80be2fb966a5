// DuckDB and a real InfluxDB are given the same random records and asked the same questions: equal times, integers beyond
// 2^53, what is no number, empty text and text of many lines, points out of order, counters that begin anew, histograms.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openDuckStore } from '../../../aggregator/store/duckdb.ts'
import type { Store, StoreBatch } from '../../../aggregator/store/store.ts'
import { aggregates } from '../../../aggregator/query.ts'
import type { LogQuery, LogRecordRow, MetricQuery, SeriesResult } from '../../../aggregator/query.ts'
import { sealBatch } from '../../../plugins/contract/batch.ts'
import { encodeResource } from '../../../plugins/contract/values.ts'
import { Writer } from '../../../plugins/contract/wire.ts'
import { headerOf, logBatch, noState, nowNano, recordLog, secondNano } from './batches.ts'
import type { Place } from './batches.ts'
import { never } from './fixture.ts'
import { influx, influxStore, newBucket, removeBuckets } from './influx.ts'

const begin = nowNano() - 2000n * secondNano
let run = 0

/** Times: many equal, some a nanosecond apart, whole seconds, one from 1970. */
const time = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 12 }).map((n) => begin + BigInt(n)) },
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 900 }).map((n) => begin + BigInt(n) * secondNano) },
  { weight: 1, arbitrary: fc.constantFrom(0n, 7n, begin + 200_000n * secondNano) },
)
const words = fc.constantFrom(
  '',
  'link down',
  'Link UP',
  'two\nlines\r\n',
  'q"uo\\te,=',
  'ÄRGER ß',
  '\u{1f680}',
  ' ',
  'İi',
)
const integer = fc.oneof(
  fc.bigInt({ min: -5n, max: 40n }),
  fc.constantFrom(2n ** 53n + 1n, -(2n ** 63n), 2n ** 63n - 1n, 2n ** 62n),
)
const value = fc.oneof(
  words,
  integer,
  fc.boolean(),
  fc.double({ noNaN: false }),
  fc.array(words, { maxLength: 2 }),
)
const record = fc.record({
  time,
  observed: fc.oneof(fc.constant(0n), time),
  severity: fc.integer({ min: 0, max: 24 }),
  body: fc.oneof({ weight: 4, arbitrary: words }, { weight: 1, arbitrary: value }),
  attributes: fc.dictionary(fc.constantFrom('port', 'name', '', 'host.name', 'a/b~c', 'time'), value, {
    maxKeys: 3,
  }),
})

/** A point as OTLP has it, whatever its type: what our own encoder does not write, too. */
interface RandomPoint {
  time: bigint
  start: bigint
  value: number | bigint
  port: number
}
const samples = (number: fc.Arbitrary<number | bigint>): fc.Arbitrary<RandomPoint[]> =>
  fc.array(
    fc.record({
      time,
      start: fc.constantFrom(0n, begin - 5n * secondNano, begin + 300n * secondNano),
      value: number,
      port: fc.integer({ min: 0, max: 1 }),
    }),
    { minLength: 1, maxLength: 30 },
  )
const shapes = ['gauge', 'counter', 'sum', 'delta', 'histogram'] as const
type Shape = (typeof shapes)[number]

function nested(out: Writer, tag: number, inner: () => void): void {
  out.tag(tag, 2)
  const mark = out.open()
  inner()
  out.close(mark)
}

function pointBytes(out: Writer, shape: Shape, point: RandomPoint): void {
  nested(out, shape === 'histogram' ? 9 : 7, () => {
    out.tag(1, 2)
    out.string('port')
    nested(out, 2, () => {
      out.tag(3, 0)
      out.varint(point.port)
    })
  })
  out.tag(2, 1)
  out.fixed64Big(point.start)
  out.tag(3, 1)
  out.fixed64Big(point.time)
  if (shape === 'histogram') {
    const count = typeof point.value === 'bigint' ? BigInt.asUintN(40, point.value) : 3n
    out.tag(4, 1)
    out.fixed64Big(count)
    out.tag(5, 1)
    out.double(Number(point.value))
    nested(out, 6, () => out.fixed64Big(count))
  } else if (typeof point.value === 'bigint') {
    out.tag(6, 1)
    out.fixed64Big(point.value)
  } else {
    out.tag(4, 1)
    out.double(point.value)
  }
}

function batchOf(place: Place, metric: string, shape: Shape, points: readonly RandomPoint[]): StoreBatch {
  const out = new Writer()
  nested(out, 1, () => {
    nested(out, 1, () => out.raw(encodeResource({ 'host.name': 'h', 'service.name': 's', 'dpu.rack': 'r1' })))
    nested(out, 2, () =>
      nested(out, 2, () => {
        out.tag(1, 2)
        out.string(metric)
        out.tag(3, 2)
        out.string('By')
        nested(out, shape === 'gauge' ? 5 : shape === 'histogram' ? 9 : 7, () => {
          for (const point of points) nested(out, 1, () => pointBytes(out, shape, point))
          if (shape === 'gauge') return
          out.tag(2, 0)
          out.varint(shape === 'delta' ? 1 : 2)
          if (shape === 'histogram') return
          out.tag(3, 0)
          out.varint(shape === 'sum' ? 0 : 1)
        })
      }),
    )
  })
  const header = headerOf({ class: 'resource', ...place }, points.length)
  const bytes = sealBatch(header, 'metrics', [out.take()]).bytes
  return { header, signal: 'metrics', value: bytes, arrivedUnixNano: begin + 2000n * secondNano }
}

/** Doubles that were added up in another order differ in their last digits. */
const near = (answer: SeriesResult[]): unknown =>
  answer
    .map((series) => ({
      ...series,
      points: series.points.map(([at, number]) => [
        at,
        typeof number === 'number' && !Number.isSafeInteger(number) ? number.toPrecision(9) : String(number),
      ]),
    }))
    .sort((a, b) => (JSON.stringify(a.attributes) < JSON.stringify(b.attributes) ? -1 : 1))

describe.skipIf(!influx)(`DuckDB and InfluxDB${influx ? '' : ' (INFLUX_URL names none)'}`, () => {
  const bucket = newBucket()
  const directory = mkdtempSync(join(tmpdir(), 'store-'))
  let duck: Store
  let other: Store
  beforeAll(async () => {
    duck = await openDuckStore(directory, { log: recordLog(), maintenanceMs: 0 })
    other = influxStore({ bucket, log: recordLog() })
  })
  afterAll(async () => {
    await duck[Symbol.asyncDispose]()
    await other[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
    await removeBuckets(bucket)
  })

  async function write(batches: readonly StoreBatch[]): Promise<void> {
    const receipts = await duck.write(batches, noState)
    expect(await other.write(batches, noState)).toEqual(receipts)
    // Whatever happens twice there is one.
    await other.write(batches, noState)
  }

  test('find the same log records, and page through them in the same order', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(record, { minLength: 1, maxLength: 20 }), { minLength: 1, maxLength: 4 }),
        fc.constantFrom(undefined, 'link', 'LINES', 'ß', 'i', '\\te,', '%'),
        fc.constantFrom(undefined, 5, 17),
        fc.constantFrom<[] | [string, string]>(
          [],
          ['port', '1'],
          ['name', ''],
          ['host.name', 'dpu-x'],
          ['time', 'Link UP'],
        ),
        fc.integer({ min: 1, max: 30 }),
        async (batches, text, severity, match, limit) => {
          const device = `d-${++run}`
          const resource = { 'host.name': 'dpu-x' }
          const arrived = begin + 2000n * secondNano
          await write(
            batches.map((records, index) => logBatch({ seq: index + 1, device, resource, arrived }, records)),
          )
          const query: LogQuery = {
            device: [device],
            limit,
            where: match.length === 2 ? [{ key: match[0], value: match[1] }] : [],
            ...(text !== undefined && { text }),
            ...(severity !== undefined && { severity }),
          }
          const pages = async (store: Store): Promise<LogRecordRow[]> => {
            const all: LogRecordRow[] = []
            let before: string | undefined
            do {
              const page = await store.queries.logs(
                { ...query, ...(before !== undefined && { before }) },
                never,
              )
              all.unshift(...page.records)
              before = page.next
            } while (before !== undefined)
            return all
          }
          expect(await pages(other)).toEqual(await pages(duck))
        },
      ),
      { numRuns: 40 },
    )
  }, 120_000)

  test('answer every question about a metric alike', async () => {
    const integers = samples(integer)
    const doubles = samples(
      fc.oneof(
        fc.integer({ min: -400, max: 400 }).map((n) => n / 4),
        fc.constantFrom(Number.NaN, Infinity),
      ),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.boolean().chain((exact) => fc.tuple(exact ? integers : doubles, exact ? integers : doubles)),
        fc.constantFrom(...shapes),
        fc.constantFrom(undefined, ...aggregates),
        fc.constantFrom(undefined, 1n, 7n, 60n, 1000n),
        fc.constantFrom<string[] | undefined>(undefined, [], ['port'], ['device', 'dpu.rack']),
        fc.integer({ min: -10, max: 400 }),
        fc.integer({ min: 1, max: 900 }),
        async ([first, second], shape, aggregate, step, by, from, length) => {
          const metric = `random.${++run}`
          const device = `m-${run}`
          // The second batch comes before the first, as what a buffer held back does.
          await write([batchOf({ seq: 2, device }, metric, shape, second)])
          await write([batchOf({ seq: 1, device }, metric, shape, first)])
          const query: MetricQuery = {
            metric,
            where: [{ key: 'dpu.rack', value: 'r1' }],
            sinceUnixNano: begin + BigInt(from) * secondNano,
            untilUnixNano: begin + BigInt(from + length) * secondNano,
            limit: 10_000,
            ...(aggregate !== undefined && { aggregate }),
            ...(step !== undefined && { stepNano: step * secondNano }),
            ...(by !== undefined && { by }),
          }
          expect(near(await other.queries.query(query, never))).toEqual(
            near(await duck.queries.query(query, never)),
          )
          const latest = async (store: Store) =>
            (await store.queries.latest(device, never)).sort(
              (a, b) => Number(a.attributes.port) - Number(b.attributes.port),
            )
          expect(await latest(other)).toEqual(await latest(duck))
          expect(await other.queries.metrics([device], never)).toEqual(
            await duck.queries.metrics([device], never),
          )
        },
      ),
      { numRuns: 120 },
    )
  }, 120_000)
})
