// The conformance suites hold for plain plugins of each kind, and what they look with finds what is wrong.
import { once } from 'node:events'
import { createServer } from 'node:net'
import { setInterval } from 'node:timers'
import { describe, expect, test } from 'vitest'
import * as z from 'zod'
import {
  Readings,
  RetryableError,
  countRecords,
  defineDriver,
  defineExporter,
  defineProcessor,
  defineSource,
  duration,
} from '../../plugins/contract/index.ts'
import type { Context } from '../../plugins/contract/index.ts'
import { conformsToDriver, conformsToExporter, conformsToProcessor, conformsToSource } from './conformance.ts'
import { expectDeclared, expectWellFormed, faultsOf, leavesNothingOpen } from './conformance-definition.ts'
import { FakeClock } from './clock.ts'
import { collectPoints, sampleBatch, sampleLogs, samplePoints } from './records.ts'
import { golden } from './golden.ts'

const emits = { 'test.level': { kind: 'gauge', unit: '1' } } as const
const reading = (context: Context) => {
  const readings = new Readings({
    scope: { name: 'conformance' },
    declared: emits,
    device: context.device,
    resource: context.resource(),
    timeUnixNano: context.clock.nowUnixNano(),
  })
  readings.add('test.level', 1.5)
  return readings.finish()
}

const source = defineSource({
  name: 'conformance',
  summary: 'A reading of nothing, for the suites themselves.',
  config: z.strictObject({ interval: duration.prefault('15s').describe('Time between readings.') }),
  emits,
  create: ({ interval }, context) => ({
    run: (emit, signal) => {
      context.ready()
      return context.clock.every(interval, signal, async () => {
        for (const records of reading(context)) await emit(records)
      })
    },
  }),
})
conformsToSource(source, { interval: '1s' })

conformsToProcessor(
  defineProcessor({
    name: 'conformance',
    summary: 'Drops whatever has no name, for the suites themselves.',
    config: z.strictObject({}),
    create: () => ({ decide: ({ name }) => (name === '' ? 'filter' : 'keep') }),
  }),
  {},
)

conformsToExporter(
  defineExporter({
    name: 'conformance',
    summary: 'Puts batches over HTTP, for the suites themselves.',
    config: z.strictObject({ url: z.string().describe('Where to put them.') }),
    create: ({ url }) => ({
      export: async ({ signal: kind, bytes }, signal) => {
        try {
          const answer = await fetch(`${url}/${kind}`, {
            method: 'PUT',
            body: bytes as Uint8Array<ArrayBuffer>,
            signal,
          })
          await answer.arrayBuffer()
        } catch (cause) {
          throw new RetryableError('PEER_UNREACHABLE', `no answer from ${url}`, { cause })
        }
        return { rejected: 0 }
      },
    }),
  }),
  { url: 'http://127.0.0.1:1' },
  { peer: httpPeer },
)

async function httpPeer() {
  const { createServer } = await import('node:http')
  let total = 0
  const waiting = new Map<number, () => void>()
  const server = createServer((request, response) => {
    void (async () => {
      const chunks: Buffer[] = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      total += countRecords(request.url === '/logs' ? 'logs' : 'metrics', Buffer.concat(chunks))
      response.setHeader('connection', 'close').end()
      waiting.get(total)?.()
    })()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : undefined
  const vanish = async (): Promise<void> => {
    server.closeAllConnections()
    if (server.listening) await new Promise((resolve) => server.close(resolve))
  }
  return {
    config: { url: `http://127.0.0.1:${port}` },
    received: (records: number) =>
      new Promise<void>((resolve) => {
        if (total >= records) resolve()
        else waiting.set(records, resolve)
      }),
    vanish,
    [Symbol.asyncDispose]: vanish,
  }
}

conformsToDriver(
  defineDriver({
    name: 'conformance',
    summary: 'Sets a number, for the suites themselves.',
    config: z.strictObject({}),
    desired: z.strictObject({ level: z.number().describe('The number.') }),
    create: () => ({
      observe: async (signal) => {
        signal.throwIfAborted()
        return { level: 0 }
      },
      plan: (desired, observed: { level: number }) =>
        desired.level === observed.level
          ? []
          : [{ kind: 'set', summary: `set the level to ${desired.level}`, disruptive: false }],
      apply: async () => undefined,
    }),
  }),
  {},
  { desired: { level: 3 }, converged: { level: 3 }, diverged: [{ level: 0 }, { level: 4 }] },
)

describe('the conformance suites', () => {
  test('find a key without a description, however deep, and an object that is not strict', () => {
    const schema = z.toJSONSchema(
      z.strictObject({
        named: z.string().describe('Described.'),
        bare: z.number(),
        list: z.array(z.object({ inner: z.string() })).describe('Described.'),
      }),
      { io: 'input' },
    )
    expect(faultsOf(schema as Parameters<typeof faultsOf>[0])).toEqual([
      'bare has no description',
      'list.inner has no description',
      'list is not a strict object',
    ])
  })

  test('find a timer and a listener that were left open', async () => {
    const timers: NodeJS.Timeout[] = []
    await expect(
      leavesNothingOpen(async () => void timers.push(setInterval(() => undefined, 1000))),
    ).rejects.toThrow('timers')
    timers.forEach(clearInterval)
    const servers: ReturnType<typeof createServer>[] = []
    await expect(
      leavesNothingOpen(async () => {
        const server = createServer().listen(0, '127.0.0.1')
        servers.push(server)
        await once(server, 'listening')
      }),
    ).rejects.toThrow('TCPServerWrap')
    for (const server of servers) server.close()
  })

  test('find records whose count, class or unit is not what their bytes say', () => {
    const points = samplePoints(3)
    expectWellFormed(points)
    expect(() => expectWellFormed({ ...points, count: 4 })).toThrow('to be 4')
    expect(() => expectWellFormed({ ...points, class: 'usage' })).toThrow('class of')
    expect(() => expectWellFormed({ ...points, from: points.from - 1n })).toThrow('to be')
    expect(() => expectWellFormed({ ...points, device: 'Not_A_Device' })).toThrow('device Not_A_Device')
    expect(() => expectDeclared(points, { 'test.level': { kind: 'gauge', unit: 'Cel' } })).toThrow(
      'to deeply equal',
    )
    expect(() => expectDeclared(points, emits)).toThrow('to deeply equal')
  })
})

describe('the fake clock', () => {
  test('fires timers in order and only when time passes', async () => {
    const clock = new FakeClock()
    const fired: string[] = []
    const { signal } = new AbortController()
    void clock.delay(200, signal).then(() => fired.push(`200 at ${clock.elapsedMs()}`))
    void clock.delay(100, signal).then(() => fired.push(`100 at ${clock.elapsedMs()}`))
    await clock.advance(99)
    expect(fired).toEqual([])
    await clock.advance(200)
    expect(fired).toEqual(['100 at 100', '200 at 200'])
    expect(clock.nowUnixNano() % 1_000_000_000n).toBe(299_000_000n)
  })

  test('forgets a delay that was aborted', async () => {
    const clock = new FakeClock()
    const controller = new AbortController()
    const waiting = clock.delay(100, controller.signal)
    controller.abort()
    await expect(waiting).rejects.toThrow('aborted')
    expect(clock.waiting).toBe(0)
  })
})

describe('golden text', () => {
  test('keeps integers beyond 2^53 exact and is one JSON document', () => {
    const text = golden(samplePoints(2))
    expect(text).toContain('"asInt": "9007199254740994"')
    expect(JSON.parse(golden([samplePoints(1), sampleLogs([{ body: { a: [1, 2.5] } }])]))).toHaveLength(2)
  })

  test('decodes through the header of a batch', () => {
    expect(collectPoints(sampleBatch(samplePoints(4)))).toHaveLength(4)
  })
})
