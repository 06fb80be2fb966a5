// What the ingest does not let in, from senders that need no login: totals that no stream can have, headers that
// contradict themselves, and records of another signal than the topic or path says.
import { describe, expect, onTestFinished, test } from 'vitest'
import { openIngest } from '../../aggregator/ingest.ts'
import { streamKey, totalLimit } from '../../plugins/contract/batch.ts'
import type { Header } from '../../plugins/contract/batch.ts'
import type { Signal } from '../../plugins/contract/signal.ts'
import { realClock } from '../support/clock.ts'
import { testContext } from '../support/context.ts'
import { openTestJournal } from '../support/journal.ts'
import { sampleBatch, sampleLogs, samplePoints } from '../support/records.ts'

const device = 'dpu-under-test'
const key = streamKey(sampleBatch(sampleLogs([{}])).header)

async function open() {
  const journal = await openTestJournal()
  const { log, logged } = testContext()
  const ingest = openIngest({ journal, log, clock: realClock, device, acknowledge: () => undefined })
  onTestFinished(async () => ingest[Symbol.asyncDispose]())
  const entries = () => Object.values(journal.end()).reduce((sum, count) => sum + count, 0)
  const send = (signal: Signal, payload: Uint8Array) =>
    ingest.onTelemetry({
      topic: `dpulse/${device}/telemetry/log/${signal}`,
      collector: device,
      class: 'log',
      signal,
      payload,
    })
  const request = (signal: Signal, bytes: Uint8Array) =>
    ingest.onRequest({ signal, bytes, peer: '127.0.0.1', believed: () => true })
  return { ingest, logged, entries, send, request }
}

const batchWith = (header: Partial<Header>) => sampleBatch(sampleLogs([{}]), header).bytes
const tooMuch = totalLimit + 1

describe('totals that no stream can have', () => {
  test.each<[string, Partial<Header>]>([
    ['seq', { seq: tooMuch }],
    ['produced', { produced: 2 ** 53 - 1 }],
    ['produced', { produced: tooMuch }],
  ])('in the %s of a header are refused by name', async (name, header) => {
    const { ingest, logged, entries, send, request } = await open()
    const bytes = batchWith(header)
    await send('logs', bytes)
    expect(logged[0]?.fields.error).toMatch(new RegExp(`announces ${name} \\d+; no stream has more`))
    await expect(request('logs', bytes)).rejects.toMatchObject({ code: 'INPUT_INVALID' })
    expect(ingest.counters).toMatchObject({ invalid: 2, batches: 0 })
    expect([entries(), ingest.accounts.size]).toEqual([0, 0])
  })

  test('that are just within the limit are counted', async () => {
    const { ingest, send } = await open()
    await send('logs', batchWith({ seq: totalLimit, produced: totalLimit, dropped: { filter: 7 } }))
    expect(ingest.accounts.get(key)).toMatchObject({ produced: totalLimit, dropped: { filter: 7 } })
  })

  test.each([
    ['seq', { seq: 2 ** 53 - 1 }],
    ['produced', { produced: tooMuch }],
    ['dropped', { dropped: { expired: tooMuch } }],
    ['produced', { produced: -1 }],
  ])('in the %s of a birth are refused by name', async (name, wild) => {
    const { ingest, logged } = await open()
    const { session } = sampleBatch(sampleLogs([{}])).header
    const end = { session, device, class: 'log', seq: 4, produced: 8, dropped: {}, ...wild }
    const birth = { state: 'online', collector: device, instance: 'run-2', ended: [end] }
    expect(ingest.onStatus(device, Buffer.from(JSON.stringify(birth)))).toBe(false)
    expect(logged[0]).toMatchObject({ message: 'status refused' })
    expect(logged[0]?.fields.error).toContain(name)
    expect(ingest.accounts.size).toBe(0)
  })
})

test('a header that dropped more than was produced counts as none, and its records are kept', async () => {
  const { ingest, send } = await open()
  await send('logs', batchWith({ produced: 3, dropped: { filter: 2, overflow: 1 } }))
  expect(ingest.accounts.get(key)).toBeUndefined()
  const [[, own] = []] = [...ingest.accounts.entries()]
  expect(own).toMatchObject({ produced: 1, records: 1, dropped: {} })
})

describe('records of another signal', () => {
  test.each([
    ['metrics', 'logs', samplePoints(1)],
    ['logs', 'metrics', sampleLogs([{ body: 'a line' }])],
  ] as const)('%s sent as %s with a header that would be believed are refused', async (_, as, records) => {
    const { ingest, logged, entries, send, request } = await open()
    for (const count of [1, 2, 3]) await send(as, sampleBatch(records, { count, produced: count }).bytes)
    expect(logged.map(({ message }) => message)).toEqual(
      Array.from({ length: 3 }, () => 'MQTT message refused'),
    )
    expect(logged[0]?.fields.error).toMatch(/malformed (logs|metrics) request of \d+ bytes: .* of wire type /)
    await expect(request(as, records.bytes)).rejects.toMatchObject({ code: 'INPUT_INVALID' })
    expect(ingest.counters).toMatchObject({ invalid: 4, batches: 0 })
    expect(entries()).toBe(0)
  })

  test('a field that a later OTLP may add is none', async () => {
    const { ingest, send } = await open()
    // dropped_attributes_count (7), and a field 100 that no record has today.
    const record = Buffer.from([0x38, 5, 0xa0, 6, 1])
    const wrap = (bytes: Buffer, tag: number) => Buffer.concat([Buffer.of(tag, bytes.length), bytes])
    const bytes = wrap(wrap(wrap(record, 0x12), 0x12), 0x0a)
    await send('logs', sampleBatch({ ...sampleLogs([{}]), bytes }).bytes)
    expect(ingest.accounts.get(key)).toMatchObject({ records: 1 })
  })
})
