// The filter behind the journal: what it drops is counted with the position, over a restart too; the journal keeps all.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { problemsOf } from '../../aggregator/config.ts'
import { openLiveFilter, openWriterFilter } from '../../aggregator/filter.ts'
import { openIngest } from '../../aggregator/ingest.ts'
import { IntervalSet } from '../../aggregator/intervals.ts'
import { openLogJournal } from '../../aggregator/journal/log.ts'
import { openLedger } from '../../aggregator/ledger.ts'
import { openLive } from '../../aggregator/live.ts'
import type { LogRecordRow } from '../../aggregator/query.ts'
import { recoverAccounts } from '../../aggregator/recovery.ts'
import { openDuckStore } from '../../aggregator/store/duckdb.ts'
import { recordId } from '../../aggregator/store/query-logs.ts'
import { openWriter } from '../../aggregator/writer.ts'
import { decodeStream, rowsOf } from '../../aggregator/written.ts'
import { dropReasons, findHeader, streamKey } from '../../plugins/contract/index.ts'
import type { Batch } from '../../plugins/contract/index.ts'
import { compressSync } from '../../plugins/protocols/compression.ts'
import { filterSettings } from '../../plugins/protocols/filter/index.ts'
import { realClock } from '../support/clock.ts'
import { testContext } from '../support/context.ts'
import { eventually } from '../support/programs.ts'
import { collectLogs, sampleBatch, sampleLogs } from '../support/records.ts'

const settings = filterSettings.parse({
  rules: [
    { name: 'noise', match: { attributes: { app: 'cron' } }, drop: true },
    { name: 'secrets', redact: { patterns: 'password=\\S+', body: true } },
    { name: 'part', match: { attributes: { app: 'web' } }, sample: { ratio: 0 } },
  ],
})
const maxBatchBytes = 1_000_000
const open = () => openWriterFilter(settings, { clock: realClock, log: testContext().log, maxBatchBytes })

const batch = (seq: number): Batch =>
  sampleBatch(
    sampleLogs([
      { attributes: { app: 'cron' } },
      { attributes: { app: 'web' } },
      { body: 'password=x', attributes: { app: 'sshd' } },
      { body: 'line', attributes: { app: 'sshd' } },
    ]),
    { seq, produced: seq * 4 },
  )

/** An aggregator without its listeners. */
async function openParts(directory: string, writes: boolean) {
  const { log } = testContext()
  const clock = realClock
  const stop = new AbortController()
  const stack = new AsyncDisposableStack()
  const journal = stack.use(await openLogJournal(join(directory, 'journal')))
  const store = stack.use(await openDuckStore(join(directory, 'store'), { log }))
  const ingest = stack.use(
    openIngest({ journal, log, clock, device: 'the-aggregator', acknowledge: () => undefined }),
  )
  const writer = await openWriter({ journal, store, filter: open(), log, clock })
  await recoverAccounts(journal, ingest.accounts, writer.position, Date.now(), log)
  const ledger = openLedger({ book: ingest.accounts, writer, store, journal, clock, log, ended: () => false })
  const running = writes ? writer.run(stop.signal) : Promise.resolve()
  stack.defer(async () => {
    stop.abort()
    await running
  })
  const live = openLive({
    feed: ingest,
    filter: openLiveFilter(settings, clock),
    clock,
    rowId: (header, index) => recordId(streamKey(header), header.seq, index),
  })
  return {
    ledger,
    live,
    queries: store.queries,
    take: (one: Batch) =>
      ingest.onTelemetry({
        topic: 'test',
        collector: one.header.collector,
        class: one.header.class,
        signal: one.signal,
        payload: compressSync(one.bytes, 'zstd'),
      }),
    close: () => stack.disposeAsync(),
  }
}

describe('the filter of the aggregator', () => {
  test('writes what is left with a header that fits, and leaves a batch alone of which all is left', () => {
    const filter = open()
    const { header, bytes } = batch(1)
    const left = filter.apply(header, 'logs', compressSync(bytes, 'zstd'), 0n)
    expect(left?.dropped).toEqual({ filter: 1, sample: 1 })
    const [part] = left?.parts ?? []
    expect(left?.parts).toEqual([{ ...part, header: { ...header, count: 2 }, class: 'log', first: 0 }])
    expect(part && findHeader(part.value)).toEqual(part?.header)
    expect(collectLogs(part?.value ?? Buffer.of()).map(({ body }) => body)).toEqual(['[redacted]', 'line'])
    const clean = sampleBatch(sampleLogs([{}, {}]))
    expect(filter.apply(clean.header, 'logs', clean.bytes, 0n)).toBeUndefined()
    expect(filter.apply(clean.header, 'logs', Buffer.from('no batch'), 0n)).toEqual({
      parts: [],
      dropped: { invalid: 2 },
    })
    // What cannot be read to its end cannot be redacted either.
    const broken = Buffer.concat([bytes, Buffer.of(10, 99, 1)])
    expect(openLiveFilter(settings, realClock)(header, broken)).toEqual([])
  })

  test('keeps what it dropped with the position: the account adds up, over a restart too', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'dpulse-writer-filter-'))
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
    const first = await openParts(directory, false)
    for (let seq = 1; seq <= 5; seq++) await first.take(batch(seq))
    await first.take(batch(3))
    await first.close()
    for (const more of [6, 7]) {
      const again = await openParts(directory, true)
      await again.take(batch(more))
      const report = await eventually('the store has all', 30, async () => {
        const now = await again.ledger.report()
        return now.inFlight === 0 && now
      })
      expect(report).toMatchObject({
        produced: more * 4,
        stored: more * 2,
        dropped: { filter: more, sample: more },
        unknown: 0,
        balanced: true,
      })
      await again.close()
    }
  }, 60_000)

  test('is in force on the live tail: what it drops or redacts is never seen, the rest as it will be stored', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'dpulse-live-filter-'))
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
    const parts = await openParts(directory, true)
    onTestFinished(() => parts.close())
    const shown: LogRecordRow[] = []
    const flow = { room: () => 1000, missed: () => undefined }
    parts.live.subscribe({ where: [] }, (row) => shown.push(row), flow)
    const asked: LogRecordRow[] = []
    // What is asked for is looked for in what is left: else a search would tell what is in a secret.
    parts.live.subscribe({ where: [], text: 'password' }, (row) => asked.push(row), flow)
    for (const one of [batch(1), batch(2)]) await parts.take(one)
    expect(shown.map(({ body }) => body)).toEqual(['[redacted]', 'line', '[redacted]', 'line'])
    expect(asked).toEqual([])
    const { records } = await eventually('the store has them', 30, async () => {
      if ((await parts.ledger.report()).inFlight > 0) return false
      return parts.queries.logs({ where: [], limit: 10 }, new AbortController().signal)
    })
    const named = (rows: readonly LogRecordRow[]) =>
      rows.map(({ id, body }) => `${id} ${JSON.stringify(body)}`).toSorted()
    expect(named(shown)).toEqual(named(records))
  }, 60_000)

  test('keeps rows of streams with and without it, as they were', () => {
    const count = fc.integer({ min: 0, max: 2 ** 50 })
    const stream = fc.record(
      {
        records: count,
        forwarded: count,
        confirmed: fc.record({ stored: count, rejected: count }),
        filtered: fc.dictionary(fc.constantFrom(...dropReasons), count),
        made: fc.record({ batches: count, records: count, lastMs: count }),
      },
      { requiredKeys: ['records', 'forwarded'] },
    )
    fc.assert(
      fc.property(stream, fc.array(fc.integer({ min: 1, max: 50 })), (one, seqs) => {
        const seen = new IntervalSet()
        for (const seq of seqs) seen.add(seq)
        const [row] = rowsOf(new Map([['key', { ...one, seen }]])).values()
        const back = decodeStream(row ?? Buffer.of())
        expect({ ...back, seen: back.seen.ranges() }).toEqual({ ...one, seen: seen.ranges() })
      }),
    )
  })

  test('runs its examples in a check', () => {
    const wrong = `filter:
  rules: [{ match: { severity: { below: info } }, drop: true }]
  tests: [{ given: { severity: warn }, expect: filter }]
`
    expect(problemsOf(wrong)).toMatchObject([{ path: 'filter.tests.0.expect', line: 3, severity: 'error' }])
  })
})
