import { expect, onTestFinished, test } from 'vitest'
import { startOtlpIngest } from '../../aggregator/ingest-otlp.ts'
import { openIngest } from '../../aggregator/ingest.ts'
import type { Ingest } from '../../aggregator/ingest.ts'
import type { Journal } from '../../aggregator/journal/journal.ts'
import { findHeader } from '../../plugins/contract/batch.ts'
import { RetryableError } from '../../plugins/contract/errors.ts'
import { decompressSync } from '../../plugins/protocols/compression.ts'
import { realClock } from '../support/clock.ts'
import { testContext } from '../support/context.ts'
import { entriesOf } from '../support/intake.ts'
import { openTestJournal } from '../support/journal.ts'
import { sampleBatch, sampleLogs } from '../support/records.ts'

async function serve(wrap = (journal: Journal): Journal => journal) {
  const journal = wrap(await openTestJournal())
  const { log } = testContext()
  const ingest: Ingest = openIngest({
    journal,
    log,
    clock: realClock,
    device: 'the-aggregator',
    acknowledge: () => undefined,
  })
  const controller = new AbortController()
  const http = [{ host: '127.0.0.1', port: 0 }]
  const server = await startOtlpIngest(ingest, { http, log, signal: controller.signal })
  onTestFinished(async () => {
    controller.abort()
    await server.closed
    await ingest[Symbol.asyncDispose]()
  })
  const post = (body: Uint8Array | string, type = 'application/x-protobuf') =>
    fetch(`${server.addresses[0]}/v1/logs`, {
      method: 'POST',
      headers: { 'content-type': type },
      body: Buffer.from(body as Uint8Array),
    })
  return { ingest, journal, post }
}

const headers = async (journal: Journal, count: number) =>
  (await entriesOf(journal, count)).map(({ value }) => findHeader(decompressSync(value, 1 << 24)))

test('a batch of a collector on this machine keeps its header, and JSON of others gets one', async () => {
  const { journal, post } = await serve()
  const batch = sampleBatch(sampleLogs([{}, {}]), { seq: 5, produced: 10 })
  expect((await post(batch.bytes)).status).toBe(200)
  const record = { timeUnixNano: '1790000000000000000', body: { stringValue: 'hello' } }
  const json = { resourceLogs: [{ scopeLogs: [{ logRecords: [record] }] }] }
  expect((await post(JSON.stringify(json), 'application/json')).status).toBe(200)
  expect(await headers(journal, 2)).toEqual([
    batch.header,
    expect.objectContaining({ collector: 'otlp-127-0-0-1', device: 'the-aggregator', seq: 1, count: 1 }),
  ])
})

test('the answer is no success while the journal cannot take it, and names the wait', async () => {
  const { post } = await serve((journal) => ({
    ...journal,
    append: () => Promise.reject(new RetryableError('DISK_FULL', 'no room', { retryAfterMs: 2000 })),
  }))
  const answer = await post(sampleLogs([{}]).bytes)
  expect([429, 503]).toContain(answer.status)
})

test('a malformed request is refused for good, and counted', async () => {
  const { ingest, post } = await serve()
  expect((await post(Buffer.from([0x0a, 0xff]))).status).toBe(400)
  expect(ingest.counters.invalid).toBe(1)
})
