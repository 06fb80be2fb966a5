import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { connectAsync } from 'mqtt'
import type { IPublishPacket, MqttClient } from 'mqtt'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { ledgerOf, topOf } from '../../collector/api.ts'
import { systemClock } from '../../collector/clock.ts'
import { parseConfig } from '../../collector/config.ts'
import { Logger } from '../../collector/logger.ts'
import { Runtime } from '../../collector/runtime.ts'
import type { Batch, Emit } from '../../plugins/contract/index.ts'
import otlp from '../../plugins/exporters/otlp.ts'
import { collectLogs } from '../support/records.ts'
import { driven, identity, memory, odd } from './fixtures.ts'
import { fresh, idsOf, idsOfBatches, recordsOf } from './records.ts'

const flow = `
sources: { a: { type: driven } }
processors: { odds: { type: odd } }
exporters: { x: { type: memory } }
pipelines: { p: { sources: [a], processors: [odds], exporters: [x] } }
`
const broker = 'type: mqtt, listen: ["127.0.0.1:0"]'

async function start(subscribers: string) {
  const emits = new Map<string, Emit>()
  const taken = new Map<string, Batch[]>()
  const definitions = [driven(emits), memory(taken), odd, otlp]
  const logger = new Logger({ write: () => undefined })
  const runtime = new Runtime({ identity, log: undefined, clock: systemClock, logger, disk: 0 })
  const apply = async (text: string) => {
    const written = `${flow}subscribers: ${text}\n`
    const { config, problems } = await parseConfig(written, '/c.yaml', definitions)
    if (!config) throw new Error(JSON.stringify(problems))
    await runtime.apply(config)
  }
  await apply(subscribers)
  await vi.waitFor(() => expect(runtime.isReady).toBe(true), { interval: 5, timeout: 30_000 })
  const emit = (ids: readonly number[], pad = 0): Promise<void> => {
    const given = emits.get('a')
    if (!given) throw new Error('the source does not run')
    return given(recordsOf(ids, { pad }))
  }
  const addressOf = (id: string): Promise<string> =>
    vi.waitFor(() => {
      const unit = runtime.subscribers.units.find(({ component }) => component.id === id)
      expect(unit?.supervised.state).toBe('running')
      return unit?.supervised.address ?? ''
    }, 30_000)
  return {
    runtime,
    taken,
    apply,
    emit,
    addressOf,
    meter: (id: string) => {
      const found = topOf(runtime).components.find((one) => one.kind === 'subscriber' && one.id === id)
      if (!found) throw new Error(`${id} is not measured`)
      return found
    },
    [Symbol.asyncDispose]: () => runtime.stop(),
  }
}

interface Heard {
  topic: string
  payload: Buffer
}

async function reader(address: string, ...topics: string[]) {
  const client: MqttClient = await connectAsync(address, { reconnectPeriod: 0 })
  onTestFinished(() => void client.end(true))
  const heard: Heard[] = []
  client.on('message', (topic, payload, _packet: IPublishPacket) => heard.push({ topic, payload }))
  await client.subscribeAsync(topics)
  return { client, heard }
}

/** A peer that answers as it is told; what it was given. */
async function peer(answer: (response: ServerResponse) => void) {
  const given: { path: string; body: Buffer }[] = []
  const server = createServer((request: IncomingMessage, response) => {
    void buffer(request).then((body) => {
      given.push({ path: request.url ?? '', body })
      response.setHeader('Content-Type', 'application/x-protobuf')
      answer(response)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return { given, endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

const accept = (response: ServerResponse): void => void response.end()
const eventsOf = (bodies: readonly Buffer[]) =>
  collectLogs(bodies).filter(({ eventName }) => eventName === 'dpulse.subscriber.missed')

describe("the collector's broker", () => {
  test('gives readers what sources hand over, as protobuf and as JSON, by class and signal', async () => {
    await using it = await start(`{ bus: { ${broker} } }`)
    const address = await it.addressOf('bus')
    const bytes = await reader(address, 'dpulse/local/otlp/log/#')
    const json = await reader(address, 'dpulse/local/json/+/logs')
    const other = await reader(address, 'dpulse/local/json/environment/#')
    const ids = fresh(4)
    await it.emit(ids)
    await vi.waitFor(() => expect([bytes.heard.length, json.heard.length]).toEqual([1, 1]), 30_000)
    expect(bytes.heard[0]?.topic).toBe('dpulse/local/otlp/log/logs')
    expect(idsOf(bytes.heard[0]?.payload ?? Buffer.of())).toEqual(ids)
    const { resourceLogs } = JSON.parse(String(json.heard[0]?.payload)) as { resourceLogs: object[] }
    expect(resourceLogs).toMatchObject([
      { scopeLogs: [{ logRecords: ids.map((id) => ({ body: { stringValue: `${id}` } })) }] },
    ])
    expect(other.heard).toEqual([])
  })

  test('costs nothing while nobody reads, and is in no account', async () => {
    await using it = await start(`{ bus: { ${broker} } }`)
    const other = await reader(await it.addressOf('bus'), 'dpulse/local/otlp/event/#')
    await it.emit(fresh(3))
    expect(it.meter('bus')).toMatchObject({ in: 0, out: 0, missed: 0 })
    expect(other.heard).toEqual([])
    expect(ledgerOf(it.runtime).streams.map(({ exporter }) => exporter)).toEqual(['x'])
  })

  test('ends the connection of one that publishes, and leaves no will behind', async () => {
    await using it = await start(`{ bus: { ${broker} } }`)
    const address = await it.addressOf('bus')
    const { heard } = await reader(address, '#')
    const will = {
      topic: 'dpulse/local/otlp/log/logs',
      payload: Buffer.from('x'),
      qos: 0 as const,
      retain: false,
    }
    const client = await connectAsync(address, { reconnectPeriod: 0, will })
    const closed = new Promise<void>((resolve) => client.once('close', () => resolve()))
    client.publish('dpulse/local/otlp/log/logs', 'forged')
    await closed
    const ids = fresh(1)
    await it.emit(ids)
    await vi.waitFor(() => expect(heard.length).toBeGreaterThan(0), 30_000)
    expect(
      heard.filter(({ topic }) => topic.includes('/otlp/')).flatMap(({ payload }) => idsOf(payload)),
    ).toEqual(ids)
  })

  test('answers on a Unix socket alone', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'dpulse-local-'))
    onTestFinished(() => rm(directory, { recursive: true }))
    await using it = await start(`{ bus: { type: mqtt, listen: [], unix: ${directory}/mqtt } }`)
    expect(await it.addressOf('bus')).toBe(`${directory}/mqtt`)
    const socket = connect(`${directory}/mqtt`)
    onTestFinished(() => void socket.destroy())
    socket.write(connectPacket)
    const [answer] = (await once(socket, 'data')) as [Buffer]
    expect(answer.toString('hex')).toBe('20020000')
  })

  test('lets a reader that does not read miss records, tells it how many, and makes nobody else wait', async () => {
    await using it = await start(`{ bus: { ${broker}, unread: 256KiB } }`)
    const address = new URL(await it.addressOf('bus'))
    const stuck = connect(Number(address.port), address.hostname)
    onTestFinished(() => void stuck.destroy())
    stuck.write(Buffer.concat([connectPacket, subscribePacket('dpulse/local/otlp/log/logs')]))
    await once(stuck, 'readable') // and then it reads no more
    const sound = await reader(address.href, 'dpulse/local/otlp/log/logs')
    const before = heldMemory()
    let last = fresh(1)
    let toldSound = 0
    /** Nothing of what it heard is kept: the memory shall be that of the broker. */
    const isHeard = () => {
      const heard = sound.heard.splice(0)
      for (const { topic, payload } of heard)
        if (topic === 'dpulse/local/missed') toldSound += missedOf(payload)
      return heard.some(({ payload }) => payload.includes(`${last.at(-1)} `))
    }
    for (let round = 0; round < 30; round++) {
      const some = Array.from({ length: 20 }, () => fresh(10))
      last = some.at(-1) ?? []
      await Promise.all(some.map((ids) => it.emit(ids, 10_000)))
      it.taken.clear()
      await vi.waitFor(() => expect(isHeard()).toBe(true), { timeout: 30_000, interval: 2 })
    }
    const missed = it.meter('bus').missed
    expect(missed).toBeGreaterThan(1000)
    // 60 MB passed; what the stuck one holds is bounded.
    await vi.waitFor(() => expect(heldMemory() - before).toBeLessThan(16e6), {
      timeout: 10_000,
      interval: 100,
    })
    expect(ledgerOf(it.runtime)).toMatchObject({ balanced: true, inFlight: 0 })
    let said = ''
    stuck.setEncoding('latin1')
    stuck.on('data', (text: string) => (said = (said + text).slice(-400_000)))
    await vi.waitFor(() => expect(said).toContain('dpulse/local/missed'), { timeout: 30_000, interval: 20 })
    const told = Number(/dpulse\/local\/missed\{"missed":(\d+)\}/.exec(said)?.[1])
    expect(told + toldSound).toBe(missed)
  })
})

const missedOf = (payload: Buffer): number => (JSON.parse(String(payload)) as { missed: number }).missed

/** Bytes outside the heap that are in use; the collector of garbage tells of some a moment later. */
function heldMemory(): number {
  setFlagsFromString('--expose-gc')
  ;(runInNewContext('gc') as () => void)()
  return process.memoryUsage().external
}

/** MQTT 3.1.1 §3.1: a clean session, no keep-alive, the client id `stuck`. */
const connectPacket = Buffer.concat([
  Buffer.of(0x10, 17, 0, 4),
  Buffer.from('MQTT'),
  Buffer.of(4, 2, 0, 0, 0, 5),
  Buffer.from('stuck'),
])
function subscribePacket(topic: string): Buffer {
  const body = Buffer.concat([Buffer.of(0, 1, 0, topic.length), Buffer.from(topic), Buffer.of(0)])
  return Buffer.concat([Buffer.of(0x82, body.length), body])
}

describe('a subscriber to which records are pushed', () => {
  test('gets what comes together in one request, or what a pipeline leaves of it', async () => {
    const raw = await peer(accept)
    const filtered = await peer(accept)
    await using it = await start(`
  all: { type: otlp, endpoint: "${raw.endpoint}", compression: none }
  odds: { type: otlp, endpoint: "${filtered.endpoint}", compression: none, pipelines: [p], classes: [log] }
  errors: { type: memory, classes: [log_error] }`)
    await Promise.all(['all', 'odds', 'errors'].map((id) => it.addressOf(id)))
    const ids = fresh(6)
    await Promise.all([it.emit(ids.slice(0, 3)), it.emit(ids.slice(3))])
    await vi.waitFor(() => expect([raw.given.length, filtered.given.length]).toEqual([1, 1]), 30_000)
    expect(raw.given[0]?.path).toBe('/v1/logs')
    expect(idsOf(raw.given[0]?.body ?? Buffer.of())).toEqual(ids)
    expect(idsOf(filtered.given[0]?.body ?? Buffer.of())).toEqual(ids.filter((id) => id % 2 === 1))
    expect(it.meter('errors').in).toBe(0)
    // Counted when the answer is back.
    await vi.waitFor(() => expect(it.meter('all')).toMatchObject({ in: 6, out: 6, missed: 0 }), 30_000)
  })

  test('that does not answer keeps nobody waiting; it gets the newest, and is told what it missed', async () => {
    const held: ServerResponse[] = []
    let isStuck = true
    const slow = await peer((response) => {
      if (isStuck) held.push(response)
      else accept(response)
    })
    const endpoint = `endpoint: "${slow.endpoint}", compression: none, timeout: 60s`
    await using it = await start(
      `{ app: { type: otlp, ${endpoint}, queue: { memory: 256KiB, timeout: 60s } } }`,
    )
    await it.addressOf('app')
    const first = fresh(1)
    await it.emit(first)
    await vi.waitFor(() => expect(held).toHaveLength(1), 30_000)
    const ids: number[] = []
    for (let round = 0; round < 10; round++) {
      const some = Array.from({ length: 20 }, () => fresh(10))
      ids.push(...some.flat())
      await Promise.all(some.map((each) => it.emit(each, 1000)))
    }
    expect(idsOfBatches(it.taken.get('x') ?? [])).toEqual([...first, ...ids].filter((id) => id % 2 === 1))
    const { missed } = it.meter('app')
    expect(missed).toBeGreaterThan(1000)
    isStuck = false
    for (const response of held) accept(response)
    await vi.waitFor(() => expect(it.meter('app').out + missed).toBe(2001), 30_000)
    const bodies = slow.given.map(({ body }) => body)
    const [told] = eventsOf(bodies)
    expect(told?.attributes).toEqual({ 'dpulse.component': 'app', 'dpulse.records.missed': missed })
    const got = bodies.flatMap(idsOf).filter((id) => !Number.isNaN(id))
    // What was under way when it took too long comes again.
    expect([...new Set(got)]).toEqual([...first, ...ids.slice(missed)])
  })

  test('that is away gets the newest when it is there; one that refuses misses it', async () => {
    let status = 503
    const away = await peer((response) => {
      response.statusCode = status
      accept(response)
    })
    const endpoint = `endpoint: "${away.endpoint}", compression: none`
    await using it = await start(`{ app: { type: otlp, ${endpoint} } }`)
    await it.addressOf('app')
    const ids = fresh(2)
    await it.emit(ids)
    await vi.waitFor(() => expect(away.given.length).toBeGreaterThan(0), 30_000)
    status = 200
    await vi.waitFor(() => expect(it.meter('app').out).toBe(2), 30_000)
    status = 400
    await it.emit(fresh(5))
    await vi.waitFor(() => expect(it.meter('app').missed).toBe(5), 30_000)
    status = 200
    await it.emit(fresh(1))
    await vi.waitFor(
      () => expect(eventsOf(away.given.map(({ body }) => body)).length).toBeGreaterThan(0),
      30_000,
    )
    expect(ledgerOf(it.runtime)).toMatchObject({ balanced: true, dropped: { filter: expect.any(Number) } })
  })

  test('comes, goes and changes alone with a new configuration', async () => {
    await using it = await start('{ one: { type: memory }, two: { type: memory } }')
    await Promise.all([it.addressOf('one'), it.addressOf('two')])
    const [one, two] = it.runtime.subscribers.units
    await it.apply('{ one: { type: memory }, two: { type: memory, tag: other }, three: { type: memory } }')
    expect(it.runtime.subscribers.units.map((unit) => unit === one || unit === two)).toEqual([
      true,
      false,
      false,
    ])
    await it.apply('{ three: { type: memory } }')
    const ids = fresh(2)
    await it.addressOf('three')
    await it.emit(ids)
    await vi.waitFor(() => expect(idsOfBatches(it.taken.get('three') ?? [])).toEqual(ids), 30_000)
    expect(it.taken.get('one')).toBeUndefined()
  })
})

describe('a configuration of subscribers', () => {
  test.each([
    ['bus: { type: mqtt, listen: ["0.0.0.0:1884"] }', 'subscribers.bus.listen.0', 'loopback'],
    ['bus: { type: mqtt, root: a/b }', 'subscribers.bus.root', 'one level'],
    ['app: { type: memory, pipelines: [q] }', 'subscribers.app.pipelines.0', 'there is no pipeline q'],
    ['app: { type: memory, classes: [loud] }', 'subscribers.app.classes.0', 'Invalid option'],
    ['app: { type: memory, queue: { memory: 1KiB } }', 'subscribers.app.queue.memory', 'at least 64KiB'],
    ['app: { type: memory, buffer: { disk: 1GiB } }', 'subscribers.app.buffer', 'no such setting'],
    ['app: { type: kafka }', 'subscribers.app.type', 'no exporter type kafka'],
  ])('with %s is refused at %s', async (text, path, message) => {
    const definitions = [driven(new Map()), memory(new Map()), odd]
    const { problems } = await parseConfig(`${flow}subscribers: { ${text} }\n`, '/c.yaml', definitions)
    expect(problems).toMatchObject([{ path, message: expect.stringContaining(message) }])
  })
})
