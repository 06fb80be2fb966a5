// The live tail of a fleet with several aggregators, on real Kafka: each hears what any of them takes in, and nobody reads
// anything while nobody listens.
import { randomBytes } from 'node:crypto'
import { expect, onTestFinished, test } from 'vitest'
import { ulid } from 'ulid'
import { openLiveFilter } from '../../../aggregator/filter.ts'
import { openLive } from '../../../aggregator/live.ts'
import { journalFeed } from '../../../aggregator/live-tail.ts'
import type { Journal } from '../../../aggregator/journal/journal.ts'
import type { LogFilter } from '../../../aggregator/query.ts'
import { systemClock } from '../../../collector/clock.ts'
import { headedBatch, kafkaPlace, logsOf, noKafka, openTestKafka, plainKafka } from '../../support/kafka.ts'
import { eventually } from '../../support/programs.ts'

async function opened(place: { prefix: string; group: string }): Promise<Journal> {
  const journal = await openTestKafka(place)
  onTestFinished(async () => journal[Symbol.asyncDispose]())
  return journal
}

/** What a listener at that aggregator is shown: device and text of each record. */
function listen(journal: Journal, filter: LogFilter = { where: [] }) {
  if (!journal.shared) throw new Error('nobody shares this journal')
  const feed = journalFeed(journal.shared, 'aggregator')
  const live = openLive({
    feed,
    filter: openLiveFilter({ rules: [] }, systemClock),
    clock: systemClock,
    rowId: ({ collector, seq }, index) => `${collector}/${seq}/${index}`,
  })
  const shown: string[] = []
  const flow = { room: () => 1000, missed: () => undefined }
  const stop = live.subscribe(
    filter,
    ({ device, body }) => shown.push(`${device} ${JSON.stringify(body)}`),
    flow,
  )
  return { shown, stop }
}

const groups = async (): Promise<string[]> => {
  const admin = plainKafka().admin()
  await admin.connect()
  const { groups: found } = await admin.listGroups()
  await admin.disconnect()
  return found.map(({ groupId }) => groupId)
}

test('every aggregator hears what any of them takes in, each record once, and what others write to Kafka', async ({
  skip,
}) => {
  if (noKafka !== undefined) skip(noKafka)
  const place = kafkaPlace()
  const [one, other] = [await opened(place), await opened(place)]
  const session = ulid()
  const batch = (device: string, seq: number) => headedBatch({ device, session, seq, count: 2 })
  const append = (journal: Journal, { topic, key, value }: ReturnType<typeof batch>) =>
    journal.append([{ topic: 'otlp_logs', key, value }], []).then(() => topic)
  const listeners = [listen(one), listen(other), listen(other, { device: ['dpu-2'], where: [] })]
  // Between two that tell when they come: nothing of what came before the tail was ready is left out.
  await append(one, batch('dpu-1', 1))
  await append(other, batch('dpu-2', 1))
  await append(one, batch('dpu-2', 1))
  // Of a header that promises records which are none.
  const { value } = batch('dpu-1', 9)
  await append(one, { topic: 'otlp_logs', key: 'dpu-1', value: Buffer.concat([value, Buffer.of(10, 99, 1)]) })
  await append(other, { topic: 'otlp_logs', key: 'dpu-3', value: logsOf('dpu-3', 1) })
  const all = ['dpu-1 "line 0"', 'dpu-1 "line 1"', 'dpu-2 "line 0"', 'dpu-2 "line 1"', 'dpu-3 "line 0"']
  await eventually(
    'all is shown',
    30,
    () => listeners[0]?.shown.length === 5 && listeners[1]?.shown.length === 5,
  )
  await append(one, batch('dpu-2', 2))
  await eventually('the last is shown', 30, () =>
    listeners.every(({ shown }, index) => shown.length >= (index < 2 ? all.length + 2 : 4)),
  )
  for (const { shown } of listeners.slice(0, 2)) {
    expect(shown.toSorted((a, b) => (a < b ? -1 : 1))).toEqual(
      [...all, 'dpu-2 "line 0"', 'dpu-2 "line 1"'].toSorted((a, b) => (a < b ? -1 : 1)),
    )
  }
  expect(listeners[2]?.shown).toEqual([
    'dpu-2 "line 0"',
    'dpu-2 "line 1"',
    'dpu-2 "line 0"',
    'dpu-2 "line 1"',
  ])
}, 90_000)

test('nobody reads the topic while nobody listens', async ({ skip }) => {
  if (noKafka !== undefined) skip(noKafka)
  const place = kafkaPlace()
  const journal = await opened(place)
  const tails = async () => (await groups()).filter((group) => group.startsWith(`${place.group}-live-`))
  expect(await tails()).toEqual([])
  const [first, second] = [listen(journal), listen(journal)]
  const batch = headedBatch({ device: 'dpu-1', session: ulid(), seq: 1, count: 1 })
  await journal.append([{ topic: 'otlp_logs', key: 'dpu-1', value: batch.value }], [])
  await eventually('both hear it', 30, () => first.shown.length === 1 && second.shown.length === 1)
  const [group] = await tails()
  expect(await tails()).toHaveLength(1)
  first.stop()
  second.stop()
  const admin = plainKafka().admin()
  await admin.connect()
  onTestFinished(() => admin.disconnect())
  await eventually('the reader has left', 30, async () => {
    const { groups: found } = await admin.describeGroups([group ?? ''])
    return found.every(({ members }) => members.length === 0)
  })
}, 90_000)

test('who falls behind goes on at the end, and is told how many were left out', async ({ skip }) => {
  if (noKafka !== undefined) skip(noKafka)
  let slowMs = 0
  const clock = { ...systemClock, elapsedMs: () => systemClock.elapsedMs() + slowMs }
  const journal = await openTestKafka(kafkaPlace(), { clock, partitions: 1 })
  onTestFinished(async () => journal[Symbol.asyncDispose]())
  const append = () =>
    journal.append(
      [{ topic: 'otlp_logs', key: 'dpu-1', value: Buffer.concat([Buffer.of(0), randomBytes(100_000)]) }],
      [],
    )
  // Nothing of it is stored, so that a tail begins with all of it.
  for (let count = 0; count < 20; count++) await append()
  const seen: number[] = []
  let missed = 0
  const stop = journal.shared?.tail({
    onEntry({ offset }) {
      seen.push(offset)
      // Each takes twenty seconds, and a fetch holds two or three of them.
      slowMs += 20_000
    },
    onMissed: (entries) => void (missed += entries),
  })
  onTestFinished(() => stop?.())
  await eventually('all are shown or left out', 60, () => seen.length > 0 && seen.length + missed === 20)
  expect(missed).toBeGreaterThan(10)
  await append()
  await eventually('the newest is shown', 30, () => seen.at(-1) === 20)
  expect(seen).toEqual([...new Set(seen)].toSorted((a, b) => a - b))
}, 120_000)
