import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { ulid } from 'ulid'
import type { Journal } from '../../../aggregator/journal/journal.ts'
import { partitionFor } from '../../../aggregator/journal/kafka-partition.ts'
import { booksOf, startMember, storedIn } from '../../support/member.ts'
import { headedBatch, kafkaPlace, noKafka, openTestKafka, testSender } from '../../support/kafka.ts'
import { eventually } from '../../support/programs.ts'
import { testContext } from '../../support/context.ts'

const { log } = testContext()

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'dpulse-group-'))
  onTestFinished(async () => rm(path, { recursive: true, force: true }))
  return path
}

/** Reads until the partition is ours, and answers with what was handed over. */
async function gained(journal: Journal, partition: number) {
  for (;;) {
    const { moved } = await journal.read({}, { entries: 1, bytes: 1 }, AbortSignal.timeout(20_000))
    const found = moved?.gained.find((one) => one.partition === partition)
    if (found) return found
  }
}

const closes = (journal: Journal): Journal => {
  onTestFinished(async () => journal[Symbol.asyncDispose]())
  return journal
}

describe('the owner of a partition', () => {
  test('hands position and rows to the next one', async ({ skip }) => {
    if (noKafka !== undefined) skip(noKafka)
    const place = kafkaPlace()
    const first = await openTestKafka(place)
    await gained(first, 1)
    const state = {
      partition: 1,
      position: { 'otlp_logs/1': 0 },
      streams: [['c/S/d/log', Buffer.from('row')] as const],
      accounts: [['c/S/d/log', Buffer.from('account')] as const],
    }
    expect(await first.shared?.save([state])).toEqual(new Set([1]))
    expect(await first.shared?.save([{ ...state, streams: [], accounts: [] }])).toEqual(new Set([1]))
    await first[Symbol.asyncDispose]()
    const second = closes(await openTestKafka(place))
    const { streams, accounts, position } = await gained(second, 1)
    expect(streams.map(([key, row]) => [key, Buffer.from(row).toString()])).toEqual([['c/S/d/log', 'row']])
    expect(accounts.map(([key, row]) => [key, Buffer.from(row).toString()])).toEqual([
      ['c/S/d/log', 'account'],
    ])
    expect(position['otlp_logs/1']).toBe(0)
  }, 60_000)

  test('that another one has succeeded changes nothing, and is told that it has lost it', async ({
    skip,
  }) => {
    if (noKafka !== undefined) skip(noKafka)
    const place = kafkaPlace()
    const old = closes(await openTestKafka(place))
    await gained(old, 0)
    const row = (text: string) => ({
      partition: 0,
      position: {},
      streams: [['c/S/d/log', Buffer.from(text)] as const],
      accounts: [],
    })
    expect(await old.shared?.save([row('before')])).toEqual(new Set([0]))
    // Another group, so that nobody tells the old one; the same transactional ids.
    const rival = closes(await openTestKafka(place, { consumerGroup: `${place.group}-rival` }))
    const found = await gained(rival, 0)
    expect(found.streams.map(([, value]) => Buffer.from(value).toString())).toEqual(['before'])
    expect(await rival.shared?.save([row('after')])).toEqual(new Set([0]))
    expect(await old.shared?.save([row('late')])).toEqual(new Set())
    const { moved } = await old.read({}, { entries: 1, bytes: 1 }, AbortSignal.timeout(20_000))
    expect(moved?.lost).toEqual([0])
    // A table hears of what was committed a moment later.
    const kept = () => Buffer.from(rival.table('dpulse_state').get('c/S/d/log') ?? []).toString()
    await vi.waitFor(() => expect(kept()).toBe('after'), 30_000)
  }, 60_000)
})

describe('two aggregators in one group', () => {
  test('divide the devices, and what moves is written and counted once', async ({ skip }) => {
    if (noKafka !== undefined) skip(noKafka)
    const place = kafkaPlace()
    const path = await folder()
    const first = await startMember(await openTestKafka(place), path, log)
    onTestFinished(() => first.stop())
    const sender = testSender(place, 3)
    const session = ulid()
    const devices = Array.from({ length: 12 }, (_, index) => `dpu-${index}`)
    const expected = new Set<string>()
    let seq = 0
    const sendSome = async (): Promise<void> => {
      for (let round = 0; round < 10; round++) {
        seq++
        const some = devices.map((device) => headedBatch({ device, session, seq, count: 3 }))
        // Each comes twice, as a collector repeats what it was not told to forget.
        await sender.send(
          [...some, ...some].map((batch) => ({ ...batch, partition: partitionFor(batch.key, 3) })),
        )
        for (const device of devices) expected.add(`${device}_${session}_${device}_log_${seq}`)
      }
    }
    await sendSome()
    await eventually('the first has them', 20, () => first.writer.counters.batches >= 120)
    const second = await startMember(await openTestKafka(place), path, log)
    onTestFinished(() => second.stop())
    const both = [first, second].map(({ journal }) => journal.shared?.owned() ?? new Set())
    for (let round = 0; round < 20; round++) await sendSome()
    await eventually('the second has partitions', 20, () => (second.journal.shared?.owned().size ?? 0) > 0)
    await sendSome()
    const { accounts, streams } = booksOf(second.journal)
    const total = seq * 3
    await eventually('all are counted', 30, () =>
      devices.every((device) => {
        const key = `${device}/${session}/${device}/log`
        return accounts.get(key)?.records === total && streams.get(key)?.records === total
      }),
    )
    expect(both).toHaveLength(2)
    const own = [first, second].map(({ journal }) => [...(journal.shared?.owned() ?? [])])
    expect(own.flat().toSorted((a, b) => a - b)).toEqual([0, 1, 2])
    expect(own.every((list) => list.length >= 1)).toBe(true)
    expect(await storedIn(path)).toEqual(expected)
    for (const device of devices) {
      const key = `${device}/${session}/${device}/log`
      expect(accounts.get(key)).toMatchObject({ records: total, produced: total, lastSeq: seq })
      expect(accounts.get(key)?.acknowledged.ranges()).toEqual([[1, seq]])
    }
  }, 120_000)
})
