// The MQTT source on a real broker of the test's own (Aedes), with a publisher beside it.
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { zstdCompressSync } from 'node:zlib'
import { Aedes } from 'aedes'
import type { MqttClient } from 'mqtt'
import { connectAsync } from 'mqtt'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import type * as z from 'zod'
import { RetryableError } from '../../../plugins/contract/errors.ts'
import type { Emit, Records } from '../../../plugins/contract/index.ts'
import mqtt from '../../../plugins/sources/mqtt.ts'
import { realClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { collectLogs, collectPoints, sampleLogs } from '../../support/records.ts'

type Config = z.input<typeof mqtt.config>

let url = ''
let broker: Aedes
let publisher: MqttClient
const server = createServer()

beforeAll(async () => {
  broker = await Aedes.createBroker()
  server.on('connection', (socket) => broker.handle(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  url = `mqtt://127.0.0.1:${port}`
  publisher = await connectAsync({ host: '127.0.0.1', port })
})

afterAll(async () => {
  await publisher.endAsync(true)
  await new Promise<void>((resolve) => {
    broker.close(() => resolve())
  })
  server.close()
})

conformsToSource(mqtt, () => ({ urls: [url], topics: ['conformance/#'] }), {
  outstanding: 64,
  context: () => ({ clock: realClock, id: `conformance-${crypto.randomUUID()}` }),
  provoke: async ({ context }) => {
    await context.whenReady
    await publisher.publishAsync('conformance/fan', '{"rpm":4200}', { qos: 1 })
  },
})

async function start(config: Partial<Config> = {}, emit?: Emit, id: string = crypto.randomUUID()) {
  const context = testContext({ clock: realClock, id })
  const received: Records[] = []
  const controller = new AbortController()
  const source = mqtt.create(mqtt.config.parse({ urls: [url], topics: ['local/#'], ...config }), context)
  const running = source.run(emit ?? (async (records) => void received.push(records)), controller.signal)
  const stop = async (): Promise<void> => {
    controller.abort()
    await running
  }
  onTestFinished(stop)
  await context.whenReady
  const of = (signal: string): Records[] => received.filter((one) => one.signal === signal)
  return {
    context,
    received,
    stop,
    points: () => collectPoints(of('metrics')),
    logs: () => collectLogs(of('logs')),
  }
}

const publish = (topic: string, payload: string | Buffer, retain = false) =>
  publisher.publishAsync(topic, payload, { qos: 1, retain })

describe('the mqtt source', () => {
  test('makes points of JSON, named by where the numbers stand, and of a bare number by its topic', async () => {
    const { points } = await start({ name: 'rack' })
    await publish('local/psu', '{"volts":12.1,"fan":{"rpm":4200},"slot":"a"}')
    await publish('local/rack1/temperature', '21.5')
    await vi.waitFor(() => expect(points()).toHaveLength(3))
    expect(points()).toMatchObject([
      {
        name: 'rack.volts',
        value: 12.1,
        attributes: { slot: 'a', 'messaging.destination.name': 'local/psu' },
      },
      { name: 'rack.fan.rpm', value: 4200 },
      { name: 'rack.temperature', value: 21.5 },
    ])
  })

  test('makes log records of JSON with a message, and of text', async () => {
    const json = await start()
    await publish('local/app', '{"msg":"started","level":"warn","pid":7}')
    await vi.waitFor(() =>
      expect(json.logs()).toMatchObject([{ body: 'started', severityNumber: 13, attributes: { pid: 7 } }]),
    )
    const text = await start({ topics: ['lines'], format: 'text' })
    await publish('lines', 'one\ntwo\n')
    await vi.waitFor(() => expect(text.logs().map(({ body }) => body)).toEqual(['one', 'two']))
  })

  test('takes OTLP as JSON and as protobuf, compressed or not, and line protocol', async () => {
    const json = await start()
    await publish(
      'local/x',
      '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"json"}}]}]}]}',
    )
    await vi.waitFor(() => expect(json.logs().map(({ body }) => body)).toEqual(['json']))
    const proto = await start({ topics: ['proto'], format: 'otlp', signal: 'logs' })
    await publish('proto', Buffer.from(sampleLogs([{ body: 'bare' }]).bytes))
    await publish('proto', zstdCompressSync(sampleLogs([{ body: 'packed' }]).bytes))
    await vi.waitFor(() => expect(proto.logs().map(({ body }) => body)).toEqual(['bare', 'packed']))
    const lines = await start({ topics: ['lp'], format: 'line_protocol' })
    await publish('lp', 'a,b=c d=1i 1700000000000000000')
    await vi.waitFor(() => expect(lines.points()).toMatchObject([{ name: 'a_d', value: 1n }]))
  })

  test('a message is answered when its records are safe; until then it comes again', async () => {
    const seen = Promise.withResolvers<void>()
    const first = await start(
      { topics: ['kept'] },
      () => {
        seen.resolve()
        return Promise.reject(new RetryableError('STOPPING', 'the collector stops'))
      },
      'kept-source',
    )
    await publish('kept', '{"v":1}')
    await seen.promise
    await first.stop()
    await publish('kept', '{"v":2}')
    const second = await start({ topics: ['kept'] }, undefined, 'kept-source')
    await vi.waitFor(() => expect(second.points().map(({ value }) => value)).toEqual([1, 2]))
    await second.stop()
    const third = await start({ topics: ['kept'] }, undefined, 'kept-source')
    await publish('kept', '{"v":3}')
    await vi.waitFor(() => expect(third.points().map(({ value }) => value)).toEqual([3]))
  })

  test('one message does not wait until another one is safe', async () => {
    const held = Promise.withResolvers<void>()
    const taken: Records[] = []
    await start({ topics: ['many'] }, (records) => {
      taken.push(records)
      return taken.length === 1 ? held.promise : Promise.resolve()
    })
    for (let index = 0; index < 20; index++) await publish('many', `{"v":${index}}`)
    await vi.waitFor(() => expect(taken).toHaveLength(20))
    held.resolve()
  })

  test('what was retained is taken only where it is wanted', async () => {
    await publish('old/state', '{"v":1}', true)
    const without = await start({ topics: ['old/#'] })
    const wanting = await start({ topics: ['old/#'], retained: true })
    await vi.waitFor(() => expect(wanting.points().map(({ value }) => value)).toEqual([1]))
    await publish('old/state', '{"v":2}')
    await vi.waitFor(() => expect(without.points().map(({ value }) => value)).toEqual([2]))
    await publish('old/state', '', true)
  })

  test('a bad message is counted with its reason, and the next one is taken', async () => {
    const { context, points } = await start({ topics: ['bad'], max_message: '1KiB' })
    await publish('bad', '{broken')
    await publish('bad', `{"message":"${'x'.repeat(2000)}"}`)
    await publish('bad', '{"v":1}')
    await vi.waitFor(() => expect(points()).toHaveLength(1))
    expect(context.drops).toEqual([
      { class: 'log', reason: 'invalid', count: 1 },
      { class: 'log', reason: 'invalid', count: 1 },
    ])
    expect(context.logged.map(({ fields }) => String(fields.reason))).toEqual([
      expect.stringContaining('{broken'),
      expect.stringContaining('more than the 1024 that are allowed'),
    ])
  })
})
