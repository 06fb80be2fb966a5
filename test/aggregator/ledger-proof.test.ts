// The ledger on real parts, journal and store on disk: it adds up while all is well, and it can fail. Whoever deletes
// a row of the store, or a batch of the journal, behind its back is found out, with stream and sequence number.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { expect, onTestFinished, test } from 'vitest'
import { openIngest } from '../../aggregator/ingest.ts'
import { openLogJournal } from '../../aggregator/journal/log.ts'
import { openLedger } from '../../aggregator/ledger.ts'
import { recoverAccounts } from '../../aggregator/recovery.ts'
import { openDuckStore } from '../../aggregator/store/duckdb.ts'
import { openWriter } from '../../aggregator/writer.ts'
import { streamKey } from '../../plugins/contract/batch.ts'
import type { Batch } from '../../plugins/contract/batch.ts'
import { compressSync } from '../../plugins/protocols/compression.ts'
import { realClock } from '../support/clock.ts'
import { testContext } from '../support/context.ts'
import { eventually } from '../support/programs.ts'
import { sampleBatch, sampleLogs } from '../support/records.ts'

const perBatch = 20

function directoryOfTest(): string {
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-ledger-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** An aggregator without its listeners. `writes: false` leaves everything in the journal. */
async function openParts(directory: string, { writes = true } = {}) {
  const { log } = testContext()
  const clock = realClock
  const stop = new AbortController()
  const stack = new AsyncDisposableStack()
  const journal = stack.use(await openLogJournal(join(directory, 'journal')))
  const store = stack.use(await openDuckStore(join(directory, 'store'), { log }))
  const ingest = stack.use(
    openIngest({ journal, log, clock, device: 'the-aggregator', acknowledge: () => undefined }),
  )
  const writer = await openWriter({ journal, store, log, clock })
  await recoverAccounts(journal, ingest.accounts, writer.position, Date.now(), log)
  const ended = (): boolean => false
  const ledger = openLedger({ book: ingest.accounts, writer, store, journal, clock, log, ended })
  const running = writes ? writer.run(stop.signal) : Promise.resolve()
  stack.defer(async () => {
    stop.abort()
    await running
  })
  return {
    ledger,
    take: (batch: Batch) =>
      ingest.onTelemetry({
        topic: 'test',
        collector: batch.header.collector,
        class: batch.header.class,
        signal: batch.signal,
        payload: compressSync(batch.bytes, 'zstd'),
      }),
    caughtUp: () => eventually('the store has all', 30, async () => (await ledger.report()).inFlight === 0),
    close: () => stack.disposeAsync(),
  }
}

const batch = (seq: number): Batch =>
  sampleBatch(sampleLogs(Array.from({ length: perBatch }, () => ({}))), { seq, produced: seq * perBatch })

async function sql(directory: string, statement: string): Promise<void> {
  const instance = await DuckDBInstance.create(join(directory, 'store', 'store.duckdb'))
  const connection = await instance.connect()
  await connection.run(statement)
  connection.closeSync()
  instance.closeSync()
}

test('a ledger of batches that all arrived adds up, over a restart too', async () => {
  const directory = directoryOfTest()
  const first = await openParts(directory)
  for (let seq = 1; seq <= 5; seq++) await first.take(batch(seq))
  await first.take(batch(3))
  await first.caughtUp()
  const expected = { produced: 5 * perBatch, stored: 5 * perBatch, inFlight: 0, unknown: 0, balanced: true }
  expect(await first.ledger.report()).toMatchObject(expected)
  await first.close()
  const second = await openParts(directory)
  expect(await second.ledger.report()).toMatchObject({ ...expected, streams: [{ lastSeq: 5, missing: [] }] })
  await second.close()
})

test('a batch that never came is in flight, and its number is named', async () => {
  const parts = await openParts(directoryOfTest())
  for (const seq of [1, 2, 5]) await parts.take(batch(seq))
  const report = await eventually('three batches stored', 30, async () => {
    const answer = await parts.ledger.report()
    return answer.stored === 3 * perBatch && answer
  })
  expect(report).toMatchObject({ produced: 5 * perBatch, inFlight: 2 * perBatch, balanced: true })
  expect(report.streams[0]?.missing).toEqual([[3, 4]])
  await parts.close()
})

test('a row deleted from the store behind its back unbalances the stream and names the batch', async () => {
  const directory = directoryOfTest()
  const first = await openParts(directory)
  for (let seq = 1; seq <= 5; seq++) await first.take(batch(seq))
  await first.caughtUp()
  await first.close()
  await sql(directory, 'DELETE FROM hot_1 WHERE seq = 4 AND idx = 7')
  const second = await openParts(directory)
  const report = await second.ledger.report()
  expect(report).toMatchObject({ produced: 5 * perBatch, stored: 5 * perBatch - 1, balanced: false })
  const { collector, device, session, class: name } = batch(4).header
  expect(report.streams).toMatchObject([
    { collector, device, session, class: name, missing: [[4, 4]], balanced: false },
  ])
  await second.close()
})

test('a batch deleted from the journal before it was stored unbalances the stream and is named', async () => {
  const directory = directoryOfTest()
  const first = await openParts(directory, { writes: false })
  for (let seq = 1; seq <= 5; seq++) await first.take(batch(seq))
  await first.close()
  // Zeroes over the entry of batch 3: its own bytes, found by comparing the segment with what was sent.
  const journal = join(directory, 'journal')
  const [segment = ''] = readdirSync(journal).filter((file) => file.includes('otlp_logs'))
  const bytes = readFileSync(join(journal, segment))
  const value = compressSync(batch(3).bytes, 'zstd')
  const at = bytes.indexOf(value.subarray(0, 64))
  expect(at).toBeGreaterThan(0)
  bytes.fill(0, at, at + value.length)
  writeFileSync(join(journal, segment), bytes)

  const second = await openParts(directory)
  const report = await eventually('the loss is found', 30, async () => {
    const answer = await second.ledger.report()
    return !answer.balanced && answer
  })
  expect(report).toMatchObject({ produced: 5 * perBatch, stored: 4 * perBatch, inFlight: 0, balanced: false })
  expect(streamKey(batch(3).header)).toContain(report.streams[0]?.device)
  expect(report.streams[0]).toMatchObject({ missing: [[3, 3]], balanced: false })
  await second.close()
})

test('a batch whose commit was cut off behind its entry, before its account, is in both books after a restart', async () => {
  const directory = directoryOfTest()
  const first = await openParts(directory)
  for (const seq of [1, 2]) await first.take(batch(seq))
  await first.caughtUp()
  await first.close()
  const journal = await openLogJournal(join(directory, 'journal'))
  await journal.append([{ topic: 'otlp_logs', key: 'any', value: compressSync(batch(3).bytes, 'zstd') }], [])
  await journal[Symbol.asyncDispose]()

  const second = await openParts(directory)
  await eventually(
    'the third is stored',
    30,
    async () => (await second.ledger.report()).stored === 3 * perBatch,
  )
  // The collector was not told, and sends it again.
  await second.take(batch(3))
  expect(await second.ledger.report()).toMatchObject({
    produced: 3 * perBatch,
    stored: 3 * perBatch,
    inFlight: 0,
    balanced: true,
  })
  await second.close()
})
