// Data points in both stores: integers exact, what is no number rejected, series told apart and bounded.
import { expect, test } from 'vitest'
import { QueryRefused } from '../../../aggregator/query.ts'
import { sealBatch } from '../../../plugins/contract/batch.ts'
import { Writer } from '../../../plugins/contract/wire.ts'
import { headerOf, noState, pointBatch, secondNano } from './batches.ts'
import { describeStores, never, now } from './fixture.ts'

const byText = (a: unknown, b: unknown): number => String(a).localeCompare(String(b))

describeStores('data points', (fixture, kind) => {
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
    await fixture.store.write([pointBatch({ seq: 1 }, declared, points)], noState)
    await fixture.always(async () => {
      const [series] = await fixture.ask({ metric: 'test.level' })
      expect(series?.points.map(([, value]) => BigInt(value))).toEqual(values)
      expect(series?.points[2]?.[1]).toBe(0)
      expect(series?.points[4]?.[1]).toBe('9223372036854775807')
      const [extreme] = await fixture.ask({ metric: 'test.level', aggregate: 'min' })
      expect(extreme?.points[0]?.[1]).toBe('-9223372036854775808')
      const [sum] = await fixture.ask({ metric: 'test.level', aggregate: 'sum' })
      expect(sum?.points[0]?.[1]).toBe(-1)
      const latest = await fixture.store.queries.latest('dpu-1', never)
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
    const receipts = await fixture.store.write([pointBatch({ seq: 1 }, declared, points)], noState)
    expect(receipts).toEqual([{ stored: 2, rejected: 3 }])
    await fixture.always(async () => {
      expect((await fixture.ask({ metric: 'test.level' }))[0]?.points.map(([, value]) => value)).toEqual([
        1.5, 2.5,
      ])
      const counts = kind === 'DuckDB' ? [{ stored: 2, rejected: 3, damaged: [] }] : []
      expect(await fixture.store.count()).toMatchObject(counts)
    })
  })

  test('of more series than allowed are rejected; known series go on', async () => {
    await fixture.reopen({ maxSeries: 2 })
    const point = (id: number, seq: number) =>
      pointBatch({ seq }, declared, [{ time: now, name: 'test.level', value: 1, attributes: { id } }])
    const receipts = await fixture.store.write([point(1, 1), point(2, 2), point(3, 3), point(1, 4)], noState)
    expect(receipts.map(({ rejected }) => rejected)).toEqual([0, 0, 1, 0])
    expect(fixture.log.lines).toContainEqual({
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
    await fixture.store.write(
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
    await fixture.always(async () => {
      expect(await fixture.store.queries.metrics(undefined, never)).toEqual([
        { name: 'test.count', unit: '{x}', kind: 'counter', attributes: ['cpu', 'mode'], series: 2 },
        { name: 'test.level', unit: '1', kind: 'gauge', attributes: ['service.name'], series: 2 },
      ])
      expect(await fixture.store.queries.metrics(['dpu-2'], never)).toEqual([])
      const levels = await fixture.ask({ metric: 'test.level' })
      expect(levels.map(({ attributes }) => attributes['service.name']).toSorted(byText)).toEqual([
        'second',
        'test',
      ])
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
    await fixture.store.write([at(1, 'r1', '01JDABCDEFGHJKMNPQRSTVWXYA')], noState)
    await fixture.store.write([at(2, 'r2', '01JDABCDEFGHJKMNPQRSTVWXYB')], noState)
    await fixture.always(async () => {
      const where = (value: string) => ({ where: [{ key: 'dpu.rack', value }] })
      expect(
        await fixture.ask({ metric: 'test.count', aggregate: 'increase', ...where('r2') }),
      ).toMatchObject([{ points: [[expect.any(String), 10]] }])
      expect(await fixture.ask({ metric: 'test.count', ...where('r1') })).toEqual([])
    })
  })

  test('more points than the limit are refused, never cut', async () => {
    const points = Array.from({ length: 11 }, (_, index) => ({
      time: now - BigInt(index) * secondNano,
      name: 'test.level',
      value: index,
    }))
    await fixture.store.write([pointBatch({ seq: 1 }, declared, points)], noState)
    await expect(fixture.ask({ metric: 'test.level', limit: 10 })).rejects.toThrow(QueryRefused)
    expect((await fixture.ask({ metric: 'test.level', limit: 11 }))[0]?.points).toHaveLength(11)
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

describeStores('histograms', (fixture) => {
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
    await fixture.store.write(
      [histogram(1, now - 20n * secondNano, 4n, 6), histogram(2, now - 10n * secondNano, 10n, 5)],
      noState,
    )
    await fixture.always(async () => {
      const [stored] = await fixture.ask({ metric: 'test.latency' })
      expect(stored).toMatchObject({ kind: 'histogram', unit: 's' })
      expect(stored?.points.map(([, value]) => value)).toEqual([1.5, 0.5])
      const [increase] = await fixture.ask({ metric: 'test.latency', aggregate: 'increase' })
      expect(increase?.points[0]?.[1]).toBe(6)
    })
  })
})
