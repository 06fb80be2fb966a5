// The StatsD source on real sockets, and what its lines add up to.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type * as z from 'zod'
import type { Records } from '../../../plugins/contract/index.ts'
import statsd, { StatsdIntake } from '../../../plugins/sources/statsd.ts'
import { expectWellFormed } from '../../support/conformance-definition.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectLogs, collectPoints } from '../../support/records.ts'

type Config = z.input<typeof statsd.config>
const example = { udp: '127.0.0.1:0' }
const portOf = (address: string): number => Number(/udp:\/\/[^ ]*:(\d+)/.exec(address)?.[1])

async function send(port: number, text: string): Promise<void> {
  const socket = createSocket('udp4')
  const sent = Promise.withResolvers<void>()
  socket.send(text, port, '127.0.0.1', (error) => (error ? sent.reject(error) : sent.resolve()))
  await sent.promise
  socket.close()
}

conformsToSource(statsd, example, {
  provoke: async ({ context }) => {
    await send(portOf(await context.whenReady), 'a:1|c')
    await context.clock.advance(10_000)
  },
})

function intake(config: Config = {}) {
  const context = testContext()
  const source = new StatsdIntake(statsd.config.parse(config), context)
  const take = (...lines: string[]): void => {
    const bytes = Buffer.from(lines.join('\n'))
    source.take(bytes, 0, bytes.length, false)
  }
  const points = () => collectPoints(source.reading().filter(({ signal }) => signal === 'metrics'))
  /** Names and values of one reading. */
  const values = () => Object.fromEntries(points().map(({ name, value }) => [name, value]))
  return { context, source, take, points, values }
}

describe('the statsd source', () => {
  test('takes every documented example', async () => {
    const { source, take, context } = intake()
    const text = readFileSync(join(import.meta.dirname, '../../fixtures/statsd/documented.txt'), 'utf8')
    take(...text.trimEnd().split('\n'))
    await expect(golden(source.reading())).toMatchFileSnapshot('../../golden/statsd/documented.json')
    expect(context.drops).toEqual([])
  })

  test('receives datagrams, emits at the interval and once more when it stops', async () => {
    const context = testContext()
    const received: Records[] = []
    const controller = new AbortController()
    const source = statsd.create(statsd.config.parse(example), context)
    const running = source.run(async (records) => void received.push(records), controller.signal)
    onTestFinished(() => controller.abort())
    const port = portOf(await context.whenReady)
    await send(port, 'a:1|c\na:2|c\n')
    await vi.waitFor(async () => {
      await context.clock.advance(10_000)
      expect(collectPoints(received)).toMatchObject([{ name: 'a', value: 3, type: 'sum', monotonic: true }])
    })
    await send(port, 'a:4|c')
    controller.abort()
    await running
    expect(collectPoints(received).at(-1)?.value).toBe(7)
  })

  test('takes lines over TCP in whatever pieces they come, and refuses one that is too long', async () => {
    const context = testContext()
    const received: Records[] = []
    const controller = new AbortController()
    const source = statsd.create(statsd.config.parse({ tcp: '127.0.0.1:0', max_connections: 1 }), context)
    const running = source.run(async (records) => void received.push(records), controller.signal)
    onTestFinished(() => controller.abort())
    const port = Number(/^tcp:\/\/127\.0\.0\.1:(\d+)$/.exec(await context.whenReady)?.[1])
    const first = connect(port, '127.0.0.1')
    await once(first, 'connect')
    const second = connect(port, '127.0.0.1')
    await Promise.all([once(second, 'close'), once(second, 'connect')])
    for (const piece of ['a:1|c\na:', '2|', 'c\r\n', `${'x'.repeat(10_000)}:1|c\na:4|c`]) {
      first.write(piece)
      await new Promise(setImmediate)
    }
    first.end()
    await once(first, 'close')
    controller.abort()
    await running
    expect(collectPoints(received)).toMatchObject([{ name: 'a', value: 7 }])
    expect(context.drops).toMatchObject([{ reason: 'invalid', count: 1 }])
    expect(context.logged.map(({ message }) => message)).toEqual([
      'connection refused: there are too many',
      'StatsD lines were refused',
    ])
  })

  test('counters are totals since their first line, and are silent while nothing counts', () => {
    const { take, values } = intake()
    take('hits:1|c', 'hits:2|c|@0.5', 'hits:1:1:1|c')
    expect(values()).toEqual({ hits: 8 })
    expect(values()).toEqual({})
    take('hits:1|c')
    expect(values()).toEqual({ hits: 9 })
  })

  test('a counter that expired begins anew, with a later start', async () => {
    const { take, points, context } = intake({ expire: '10s' })
    take('hits:5|c')
    const [before] = points()
    await context.clock.advance(11_000)
    points()
    take('hits:1|c')
    const [after] = points()
    expect([before?.value, after?.value]).toEqual([5, 1])
    expect((after?.start ?? 0n) - (before?.start ?? 0n)).toBe(11_000_000_000n)
  })

  test('gauges are set, and changed by a sign', () => {
    const { take, values } = intake()
    take('level:10|g', 'level:-3|g', 'level:+1.5|g')
    expect(values()).toEqual({ level: 8.5 })
    take('level:-10|g')
    expect(values()).toEqual({ level: -1.5 })
  })

  test('timings become cumulative histograms, sampled ones counted as often as they stand for', () => {
    const { source, take } = intake({ buckets: [10, 100] })
    take('t:10|ms', 't:11|ms', 't:1000|ms|@0.5')
    const [records] = source.reading()
    const text = records === undefined ? '' : golden(records)
    const metric = JSON.parse(text).resourceMetrics[0].scopeMetrics[0].metrics[0]
    expect(metric).toMatchObject({
      name: 't',
      unit: 'ms',
      histogram: {
        aggregationTemporality: 2,
        dataPoints: [{ count: '4', sum: 2021, bucketCounts: ['1', '1', '2'], explicitBounds: [10, 100] }],
      },
    })
  })

  test('a set is the number of its different members in the interval', () => {
    const { take, values } = intake()
    take('users:a|s', 'users:b|s', 'users:a:c|s')
    expect(values()).toEqual({ users: 3 })
    take('users:a|s')
    expect(values()).toEqual({ users: 1 })
  })

  test('tags of both kinds are one series whatever their order', () => {
    const { take, points } = intake()
    take('a,x=1,y=2:1|c', 'a:1|c|#y:2,x:1', 'a,y=2:1|c|#x:1', 'a:1|c|#flag')
    expect(points()).toMatchObject([
      { value: 3, attributes: { x: '1', y: '2' } },
      { value: 1, attributes: { flag: 'true' } },
    ])
  })

  test('names and tags that read alike when joined are different series', () => {
    const { take, points } = intake()
    take('ab:1|c|#c', 'a:1|c|#bc')
    expect(points().map(({ name, attributes }) => [name, Object.keys(attributes)])).toEqual([
      ['ab', ['c']],
      ['a', ['bc']],
    ])
  })

  test('a bad line is counted with its reason, its neighbours are taken', () => {
    const { take, values, context } = intake()
    take('a:1|c', 'nonsense', 'b:x|g', 'c:1|q', ':1|c', 'd:1|c|@0', 'e:-1|c', 'f:1', '_e{9,9}:x|y', 'g:2|g')
    expect(values()).toEqual({ a: 1, g: 2 })
    expect(context.drops).toEqual([{ class: 'resource', reason: 'invalid', count: 8 }])
    expect(context.logged).toMatchObject([
      { level: 'warn', fields: { count: 8, reason: 'no value: expected name:value|type', line: 'nonsense' } },
    ])
  })

  test('takes no more series than it may, and goes on counting those that it has', () => {
    const { take, values, context } = intake({ max_series: 2 })
    take('a:1|c', 'b:1|c', 'c:1|c', 'a:1|c')
    expect(values()).toEqual({ a: 2, b: 1 })
    expect(context.drops).toMatchObject([{ reason: 'invalid', count: 1 }])
  })

  test('events are log records of their time and severity', () => {
    const { source, take } = intake()
    take('_e{5,4}:title|text|d:1700000000|t:error|h:web-1|#a:b')
    expect(collectLogs(source.reading())).toMatchObject([
      {
        time: 1_700_000_000_000_000_000n,
        severityNumber: 17,
        body: 'text',
        attributes: { 'event.title': 'title', alert_type: 'error', host: 'web-1', a: 'b' },
      },
    ])
  })

  test('random counters add up as a plain map does', () => {
    const name = fc.constantFrom('a', 'b', 'c.d')
    const tag = fc.constantFrom('', '|#x:1', '|#x:2,y', '|#y,x:2')
    const line = fc.tuple(name, fc.integer({ min: 0, max: 1e6 }), tag)
    fc.assert(
      fc.property(fc.array(fc.array(line, { maxLength: 20 }), { maxLength: 5 }), (readings) => {
        const { take, points } = intake()
        const model = new Map<string, number>()
        const found = new Map<string, number>()
        for (const lines of readings) {
          for (const [key, value, tags] of lines) {
            const series = key + JSON.stringify(tags.slice(2).split(',').toSorted())
            model.set(series, (model.get(series) ?? 0) + value)
          }
          take(...lines.map(([key, value, tags]) => `${key}:${value}|c${tags}`))
          for (const point of points()) {
            const tags = Object.entries(point.attributes).map(([key, value]) =>
              key === 'y' ? key : `${key}:${value as string}`,
            )
            found.set(
              point.name + JSON.stringify(tags.length > 0 ? tags.toSorted() : ['']),
              Number(point.value),
            )
          }
        }
        expect(found).toEqual(model)
      }),
    )
  })

  test('random bytes crash nothing, and what they add up to is well-formed', () => {
    const piece = fc.constantFrom(
      'a',
      ':',
      '|',
      'c',
      'g',
      'ms',
      's',
      '@',
      '#',
      ',',
      '=',
      '1',
      '-',
      '\n',
      '_e{',
      '_sc|',
      '\xff',
    )
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 100 }).map((one) => Buffer.from(one)),
      fc.array(piece, { maxLength: 60 }).map((pieces) => Buffer.from(pieces.join(''), 'latin1')),
    )
    fc.assert(
      fc.property(bytes, (datagram) => {
        const { source } = intake()
        source.take(datagram, 0, datagram.length, false)
        for (const records of source.reading()) expectWellFormed(records)
      }),
      { numRuns: 300 },
    )
  })
})
