// Closing the books of silent streams where several aggregators share the journal: the owner of a partition does it, all
// hear of it, and nobody who comes later finds them.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { ulid } from 'ulid'
import { forgetOnce, sharedBooks } from '../../../aggregator/forgetting.ts'
import { partitionFor } from '../../../aggregator/journal/kafka-partition.ts'
import { settingsOf } from '../../../aggregator/store/settings.ts'
import { systemClock } from '../../../collector/clock.ts'
import type { Clock } from '../../../plugins/contract/define.ts'
import { testContext } from '../../support/context.ts'
import { headedBatch, kafkaPlace, logsOf, noKafka, openTestKafka, testSender } from '../../support/kafka.ts'
import { booksOf, folderStore, startMember } from '../../support/member.ts'
import type { Member } from '../../support/member.ts'
import { eventually } from '../../support/programs.ts'

const { log } = testContext()
const { retentionMs } = settingsOf({})
const dayNano = 86_400n * 1_000_000_000n

test('a silent stream is forgotten by its owner once its retention is over, in both books and for everybody', async ({
  skip,
}) => {
  if (noKafka !== undefined) skip(noKafka)
  const place = kafkaPlace()
  const folder = mkdtempSync(join(tmpdir(), 'dpulse-forgetting-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const start = async () => startMember(await openTestKafka(place), folder, log)
  const members = [await start(), await start()]
  onTestFinished(async () => {
    for (const member of members) await member.stop()
  })
  await eventually('all partitions have owners', 40, () =>
    members.every(({ journal }) => (journal.shared?.owned().size ?? 0) > 0),
  )
  const sender = testSender(place)
  const send = (messages: readonly { topic: string; key: string; value: Uint8Array }[]) =>
    sender.send(messages.map((message) => ({ ...message, partition: partitionFor(message.key, 3) })))
  const session = ulid()
  const devices = Array.from({ length: 12 }, (_, index) => `dpu-${index}`)
  for (const device of devices) {
    await send([1, 2].map((seq) => headedBatch({ device, session, seq, count: 3 })))
  }
  await send([{ topic: 'otlp_logs', key: 'dpu-x', value: logsOf('dpu-x', 4) }])
  const known = (member: Member) => {
    const { accounts, streams } = booksOf(member.journal)
    return [accounts.size, streams.size]
  }
  const all = devices.length + 1
  const bothKnow = (count: number) =>
    eventually(`both know ${count} streams`, 40, () =>
      members.every((member) => known(member).every((found) => found === count)),
    )
  await bothKnow(all)

  const store = await folderStore(folder)
  const forget = async ({ handover, writer, journal }: Member, days: bigint) => {
    const clock: Clock = { ...systemClock, nowUnixNano: () => systemClock.nowUnixNano() + days * dayNano }
    const books = sharedBooks(handover, booksOf(journal).accounts, false)
    return forgetOnce({ books, writer, store, retentionMs, clock, log })
  }
  const [one, other] = members
  if (!one || !other) throw new Error('no members')
  expect([await forget(one, 8n), await forget(other, 8n)]).toEqual([0, 0])
  const first = await forget(one, 10n)
  expect(first).toBeGreaterThan(0)
  expect(first).toBeLessThan(all)
  await bothKnow(all - first)
  expect(await forget(other, 10n)).toBe(all - first)
  await bothKnow(0)
  expect([one.writer.streams.size, other.writer.streams.size]).toEqual([0, 0])

  // The next owner knows nothing of them, and to it what speaks again is new, its numbers too.
  await other.stop()
  members.pop()
  await eventually('the first has all', 40, () => one.journal.shared?.owned().size === 3)
  for (const device of devices) await send([headedBatch({ device, session, seq: 1, count: 3 })])
  await send([{ topic: 'otlp_logs', key: 'dpu-x', value: logsOf('dpu-x', 4) }])
  await eventually('all speak again', 40, () => known(one).every((found) => found === all))
  for (const [, { lastSeq, records }] of booksOf(one.journal).accounts.entries()) {
    expect([lastSeq, [3, 4].includes(records)]).toEqual([1, true])
  }
}, 120_000)
