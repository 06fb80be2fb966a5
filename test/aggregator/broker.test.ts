import { once } from 'node:events'
import type { EventEmitter } from 'node:events'
import { connect as connectSocket } from 'node:net'
import type { Socket } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectAsync } from 'mqtt'
import type { IClientOptions, MqttClient } from 'mqtt'
import * as fc from 'fast-check'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { PacketFrames, connectType } from '../../plugins/protocols/mqtt-frames.ts'
import { topicFits } from '../../plugins/protocols/topics.ts'
import type { Journal } from '../../aggregator/journal/journal.ts'
import { settle } from '../support/clock.ts'
import { Writer, bytesType } from '../../plugins/contract/wire.ts'
import { openIntake } from '../support/intake.ts'
import type { Intake, IntakeOptions } from '../support/intake.ts'
import { sampleBatch, sampleLogs } from '../support/records.ts'

async function intakeFor(options: IntakeOptions = {}): Promise<Intake> {
  const intake = await openIntake(options)
  onTestFinished(async () => intake[Symbol.asyncDispose]())
  return intake
}

async function clientOf(intake: Intake, options: IClientOptions = {}): Promise<MqttClient> {
  const { port } = intake.broker
  const client = await connectAsync({ host: '127.0.0.1', port, reconnectPeriod: 0, ...options })
  client.on('error', () => undefined)
  onTestFinished(async () => {
    await client.endAsync(true)
  })
  return client
}

/** A socket that speaks just enough MQTT by hand. */
async function rawClient(intake: Intake, id: string): Promise<Socket> {
  const socket = connectSocket(intake.broker.port, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  await once(socket, 'connect')
  const name = Buffer.from(id)
  socket.write(
    Buffer.concat([
      Buffer.from([0x10, 12 + name.length, 0, 4]),
      Buffer.from('MQTT'),
      Buffer.from([4, 2, 0, 60, 0, name.length]),
      name,
    ]),
  )
  const [connack] = (await once(socket, 'data')) as unknown as [Buffer]
  expect([...connack.subarray(0, 4)]).toEqual([0x20, 2, 0, 0])
  return socket
}

/** A PUBLISH of QoS 1. */
function publishOf(name: string, payload: Buffer): Buffer {
  const topic = Buffer.from(name)
  const body = Buffer.concat([Buffer.from([0, topic.length]), topic, Buffer.from([0, 1]), payload])
  const head = new Writer()
  head.byte(0x32)
  head.varint(body.length)
  return Buffer.concat([head.take(), body])
}

/** Resolves when the connection has ended, in whatever way. */
const closed = (of: MqttClient | Socket): Promise<void> =>
  new Promise((resolve) => (of as Socket).once('close', () => resolve()))
const telemetry = 'dpulse/dpu-under-test/telemetry/log/logs'
const batchOf = (seq: number): Buffer =>
  Buffer.from(sampleBatch(sampleLogs([{}]), { seq, produced: seq }).bytes)

describe('startBroker', () => {
  test('holds the PUBACK of a batch until the journal has it', async () => {
    const held = Promise.withResolvers<void>()
    const intake = await intakeFor({
      wrap: (journal) => ({
        ...journal,
        append: async (...given) => {
          await held.promise
          await journal.append(...given)
        },
      }),
    })
    const client = await clientOf(intake)
    const answered: number[] = []
    const sent = [1, 2, 3].map((seq) =>
      client.publishAsync(telemetry, batchOf(seq), { qos: 1 }).then(() => answered.push(seq)),
    )
    await vi.waitFor(() => expect(intake.broker.counters.published).toBe(3), 30_000)
    expect(answered).toEqual([])
    held.resolve()
    await Promise.all(sent)
    expect(intake.journal.end()['otlp_logs/0']).toBe(3)
  })

  test('ends the connection of a sender whose batch the journal cannot take', async () => {
    const intake = await intakeFor({
      wrap: (journal) => ({ ...journal, append: () => Promise.reject(new Error('broken disk')) }),
    })
    const client = await clientOf(intake)
    const ended = closed(client)
    client.publish(telemetry, batchOf(1), { qos: 1 }, () => undefined)
    await ended
    const closing = intake.logged.find(({ message }) => message === 'MQTT connection closed')
    expect(closing?.fields.reason).toContain('broken disk')
  })

  test('reads no more from a sender than it may while the journal is stuck, whatever the size of packets', async () => {
    const held = Promise.withResolvers<void>()
    const waiting = (journal: Journal): Journal => ({
      ...journal,
      append: async (...given) => {
        await held.promise
        await journal.append(...given)
      },
    })
    for (const size of [1000, 300_000]) {
      const intake = await intakeFor({ wrap: waiting, limits: { heldBytes: 1 << 20 } })
      const socket = await rawClient(intake, 'pusher')
      // A batch with an unknown field of that size, which readers skip.
      const padding = new Writer()
      padding.tag(15, bytesType)
      padding.bytes(Buffer.alloc(size))
      const packet = publishOf(telemetry, Buffer.concat([batchOf(1), padding.take()]))
      const before = process.memoryUsage()
      for (let sent = 0; sent < 100 << 20; sent += packet.length) socket.write(packet)
      const stuck = () => intake.broker.counters.published
      await vi.waitFor(() => expect(stuck()).toBeGreaterThan(0), 30_000)
      await settle(500)
      expect(stuck() * packet.length).toBeLessThan(4 << 20)
      expect(process.memoryUsage().external - before.external).toBeLessThan(150 << 20)
      socket.destroy()
    }
    held.resolve()
  })

  test('closes the connection of an oversized packet at its first bytes, while memory stays flat', async () => {
    const intake = await intakeFor()
    const before = process.memoryUsage().rss
    for (let index = 0; index < 10; index++) {
      const socket = await rawClient(intake, `large-${index}`)
      socket.on('error', () => undefined)
      const ended = closed(socket)
      // A PUBLISH of 256 MiB less one byte, of which 32 MiB are sent at once.
      socket.write(Buffer.from([0x32, 0xff, 0xff, 0xff, 0x7f]))
      socket.write(Buffer.alloc(32 << 20))
      await ended
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(200 << 20)
    const reasons = intake.logged.map(({ fields }) => fields.reason)
    expect(reasons).toContain('a packet of 268435455 bytes, at most 1114112 are allowed')
    const other = await clientOf(intake)
    await other.publishAsync(telemetry, batchOf(1), { qos: 1 })
  })

  test('ends connections that are no MQTT, and those of packets that never end', async () => {
    const intake = await intakeFor({ limits: { packetMs: 1 } })
    const web = connectSocket(intake.broker.port, '127.0.0.1')
    web.on('error', () => undefined)
    web.write('GET / HTTP/1.1\r\n\r\n')
    await closed(web)
    const slow = await rawClient(intake, 'slow')
    slow.write(Buffer.from([0x32, 0x7f, 0]))
    await closed(slow)
    const reasons = intake.logged.map(({ fields }) => fields.reason)
    expect(reasons).toContain('the first packet is no CONNECT')
    expect(reasons).toContain('a packet that does not end')
  })

  test('lets in no more connections than it may, and others once there is room', async () => {
    const intake = await intakeFor({ limits: { connections: 2 } })
    const first = await clientOf(intake)
    await clientOf(intake)
    const third = connectSocket(intake.broker.port, '127.0.0.1')
    third.on('error', () => undefined)
    await closed(third)
    expect(intake.broker.counters.refusedConnections).toBe(1)
    await first.endAsync()
    await vi.waitFor(() => expect(intake.broker.counters.connections).toBe(1), 30_000)
    await clientOf(intake)
  })

  test('takes nothing that only the aggregator may say, and nothing outside its root', async () => {
    const intake = await intakeFor({ root: 'site-a' })
    for (const topic of [
      'site-a/dpu-1/ack',
      'site-a/dpu-1/config/desired',
      'site-a/fleet/alert/critical/1',
      'dpulse/dpu-1/status',
      'site-a/dpu-1',
      'elsewhere',
      '$SYS/x',
    ]) {
      const client = await clientOf(intake)
      const ended = closed(client)
      client.publish(topic, 'x', { qos: 1 }, () => undefined)
      await ended
    }
    expect(intake.broker.counters.refusedMessages).toBe(7)
    const client = await clientOf(intake)
    await client.publishAsync('site-a/dpu-1/sighting', '{}', { qos: 1 })
  })

  test('refuses shared subscriptions, which it cannot serve, instead of granting them in vain', async () => {
    const client = await clientOf(await intakeFor())
    await expect(client.subscribeAsync('$share/group/dpulse/#')).rejects.toThrow(/subscribe|Unspecified/i)
    expect(await client.subscribeAsync('dpulse/#')).toHaveLength(1)
  })

  test('gives telemetry to subscribers, too', async () => {
    const intake = await intakeFor()
    const subscriber = await clientOf(intake)
    await subscriber.subscribeAsync('dpulse/+/telemetry/#', { qos: 1 })
    const message = once(subscriber as unknown as EventEmitter, 'message')
    const sender = await clientOf(intake)
    const batch = batchOf(1)
    await sender.publishAsync(telemetry, batch, { qos: 1 })
    const [topic, payload] = (await message) as [string, Buffer]
    expect(topic).toBe(telemetry)
    expect(payload.equals(batch)).toBe(true)
  })

  test('a subscriber that does not read misses messages, and holds up nobody', async () => {
    const intake = await intakeFor({ limits: { liveBytes: 1 << 20 } })
    const frozen = await rawClient(intake, 'frozen')
    frozen.write(
      Buffer.concat([Buffer.from([0x82, 13, 0, 1, 0, 8]), Buffer.from('dpulse/#'), Buffer.from([0])]),
    )
    await once(frozen, 'data')
    frozen.pause()
    const reader = await clientOf(intake)
    let read = 0
    reader.on('message', () => read++)
    await reader.subscribeAsync('dpulse/#')
    const sender = await clientOf(intake)
    const payload = Buffer.alloc(512 << 10)
    let sent = 0
    // The kernel takes some tens of megabytes for the frozen one before anything shows.
    while (intake.broker.counters.missed < 10 && sent < 1000) {
      await sender.publishAsync('dpulse/dpu-1/sighting', payload, { qos: 1 })
      sent++
      await vi.waitFor(() => expect(read).toBe(sent), { interval: 1, timeout: 30_000 })
    }
    expect(intake.broker.counters.missed).toBe(10)
    expect(intake.broker.counters.connections).toBe(3)
  })

  test('a subscriber of QoS 1 that does not read is sent away, so that it knows', async () => {
    const intake = await intakeFor({ limits: { liveBytes: 1 << 20 } })
    const frozen = await rawClient(intake, 'frozen')
    frozen.on('error', () => undefined)
    frozen.write(
      Buffer.concat([Buffer.from([0x82, 13, 0, 1, 0, 8]), Buffer.from('dpulse/#'), Buffer.from([1])]),
    )
    await once(frozen, 'data')
    frozen.pause()
    const sender = await clientOf(intake)
    const payload = Buffer.alloc(512 << 10)
    await vi.waitFor(
      async () => {
        await sender.publishAsync('dpulse/dpu-1/sighting', payload, { qos: 1 })
        expect(intake.broker.counters.slowClients).toBe(1)
      },
      { interval: 1, timeout: 30_000 },
    )
  })

  test('retained messages survive a restart; an empty one clears', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'dpulse-broker-'))
    onTestFinished(async () => rm(directory, { recursive: true, force: true }))
    {
      await using intake = await openIntake({ directory })
      const client = await clientOf(intake)
      for (const id of ['a', 'b', 'c']) {
        await client.publishAsync(`dpulse/${id}/inventory/${id}`, `of ${id}`, { qos: 1, retain: true })
      }
      await client.publishAsync('dpulse/b/inventory/b', '', { qos: 1, retain: true })
      await intake.broker.publish('dpulse/fleet/alert/critical/1', 'alert', { retain: true, qos: 1 })
    }
    const intake = await intakeFor({ directory })
    const client = await clientOf(intake)
    const seen = new Map<string, string>()
    client.on('message', (topic, payload, { retain }) => seen.set(topic, `${payload.toString()} ${retain}`))
    await client.subscribeAsync(['dpulse/+/inventory/#', 'dpulse/fleet/#', 'dpulse/a/inventory/a'])
    await vi.waitFor(() => expect(seen.size).toBe(3), 30_000)
    expect(Object.fromEntries(seen)).toEqual({
      'dpulse/a/inventory/a': 'of a true',
      'dpulse/c/inventory/c': 'of c true',
      'dpulse/fleet/alert/critical/1': 'alert true',
    })
  })

  test('retained messages have limits, and what does not fit is refused', async () => {
    const retained = { messages: 2, bytes: 1000, messageBytes: 600 }
    const intake = await intakeFor({ limits: { retained } })
    const retain = (id: string, size: number) =>
      intake.broker.publish(`dpulse/${id}/inventory/x`, Buffer.alloc(size, 1), { retain: true })
    await retain('a', 500)
    await expect(retain('b', 601)).rejects.toMatchObject({ code: 'INPUT_TOO_LARGE' })
    await expect(retain('b', 501)).rejects.toMatchObject({ code: 'INPUT_TOO_LARGE' })
    await retain('b', 500)
    await expect(retain('c', 0)).resolves.toBeUndefined()
    await expect(retain('c', 1)).rejects.toMatchObject({ code: 'INPUT_TOO_LARGE' })
    await retain('a', 0)
    await retain('c', 1)
  })

  test('who was connected before a restart and does not come back is gone: his will is published', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'dpulse-broker-'))
    onTestFinished(async () => rm(directory, { recursive: true, force: true }))
    const status = (id: string, state: string) => JSON.stringify({ state, collector: id, instance: id })
    const born = async (intake: Intake, id: string) => {
      const topic = `dpulse/${id}/status`
      const will = { topic, payload: Buffer.from(status(id, 'offline')), qos: 1 as const, retain: true }
      const client = await clientOf(intake, { clientId: id, will })
      await client.publishAsync(topic, status(id, 'online'), { qos: 1, retain: true })
    }
    {
      await using intake = await openIntake({ directory })
      await born(intake, 'stays-away')
      await born(intake, 'comes-back')
    }
    const heard: string[] = []
    const intake = await intakeFor({
      directory,
      // Long enough for the other one to connect on any machine.
      limits: { absentMs: 3000 },
      ingest: { onStatus: ({ collector, state }) => void heard.push(`${collector} ${state}`) },
    })
    expect(heard.sort()).toEqual(['comes-back online', 'stays-away online'])
    await born(intake, 'comes-back')
    await vi.waitFor(() => expect(heard).toContain('stays-away offline'), 30_000)
    expect(heard).not.toContain('comes-back offline')
    await vi.waitFor(() => {
      const [kept] = intake.broker.retained('dpulse/stays-away/status')
      expect(JSON.parse(kept?.payload.toString() ?? '{}')).toMatchObject({ state: 'offline' })
    }, 30_000)
  })

  test('a malformed status is not kept', async () => {
    const intake = await intakeFor()
    const client = await clientOf(intake)
    await client.publishAsync('dpulse/dpu-1/status', 'nonsense', { qos: 1, retain: true })
    expect([...intake.broker.retained('dpulse/+/status')]).toEqual([])
  })

  test('names the port that is taken, and the option that moves it', async () => {
    const intake = await intakeFor()
    await expect(openIntake({ port: intake.broker.port })).rejects.toThrow(
      new RegExp(`port ${intake.broker.port}/tcp for MQTT is taken by .*--port-offset`),
    )
  })
})

describe('PacketFrames', () => {
  const limits = { first: connectType, firstBytes: 100, bytes: 300 }
  const packet = (type: number, length: number): Buffer => {
    const size = length < 128 ? [length] : [(length & 0x7f) | 0x80, length >>> 7]
    return Buffer.concat([Buffer.from([type, ...size]), Buffer.alloc(length, 0x30)])
  }

  test('finds the end of every packet, wherever the chunks are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 20 }),
        fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1 }),
        (lengths, cuts) => {
          const bytes = Buffer.concat([packet(0x10, 50), ...lengths.map((length) => packet(0x32, length))])
          const frames = new PacketFrames(limits)
          for (let at = 0, index = 0; at < bytes.length; index++) {
            const step = cuts[index % cuts.length] ?? 1
            expect(frames.take(bytes.subarray(at, at + step))).toBeUndefined()
            at += step
          }
          expect(frames.begun).toBe(0)
        },
      ),
    )
  })

  test('refuses what is too long by its length alone', () => {
    const frames = new PacketFrames(limits)
    expect(frames.take(packet(0x10, 100))).toBeUndefined()
    expect(frames.take(packet(0x32, 301).subarray(0, 3))).toMatch(/301 bytes, at most 300/)
    expect(new PacketFrames(limits).take(packet(0x10, 101).subarray(0, 2))).toMatch(/at most 100/)
    const endless = new PacketFrames(limits)
    endless.take(packet(0x10, 10))
    expect(endless.take(Buffer.from([0x32, 0xff, 0xff, 0xff, 0xff]))).toMatch(/malformed/)
  })
})

test('topics fit patterns as MQTT says', () => {
  const fits = ['a/b a/b', 'a/+ a/b', 'a/# a', 'a/# a/b/c', '# a', '+/+ /a', '$x/# $x/a', '+ a']
  const misses = ['a/b a/c', 'a/+ a', 'a/+ a/b/c', '+ /a', '# $x/a', '+/a $x/a', 'a a/b', 'a/b/# a']
  for (const pair of fits)
    expect([pair, topicFits(...(pair.split(' ') as [string, string]))]).toEqual([pair, true])
  for (const pair of misses)
    expect([pair, topicFits(...(pair.split(' ') as [string, string]))]).toEqual([pair, false])
})
