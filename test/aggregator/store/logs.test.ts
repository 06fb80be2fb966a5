// Log records in both stores: what is written is found again, exactly, before and after sealing, and after a restart.
import { expect, test } from 'vitest'
import type { LogQuery } from '../../../aggregator/query.ts'
import { QueryRefused } from '../../../aggregator/query.ts'
import { streamKey } from '../../../plugins/contract/batch.ts'
import { compressSync } from '../../../plugins/protocols/compression.ts'
import { headerOf, logBatch, noState, secondNano } from './batches.ts'
import { describeStores, now } from './fixture.ts'

describeStores('log records', (fixture, kind) => {
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
    await fixture.store.write(
      [
        logBatch({ seq: 1 }, [
          { time: now - 2n, observed: now - 1n, severity: 17, body: 'a body of some length', attributes },
          { time: now - 1n, body: { nested: [2n ** 62n] }, eventName: 'link.down' },
          { time: now, body: 42 },
        ]),
      ],
      noState,
    )
    await fixture.always(async () => {
      const [first, second, third] = await fixture.search()
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
    await fixture.store.write(
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
    await fixture.always(async () => {
      const bodies = async (query: Partial<LogQuery>) => (await fixture.search(query)).map(({ body }) => body)
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
    await fixture.store.write(
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
    await fixture.always(async () => {
      const records = await fixture.search({
        sinceUnixNano: now - secondNano,
        untilUnixNano: now + secondNano,
      })
      expect(records.map(({ body }) => body)).toEqual(['from 1970', 'from tomorrow', 'no time at all'])
      expect(records[0]?.time).toBe('1970-01-01T00:00:00.000000007Z')
      expect(records.map(({ attributes }) => attributes['dpu.clock.suspect'])).toEqual([
        true,
        true,
        undefined,
      ])
      expect(await fixture.search({ where: [{ key: 'dpu.clock.suspect', value: 'true' }] })).toHaveLength(2)
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
    await fixture.store.write([{ ...good, value }], noState)
    await fixture.always(async () => {
      const [first, second] = await fixture.search()
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
    const receipts = await fixture.store.write([cut, noise, after], noState)
    expect(receipts.map(({ stored, rejected }) => stored + rejected)).toEqual([2, 1, 1])
    expect(receipts[1]).toEqual({ stored: 0, rejected: 1 })
    expect((await fixture.search()).at(-1)?.body).toBe('three')
    const stored = receipts.reduce((sum, receipt) => sum + receipt.stored, 0)
    const rejected = receipts.reduce((sum, receipt) => sum + receipt.rejected, 0)
    expect(rejected).toBe(4 - stored)
    // InfluxDB's points do not tell of which stream they are; there the receipts are the account.
    const counts = kind === 'DuckDB' ? [{ stored, rejected, damaged: [] }] : []
    expect(await fixture.store.count()).toMatchObject(counts)
  })

  test('come from zstd and gzip as well as from bare batches', async () => {
    const batches = (['zstd', 'gzip', 'none'] as const).map((compression, index) => {
      const batch = logBatch({ seq: index + 1 }, [{ time: now + BigInt(index), body: compression }])
      return { ...batch, value: compressSync(batch.value, compression) }
    })
    await fixture.store.write(batches, noState)
    expect((await fixture.search()).map(({ body }) => body)).toEqual(['zstd', 'gzip', 'none'])
  })

  test('have ids that no other record has', async () => {
    const record = { time: now, body: 'same' }
    await fixture.store.write(
      [
        logBatch({ seq: 1 }, [record, record]),
        logBatch({ seq: 2 }, [record]),
        logBatch({ seq: 1, device: 'd2' }, [record]),
      ],
      noState,
    )
    const ids = (await fixture.search()).map(({ id }) => id)
    expect(new Set(ids).size).toBe(4)
    expect(ids).toContain(`${streamKey(headerOf({ seq: 1 }, 1))}/1/0`)
  })

  test('a cursor that the store never gave out is refused by name', async () => {
    const asked = fixture.search({ before: 'nonsense' })
    await expect(asked).rejects.toThrow(QueryRefused)
    await expect(asked).rejects.toMatchObject({ parameter: 'next' })
  })
})
