import { connect } from 'node:net'
import type { Socket } from 'node:net'
import type { ISocketFactory } from 'kafkajs'
import { describe, expect, onTestFinished, test } from 'vitest'
import { connectKafka } from '../../../plugins/protocols/kafka/client.ts'
import { Senders } from '../../../plugins/protocols/kafka/sender.ts'
import { systemClock } from '../../../collector/clock.ts'
import { kafkaPlace, kafkaSettings, makeTopic, noKafka, plainKafka } from '../../support/kafka.ts'
import { testContext } from '../../support/context.ts'

/** Connections that now and then break just before an answer: the broker has done what was asked, and nobody hears it. */
function lossy(): { socketFactory: ISocketFactory; lost: () => number; heal: () => void } {
  let lost = 0
  let answers = 0
  let isSick = true
  const socketFactory: ISocketFactory = ({ host, port, onConnect }) => {
    const socket: Socket = connect({ host, port }, onConnect)
    const emit = socket.emit.bind(socket)
    socket.emit = (event: string, ...rest: unknown[]): boolean => {
      if (event === 'data' && isSick && ++answers % 7 === 0) {
        lost++
        socket.destroy(new Error('lost before its answer'))
        return true
      }
      return emit(event, ...rest)
    }
    return socket
  }
  return { socketFactory, lost: () => lost, heal: () => (isSick = false) }
}

describe('Senders', () => {
  test('what they say is there is there, though answers are lost again and again', async ({ skip }) => {
    if (noKafka !== undefined) skip(noKafka)
    const place = kafkaPlace()
    const topic = `${place.prefix}any`
    await makeTopic({ topic, numPartitions: 3 })
    const { log } = testContext()
    const faults = lossy()
    const kafka = connectKafka(kafkaSettings(place, { socketFactory: faults.socketFactory }), log)
    const senders = new Senders({ kafka, log, clock: systemClock, senders: 2, messageBytes: 1_000_000 })
    onTestFinished(() => senders.close())
    const confirmed: string[] = []
    for (let round = 0; round < 40; round++) {
      // The same number of messages each time, so that a request that took the numbers of another would pass for it.
      const keys = [0, 1, 2].map((partition) => ({ partition, key: `${round}-${partition}` }))
      await senders
        .send(keys.map(({ key, partition }) => ({ topic, partition, key, value: Buffer.from(key) })))
        .then(
          () => confirmed.push(...keys.map(({ key }) => key)),
          () => undefined,
        )
    }
    faults.heal()
    expect(faults.lost()).toBeGreaterThan(5)
    expect(confirmed.length).toBeGreaterThan(60)
    const found = await keysIn(topic, confirmed)
    expect(confirmed.filter((key) => !found.has(key))).toEqual([])
  }, 120_000)
})

/** The keys in a topic, read until all of these were found or nothing came for a while. */
async function keysIn(topic: string, wanted: readonly string[]): Promise<Set<string>> {
  const found = new Set<string>()
  const consumer = plainKafka().consumer({ groupId: `${topic}-reader`, maxWaitTimeInMs: 100 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  const admin = plainKafka().admin()
  await admin.connect()
  const ends = (await admin.fetchTopicOffsets(topic)).map(({ high }) => Number(high))
  await admin.disconnect()
  const next = ends.map(() => 0)
  const done = Promise.withResolvers<void>()
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ message, partition }) => {
      found.add(message.key?.toString() ?? '')
      next[partition] = Number(message.offset) + 1
      if (next.every((at, index) => at >= (ends[index] ?? 0))) done.resolve()
    },
  })
  if (wanted.length > 0) await done.promise
  await consumer.disconnect()
  return found
}
