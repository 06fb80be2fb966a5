// What goes over the wire to a real Kafka and comes from it: how batches are sent, and that a reader whose writer is
// held up lets the rest wait in Kafka, says how much that is, and loses nothing of it.
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import type { ISocketFactory } from 'kafkajs'
import { expect, onTestFinished, test } from 'vitest'
import type { Journal } from '../../../aggregator/journal/journal.ts'
import { kafkaPlace, noKafka, openTestKafka, plainKafka, testSender } from '../../support/kafka.ts'
import { readSome } from '../../support/journal.ts'
import { eventually } from '../../support/programs.ts'

const MiB = 1024 * 1024

/** Connections whose bytes are counted as they come, and kept as they go. */
function overheard() {
  let received = 0
  const sent: Buffer[] = []
  const socketFactory: ISocketFactory = ({ host, port, onConnect }) => {
    const socket = connect({ host, port }, onConnect)
    socket.on('data', (chunk) => void (received += chunk.length))
    const write = socket.write.bind(socket)
    socket.write = (chunk: Buffer, ...rest: []) => {
      sent.push(Buffer.from(chunk))
      return write(chunk, ...rest)
    }
    return socket
  }
  return { socketFactory, received: () => received, sent }
}

/** Of each Produce request (key 0, version 3 or later): what it asks for, and how its first record batch is made. */
function producedIn(requests: readonly Buffer[]) {
  return requests.flatMap((request) => {
    if (request.length < 12 || request.readInt16BE(4) !== 0) return []
    expect(request.readInt16BE(6)).toBeGreaterThanOrEqual(3)
    let at = 12
    const text = () => {
      const length = Math.max(0, request.readInt16BE(at))
      at += 2 + length
      return request.toString('utf8', at - length, at)
    }
    text() // client id
    text() // transactional id
    const acks = request.readInt16BE(at)
    at += 2 + 4 + 4 // timeout, number of topics
    const topic = text()
    at += 4 + 4 + 4 // number of partitions, the first one, bytes of its record batch
    const magic = request.readInt8(at + 16)
    const compression = request.readInt16BE(at + 21) & 7
    const producerId = request.readBigInt64BE(at + 43)
    return [{ topic, acks, magic, compression, producerId }]
  })
}

async function opened(place: { prefix: string; group: string }, options = {}): Promise<Journal> {
  const journal = await openTestKafka(place, { partitions: 1, ...options })
  onTestFinished(async () => journal[Symbol.asyncDispose]())
  return journal
}

test('batches go with the device as key, to all replicas, numbered by an idempotent producer, in zstd', async ({
  skip,
}) => {
  if (noKafka !== undefined) skip(noKafka)
  const place = kafkaPlace()
  const wire = overheard()
  const journal = await opened(place, { socketFactory: wire.socketFactory })
  wire.sent.length = 0
  const value = Buffer.alloc(100_000, 'what compresses well ')
  await journal.append(
    [1, 2, 3].map((number) => ({ topic: 'otlp_logs', key: `dpu-${number}`, value })),
    [],
  )
  const requests = producedIn(wire.sent).filter(({ topic }) => topic === `${place.prefix}otlp_logs`)
  expect(requests.length).toBeGreaterThan(0)
  for (const request of requests) {
    expect(request).toMatchObject({ acks: -1, magic: 2, compression: 4 })
    expect(request.producerId).toBeGreaterThanOrEqual(0n)
  }
  expect(wire.sent.reduce((sum, { length }) => sum + length, 0)).toBeLessThan(value.length / 10)
  const keys: string[] = []
  const consumer = plainKafka().consumer({ groupId: `${place.group}-keys` })
  await consumer.connect()
  onTestFinished(() => consumer.disconnect())
  await consumer.subscribe({ topics: [`${place.prefix}otlp_logs`], fromBeginning: true })
  await consumer.run({ eachMessage: async ({ message }) => void keys.push(String(message.key)) })
  await eventually('all three come', 20, () => keys.length === 3)
  expect(keys).toEqual(['dpu-1', 'dpu-2', 'dpu-3'])
}, 60_000)

test('while nothing is taken from it a reader stops fetching, tells its lag, and then gives all of it once', async ({
  skip,
}) => {
  if (noKafka !== undefined) skip(noKafka)
  const place = kafkaPlace()
  const wire = overheard()
  const journal = await opened(place, { socketFactory: wire.socketFactory })
  const lag = () => journal.shared?.lag().get('otlp_logs')
  const { moved } = await journal.read({}, { entries: 1, bytes: 1 }, AbortSignal.timeout(20_000))
  let position = moved?.gained[0]?.position ?? {}
  const count = 48
  const sender = testSender(place)
  const before = wire.received()
  for (let number = 0; number < count; number++) {
    // What does not compress, so that bytes on the wire tell what was fetched.
    const value = Buffer.concat([Buffer.of(number), randomBytes(MiB / 2)])
    await sender.send([{ topic: 'otlp_logs', partition: 0, key: 'dpu-1', value }])
  }
  await eventually('the lag is told', 30, () => lag() === count)
  await eventually('a good deal was fetched', 30, () => wire.received() - before > 7 * MiB)
  // Its connection is alive: it hears of what comes, and fetches none of it.
  await sender.send([{ topic: 'otlp_logs', partition: 0, key: 'dpu-1', value: Buffer.of(count) }])
  await eventually('the newest is heard of', 30, () => lag() === count + 1)
  expect(wire.received() - before).toBeLessThan(14 * MiB)
  const numbers: (number | undefined)[] = []
  while (numbers.length < count + 1) {
    const { entries, next } = await readSome(journal, position, { entries: 10, bytes: 4 * MiB })
    numbers.push(...entries.map(({ value }) => value[0]))
    position = next
  }
  expect(numbers).toEqual(Array.from({ length: count + 1 }, (_, number) => number))
  expect(lag()).toBe(0)
}, 90_000)
