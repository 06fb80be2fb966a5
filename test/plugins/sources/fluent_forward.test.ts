// The Fluent forward source: recorded and running fluent-logger as its peer, an independent MessagePack encoder as its
// model, and senders that send anything.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { ExtData, decode, encode } from '@msgpack/msgpack'
import * as fc from 'fast-check'
import fluent from 'fluent-logger'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type * as z from 'zod'
import { RetryableError } from '../../../plugins/contract/errors.ts'
import type { Emit, Records } from '../../../plugins/contract/index.ts'
import { encodeResource } from '../../../plugins/contract/values.ts'
import { ForwardReader, PackStream, PackWriter, ping } from '../../../plugins/protocols/fluent/index.ts'
import fluentForward from '../../../plugins/sources/fluent_forward.ts'
import { expectWellFormed } from '../../support/conformance-definition.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectLogs } from '../../support/records.ts'

type Config = z.input<typeof fluentForward.config>
const example = { listen: '127.0.0.1:0' }
const portOf = (address: string): number => Number(/:(\d+)$/.exec(address)?.[1])
const message = (record: object, ...option: object[]): Buffer =>
  Buffer.from(encode(['a.tag', 1_700_000_000, record, ...option]))

conformsToSource(fluentForward, example, {
  provoke: async ({ context, signal }) => {
    const socket = connect(portOf(await context.whenReady), '127.0.0.1')
    const answered = Promise.withResolvers<void>()
    socket.on('data', () => answered.resolve())
    socket.on('error', () => undefined)
    socket.on('close', () => answered.resolve())
    signal.addEventListener('abort', () => answered.resolve(), { once: true })
    socket.write(message({ message: 'x' }, { chunk: 'c' }))
    await answered.promise
    socket.destroy()
  },
})

async function start(config: Config = {}, emit?: Emit) {
  const emitted: Records[] = []
  const context = testContext()
  const controller = new AbortController()
  const source = fluentForward.create(fluentForward.config.parse({ ...example, ...config }), context)
  const running = source.run(emit ?? (async (records) => void emitted.push(records)), controller.signal)
  const stop = async (): Promise<void> => {
    controller.abort()
    await running
  }
  onTestFinished(stop)
  return { context, emitted, stop, port: portOf(await context.whenReady), logs: () => collectLogs(emitted) }
}

async function open(port: number): Promise<Socket & { heard: () => unknown[] }> {
  const socket = connect(port, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  await once(socket, 'connect')
  const stream = new PackStream(1024 * 1024)
  const heard: unknown[] = []
  socket.on('data', (chunk: Buffer) => {
    stream.push(chunk)
    for (let one = stream.next(); one; one = stream.next()) heard.push(decode(one))
  })
  return Object.assign(socket, { heard: () => heard })
}

/** The last words that its types ask for may be left out. */
const endOf = (sender: ReturnType<typeof fluent.createFluentSender>): Promise<void> =>
  new Promise((resolve) => {
    sender.end(undefined as never, undefined, () => resolve())
  })

const reader = () =>
  new ForwardReader({
    scope: { name: 'test' },
    device: 'dpu-1',
    resource: encodeResource({}),
    messageKeys: ['message', 'log'],
    maxBytes: 1024 * 1024,
    nowUnixNano: () => 1_790_000_000_000_000_000n,
  })

describe('the fluent_forward source', () => {
  test.each(['message', 'packed-forward', 'compressed-packed-forward'])(
    'reads what fluent-logger sent in its mode %s',
    async (mode) => {
      const bytes = readFileSync(join(import.meta.dirname, `../../fixtures/fluent/${mode}.bin`))
      const stream = new PackStream(1024 * 1024)
      stream.push(bytes)
      const records: Records[] = []
      for (let one = stream.next(); one; one = stream.next())
        records.push(...(await reader().read(one)).records)
      await expect(golden(records)).toMatchFileSnapshot(`../../golden/fluent/${mode}.json`)
    },
  )

  test.each(['Message', 'PackedForward', 'CompressedPackedForward'] as const)(
    'acknowledges what fluent-logger sends in its mode %s once it is safe',
    async (eventMode) => {
      const { port, logs } = await start()
      const sender = fluent.createFluentSender('dpu', {
        host: '127.0.0.1',
        port,
        timeout: 5,
        eventMode,
        flushInterval: 20,
        requireAckResponse: true,
        ackResponseTimeout: 5000,
      })
      const answers = Array.from({ length: 50 }, (_, index) => {
        const { promise, resolve, reject } = Promise.withResolvers<void>()
        sender.emit('app', { message: `line ${index}` }, (error) => (error ? reject(error) : resolve()))
        return promise
      })
      await Promise.all(answers)
      expect(logs().map(({ body }) => body)).toEqual(
        Array.from({ length: 50 }, (_, index) => `line ${index}`),
      )
      expect(logs()[0]?.attributes['fluent.tag']).toBe('dpu.app')
      await endOf(sender)
    },
  )

  test('acknowledges a chunk after its records are safe, not before', async () => {
    const released = Promise.withResolvers<void>()
    const seen = Promise.withResolvers<void>()
    const { port } = await start({}, () => {
      seen.resolve()
      return released.promise
    })
    const socket = await open(port)
    socket.write(message({ message: 'x' }, { chunk: 'abc' }))
    await seen.promise
    expect(socket.heard()).toEqual([])
    released.resolve()
    await vi.waitFor(() => expect(socket.heard()).toEqual([{ ack: 'abc' }]))
  })

  test('a chunk that is not safe when the program stops is not acknowledged', async () => {
    const seen = Promise.withResolvers<void>()
    const { port, stop } = await start({}, () => {
      seen.resolve()
      return Promise.reject(new RetryableError('STOPPING', 'the collector stops'))
    })
    const socket = await open(port)
    socket.write(message({ message: 'x' }, { chunk: 'abc' }))
    await seen.promise
    await stop()
    expect(socket.heard()).toEqual([])
  })

  test('reads Forward messages, metadata of Fluent Bit, and messages that come byte by byte', async () => {
    const { port, logs } = await start()
    const socket = await open(port)
    const eventTime = new ExtData(0, Buffer.from('6553f1000bebc200', 'hex'))
    const entries = [
      [eventTime, { log: 'one', PRIORITY: '3' }],
      [[eventTime, { meta: 1 }], { message: 'two', log: 'is an attribute', level: 'DEBUG' }],
    ]
    const bytes = Buffer.from(encode(['t', entries, { chunk: 'c', size: 2 }]))
    for (const byte of bytes) socket.write(Buffer.of(byte))
    await vi.waitFor(() => expect(socket.heard()).toEqual([{ ack: 'c' }]))
    expect(logs().toSorted((a, b) => b.severityNumber - a.severityNumber)).toMatchObject([
      { body: 'one', severityNumber: 17, time: 1_700_000_000_200_000_000n, attributes: { PRIORITY: '3' } },
      { body: 'two', severityNumber: 5, attributes: { log: 'is an attribute', level: 'DEBUG' } },
    ])
  })

  test('what is no message is counted and its connection closed; others go on', async () => {
    const { port, context, logs } = await start()
    const bad = await open(port)
    bad.write(Buffer.from([0xc1]))
    await once(bad, 'close')
    const good = await open(port)
    good.write(message({ message: 'x' }, { chunk: 'c' }))
    await vi.waitFor(() => expect(good.heard()).toEqual([{ ack: 'c' }]))
    expect(logs()).toHaveLength(1)
    expect(context.drops).toEqual([{ class: 'log', reason: 'invalid', count: 1 }])
    expect(context.logged).toMatchObject([{ fields: { reason: 'a byte that begins no value' } }])
  })

  test('a bad entry is counted with its reason, its neighbours are taken, and the chunk does not come again', async () => {
    const packed = Buffer.concat(
      [
        [1, { message: 'a' }],
        ['when', {}],
        [2, 'what'],
        [3, { message: 'b' }],
      ].map((one) => encode(one)),
    )
    const read = await reader().read(Buffer.from(encode(['t', packed, { chunk: 'c', size: 4 }])))
    expect(collectLogs(read.records).map(({ body }) => body)).toEqual(['a', 'b'])
    expect(read).toMatchObject({ refused: 2, chunk: 'c', reason: 'expected a number' })
    const damaged = await reader().read(
      Buffer.from(
        encode(['t', gzipSync(packed).subarray(0, 30), { chunk: 'c', size: 4, compressed: 'gzip' }]),
      ),
    )
    expect(damaged).toMatchObject({
      records: [],
      refused: 4,
      reason: expect.stringContaining('damaged gzip'),
    })
  })

  test("Fluent Bit's own metrics are refused by name", async () => {
    const read = await reader().read(
      Buffer.from(encode(['t', Buffer.of(1, 2), { fluent_signal: 1, size: 7 }])),
    )
    expect(read).toMatchObject({ refused: 7, reason: expect.stringContaining('signal 1') })
  })

  test('gzip that unpacks to more than may be is refused, and so is a message that is too large', async () => {
    const bomb = gzipSync(Buffer.alloc(4 * 1024 * 1024))
    const read = await reader().read(Buffer.from(encode(['t', bomb, { compressed: 'gzip' }])))
    expect(read).toMatchObject({ refused: 1, reason: expect.stringContaining('more than the 1048576 bytes') })
    const { port, context } = await start({ max_message: '1KiB' })
    const socket = await open(port)
    socket.write(message({ message: 'x'.repeat(2000) }))
    await once(socket, 'close')
    expect(context.logged).toMatchObject([{ fields: { reason: 'a message of more than 1024 bytes' } }])
  })

  test('with a shared key only who knows it is let in', async () => {
    process.env.FLUENT_TEST_KEY = 'k3y'
    const { port, logs } = await start({ shared_key: { env: 'FLUENT_TEST_KEY' } })
    const attempt = async (key: string): Promise<unknown> => {
      const socket = await open(port)
      await vi.waitFor(() => expect(socket.heard()).toHaveLength(1))
      const { bytes, judge } = ping(Buffer.from(encode(socket.heard()[0])), key, 'client')
      socket.write(bytes)
      await vi.waitFor(() => expect(socket.heard()).toHaveLength(2))
      socket.write(message({ message: key }))
      return judge(Buffer.from(encode(socket.heard()[1])))
    }
    expect(await attempt('k3y')).toBeUndefined()
    expect(await attempt('wrong')).toBe('it refused the shared key: shared_key mismatch')
    await vi.waitFor(() => expect(logs().map(({ body }) => body)).toEqual(['k3y']))
  })

  test('fluent-logger with a shared key is let in', async () => {
    process.env.FLUENT_TEST_KEY = 'k3y'
    const { port, logs } = await start({ shared_key: { env: 'FLUENT_TEST_KEY' } })
    const sender = fluent.createFluentSender('dpu', {
      host: '127.0.0.1',
      port,
      timeout: 5,
      security: { clientHostname: 'client', sharedKey: 'k3y' },
    })
    const sent = Promise.withResolvers<void>()
    sender.emit('app', { message: 'let in' }, (error) => (error ? sent.reject(error) : sent.resolve()))
    await sent.promise
    await vi.waitFor(() => expect(logs().map(({ body }) => body)).toEqual(['let in']))
    await endOf(sender)
  })
})

describe('records', () => {
  const leaf = fc.oneof(
    fc.string({ unit: 'grapheme', maxLength: 20 }),
    fc.integer(),
    fc.double({ noNaN: true, noInteger: true }),
    fc.boolean(),
  )
  const tree = fc.letrec((tie) => ({
    value: fc.oneof({ depthSize: 'small' }, leaf, fc.array(tie('value'), { maxLength: 4 }), tie('map')),
    map: fc.dictionary(fc.string({ unit: 'grapheme', maxLength: 8 }), tie('value'), {
      maxKeys: 4,
      noNullPrototype: true,
    }),
  }))
  const keys = (record: object): object => {
    const { 'fluent.tag': _, ...rest } = record as Record<string, unknown>
    return rest
  }

  test('become attributes equal to what an independent encoder wrote', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(fc.stringMatching(/^[a-z]{1,6}x$/), tree.value, { noNullPrototype: true }),
        async (record) => {
          const { records } = await reader().read(Buffer.from(encode(['t', 1, record])))
          expect(keys(collectLogs(records)[0]?.attributes ?? {})).toEqual(record)
        },
      ),
    )
  })

  test('are read equally from what our own writer wrote', () => {
    fc.assert(
      fc.property(tree.value, (value) => {
        expect(decode(new PackWriter().value(value as never).take())).toEqual(value)
      }),
    )
  })

  test('integers are exact to the ends of 64 bits, and beyond OTLP kept as text', async () => {
    const values = [2n ** 63n - 1n, -(2n ** 63n), 2n ** 64n - 1n]
    const bytes = encode(['t', 1, Object.fromEntries(values.map((value, index) => [`v${index}`, value]))], {
      useBigInt64: true,
    })
    const { records } = await reader().read(Buffer.from(bytes))
    expect(keys(collectLogs(records)[0]?.attributes ?? {})).toEqual({
      v0: values[0],
      v1: values[1],
      v2: String(values[2]),
    })
  })

  test('of random bytes crash nothing, and what comes of them is well-formed', async () => {
    const anything = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.tuple(tree.value, fc.nat(), fc.nat(255)).map(([value, at, byte]) => {
        const bytes = encode(['t', [[1, { message: 'm', value }]], { chunk: 'c' }])
        bytes[at % bytes.length] = byte
        return bytes
      }),
    )
    await fc.assert(
      fc.asyncProperty(anything, async (bytes) => {
        try {
          const { records } = await reader().read(Buffer.from(bytes))
          for (const one of records) expectWellFormed(one)
        } catch (error) {
          expect((error as Error).constructor.name).toBe('MalformedPack')
        }
      }),
      { numRuns: 1000 },
    )
  })

  test('that are nested too deeply or unfold to too much are refused', async () => {
    let deep: unknown = 1
    for (let level = 0; level < 40; level++) deep = [deep]
    const nested = await reader().read(Buffer.from(encode(['t', 1, { deep }])))
    expect(nested).toMatchObject({ refused: 1, reason: 'values nested more than 32 deep' })
    const wide = await reader().read(
      Buffer.from(encode(['t', 1, { wide: Array.from({ length: 60_000 }, () => null) }])),
    )
    expect(wide).toMatchObject({
      refused: 1,
      reason: expect.stringContaining('more than the 450000 that fit'),
    })
  })
})
