// What is peculiar to the store on InfluxDB: a real one refuses, repeats, keeps and forgets as it does.
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { parseInfluxAddress } from '../../../aggregator/store/influx/address.ts'
import type { InfluxStore } from '../../../aggregator/store/influx/influxdb.ts'
import { hourNano, logBatch, noState, pointBatch, recordLog, secondNano } from './batches.ts'
import { never, now } from './fixture.ts'
import {
  askInflux,
  bucketsOf,
  deletePoints,
  influx,
  influxStore,
  newBucket,
  removeBuckets,
  tokenFor,
  writeLines,
} from './influx.ts'

const log = recordLog()
const declared = {
  'test.level': { kind: 'gauge', unit: '1' },
  'test.other': { kind: 'gauge', unit: '1' },
} as const

describe('the address of --store', () => {
  test('is taken apart, with and without TLS', () => {
    const address = { url: 'http://10.0.0.1:8086', org: 'my org', bucket: 'b' }
    expect(parseInfluxAddress('influxdb://10.0.0.1:8086/my%20org/b')).toEqual(address)
    expect(parseInfluxAddress('influxdbs://[::1]:8086/o/b').url).toBe('https://[::1]:8086')
  })

  test('is refused with what is expected, and shows no secret that stood in it', () => {
    expect(() => parseInfluxAddress('influxdb://h:8086/org')).toThrow(
      'expected influxdb://host:port/org/bucket',
    )
    expect(() => parseInfluxAddress('influxdb://token@h:8086/o/b')).toThrow(/^(?!.*token@)/s)
  })
})

describe.skipIf(!influx)(`InfluxDB${influx ? '' : ' (INFLUX_URL names none)'}`, () => {
  let bucket = ''
  let store: InfluxStore
  beforeEach(() => {
    bucket = newBucket()
    log.lines.length = 0
    store = influxStore({ bucket, log })
  })
  afterEach(async () => {
    await store[Symbol.asyncDispose]()
    await removeBuckets(bucket)
  })

  const level = (seq: number, values: readonly number[], name = 'test.level') =>
    pointBatch(
      { seq },
      declared,
      values.map((value, index) => ({ time: now - BigInt(seq * 100 - index) * secondNano, name, value })),
    )
  const ask = async (metric: string) => {
    const range = { sinceUnixNano: now - hourNano, untilUnixNano: now + secondNano }
    const found = await store.queries.query({ metric, where: [], limit: 5000, ...range }, never)
    return found.flatMap(({ points }) => points.map(([, value]) => value))
  }

  test('a point whose field is of another type is set aside with its reason, and the others are stored', async () => {
    await store.write([], noState)
    await store.queries.metrics(undefined, never)
    expect(await writeLines(bucket, [`test.level,host.id=x gauge="text" ${now}`])).toBe(204)
    const receipts = await store.write(
      [
        level(1, [1, 2]),
        level(2, [3, 4, 5], 'test.other'),
        level(3, [6]),
        logBatch({ seq: 1 }, [{ time: now, body: 'x' }]),
      ],
      noState,
    )
    expect(receipts).toEqual([
      { stored: 0, rejected: 2 },
      { stored: 3, rejected: 0 },
      { stored: 0, rejected: 1 },
      { stored: 1, rejected: 0 },
    ])
    expect(await ask('test.other')).toEqual([3, 4, 5])
    const aside = await askInflux(bucket, 'SELECT "host.id"::tag, reason, line FROM rejected')
    expect(aside.match(/^rejected,,\d+,dpu-1,/gm)).toHaveLength(3)
    expect(aside).toContain('field type conflict')
    expect(aside).toContain('gauge=6')
    expect(log.lines).toContainEqual(
      expect.objectContaining({ level: 'warn', message: 'records rejected by InfluxDB' }),
    )
  })

  test('one bad point among thousands costs no other, nor many requests', async () => {
    await store.queries.metrics(undefined, never)
    await writeLines(bucket, [`test.other,host.id=x gauge="text" ${now}`])
    const many = Array.from({ length: 900 }, (_, index) => index)
    const batches = [1, 2, 3, 4, 5].map((seq) => level(seq, many))
    const began = performance.now()
    const receipts = await store.write([...batches, level(9, [7], 'test.other'), level(8, many)], noState)
    expect(performance.now() - began).toBeLessThan(5000)
    expect(receipts.map(({ rejected }) => rejected)).toEqual([0, 0, 0, 0, 0, 1, 0])
  })

  test('points older than the retention of their bucket are rejected, newer ones stored', async () => {
    const arrived = now - 200n * 24n * hourNano
    const old = logBatch({ seq: 1, arrived }, [{ time: arrived, body: 'old' }])
    const receipts = await store.write([old, logBatch({ seq: 2 }, [{ time: now, body: 'new' }])], noState)
    expect(receipts).toEqual([
      { stored: 0, rejected: 1 },
      { stored: 1, rejected: 0 },
    ])
  })

  test('the same batches written again change nothing', async () => {
    const record = { time: now, body: 'same' }
    const batches = [
      logBatch({ seq: 1 }, [record, record, record]),
      logBatch({ seq: 2 }, [record]),
      pointBatch({ seq: 1 }, declared, [
        { time: now, name: 'test.level', value: 1 },
        { time: now, name: 'test.level', value: 2 },
        { time: now, name: 'test.level', value: 2 },
      ]),
    ]
    for (let round = 0; round < 3; round++) {
      await store.write(batches, noState)
      expect((await store.queries.logs({ limit: 100, where: [] }, never)).records).toHaveLength(4)
      expect(await ask('test.level')).toEqual([1, 2, 2])
      // After a restart it knows nothing of what it wrote.
      await store[Symbol.asyncDispose]()
      store = influxStore({ bucket, log })
    }
  })

  test('buckets are made with the retention of their classes, and each class lies in its own', async () => {
    const day = 86_400
    const retentionMs = { log: 3 * day * 1000, event: 90 * day * 1000, error: 30 * day * 1000 } as never
    await using own = influxStore({ bucket, log, retentionMs, downsampledMs: 50 * day * 1000 })
    await own.write(
      (['log', 'event', 'log_error', 'usage'] as const).map((name, index) =>
        logBatch({ seq: index + 1, class: name }, [{ time: now, body: name }]),
      ),
      noState,
    )
    expect((await bucketsOf(bucket)).map(({ name, everySeconds }) => [name, everySeconds / day])).toEqual([
      [bucket, 7],
      [`${bucket}-5m`, 50],
      [`${bucket}-error`, 30],
      [`${bucket}-event`, 90],
      [`${bucket}-usage`, 400],
    ])
    for (const [suffix, body] of [
      ['', 'log'],
      ['-event', 'event'],
      ['-error', 'log_error'],
      ['-usage', 'usage'],
    ]) {
      const rows = await askInflux(`${bucket}${suffix}`, 'SELECT body FROM logs')
      expect(rows.trim().split('\n').slice(1)).toEqual([expect.stringMatching(new RegExp(`,${body}$`))])
    }
    const { records } = await own.queries.logs({ limit: 10, where: [] }, never)
    expect(records).toHaveLength(4)
  })

  test('another retention in the configuration changes buckets that are ours, never those of others', async () => {
    const day = 86_400_000
    const open = async (days: number) => {
      await using own = influxStore({ bucket, log, retentionMs: { log: days * day } as never })
      await own.queries.metrics(undefined, never)
    }
    await open(10)
    const [first] = await bucketsOf(bucket)
    expect(first?.everySeconds).toBe((10 * day) / 1000)
    await open(20)
    expect((await bucketsOf(bucket))[0]?.everySeconds).toBe((20 * day) / 1000)
    const shared = influxStore({ bucket: process.env.INFLUX_BUCKET ?? 'test', log })
    onTestFinished(() => shared[Symbol.asyncDispose]())
    await shared.queries.metrics(undefined, never)
    expect(log.lines).toContainEqual(
      expect.objectContaining({
        level: 'warn',
        message: 'a bucket that was there before keeps its own retention',
      }),
    )
  })

  test('a bucket that somebody deleted is made again, and the write that met it succeeds when repeated', async () => {
    const batch = logBatch({ seq: 1 }, [{ time: now, body: 'x' }])
    await store.write([batch], noState)
    await removeBuckets(bucket)
    await expect(store.write([batch], noState)).rejects.toMatchObject({ name: 'RetryableError' })
    expect((await store.status()).error).toContain(bucket)
    await store.write([batch], noState)
    expect((await store.queries.logs({ limit: 10, where: [] }, never)).records).toHaveLength(1)
    expect((await store.status()).error).toBeUndefined()
  })

  test('attributes that InfluxDB has no place for as tags are answered exactly all the same', async () => {
    const attributes = {
      time: 'reserved',
      _field: 'reserved',
      'host.id': 'reserved',
      empty: '',
      'a b,c=d': 'x y,z=w',
      'back\\': 'slash\\',
      'line\nfeed': 'a\nb',
      long: 'x'.repeat(5000),
      number: 5,
    }
    const names = ['test.level', '#comment', 'logs', 'with space,comma', '_own', 'line\nfeed'] as const
    const all = Object.fromEntries(names.map((name) => [name, { kind: 'gauge', unit: '1' } as const]))
    await store.write(
      [
        pointBatch(
          { seq: 1 },
          all,
          names.map((name, index) => ({ time: now, name, value: index, attributes })),
        ),
      ],
      noState,
    )
    for (const [index, name] of names.entries()) {
      const range = { sinceUnixNano: now - hourNano, untilUnixNano: now + secondNano }
      const [found] = await store.queries.query({ metric: name, where: [], limit: 10, ...range }, never)
      expect(found).toMatchObject({ metric: name, attributes, points: [[expect.anything(), index]] })
    }
  })

  test('a token that is wrong makes writes wait, and the right one is taken as soon as it is there', async () => {
    let token = 'wrong'
    await using own = influxStore({ bucket, log, token: () => token })
    const batch = logBatch({ seq: 1, class: 'event' }, [{ time: now, body: 'x' }])
    const expected = { name: 'RetryableError', code: 'PERMISSION_DENIED' }
    await expect(own.write([batch], noState)).rejects.toMatchObject(expected)
    token = influx?.token() ?? ''
    await own.write([batch], noState)
    expect(await askInflux(`${bucket}-event`, 'SELECT body FROM logs')).toContain(',x')
  })

  test('an organisation that is not there is named before anything is written, and writes wait', async () => {
    await using own = influxStore({ bucket, log, org: 'no-such' })
    const named = expect.stringContaining('organization name "no-such" not found') as string
    expect((await own.status()).error).toEqual(named)
    expect(log.lines).toEqual([{ level: 'warn', message: 'InfluxDB is not ready', fields: { error: named } }])
    const writing = own.write([logBatch({ seq: 1 }, [{ time: now, body: 'x' }])], noState)
    await expect(writing).rejects.toMatchObject({ name: 'RetryableError' })
  })

  test('a token that may only write to one bucket is enough: all classes go there', async () => {
    await store.queries.metrics(undefined, never)
    const token = await tokenFor(bucket)
    await using own = influxStore({ bucket, log, token: () => token })
    await own.write([logBatch({ seq: 1, class: 'event' }, [{ time: now, body: 'x' }])], noState)
    expect(await askInflux(bucket, 'SELECT body FROM logs')).toContain(',x')
  })

  test('points that it confirmed and that are gone are found out by device and hour, whole hours are not', async () => {
    const at = now - 2n * hourNano
    const batches = ['dpu-1', 'dpu-2'].flatMap((device) => [
      logBatch({ seq: 1, device }, [
        { time: at, body: 'x' },
        { time: at, body: 'y' },
      ]),
      pointBatch({ seq: 1, device }, declared, [
        { time: at, name: 'test.level', value: 1 },
        { time: at, name: 'test.other', value: 1 },
      ]),
    ])
    await store.write(batches, noState)
    // Its state was not saved: the whole is repeated.
    await store.write(batches, noState)
    await store.audit()
    expect((await store.status()).error).toBeUndefined()
    await store.write([logBatch({ seq: 2 }, [{ time: at, body: 'z' }])], noState)
    await deletePoints(bucket, '_measurement="test.other" AND "host.id"="dpu-1"')
    await store.audit()
    // The hour agreed once: only what was written since is looked at.
    expect((await store.status()).error).toBeUndefined()
    await store.write([logBatch({ seq: 3, device: 'dpu-2' }, [{ time: at, body: 'z' }])], noState)
    await deletePoints(bucket, '"host.id"="dpu-2"')
    await store.audit()
    expect((await store.status()).error).toContain('1 points less than it confirmed')
    expect(log.lines).toContainEqual(
      expect.objectContaining({
        message: 'points that InfluxDB confirmed are gone',
        fields: expect.objectContaining({ device: 'dpu-2', confirmed: 1, found: 0 }) as unknown,
      }),
    )
  })

  test('points of series beyond the limit are rejected and told, those of known series are not, also after a restart', async () => {
    const of = (seq: number, ports: readonly string[]) =>
      pointBatch(
        { seq },
        declared,
        ports.map((port) => ({
          time: now - BigInt(seq) * secondNano,
          name: 'test.level' as const,
          value: seq,
          attributes: { port },
        })),
      )
    const open = () => influxStore({ bucket, log, maxSeries: 3 })
    {
      await using own = open()
      expect(await own.write([of(1, ['a', 'b']), of(2, ['a', 'c', 'd', 'e'])], noState)).toEqual([
        { stored: 2, rejected: 0 },
        { stored: 2, rejected: 2 },
      ])
    }
    expect(log.lines).toContainEqual(
      expect.objectContaining({
        level: 'warn',
        message: 'points of new series rejected: too many series',
        fields: { rejected: 2, limit: 3 },
      }),
    )
    await using own = open()
    expect(await own.write([of(3, ['a', 'b', 'c', 'd'])], noState)).toEqual([{ stored: 3, rejected: 1 }])
    const cardinality = await askInflux(bucket, 'SHOW TAG VALUES FROM "test.level" WITH KEY = "port"')
    expect(cardinality.trim().split('\n')).toHaveLength(4)
  })

  test('a metric that is told as integer and as double has a field of each type, and neither is ever refused', async () => {
    const value = 2n ** 53n + 1n
    const batch = (seq: number, values: readonly (number | bigint)[]) =>
      pointBatch(
        { seq },
        declared,
        values.map((one, index) => ({
          time: now - BigInt(seq * 100 - index) * secondNano,
          name: 'test.level' as const,
          value: one,
        })),
      )
    const batches = [batch(1, [1.5, value]), batch(2, [value, 2]), batch(3, [2n, 0.25])]
    const stored = { stored: 2, rejected: 0 }
    expect(await store.write(batches, noState)).toEqual([stored, stored, stored])
    const keys = await askInflux(bucket, 'SHOW FIELD KEYS FROM "test.level"')
    expect(keys).toMatch(/,gauge,float$/m)
    expect(keys).toMatch(/,gauge_int,integer$/m)
    expect((await ask('test.level')).map(String)).toEqual([
      '2',
      '0.25',
      String(value),
      '2',
      '1.5',
      String(value),
    ])
  })

  test('services beyond the limit are stored without the tag, and found by it nevertheless', async () => {
    await using own = influxStore({ bucket, log, maxServices: 2 })
    const named = (name: string) => ({ time: now, body: name, attributes: { 'syslog.appname': name } })
    await own.write([logBatch({ seq: 1, resource: {} }, ['a', 'b', 'c', 'a'].map(named))], noState)
    const where = [{ key: 'syslog.appname', value: 'c' }]
    expect((await own.queries.logs({ limit: 10, where }, never)).records).toHaveLength(1)
    const values = await askInflux(bucket, 'SHOW TAG VALUES FROM logs WITH KEY = "service.name"')
    expect(values.trim().split('\n')).toHaveLength(3)
    expect(log.lines).toContainEqual(
      expect.objectContaining({ message: 'records stored without the tag service.name: too many services' }),
    )
  })
})
