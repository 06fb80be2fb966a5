// The embedded store through its interface: what is written is found again, exactly, before and after sealing.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openDuckStore } from '../../../aggregator/store/duckdb.ts'
import type { DuckStore, DuckStoreOptions } from '../../../aggregator/store/duckdb.ts'
import type { LogQuery, MetricQuery } from '../../../aggregator/query.ts'
import { QueryRefused } from '../../../aggregator/query.ts'
import { sealBatch, streamKey } from '../../../plugins/contract/batch.ts'
import { Writer } from '../../../plugins/contract/wire.ts'
import { compressSync } from '../../../plugins/protocols/compression.ts'
import { headerOf, logBatch, noState, nowNano, pointBatch, recordLog, secondNano } from './batches.ts'

const never = new AbortController().signal
let directory = ''
let store: DuckStore
const log = recordLog()
const reopen = async (options: Partial<DuckStoreOptions> = {}): Promise<void> => {
  await store?.[Symbol.asyncDispose]()
  store = await openDuckStore(directory, { log, maintenanceMs: 0, ...options })
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'store-'))
  log.lines.length = 0
  store = await openDuckStore(directory, { log, maintenanceMs: 0 })
})
afterEach(async () => {
  await store[Symbol.asyncDispose]()
  await rm(directory, { recursive: true, force: true })
})

const search = async (query: Partial<LogQuery> = {}) =>
  (await store.queries.logs({ limit: 100, where: [], ...query }, never)).records
const now = nowNano()
const ask = (query: Partial<MetricQuery> & { metric: string }) =>
  store.queries.query(
    {
      where: [],
      sinceUnixNano: now - 3600n * secondNano,
      untilUnixNano: now + secondNano,
      limit: 1000,
      ...query,
    },
    never,
  )

/** Runs the same look at fresh rows, at sealed ones, and after a restart. */
async function always(look: () => Promise<void>): Promise<void> {
  await look()
  await store.maintain({ seal: 'all' })
  expect((await store.status()).files).toBeGreaterThan(0)
  await look()
  await reopen()
  await look()
}

describe('log records', () => {
  test('come back exactly, with every kind of attribute and body', async () => {
    const attributes = {
      text: 'a"b\\c\n\t\u0001 ü 🚀',
      small: -5,
      beyond: 9_007_199_254_740_993n,
      least: -(2n ** 63n),
      most: 2n ** 63n - 1n,
      fraction: 1.5,
      yes: true,
      bytes: Buffer.from('hi'),
      list: [1, 'a', { deep: false }],
      'sla/sh~tilde': 'x',
      '': 'no name',
    }
    await store.write(
      [
        logBatch({ seq: 1 }, [
          { time: now - 2n, observed: now - 1n, severity: 17, body: 'a body of some length', attributes },
          { time: now - 1n, body: { nested: [2n ** 62n] }, eventName: 'link.down' },
          { time: now, body: 42 },
        ]),
      ],
      noState,
    )
    await always(async () => {
      const [first, second, third] = await search()
      expect(first).toMatchObject({
        device: 'dpu-1',
        severityNumber: 17,
        body: 'a body of some length',
        attributes: {
          ...attributes,
          beyond: '9007199254740993',
          least: '-9223372036854775808',
          most: '9223372036854775807',
          bytes: 'aGk=',
        },
        resource: { 'host.name': 'dpu-1', 'service.name': 'test' },
        eventName: '',
      })
      expect(first?.time).toMatch(/\.999999998Z$/)
      expect(first?.observedTime).toMatch(/\.999999999Z$/)
      expect(second).toMatchObject({ body: { nested: ['4611686018427387904'] }, eventName: 'link.down' })
      expect(third).toMatchObject({ body: 42, attributes: {} })
    })
  })

  test('are found by text, device, severity, time and attributes of record or Resource', async () => {
    const at = (n: number) => now - BigInt(n) * secondNano
    await store.write(
      [
        logBatch({ seq: 1 }, [
          { time: at(3), body: 'Link DOWN on pf0', severity: 17, attributes: { port: 1, ok: false } },
          { time: at(2), body: 'link up ÄRGER', severity: 9, attributes: { port: 2, 'host.name': 'other' } },
        ]),
        logBatch({ seq: 1, device: 'dpu-2' }, [
          { time: at(1), body: 'nothing', severity: 13, attributes: { size: 2n ** 60n, share: 0.25 } },
        ]),
      ],
      noState,
    )
    await always(async () => {
      const bodies = async (query: Partial<LogQuery>) => (await search(query)).map(({ body }) => body)
      const where = (key: string, value: string) => ({ where: [{ key, value }] })
      expect(await bodies({ text: 'LINK' })).toEqual(['Link DOWN on pf0', 'link up ÄRGER'])
      expect(await bodies({ text: 'ärger' })).toEqual(['link up ÄRGER'])
      expect(await bodies({ text: '%' })).toEqual([])
      expect(await bodies({ device: ['dpu-2', 'dpu-9'] })).toEqual(['nothing'])
      expect(await bodies({ device: ['dpu-9'] })).toEqual([])
      expect(await bodies({ severity: 13 })).toEqual(['Link DOWN on pf0', 'nothing'])
      expect(await bodies({ sinceUnixNano: at(2), untilUnixNano: at(1) })).toEqual(['link up ÄRGER'])
      expect(await bodies(where('port', '1'))).toEqual(['Link DOWN on pf0'])
      expect(await bodies(where('ok', 'false'))).toEqual(['Link DOWN on pf0'])
      expect(await bodies(where('size', String(2n ** 60n)))).toEqual(['nothing'])
      expect(await bodies(where('share', '0.25'))).toEqual(['nothing'])
      // The record's own attribute hides that of its Resource.
      expect(await bodies(where('host.name', 'dpu-1'))).toEqual(['Link DOWN on pf0'])
      expect(await bodies(where('host.name', 'other'))).toEqual(['link up ÄRGER'])
    })
  })

  test('that claim a time more than a day from their arrival are marked and found by their arrival', async () => {
    await store.write(
      [
        logBatch({ seq: 1, arrived: now }, [
          { time: 7n, body: 'from 1970' },
          { time: now + 100_000n * secondNano, body: 'from tomorrow' },
          { time: now - 80_000n * secondNano, body: 'late but believed' },
          { time: 0n, body: 'no time at all' },
        ]),
      ],
      noState,
    )
    await always(async () => {
      const records = await search({ sinceUnixNano: now - secondNano, untilUnixNano: now + secondNano })
      expect(records.map(({ body }) => body)).toEqual(['from 1970', 'from tomorrow', 'no time at all'])
      expect(records[0]?.time).toBe('1970-01-01T00:00:00.000000007Z')
      expect(records.map(({ attributes }) => attributes['dpu.clock.suspect'])).toEqual([
        true,
        true,
        undefined,
      ])
      expect(await search({ where: [{ key: 'dpu.clock.suspect', value: 'true' }] })).toHaveLength(2)
    })
  })

  test('with invalid UTF-8 are kept with U+FFFD, and their neighbours unharmed', async () => {
    const good = logBatch({ seq: 1 }, [
      { time: now, body: 'aXXXXXXXXXXXXXXXXXXb', attributes: { key: 'vXXXXXv' } },
      { time: now, body: 'ü neighbour that is long enough' },
    ])
    const value = Buffer.from(good.value)
    value.set([0xff, 0xc3], value.indexOf('XX'))
    value.set([0xfe], value.indexOf('vXXXXXv') + 1)
    await store.write([{ ...good, value }], noState)
    await always(async () => {
      const [first, second] = await search()
      expect(first?.body).toBe('a\ufffd\ufffdXXXXXXXXXXXXXXXXb')
      expect(first?.attributes).toEqual({ key: 'v\ufffdXXXXv' })
      expect(second?.body).toBe('ü neighbour that is long enough')
    })
  })

  test('of a truncated batch are kept as far as they can be read; the rest counts as rejected', async () => {
    const good = logBatch({ seq: 1 }, [
      { time: now, body: 'one' },
      { time: now, body: 'two' },
    ])
    // The request's length fields now promise more than there is.
    const cut = { ...good, value: good.value.subarray(0, good.value.length - 4) }
    const noise = {
      ...logBatch({ seq: 2 }, [{ time: now, body: 'x' }]),
      value: Buffer.from('28b52ffd00', 'hex'),
    }
    const after = logBatch({ seq: 3 }, [{ time: now, body: 'three' }])
    const receipts = await store.write([cut, noise, after], noState)
    expect(receipts.map(({ stored, rejected }) => stored + rejected)).toEqual([2, 1, 1])
    expect(receipts[1]).toEqual({ stored: 0, rejected: 1 })
    expect((await search()).at(-1)?.body).toBe('three')
    const [count] = await store.count()
    const stored = receipts.reduce((sum, receipt) => sum + receipt.stored, 0)
    expect(count).toMatchObject({ stored, rejected: 4 - stored, damaged: [] })
  })

  test('come from zstd and gzip as well as from bare batches', async () => {
    const batches = (['zstd', 'gzip', 'none'] as const).map((compression, index) => {
      const batch = logBatch({ seq: index + 1 }, [{ time: now + BigInt(index), body: compression }])
      return { ...batch, value: compressSync(batch.value, compression) }
    })
    await store.write(batches, noState)
    expect((await search()).map(({ body }) => body)).toEqual(['zstd', 'gzip', 'none'])
  })

  test('have ids that no other record has', async () => {
    const record = { time: now, body: 'same' }
    await store.write(
      [
        logBatch({ seq: 1 }, [record, record]),
        logBatch({ seq: 2 }, [record]),
        logBatch({ seq: 1, device: 'd2' }, [record]),
      ],
      noState,
    )
    const ids = (await search()).map(({ id }) => id)
    expect(new Set(ids).size).toBe(4)
    expect(ids).toContain(`${streamKey(headerOf({ seq: 1 }, 1))}/1/0`)
  })

  test('a cursor that the store never gave out is refused by name', async () => {
    const asked = search({ before: 'nonsense' })
    await expect(asked).rejects.toThrow(QueryRefused)
    await expect(asked).rejects.toMatchObject({ parameter: 'before' })
  })
})

describe('data points', () => {
  const declared = {
    'test.count': { kind: 'counter', unit: '{x}' },
    'test.level': { kind: 'gauge', unit: '1' },
  } as const

  test('keep integers exact from the least int64 to the largest', async () => {
    const values = [-(2n ** 63n), -9_007_199_254_740_993n, 0n, 9_007_199_254_740_993n, 2n ** 63n - 1n]
    const points = values.map((value, index) => ({
      time: now + BigInt(index - 10),
      name: 'test.level',
      value,
    }))
    await store.write([pointBatch({ seq: 1 }, declared, points)], noState)
    await always(async () => {
      const [series] = await ask({ metric: 'test.level' })
      expect(series?.points.map(([, value]) => BigInt(value))).toEqual(values)
      expect(series?.points[2]?.[1]).toBe(0)
      expect(series?.points[4]?.[1]).toBe('9223372036854775807')
      const [extreme] = await ask({ metric: 'test.level', aggregate: 'min' })
      expect(extreme?.points[0]?.[1]).toBe('-9223372036854775808')
      const [sum] = await ask({ metric: 'test.level', aggregate: 'sum' })
      expect(sum?.points[0]?.[1]).toBe(-1)
      const latest = await store.queries.latest('dpu-1', never)
      expect(latest).toMatchObject([{ metric: 'test.level', value: '9223372036854775807' }])
    })
  })

  test('without a number are rejected and counted, and the others stay', async () => {
    const values = [1.5, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 2.5]
    const points = values.map((value, index) => ({
      time: now + BigInt(index - 10),
      name: 'test.level',
      value,
    }))
    const receipts = await store.write([pointBatch({ seq: 1 }, declared, points)], noState)
    expect(receipts).toEqual([{ stored: 2, rejected: 3 }])
    await always(async () => {
      expect((await ask({ metric: 'test.level' }))[0]?.points.map(([, value]) => value)).toEqual([1.5, 2.5])
      expect(await store.count()).toMatchObject([{ stored: 2, rejected: 3, damaged: [] }])
    })
  })

  test('of more series than allowed are rejected; known series go on', async () => {
    await reopen({ maxSeries: 2 })
    const point = (id: number, seq: number) =>
      pointBatch({ seq }, declared, [{ time: now, name: 'test.level', value: 1, attributes: { id } }])
    const receipts = await store.write([point(1, 1), point(2, 2), point(3, 3), point(1, 4)], noState)
    expect(receipts.map(({ rejected }) => rejected)).toEqual([0, 0, 1, 0])
    expect(log.lines).toContainEqual({
      level: 'warn',
      message: 'points of new series rejected: too many series',
      fields: { rejected: 1, limit: 2 },
    })
  })

  test('tell what metrics there are, and with which attributes', async () => {
    const point = (name: string, attributes: Record<string, string>) => ({
      time: now,
      name,
      value: 1,
      attributes,
    })
    await store.write(
      [
        pointBatch({ seq: 1 }, declared, [
          point('test.count', { cpu: '0', mode: 'user' }),
          point('test.count', { cpu: '1', mode: 'user' }),
          point('test.level', {}),
        ]),
        pointBatch({ seq: 2, resource: { 'service.name': 'second' } }, declared, [point('test.level', {})]),
      ],
      noState,
    )
    await always(async () => {
      expect(await store.queries.metrics(undefined, never)).toEqual([
        { name: 'test.count', unit: '{x}', kind: 'counter', attributes: ['cpu', 'mode'], series: 2 },
        { name: 'test.level', unit: '1', kind: 'gauge', attributes: ['service.name'], series: 2 },
      ])
      expect(await store.queries.metrics(['dpu-2'], never)).toEqual([])
      const levels = await ask({ metric: 'test.level' })
      expect(levels.map(({ attributes }) => attributes['service.name']).sort()).toEqual(['second', 'test'])
    })
  })

  test('a Resource that differs in a label or a run continues the series, and the newest label is found', async () => {
    const at = (seq: number, rack: string, run: string) =>
      pointBatch(
        {
          seq,
          resource: {
            'host.name': 'dpu-1',
            'dpu.rack': rack,
            'service.name': 's',
            'service.instance.id': run,
          },
        },
        declared,
        [{ time: now - BigInt(10 - seq) * secondNano, name: 'test.count', value: BigInt(seq * 10) }],
      )
    await store.write([at(1, 'r1', '01JDABCDEFGHJKMNPQRSTVWXYA')], noState)
    await store.write([at(2, 'r2', '01JDABCDEFGHJKMNPQRSTVWXYB')], noState)
    await always(async () => {
      const where = (value: string) => ({ where: [{ key: 'dpu.rack', value }] })
      expect(await ask({ metric: 'test.count', aggregate: 'increase', ...where('r2') })).toMatchObject([
        { points: [[expect.any(String), 10]] },
      ])
      expect(await ask({ metric: 'test.count', ...where('r1') })).toEqual([])
    })
  })

  test('more points than the limit are refused, never cut', async () => {
    const points = Array.from({ length: 11 }, (_, index) => ({
      time: now - BigInt(index) * secondNano,
      name: 'test.level',
      value: index,
    }))
    await store.write([pointBatch({ seq: 1 }, declared, points)], noState)
    await expect(ask({ metric: 'test.level', limit: 10 })).rejects.toThrow(QueryRefused)
    expect((await ask({ metric: 'test.level', limit: 11 }))[0]?.points).toHaveLength(11)
  })
})

/** A metric of a type that our own encoder does not write: `data` is the message of that field. */
function metricBatch(seq: number, field: number, data: (out: Writer) => void) {
  const out = new Writer()
  const nest = (tag: number, inner: () => void): void => {
    out.tag(tag, 2)
    const mark = out.open()
    inner()
    out.close(mark)
  }
  nest(1, () =>
    nest(2, () =>
      nest(2, () => {
        out.tag(1, 2)
        out.string('test.latency')
        out.tag(3, 2)
        out.string('s')
        nest(field, () => data(out))
      }),
    ),
  )
  const header = headerOf({ seq, class: 'resource' }, 1)
  const value = sealBatch(header, 'metrics', [out.take()]).bytes
  return { header, signal: 'metrics' as const, value, arrivedUnixNano: now }
}

describe('histograms', () => {
  const histogram = (seq: number, time: bigint, count: bigint, sum: number) =>
    metricBatch(seq, 9, (out) => {
      out.tag(1, 2)
      const mark = out.open()
      out.tag(3, 1)
      out.fixed64Big(time)
      out.tag(4, 1)
      out.fixed64Big(count)
      out.tag(5, 1)
      out.double(sum)
      out.tag(6, 2)
      out.varint(16)
      out.fixed64Big(count - 1n)
      out.fixed64Big(1n)
      out.tag(7, 2)
      out.varint(8)
      out.double(0.5)
      out.close(mark)
      out.tag(2, 0)
      out.varint(2)
    })

  test('show their mean, and increase by their count', async () => {
    await store.write(
      [histogram(1, now - 20n * secondNano, 4n, 6), histogram(2, now - 10n * secondNano, 10n, 5)],
      noState,
    )
    await always(async () => {
      const [stored] = await ask({ metric: 'test.latency' })
      expect(stored).toMatchObject({ kind: 'histogram', unit: 's' })
      expect(stored?.points.map(([, value]) => value)).toEqual([1.5, 0.5])
      const [increase] = await ask({ metric: 'test.latency', aggregate: 'increase' })
      expect(increase?.points[0]?.[1]).toBe(6)
    })
  })
})

describe('the state of the writer', () => {
  test('is what the last write left, with deletions, over many writes and restarts', async () => {
    const { position, streams } = await store.load()
    expect(position).toEqual({})
    expect(streams.size).toBe(0)
    const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))
    await store.write([], {
      position: { 'otlp_logs/0': 1 },
      streams: new Map([
        ['a', bytes('1')],
        ['b', bytes('1')],
      ]),
    })
    await store.write([], {
      position: { 'otlp_logs/0': 2 },
      streams: new Map([
        ['a', bytes('2')],
        ['b', undefined],
      ]),
    })
    await reopen()
    const loaded = await store.load()
    expect(loaded.position).toEqual({ 'otlp_logs/0': 2 })
    expect([...loaded.streams].map(([key, value]) => [key, Buffer.from(value).toString()])).toEqual([
      ['a', '2'],
    ])
  })

  test('outdated rows are thrown away, not the newest', async () => {
    const many = Array.from({ length: 3000 }, (_, index) => `stream ${index}`)
    for (let round = 0; round < 12; round++) {
      const value = new Uint8Array([round])
      const keys = round < 2 ? many : many.slice(0, 2500)
      await store.write([], {
        position: { 'otlp_logs/0': round },
        streams: new Map(keys.map((key) => [key, value])),
      })
    }
    await reopen()
    const { position, streams } = await store.load()
    expect(position).toEqual({ 'otlp_logs/0': 11 })
    expect(streams.size).toBe(3000)
    expect(streams.get('stream 2499')).toEqual(new Uint8Array([11]))
    expect(streams.get('stream 2999')).toEqual(new Uint8Array([1]))
  })
})

describe('a query', () => {
  test('ends when its asker has gone, and the next one is answered', async () => {
    const record = { time: now, body: 'x'.repeat(200) }
    const records = Array.from({ length: 500 }, () => record)
    const batches = Array.from({ length: 100 }, (_, index) => logBatch({ seq: index + 1 }, records))
    await store.write(batches, noState)
    const controller = new AbortController()
    const asked = store.queries.logs({ limit: 10_000, where: [], text: 'y' }, controller.signal)
    controller.abort(new Error('the asker has gone'))
    await expect(asked).rejects.toThrow('the asker has gone')
    expect(await search({ limit: 5 })).toHaveLength(5)
  })

  test('that takes too long is ended with an error that says so', async () => {
    await store.write([logBatch({ seq: 1 }, [{ time: now, body: 'x' }])], noState)
    await reopen({ queryTimeoutMs: 1 })
    await expect(Promise.all(Array.from({ length: 50 }, () => search()))).rejects.toMatchObject({
      code: 'PEER_TIMEOUT',
    })
  })
})
