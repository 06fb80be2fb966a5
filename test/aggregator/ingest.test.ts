import { describe, expect, onTestFinished, test } from 'vitest'
import { openIngest } from '../../aggregator/ingest.ts'
import type { Ingest, IngestOptions } from '../../aggregator/ingest.ts'
import type { Journal } from '../../aggregator/journal/journal.ts'
import { findHeader, streamKey } from '../../plugins/contract/batch.ts'
import type { Batch, Header } from '../../plugins/contract/batch.ts'
import { RetryableError } from '../../plugins/contract/errors.ts'
import { compressSync, decompressSync } from '../../plugins/protocols/compression.ts'
import type { Ack } from '../../plugins/protocols/topics.ts'
import { realClock, settle } from '../support/clock.ts'
import { testContext } from '../support/context.ts'
import { entriesOf } from '../support/intake.ts'
import { openTestJournal } from '../support/journal.ts'
import { collectLogs, sampleBatch, sampleLogs } from '../support/records.ts'

const device = 'dpu-under-test'
const batchOf = (seq: number, header: Partial<Header> = {}, count = 2): Batch =>
  sampleBatch(sampleLogs(Array.from({ length: count }, () => ({}))), {
    seq,
    produced: seq * count,
    ...header,
  })
const messageOf = (batch: Batch, collector = batch.header.collector) => ({
  topic: `dpulse/${collector}/telemetry/${batch.header.class}/${batch.signal}`,
  collector,
  class: batch.header.class,
  signal: batch.signal,
  payload: compressSync(batch.bytes, 'zstd'),
})
const headerOf = (value: Uint8Array): Header => {
  const header = findHeader(decompressSync(value, 1 << 24))
  if (!header) throw new Error('an entry without a header')
  return header
}

interface Opened {
  ingest: Ingest
  journal: Journal
  acks: [string, Ack][]
  logged: ReturnType<typeof testContext>['logged']
}

async function open(
  options: Partial<IngestOptions> & { wrap?: (journal: Journal) => Journal; directory?: string } = {},
): Promise<Opened> {
  const { wrap = (journal) => journal, directory, ...rest } = options
  const journal = wrap(await openTestJournal(directory))
  const acks: [string, Ack][] = []
  const { log, logged } = testContext()
  const ingest = openIngest({
    journal,
    log,
    clock: realClock,
    device: 'the-aggregator',
    acknowledge: (collector, ack) => void acks.push([collector, ack]),
    ...rest,
  })
  onTestFinished(async () => ingest[Symbol.asyncDispose]())
  return { ingest, journal, acks, logged }
}

const failing =
  (times: number) =>
  (journal: Journal): Journal => {
    let left = times
    return {
      ...journal,
      append: async (...given) => {
        if (left-- > 0) throw new RetryableError('DISK_FULL', 'no room')
        await journal.append(...given)
      },
    }
  }

describe('ingest', () => {
  test('journals a batch as it came, with the row of its account, and tells its collector', async () => {
    const { ingest, journal, acks } = await open()
    const message = messageOf(batchOf(1))
    await ingest.onTelemetry(message)
    const [entry] = await entriesOf(journal, 1)
    expect(Buffer.from(entry?.value ?? []).equals(message.payload)).toBe(true)
    expect(entry).toMatchObject({ topic: 'otlp_logs', key: device })
    expect(journal.table('dpulse_ledger').get(streamKey(batchOf(1).header))).toBeDefined()
    expect(acks).toEqual([
      [device, { streams: [expect.objectContaining({ device, class: 'log', through: 1, beyond: [] })] }],
    ])
  })

  test('a batch that it has is acknowledged again and not journaled again, also after a restart', async () => {
    const { ingest, journal, acks } = await open()
    await Promise.all([1, 1, 2].map((seq) => ingest.onTelemetry(messageOf(batchOf(seq)))))
    await ingest.onTelemetry(messageOf(batchOf(1)))
    expect(journal.end()['otlp_logs/0']).toBe(2)
    expect(acks.at(-1)?.[1].streams[0]).toMatchObject({ through: 2 })
    expect(ingest.counters).toMatchObject({ batches: 2, records: 4, duplicates: 2 })
    const again = openIngest({
      journal,
      log: testContext().log,
      clock: realClock,
      device,
      acknowledge: (...ack) => void acks.push(ack),
    })
    await again.onTelemetry(messageOf(batchOf(2)))
    expect(journal.end()['otlp_logs/0']).toBe(2)
    expect(again.counters.duplicates).toBe(1)
    expect(again.accounts.get(streamKey(batchOf(1).header))?.records).toBe(4)
  })

  test('an ack names what lies beyond a gap', async () => {
    const { ingest, acks } = await open()
    for (const seq of [1, 2, 5, 6, 9]) await ingest.onTelemetry(messageOf(batchOf(seq)))
    expect(acks.map(([, { streams }]) => streams[0]).map((one) => [one?.through, one?.beyond])).toEqual([
      [1, []],
      [2, []],
      [2, [[5, 5]]],
      [2, [[5, 6]]],
      [2, [[9, 9]]],
    ])
  })

  test('many at once share few commits', async () => {
    const { ingest } = await open()
    await Promise.all(
      Array.from({ length: 500 }, (_, index) => ingest.onTelemetry(messageOf(batchOf(index + 1)))),
    )
    expect(ingest.counters.batches).toBe(500)
    expect(ingest.counters.commits).toBeLessThan(20)
  })

  test('what the journal does not take is refused, not acknowledged, and may come again', async () => {
    const { ingest, journal, acks } = await open({ wrap: failing(1) })
    await expect(ingest.onTelemetry(messageOf(batchOf(1)))).rejects.toMatchObject({ code: 'DISK_FULL' })
    expect(acks).toEqual([])
    expect(ingest.accounts.get(streamKey(batchOf(1).header))).toBeUndefined()
    await ingest.onTelemetry(messageOf(batchOf(1)))
    expect(await entriesOf(journal, 1)).toHaveLength(1)
    expect(acks).toHaveLength(1)
  })

  test('accounts do not tell of a batch before the journal has it', async () => {
    const held = Promise.withResolvers<void>()
    const { ingest } = await open({
      wrap: (journal) => ({
        ...journal,
        append: async (...given) => {
          await held.promise
          await journal.append(...given)
        },
      }),
    })
    const key = streamKey(batchOf(1).header)
    const taken = ingest.onTelemetry(messageOf(batchOf(1)))
    await ingest.room()
    expect(ingest.accounts.get(key)).toBeUndefined()
    held.resolve()
    await taken
    expect(ingest.accounts.get(key)?.acknowledged.ranges()).toEqual([[1, 1]])
  })

  test('a header is believed only from the collector that it names', async () => {
    const { ingest, journal } = await open()
    await ingest.onTelemetry(messageOf(batchOf(7), 'someone-else'))
    const [entry] = await entriesOf(journal, 1)
    expect(headerOf(entry?.value ?? new Uint8Array())).toMatchObject({
      collector: 'someone-else',
      device,
      seq: 1,
      count: 2,
      produced: 2,
    })
    expect(ingest.accounts.get(streamKey(batchOf(7).header))).toBeUndefined()
  })

  test('a count that does not fit makes a header worthless', async () => {
    const { ingest, journal } = await open()
    await ingest.onTelemetry(messageOf(batchOf(7, { count: 3 })))
    const [entry] = await entriesOf(journal, 1)
    expect(headerOf(entry?.value ?? new Uint8Array())).toMatchObject({ collector: device, seq: 1, count: 2 })
  })

  test('foreign requests become streams of their sender, one for each device and class', async () => {
    const { ingest, journal } = await open()
    const bytes = Buffer.concat([
      sampleLogs([{}, { severity: 17 }], 'dpu-1').bytes,
      sampleLogs([{}], 'dpu-2').bytes,
    ])
    const request = { signal: 'logs', bytes, peer: '127.0.0.1', believed: () => true } as const
    await ingest.onRequest(request)
    await ingest.onRequest(request)
    const entries = await entriesOf(journal, 6)
    const streams = entries.map(({ value }) => headerOf(value))
    expect(new Set(streams.map(({ collector }) => collector))).toEqual(new Set(['otlp-127-0-0-1']))
    expect(
      streams.map(({ device: of, class: name, seq, produced }) => `${of} ${name} ${seq} ${produced}`).sort(),
    ).toEqual([
      'dpu-1 log 1 1',
      'dpu-1 log 2 2',
      'dpu-1 log_error 1 1',
      'dpu-1 log_error 2 2',
      'dpu-2 log 1 1',
      'dpu-2 log 2 2',
    ])
    expect(entries.flatMap(({ value }) => collectLogs(decompressSync(value, 1 << 24)))).toHaveLength(6)
  })

  test('after a failed commit foreign streams begin anew, so that no number ever means two batches', async () => {
    const { ingest, journal } = await open({ wrap: failing(1) })
    const bytes = sampleLogs([{}]).bytes
    const request = { signal: 'logs', bytes, peer: '10.0.0.9', believed: () => false } as const
    await expect(ingest.onRequest(request)).rejects.toBeInstanceOf(RetryableError)
    const failed = [...ingest.accounts.entries()]
    await ingest.onRequest(request)
    const [entry] = await entriesOf(journal, 1)
    expect(failed).toEqual([])
    expect(headerOf(entry?.value ?? new Uint8Array())).toMatchObject({ seq: 1, produced: 1 })
  })

  test('a header that comes over OTLP counts only where its connection may speak for it', async () => {
    const { ingest, journal } = await open()
    const { bytes } = batchOf(3)
    await ingest.onRequest({ signal: 'logs', bytes, peer: '10.0.0.9', believed: () => false })
    await ingest.onRequest({ signal: 'logs', bytes, peer: '127.0.0.1', believed: (name) => name === device })
    const headers = (await entriesOf(journal, 2)).map(({ value }) => headerOf(value))
    expect(headers.map(({ collector, seq }) => [collector, seq])).toEqual([
      ['otlp-10-0-0-9', 1],
      [device, 3],
    ])
  })

  test('malformed messages are counted and named, and never stop the next one', async () => {
    const { ingest, logged } = await open()
    const { payload, ...rest } = messageOf(batchOf(1))
    for (const bad of [payload.subarray(0, 20), Buffer.from('not protobuf'), Buffer.from([0x0a, 0xff])]) {
      await ingest.onTelemetry({ ...rest, payload: bad })
    }
    await ingest.onTelemetry({ ...rest, payload })
    expect(ingest.counters).toMatchObject({ invalid: 3, batches: 1 })
    expect(logged.filter(({ message }) => message === 'MQTT message refused')).toHaveLength(3)
    expect(logged[0]?.fields.topic).toBe(rest.topic)
    const bytes = Buffer.from([0x0a, 0xff])
    const request = { signal: 'logs', bytes, peer: '127.0.0.1', believed: () => true } as const
    await expect(ingest.onRequest(request)).rejects.toMatchObject({ code: 'INPUT_INVALID' })
  })

  test('a small message that becomes too large is refused before it fills the memory', async () => {
    const { ingest, logged } = await open({ limits: { requestBytes: 1 << 20 } })
    const payload = compressSync(Buffer.alloc(64 << 20), 'zstd')
    await ingest.onTelemetry({ ...messageOf(batchOf(1)), payload })
    expect(logged[0]?.fields.code).toBe('INPUT_TOO_LARGE')
  })

  test('senders wait while too much waits for the journal', async () => {
    const held = Promise.withResolvers<void>()
    const { ingest } = await open({
      limits: { waitingBytes: 2000, groupBytes: 1000 },
      wrap: (journal) => ({
        ...journal,
        append: async (...given) => {
          await held.promise
          await journal.append(...given)
        },
      }),
    })
    const taken = Array.from({ length: 10 }, (_, index) => ingest.onTelemetry(messageOf(batchOf(index + 1))))
    let hasRoom = false
    const room = ingest.room().then(() => (hasRoom = true))
    await settle(50)
    expect(hasRoom).toBe(false)
    held.resolve()
    await Promise.all([...taken, room])
    expect(ingest.counters.batches).toBe(10)
  })

  test('births tell where streams ended, and what is malformed or of another is refused', async () => {
    const seen: string[] = []
    const { ingest, journal, logged } = await open({ onStatus: ({ instance }) => void seen.push(instance) })
    await ingest.onTelemetry(messageOf(batchOf(1)))
    const { session } = batchOf(1).header
    const end = { session, device, class: 'log', seq: 4, produced: 8, dropped: { expired: 2 } }
    const birth = { state: 'online', collector: device, instance: 'run-2', ended: [end] }
    expect(ingest.onStatus(device, Buffer.from(JSON.stringify(birth)))).toBe(true)
    expect(ingest.onStatus('someone-else', Buffer.from(JSON.stringify(birth)))).toBe(false)
    expect(ingest.onStatus(device, Buffer.from('{"state":"on"}'))).toBe(false)
    expect(ingest.onStatus(device, Buffer.from('nonsense'))).toBe(false)
    await ingest[Symbol.asyncDispose]()
    expect(seen).toEqual(['run-2'])
    expect(logged.filter(({ message }) => message === 'status refused')).toHaveLength(3)
    const again = openIngest({
      journal,
      log: testContext().log,
      clock: realClock,
      device,
      acknowledge: () => undefined,
    })
    const key = streamKey(batchOf(1).header)
    expect(again.accounts.get(key)).toMatchObject({
      produced: 8,
      lastSeq: 4,
      ended: true,
      dropped: { expired: 2 },
    })
    await again.forget([key])
    expect(journal.table('dpulse_ledger').get(key)).toBeUndefined()
  })

  test('who listens hears of each new batch with its request, and nobody else costs anything', async () => {
    const { ingest } = await open()
    await ingest.onTelemetry(messageOf(batchOf(1)))
    const heard: number[] = []
    const stop = ingest.listen((header, signal, request) => {
      expect(signal).toBe('logs')
      expect(collectLogs(request)).toHaveLength(2)
      heard.push(header.seq)
    })
    await ingest.onTelemetry(messageOf(batchOf(2)))
    await ingest.onTelemetry(messageOf(batchOf(2)))
    stop()
    await ingest.onTelemetry(messageOf(batchOf(3)))
    expect(heard).toEqual([2])
  })
})
