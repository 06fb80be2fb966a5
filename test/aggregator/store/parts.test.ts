// Batches whose records a rule gave several classes: their parts lie in different places and stay one batch.
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openWriterFilter } from '../../../aggregator/filter.ts'
import type { StoreBatch } from '../../../aggregator/store/store.ts'
import { filterSettings } from '../../../plugins/protocols/filter/index.ts'
import { realClock } from '../../support/clock.ts'
import { testContext } from '../../support/context.ts'
import { logBatch, noState, pointBatch } from './batches.ts'
import { describeStores, now } from './fixture.ts'
import type { DuckFixture } from './fixture.ts'

const filter = openWriterFilter(
  filterSettings.parse({
    rules: [
      { match: { body: { contains: 'urgent' } }, class: 'event' },
      { match: { body: { contains: 'spare' } }, drop: true },
      { match: { name: 'test.other' }, class: 'environment' },
    ],
  }),
  { clock: realClock, log: testContext().log, maxBatchBytes: 1_000_000 },
)

/** What the writer gives to the store of a batch. */
const partsOf = ({ header, signal, value, arrivedUnixNano }: StoreBatch): StoreBatch[] =>
  (filter.apply(header, signal, value, arrivedUnixNano)?.parts ?? []).map((part) => ({
    signal,
    arrivedUnixNano,
    ...part,
  }))

const bodies = ['a', 'urgent b', 'spare', 'c', 'urgent d']
const logs = (seq: number) =>
  partsOf(
    logBatch(
      { seq },
      bodies.map((body) => ({ time: now, body: `${body} ${seq}` })),
    ),
  )
const declared = {
  'test.level': { kind: 'gauge', unit: '1' },
  'test.other': { kind: 'gauge', unit: '1' },
} as const
const points = (seq: number) =>
  partsOf(
    pointBatch(
      { seq },
      declared,
      ['test.level', 'test.other', 'test.level', 'test.other'].map((name, value) => ({
        time: now,
        name,
        value,
      })),
    ),
  )

describeStores('batches in parts', (fixture, kind) => {
  test('keep every record, also those of one time, and each under an id of its own', async () => {
    const batches = [...logs(1), ...points(1), ...logs(2), ...points(2)]
    expect(batches.map(({ class: name, first }) => [name, first])).toEqual(
      [1, 2].flatMap(() => [
        ['log', 0],
        ['event', 2],
        ['resource', 0],
        ['environment', 2],
      ]),
    )
    const receipts = await fixture.store.write(batches, noState)
    expect(receipts).toEqual(batches.map(() => ({ stored: 2, rejected: 0 })))
    // A write that is repeated because its state was not kept.
    if (kind === 'InfluxDB') await fixture.store.write([...batches], noState)
    await fixture.always(async () => {
      const found = await fixture.search()
      const expected = [1, 2].flatMap((seq) =>
        ['a', 'c', 'urgent b', 'urgent d'].map((body) => `${body} ${seq}`),
      )
      expect(new Set(found.map(({ body }) => body))).toEqual(new Set(expected))
      expect(new Set(found.map(({ id }) => id)).size).toBe(8)
      for (const [metric, values] of [
        ['test.level', [0, 0, 2, 2]],
        ['test.other', [1, 1, 3, 3]],
      ] as const) {
        const [series] = await fixture.ask({ metric })
        expect(series?.points.map(([, value]) => value).toSorted()).toEqual(values)
      }
      if (kind === 'InfluxDB') return
      const counts = await fixture.store.count()
      expect(counts.map(({ stored, damaged }) => ({ stored, damaged }))).toEqual([
        { stored: 8, damaged: [] },
        { stored: 8, damaged: [] },
      ])
    })
    if (kind === 'InfluxDB') return
    const files = await readdir(join((fixture as DuckFixture).directory, 'files'))
    const kinds = files.map((file) => file.split('-').slice(0, 2).join(' '))
    expect(kinds.toSorted()).toEqual(['logs event', 'logs log', 'metrics environment', 'metrics resource'])
  })
})
