// A plain MQTT client against real programs: batches with and without a header in every compression, what it must not
// say, and what nobody can read; and that all of it is told exactly, and nothing of others is lost by it.
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { connectAsync } from 'mqtt'
import type { IClientPublishOptions, MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { askingOf } from '../support/asking.ts'
import { apiUrl, eventually } from '../support/programs.ts'
import { sampleBatch, sampleLogs, samplePoints } from '../support/records.ts'
import { inBothWorlds, startInWorld } from '../support/world.ts'

const portOffset = 9_300
const url = `mqtt://127.0.0.1:${1883 + portOffset}`
inBothWorlds('MQTT', (world) => {
  const { get, logged, queried, settled } = askingOf(portOffset, world.seconds)

  let programs: Awaited<ReturnType<typeof startInWorld>>
  beforeAll(async () => {
    programs = await startInWorld(world, portOffset)
  })
  afterAll(() => programs.stop())

  let client: MqttClient
  beforeEach(async () => {
    client = await connectAsync(url, { reconnectPeriod: 0 })
    client.on('error', () => undefined)
  })
  afterEach(() => client.end(true))

  /** Whether the broker acknowledged, or ended the connection. */
  async function publish(
    topic: string,
    payload: Uint8Array | string,
    options: IClientPublishOptions = {},
  ): Promise<'acknowledged' | 'closed'> {
    const closed = new Promise<'closed'>((resolve) => client.once('close', () => resolve('closed')))
    const bytes = typeof payload === 'string' ? payload : Buffer.from(payload)
    const sent = client.publishAsync(topic, bytes, { qos: 1, ...options }).then(() => 'acknowledged' as const)
    // The client may tell of the end by the message first.
    return Promise.race([sent.catch(() => closed), closed])
  }
  const logsTopic = (collector: string): string => `dpulse/${collector}/telemetry/log/logs`
  const recordsOf = (device: string, body = device) => sampleLogs([{ body }], device)
  const invalid = async (): Promise<number> => {
    const text = await (await fetch(`${apiUrl(portOffset)}/metrics`)).text()
    return Number(/^dpulse_aggregator_ingest_invalid_total (\d+)$/m.exec(text)?.[1])
  }
  const streamsOf = async (device: string) => (await settled(device)).streams

  describe('a batch', () => {
    test.each([
      ['bare', (bytes: Uint8Array) => bytes],
      ['gzip', gzipSync],
      ['zstd', zstdCompressSync],
    ] as const)('%s keeps its header, and is stored once however often it is sent', async (name, pack) => {
      const device = `header-${name}`
      const { bytes } = sampleBatch(recordsOf(device), { produced: 3, dropped: { filter: 2 } })
      for (let time = 0; time < 3; time++) {
        expect(await publish(logsTopic(device), pack(bytes))).toBe('acknowledged')
      }
      const [record] = await logged(device)
      expect(record).toMatchObject({ device, body: device })
      expect(await streamsOf(device)).toEqual([
        {
          collector: device,
          device,
          session: '01K00000000000000000000001',
          class: 'log',
          produced: 3,
          stored: 1,
          inFlight: 0,
          dropped: { filter: 2 },
          lastSeq: 1,
          missing: [],
          unknown: 0,
          balanced: true,
        },
      ])
    })

    test('without a header becomes a stream of its sender, by device', async () => {
      const bytes = Buffer.concat([recordsOf('plain-a').bytes, recordsOf('Plain.B', 'plain-b').bytes])
      expect(await publish(logsTopic('plain'), bytes)).toBe('acknowledged')
      const records = await logged('plain-', 2)
      expect(new Set(records.map(({ device }) => device))).toEqual(new Set(['plain-a', 'plain-b']))
      expect(await streamsOf('plain-b')).toMatchObject([
        { collector: 'plain', produced: 1, stored: 1, lastSeq: 1 },
      ])
    })

    test('of metrics is queried, integers exact', async () => {
      const device = 'mqtt-metrics'
      const { bytes } = sampleBatch(samplePoints(2, device))
      expect(await publish(`dpulse/${device}/telemetry/resource/metrics`, bytes)).toBe('acknowledged')
      const [series] = await queried('test.total', 1, { device })
      expect(series?.points).toEqual([[expect.any(String), '9007199254740994']])
    })

    test.each([
      ['another collector', 'liar-one', { collector: 'somebody-else' }],
      ['more records than it holds', 'liar-two', { count: 7, produced: 7 }],
      ['a total without its own records', 'liar-three', { produced: 0 }],
    ])('whose header tells of %s counts as one without a header', async (_, device, header) => {
      const { bytes } = sampleBatch(recordsOf(device), header)
      expect(await publish(logsTopic('liar'), bytes)).toBe('acknowledged')
      await logged(device)
      const [stream, ...more] = await streamsOf(device)
      expect(more).toEqual([])
      expect(stream).toMatchObject({ collector: 'liar', produced: 1, stored: 1, balanced: true })
      expect(stream?.session).not.toBe('01K00000000000000000000001')
    })

    test.each(['Rack 7 é', 'x'.repeat(300)])('below the topic %s is kept under a name', async (sender) => {
      const device = `strange-${sender.length}`
      expect(await publish(logsTopic(sender), recordsOf(device).bytes)).toBe('acknowledged')
      await logged(device)
      const [stream] = await streamsOf(device)
      expect(stream).toMatchObject({ produced: 1, stored: 1, balanced: true })
      expect(stream?.collector).toMatch(/^[a-z0-9-]{1,64}$/)
    })

    test('that leaves a gap is named until what is missing comes', async () => {
      const device = 'gap'
      const batch = (seq: number) =>
        sampleBatch(recordsOf(device, `gap ${seq}`), { seq, produced: seq }).bytes
      await publish(logsTopic(device), batch(1))
      await publish(logsTopic(device), batch(4))
      await eventually('the gap is named', 30, async () => {
        const [stream] = (await get<{ streams: object[] }>('/api/ledger', { device })).streams
        expect(stream).toMatchObject({
          produced: 4,
          stored: 2,
          inFlight: 2,
          missing: [[2, 3]],
          balanced: true,
        })
        return true
      })
      await publish(logsTopic(device), batch(3))
      await publish(logsTopic(device), batch(2))
      await logged('gap ', 4)
      expect(await streamsOf(device)).toMatchObject([{ stored: 4, missing: [], balanced: true }])
    })

    test('is acknowledged on the ack topic of its collector', async () => {
      const device = 'hears'
      await client.subscribeAsync(`dpulse/${device}/ack`)
      const heard = new Promise<string>((resolve) =>
        client.once('message', (_, payload) => resolve(String(payload))),
      )
      await publish(logsTopic(device), sampleBatch(recordsOf(device)).bytes)
      // Where many take in one stream, none knows all that was acknowledged: it names the batch.
      const told = world.name === 'embedded' ? { through: 1, beyond: [] } : { through: 0, beyond: [[1, 1]] }
      expect(JSON.parse(await heard)).toEqual({
        streams: [{ session: '01K00000000000000000000001', device, class: 'log', ...told }],
      })
    })
  })

  describe('what nobody can read', () => {
    test.each([
      ['text', 'no protobuf at all'],
      ['a cut gzip', Buffer.of(0x1f, 0x8b, 8, 0)],
      ['a cut zstd', Buffer.of(0x28, 0xb5, 0x2f, 0xfd, 2)],
      ['a decompression bomb', zstdCompressSync(Buffer.alloc(64 * 1024 * 1024))],
      ['a cut batch', sampleBatch(recordsOf('cut')).bytes.subarray(0, -3)],
    ])('%s is counted as invalid, and the connection goes on', async (_, payload) => {
      const before = await invalid()
      expect(await publish(logsTopic('garbage'), payload)).toBe('acknowledged')
      await eventually('it is counted', world.seconds, async () => (await invalid()) === before + 1)
      expect(client.connected).toBe(true)
    })

    test('a birth that is none, or speaks of another collector, is not shown', async () => {
      const devices = ['Not An Id']
      const birth = { state: 'online', collector: 'impostor', instance: '1', devices }
      const foreign = '{"state":"online","collector":"somebody","instance":"1"}'
      for (const said of ['{', foreign, '[]', '"online"', JSON.stringify(birth)]) {
        expect(await publish('dpulse/impostor/status', said, { retain: true })).toBe('acknowledged')
      }
      await publish(logsTopic('garbage'), recordsOf('after-births').bytes)
      await logged('after-births')
      const known = await get<{ device: string }[]>('/api/devices')
      expect(known.map(({ device }) => device)).not.toContain('impostor')
    })
  })

  test('a message of an unknown class or signal is counted as refused and disturbs nobody', async () => {
    const refused = async (): Promise<number> => {
      const text = await (await fetch(`${apiUrl(portOffset)}/metrics`)).text()
      return Number(/^dpulse_aggregator_broker_refused_total (\d+)$/m.exec(text)?.[1])
    }
    const before = await refused()
    const { bytes } = recordsOf('lost-class')
    // Another broker passes on only what was subscribed to.
    const ends = ['bogus/logs', 'log/bogus', ...(world.name === 'embedded' ? ['log/logs/more'] : [])]
    for (const end of ends) {
      expect(await publish(`dpulse/odd/telemetry/${end}`, bytes)).toBe('acknowledged')
    }
    await eventually('all are counted', world.seconds, async () => (await refused()) === before + ends.length)
  })

  // Somebody else's broker has rules of its own: test/integration/mosquitto.test.ts.
  if (world.name === 'embedded') {
    test('a packet larger than the limit ends the connection before it is in memory', async () => {
      expect(await publish(logsTopic('large'), Buffer.alloc(32 * 1024 * 1024))).toBe('closed')
    })

    test('what is no birth is not retained', async () => {
      expect(await publish('dpulse/impostor/status', '{', { retain: true })).toBe('acknowledged')
      const heard: string[] = []
      client.on('message', (topic, _, { retain }) => void (retain && heard.push(topic)))
      await client.subscribeAsync('dpulse/+/status')
      await eventually('retained births came', 30, () => heard.length > 0)
      expect(heard).not.toContain('dpulse/impostor/status')
    })

    test.each([
      ['outside the root', 'elsewhere/x'],
      ['the root itself', 'dpulse'],
      ['for the fleet', 'dpulse/fleet/alert/critical/1'],
      ['an acknowledgement', 'dpulse/victim/ack'],
      ['for the broker', '$SYS/broker'],
    ])('a message %s is not allowed', async (_, topic) => {
      expect(await publish(topic, '{"streams":[]}')).toBe('closed')
    })
  }

  test('the ledger of everything balances', async () => {
    const { balanced, unknown, dropped, streams } = await settled()
    expect({ balanced, unknown, dropped }).toEqual({ balanced: true, unknown: 0, dropped: { filter: 6 } })
    expect(streams.filter(({ missing }) => missing.length > 0)).toEqual([])
  })
})
