// Windows that change hands: two aggregators on real Kafka, one of which is killed while its windows are open. Its
// readings are in what its successor makes of them, once.
import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ulid } from 'ulid'
import { describe, expect, onTestFinished, test } from 'vitest'
import { partitionFor } from '../../aggregator/journal/kafka-partition.ts'
import { accountOf } from '../../aggregator/ledger.ts'
import { Readings, encodeResource, sealBatch } from '../../plugins/contract/index.ts'
import { filterSettings } from '../../plugins/protocols/filter/index.ts'
import { brokers, kafkaPlace, noKafka, openTestKafka, testSender } from '../support/kafka.ts'
import { booksOf } from '../support/member.ts'
import { groupPartitions, startMemberProcess, storeFolder } from '../support/member-process.ts'
import { eventually } from '../support/programs.ts'
import { collectPoints } from '../support/records.ts'

const devices = Array.from({ length: 12 }, (_, index) => `dpu-${index}`)
const session = ulid()
const series = 2
const { rules } = filterSettings.parse({
  rules: [{ name: 'level', match: { name: 'test.*' }, aggregate: { interval: '2s', to: ['count'] } }],
})

function batch(device: string, seq: number) {
  const one = new Readings({
    scope: { name: 'test' },
    declared: { 'test.level': { kind: 'gauge', unit: '1' } },
    device,
    resource: encodeResource({ 'host.id': device }),
    timeUnixNano: BigInt(Date.now()) * 1_000_000n,
  })
  for (let index = 0; index < series; index++) one.add('test.level', seq, { series: index })
  const stream = { collector: device, device, session, class: 'resource' as const }
  const header = { ...stream, seq, count: series, from: 0n, to: 0n, produced: seq * series, dropped: {} }
  const { bytes } = sealBatch(
    header,
    'metrics',
    one.finish().map(({ bytes: part }) => part),
  )
  return {
    topic: 'otlp_metrics',
    key: device,
    value: bytes,
    partition: partitionFor(device, groupPartitions),
  }
}

/** What the store has: each batch once, however often and by whomever it was written. */
async function stored(folder: string): Promise<number> {
  let count = 0
  for (const file of await readdir(folder)) {
    if (!file.startsWith('filter_')) throw new Error(`${file} is no batch of a window`)
    const lines = (await readFile(join(folder, file), 'utf8')).trimEnd().split('\n')
    const [bytes, ...others] = new Set(lines.map((line) => line.split(' ')[1] ?? ''))
    if (others.length > 0) throw new Error(`${file} was written in two ways`)
    for (const { value } of collectPoints(Buffer.from(bytes ?? '', 'base64'))) count += Number(value)
  }
  return count
}

describe('windows of aggregators that share Kafka', () => {
  test('go with their partition: a kill costs no reading, and none counts twice', async ({ skip }) => {
    if (noKafka !== undefined) skip(noKafka)
    const place = kafkaPlace()
    const folder = storeFolder()
    const first = startMemberProcess(place, folder, brokers, rules)
    await eventually('the first has all', 30, () => first.owned().length === groupPartitions)
    const second = startMemberProcess(place, folder, brokers, rules)
    const sender = testSender(place, 2)
    let seq = 0
    const sendUntil = async (what: string, isSo: () => boolean) => {
      await eventually(what, 40, async () => {
        seq++
        await sender.send(devices.map((device) => batch(device, seq)))
        return isSo()
      })
    }
    await sendUntil('both have half', () => first.owned().length === 3 && second.owned().length === 3)
    const before = seq
    await sendUntil('windows are open', () => seq > before + 60)
    second.child.kill('SIGKILL')
    await sendUntil('the first has all again', () => first.owned().length === groupPartitions)
    const third = startMemberProcess(place, folder, brokers, rules)
    await sendUntil('the third has half', () => first.owned().length === 3 && third.owned().length === 3)
    const total = seq * devices.length * series
    await eventually('all windows are stored', 30, async () => (await stored(folder)) === total)

    const observer = await openTestKafka(place, { group: `${place.group}-looks` })
    onTestFinished(async () => observer[Symbol.asyncDispose]())
    const { accounts, streams } = booksOf(observer)
    const accountsOf = () =>
      [...new Set([...streams.keys(), ...[...accounts.entries()].map(([key]) => key)])].map((key) => {
        const written = streams.get(key)
        const count = written?.confirmed && { stream: key, damaged: [], ...written.confirmed }
        return accountOf(key, {
          known: accounts.get(key),
          written,
          count,
          lost: undefined,
          caughtUp: false,
          ended: false,
        })
      })
    await eventually('the account is settled', 30, () => accountsOf().every(({ inFlight }) => inFlight === 0))
    const books = accountsOf()
    expect(books).toHaveLength(2 * devices.length)
    expect(books.every(({ balanced, unknown }) => balanced && unknown === 0)).toBe(true)
    const dropped = books.reduce((sum, account) => sum + (account.dropped.aggregated ?? 0), 0)
    expect(dropped).toBe(total)
    expect(await stored(folder)).toBe(total)
  }, 120_000)
})
