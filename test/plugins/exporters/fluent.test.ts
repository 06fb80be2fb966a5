// The fluent exporter against a receiver that speaks MessagePack by another library, and against our own source.
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { gunzipSync } from 'node:zlib'
import { ExtensionCodec, decode, decodeMulti, encode } from '@msgpack/msgpack'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { RetryableError } from '../../../plugins/contract/errors.ts'
import type { Records } from '../../../plugins/contract/index.ts'
import fluent from '../../../plugins/exporters/fluent.ts'
import { PackStream } from '../../../plugins/protocols/fluent/index.ts'
import fluentForward from '../../../plugins/sources/fluent_forward.ts'
import { realClock } from '../../support/clock.ts'
import type { ExporterPeer } from '../../support/conformance-exporter.ts'
import { conformsToExporter } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { collectLogs, sampleBatch, sampleLogs, samplePoints } from '../../support/records.ts'

const never = new AbortController().signal
const extensionCodec = new ExtensionCodec()
extensionCodec.register({
  type: 0,
  encode: () => null,
  decode: (data) => [Buffer.from(data).readUInt32BE(0), Buffer.from(data).readUInt32BE(4)],
})

type Entry = [time: [number, number], record: Record<string, unknown>]
interface Message {
  tag: string
  entries: Entry[]
  option: { chunk?: string; size: number; compressed?: string }
}

function messageOf(bytes: Buffer): Message {
  const [tag, packed, option] = decode(bytes) as [string, Uint8Array, Message['option']]
  const bare = option.compressed === 'gzip' ? gunzipSync(packed) : packed
  return { tag, option, entries: [...decodeMulti(bare, { extensionCodec, useBigInt64: true })] as Entry[] }
}

/** Acknowledges every chunk, unless it is told not to. */
async function receiver(acknowledge = true) {
  const messages: Message[] = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
    const stream = new PackStream(1024 * 1024)
    socket.on('data', (chunk: Buffer) => {
      stream.push(chunk)
      for (let one = stream.next(); one; one = stream.next()) {
        const message = messageOf(one)
        messages.push(message)
        const { chunk: id } = message.option
        if (acknowledge && id !== undefined) socket.write(encode({ ack: id }))
      }
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const close = async (): Promise<void> => {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    for (const socket of sockets) socket.destroy()
    await closed
  }
  const { port } = server.address() as AddressInfo
  return {
    endpoint: `127.0.0.1:${port}`,
    messages,
    close,
    entries: () => messages.flatMap(({ entries }) => entries),
  }
}

async function peer(): Promise<ExporterPeer> {
  const to = await receiver()
  return {
    config: { endpoint: to.endpoint },
    received: (records) => vi.waitFor(() => expect(to.entries()).toHaveLength(records)),
    vanish: to.close,
    [Symbol.asyncDispose]: to.close,
  }
}

conformsToExporter(fluent, { endpoint: '127.0.0.1:1' }, { peer })

function start(config: object) {
  const context = testContext({ clock: realClock })
  const exporter = fluent.create(fluent.config.parse(config), context)
  const controller = new AbortController()
  const running = exporter.run?.(controller.signal)
  onTestFinished(async () => {
    controller.abort()
    await running
  })
  return exporter
}

describe('the fluent exporter', () => {
  test('sends a batch as one message with its records, and waits for the acknowledgement', async () => {
    const to = await receiver()
    onTestFinished(to.close)
    const exporter = start({ endpoint: to.endpoint, tag: 'site.a' })
    const logs = sampleLogs([
      { body: 'one', severity: 17, attributes: { a: 1, b: [true, 'x'] }, eventName: 'link.down' },
    ])
    await exporter.export(sampleBatch(logs), never)
    expect(to.messages).toMatchObject([{ tag: 'site.a.logs.event', option: { size: 1 } }])
    expect(to.entries()).toEqual([
      [
        [1_790_000_000, 0],
        {
          a: 1,
          b: [true, 'x'],
          message: 'one',
          level: 'ERROR',
          severity_number: 17,
          event_name: 'link.down',
          resource: expect.objectContaining({
            'host.id': 'dpu-under-test',
            'service.name': 'test',
          }) as unknown,
        },
      ],
    ])
  })

  test('sends data points with their integers exact, compressed where it is told to', async () => {
    const { messages, endpoint, close } = await receiver()
    onTestFinished(close)
    await start({ endpoint, compression: 'gzip' }).export(sampleBatch(samplePoints(2)), never)
    expect(messages[0]?.option.compressed).toBe('gzip')
    expect(messages[0]?.entries.map(([, record]) => [record['metric.name'], record['metric.value']])).toEqual(
      [
        ['test.level', 0.5],
        ['test.total', 9_007_199_254_740_994n],
      ],
    )
  })

  test('a batch that is not acknowledged is not delivered', async () => {
    const to = await receiver(false)
    onTestFinished(to.close)
    const exporter = start({ endpoint: to.endpoint, timeout: '200ms' })
    const attempt = exporter.export(sampleBatch(sampleLogs([{}])), never)
    await expect(attempt).rejects.toBeInstanceOf(RetryableError)
    await expect(attempt).rejects.toThrow('no acknowledgement within 200 ms')
    const trusting = start({ endpoint: to.endpoint, require_ack: false })
    expect(await trusting.export(sampleBatch(sampleLogs([{}])), never)).toEqual({ rejected: 0 })
    await vi.waitFor(() =>
      expect(to.messages.map(({ option }) => option.chunk === undefined)).toEqual([false, true]),
    )
  })

  test('a connection that is lost fails what waits, and is made again', async () => {
    const silent = await receiver(false)
    const exporter = start({ endpoint: silent.endpoint })
    const attempt = exporter.export(sampleBatch(sampleLogs([{}])), never)
    attempt.catch(() => undefined)
    await vi.waitFor(() => expect(silent.messages).toHaveLength(1))
    await silent.close()
    await expect(attempt).rejects.toThrow('was lost')
  })

  test('what it sends our own source takes, with a shared key on both sides', async () => {
    process.env.FLUENT_TEST_KEY = 'k3y'
    const key = { shared_key: { env: 'FLUENT_TEST_KEY' } }
    const received: Records[] = []
    const context = testContext()
    const controller = new AbortController()
    const source = fluentForward.create(
      fluentForward.config.parse({ listen: '127.0.0.1:0', ...key }),
      context,
    )
    const running = source.run(async (records) => void received.push(records), controller.signal)
    onTestFinished(async () => {
      controller.abort()
      await running
    })
    const endpoint = (await context.whenReady).replace('tcp://', '')
    const exporter = start({ endpoint, ...key })
    await exporter.export(
      sampleBatch(sampleLogs([{ body: 'ünï\n', severity: 13, attributes: { a: -1.5 } }])),
      never,
    )
    expect(collectLogs(received)).toMatchObject([
      { body: 'ünï\n', severityNumber: 13, attributes: { a: -1.5 } },
    ])
    process.env.FLUENT_TEST_WRONG = 'wrong'
    const stranger = start({ endpoint, shared_key: { env: 'FLUENT_TEST_WRONG' } })
    await expect(stranger.export(sampleBatch(sampleLogs([{}])), never)).rejects.toThrow(
      'it refused the shared key',
    )
  })
})
