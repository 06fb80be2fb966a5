// Closing the books of streams of which nothing is left: on real parts, with arrivals of ten days ago.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { openWriterFilter } from '../../aggregator/filter.ts'
import { forgetOnce, longestKept, ownBooks } from '../../aggregator/forgetting.ts'
import { openIngest } from '../../aggregator/ingest.ts'
import { openLogJournal } from '../../aggregator/journal/log.ts'
import { openLedger } from '../../aggregator/ledger.ts'
import { openDuckStore } from '../../aggregator/store/duckdb.ts'
import { settingsOf } from '../../aggregator/store/settings.ts'
import { openWriter } from '../../aggregator/writer.ts'
import { Readings, encodeResource } from '../../plugins/contract/index.ts'
import type { Clock } from '../../plugins/contract/define.ts'
import { filterSettings } from '../../plugins/protocols/filter/index.ts'
import { realClock } from '../support/clock.ts'
import { testContext } from '../support/context.ts'
import { eventually } from '../support/programs.ts'
import { sampleBatch, sampleLogs } from '../support/records.ts'

const tenDaysNano = 10n * 86_400n * 1_000_000_000n
const { retentionMs } = settingsOf({})

const windowRules = filterSettings.parse({ rules: [{ aggregate: { interval: '1s', to: ['mean'] } }] })

/** An aggregator without its listeners, whose clock is `agoNano` behind. */
async function openParts(directory: string, agoNano: bigint) {
  const { log } = testContext()
  const clock: Clock = { ...realClock, nowUnixNano: () => realClock.nowUnixNano() - agoNano }
  const stop = new AbortController()
  const stack = new AsyncDisposableStack()
  const journal = stack.use(
    await openLogJournal(join(directory, 'journal'), { now: () => clock.nowUnixNano() }),
  )
  const store = stack.use(await openDuckStore(join(directory, 'store'), { log, maintenanceMs: 0 }))
  const ingest = stack.use(
    openIngest({ journal, log, clock, device: 'the-aggregator', acknowledge: () => undefined }),
  )
  const filter = openWriterFilter(windowRules, { clock, log, maxBatchBytes: 1_000_000 })
  const writer = await openWriter({ journal, store, filter, log, clock })
  const ledger = openLedger({ book: ingest.accounts, writer, store, journal, clock, log, ended: () => false })
  const running = writer.run(stop.signal)
  stack.defer(async () => {
    stop.abort()
    await running
  })
  return {
    store,
    ledger,
    forget: () => forgetOnce({ books: ownBooks(ingest), writer, store, retentionMs, clock, log }),
    async take(session: string, seq: number, records = sampleLogs([{}, {}])): Promise<void> {
      const { header, signal, bytes } = sampleBatch(records, { session, seq, produced: seq * 2 })
      await ingest.onTelemetry({
        topic: 'test',
        collector: header.collector,
        class: header.class,
        signal,
        payload: Buffer.from(bytes),
      })
      await eventually('the store has it', 30, async () => (await ledger.report()).inFlight === 0)
    },
    sessions: async () => {
      const { balanced, streams } = await ledger.report()
      return { balanced, sessions: streams.map(({ session, stored }) => `${session.at(-1)} ${stored}`) }
    },
    close: () => stack.disposeAsync(),
  }
}

const old = '01K00000000000000000000001'
const young = '01K00000000000000000000002'

test('a silent stream is forgotten once its last row is gone, not before, and the ledger adds up throughout', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-forgetting-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const then = await openParts(directory, tenDaysNano)
  await then.take(old, 1)
  await then.take(old, 2)
  await then.store.maintain({ seal: 'all' })
  expect(await then.forget()).toBe(0)
  await then.close()

  const now = await openParts(directory, 0n)
  await now.take(young, 1)
  expect(await now.sessions()).toEqual({ balanced: true, sessions: ['1 4', '2 2'] })
  await now.store.maintain({ seal: 'all' })
  expect(await now.sessions()).toEqual({ balanced: true, sessions: ['1 4', '2 2'] })
  expect(await now.forget()).toBe(1)
  expect(await now.sessions()).toEqual({ balanced: true, sessions: ['2 2'] })
  expect(await now.forget()).toBe(0)
  await now.close()

  const later = await openParts(directory, 0n)
  expect(await later.sessions()).toEqual({ balanced: true, sessions: ['2 2'] })
  // Its numbers are new to everyone again.
  await later.take(old, 1)
  expect(await later.sessions()).toEqual({ balanced: true, sessions: ['1 2', '2 2'] })
  await later.close()
}, 30_000)

test('what windows made is in the books as long as the store keeps it', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-forgetting-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const atUnixNano = realClock.nowUnixNano() - tenDaysNano
  const readings = () => {
    const one = new Readings({
      scope: { name: 'test' },
      declared: { 'test.level': { kind: 'gauge', unit: '1' } },
      device: 'dpu-1',
      resource: encodeResource({}),
      timeUnixNano: atUnixNano,
    })
    one.add('test.level', 1)
    one.add('test.level', 3)
    return one.finish()[0]
  }
  const then = await openParts(directory, tenDaysNano)
  await then.take(old, 1, readings())
  const made = { balanced: true, sessions: ['1 0', 'R 1'] }
  await eventually('the window is stored', 30, async () => {
    const now = await then.sessions()
    return now.sessions.join() === made.sessions.join()
  })
  expect(await then.sessions()).toEqual(made)
  await then.store.maintain({ seal: 'all' })
  expect(await then.forget()).toBe(0)
  expect(await then.sessions()).toEqual(made)
  await then.close()

  const now = await openParts(directory, 0n)
  await now.store.maintain({ seal: 'all' })
  expect(await now.forget()).toBe(2)
  expect(await now.sessions()).toEqual({ balanced: true, sessions: [] })
  await now.close()
}, 60_000)

test('a stream of which records were given a class that is kept longer is remembered as long', () => {
  expect(longestKept(retentionMs, [])).toEqual(retentionMs)
  const longest = longestKept(retentionMs, ['event'])
  expect(longest.log).toBe(retentionMs.event)
  expect(longest.usage).toBe(Math.max(retentionMs.usage, retentionMs.event))
})
