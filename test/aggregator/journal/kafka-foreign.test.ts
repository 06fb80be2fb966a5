import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { parseStreamKey } from '../../../plugins/contract/batch.ts'
import { booksOf, startMember, storedIn } from '../../support/member.ts'
import type { Member } from '../../support/member.ts'
import { ulid } from 'ulid'
import { headedBatch, kafkaPlace, logsOf, noKafka, openTestKafka, plainKafka } from '../../support/kafka.ts'
import { eventually } from '../../support/programs.ts'
import { testContext } from '../../support/context.ts'

const { log } = testContext()

describe('records that others wrote to Kafka', () => {
  test('form a stream of their sender or partition, which goes on with the next owner', async ({ skip }) => {
    if (noKafka !== undefined) skip(noKafka)
    const place = kafkaPlace()
    const path = await mkdtemp(join(tmpdir(), 'dpulse-foreign-'))
    onTestFinished(async () => rm(path, { recursive: true, force: true }))
    let member: Member = await startMember(await openTestKafka(place), path, log)
    onTestFinished(() => member.stop())
    const producer = plainKafka().producer()
    await producer.connect()
    onTestFinished(() => producer.disconnect())
    const topic = `${place.prefix}otlp_logs`
    const write = (messages: { key?: string; value: Buffer; partition: number }[]) =>
      producer.send({ topic, messages })
    const foreign = (device: string, count: number) => Buffer.from(logsOf(device, count))

    await write([
      { value: foreign('dpu-a', 3), partition: 0 },
      // Two devices in one message.
      { value: Buffer.concat([foreign('dpu-a', 2), foreign('dpu-b', 4)]), partition: 0 },
      { key: 'edge-1', value: foreign('dpu-c', 5), partition: 1 },
      { key: '\u0001 no name', value: foreign('dpu-d', 1), partition: 2 },
      { value: Buffer.from('this is no OTLP'), partition: 2 },
    ])
    await eventually('all were taken', 20, () => member.writer.counters.records >= 15)
    const taken = (books: ReturnType<typeof booksOf>): Record<string, unknown> =>
      Object.fromEntries(
        [...books.accounts.entries()].map(([key, { records, produced, dropped, lastSeq }]) => {
          const { collector, device } = parseStreamKey(key)
          return [`${collector} ${device}`, { records, produced, dropped, lastSeq }]
        }),
      )
    const expected = {
      'kafka-otlp-logs-0 dpu-a': { records: 5, produced: 5, dropped: {}, lastSeq: 2 },
      'kafka-otlp-logs-0 dpu-b': { records: 4, produced: 4, dropped: {}, lastSeq: 1 },
      'edge-1 dpu-c': { records: 5, produced: 5, dropped: {}, lastSeq: 1 },
      'kafka-otlp-logs-2 dpu-d': { records: 1, produced: 1, dropped: {}, lastSeq: 1 },
      'kafka-otlp-logs-2 aggregator': { records: 0, produced: 1, dropped: { invalid: 1 }, lastSeq: 1 },
    }
    const first = booksOf(member.journal)
    await eventually('the books have them', 20, () => Object.keys(taken(first)).length === 5)
    expect(taken(first)).toEqual(expected)

    await member.stop()
    member = await startMember(await openTestKafka(place), path, log)
    await write([{ value: foreign('dpu-a', 7), partition: 0 }])
    await eventually('the next owner has it', 20, () => member.writer.counters.records >= 7)
    const second = booksOf(member.journal)
    const goneOn = { records: 12, produced: 12, dropped: {}, lastSeq: 3 }
    await eventually('the books have it', 20, () =>
      [...second.accounts.entries()].some(([, { records }]) => records === 12),
    )
    expect(taken(second)).toEqual({ ...expected, 'kafka-otlp-logs-0 dpu-a': goneOn })
    expect((await storedIn(path)).size).toBe(6)
  }, 90_000)

  test('a header is not believed in a partition where its device does not belong', async ({ skip }) => {
    if (noKafka !== undefined) skip(noKafka)
    const place = kafkaPlace()
    const path = await mkdtemp(join(tmpdir(), 'dpulse-foreign-'))
    onTestFinished(async () => rm(path, { recursive: true, force: true }))
    const member = await startMember(await openTestKafka(place), path, log)
    onTestFinished(() => member.stop())
    const device = 'dpu-1'
    const wrong = ((member.journal.shared?.partitionOf(device) ?? 0) + 1) % 3
    const { value } = headedBatch({ device, session: ulid(), seq: 5, count: 2 })
    const producer = plainKafka().producer()
    await producer.connect()
    onTestFinished(() => producer.disconnect())
    await producer.send({
      topic: `${place.prefix}otlp_logs`,
      messages: [{ key: device, value: Buffer.from(value), partition: wrong }],
    })
    await eventually('it was taken', 20, () => member.writer.counters.records >= 2)
    expect(
      [...member.handover.accounts.entries()].map(([, { lastSeq, records }]) => [lastSeq, records]),
    ).toEqual([[1, 2]])
  }, 60_000)
})
