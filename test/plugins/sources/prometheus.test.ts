// The Prometheus source against servers that expose recorded metrics, and its two formats against a model.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { Records } from '../../../plugins/contract/batch.ts'
import { encodeResource } from '../../../plugins/contract/values.ts'
import { ExpositionRecords } from '../../../plugins/protocols/prometheus/index.ts'
import prometheus from '../../../plugins/sources/prometheus.ts'
import { configOf, expectWellFormed } from '../../support/conformance-definition.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectPoints } from '../../support/records.ts'

const fixture = (name: string): Buffer =>
  readFileSync(join(import.meta.dirname, `../../fixtures/prometheus/${name}.txt`))
const openMetricsType = 'application/openmetrics-text; version=1.0.0; charset=utf-8'

/** Nobody listens there: the target is down, which is a reading too. */
conformsToSource(prometheus, { targets: ['http://127.0.0.1:9'], interval: '15s' })

async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  const server = createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** One scrape, and what came of it. */
async function scrape(config: object) {
  const context = testContext()
  const received: Records[] = []
  const controller = new AbortController()
  const source = prometheus.create(
    configOf(prometheus, config) as Parameters<typeof prometheus.create>[0],
    context,
  )
  const running = source.run(async (records) => void received.push(records), controller.signal)
  await vi.waitFor(() => expect(collectPoints(received).some(({ name }) => name === 'up')).toBe(true))
  controller.abort()
  await running
  const points = collectPoints(received)
  return {
    context,
    received,
    points,
    valueOf: (name: string) => points.find((one) => one.name === name)?.value,
  }
}

const exposition = (): ExpositionRecords =>
  new ExpositionRecords({ scope: { name: 'test' }, device: 'dpu-1', resource: encodeResource({}) })
const now = 1_790_000_000_000_000_000n

function take(text: string | Buffer, openMetrics = false) {
  const of = exposition()
  const taken = of.take(Buffer.from(text), openMetrics, now, 100_000)
  return { ...taken, records: of.flush() }
}
/** The metrics of all Records as OTLP/JSON. */
const metricsOf = (records: readonly Records[]): Record<string, unknown>[] =>
  records.flatMap((one) => {
    const { resourceMetrics } = JSON.parse(golden(one)) as {
      resourceMetrics: { scopeMetrics: { metrics: Record<string, unknown>[] }[] }[]
    }
    return resourceMetrics.flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics }) => metrics))
  })

describe('the prometheus source', () => {
  test('scrapes the classic format as InfluxDB exposes it', async () => {
    const taken = take(fixture('influxdb'))
    expect(taken.refused).toBe(0)
    await expect(golden(taken.records)).toMatchFileSnapshot('../../golden/prometheus/influxdb.json')
  })

  test('scrapes OpenMetrics as its own tests write it', async () => {
    const taken = take(fixture('openmetrics'), true)
    expect(taken.refused).toBe(0)
    await expect(golden(taken.records)).toMatchFileSnapshot('../../golden/prometheus/openmetrics.json')
    const { records } = take(fixture('escaping'), true)
    expect(collectPoints(records).map(({ attributes }) => attributes.foo)).toEqual([
      'b"a\nr',
      String.raw`b\a\z`,
    ])
  })

  test('asks for OpenMetrics, takes gzip, and names the target in the Resource', async () => {
    let asked: IncomingMessage | undefined
    const url = await serve((request, response) => {
      asked = request
      response.writeHead(200, { 'content-type': openMetricsType, 'content-encoding': 'gzip' })
      response.end(gzipSync('# TYPE a gauge\na 1.5 1700000000.25\n# EOF\n'))
    })
    const { points, valueOf } = await scrape({ targets: [url], job: 'node' })
    expect(asked?.url).toBe('/metrics')
    expect(asked?.headers.accept).toMatch(/^application\/openmetrics-text;version=1/)
    expect([valueOf('up'), valueOf('scrape_samples_scraped')]).toEqual([1, 1])
    expect(points.find(({ name }) => name === 'a')).toMatchObject({
      value: 1.5,
      time: 1_700_000_000_250_000_000n,
      resource: { 'service.name': 'node', 'service.instance.id': new URL(url).host, 'url.scheme': 'http' },
    })
  })

  test('a target that is down, slow, too large or no exposition is down, and the reason is told', async () => {
    const web = await serve((_, response) =>
      response.writeHead(200, { 'content-type': 'text/html' }).end('<p>'),
    )
    const broken = await serve((_, response) => response.writeHead(500).end('no'))
    const large = await serve((_, response) => response.end('a 1\n'.repeat(1000)))
    const slow = await serve(() => undefined)
    const targets = ['http://127.0.0.1:9', web, broken, large, slow]
    for (const [index, target] of targets.entries()) {
      const { context, valueOf } = await scrape({ targets: [target], max_size: '1KiB', timeout: '100ms' })
      expect(valueOf('up')).toBe(0)
      const reasons = [
        'ECONNREFUSED',
        'is a web page',
        'answered 500',
        'more than 1024 bytes',
        'within 100 ms',
      ]
      expect(String(context.logged[0]?.fields.error)).toContain(reasons[index])
    }
  })

  test('logs in as it is told to', async () => {
    const seen: (string | undefined)[] = []
    const url = await serve((request, response) => {
      seen.push(request.headers.authorization)
      response.end('a 1\n')
    })
    process.env.PROMETHEUS_TEST = 'pässword'
    await scrape({ targets: [url], token: { env: 'PROMETHEUS_TEST' } })
    await scrape({ targets: [url], username: 'u', password: { env: 'PROMETHEUS_TEST' } })
    const basic = Buffer.from('u:pässword').toString('base64')
    expect(seen).toEqual([expect.stringMatching(/^Bearer /), `Basic ${basic}`])
  })

  test('what the metrics are about may be another device', async () => {
    const url = await serve((_, response) => response.end('a 1\n'))
    const { received } = await scrape({ targets: [url], device: 'BMC 7' })
    expect(new Set(received.map(({ device }) => device))).toEqual(new Set(['bmc-7']))
  })
})

describe('an exposition', () => {
  test('keeps counters, gauges and what has no type apart', () => {
    const { records } = take(
      '# TYPE a counter\na 3\n# TYPE b gauge\nb -1\nc 2\n# TYPE d_total counter\nd_total 4',
    )
    expect(collectPoints(records)).toMatchObject([
      { name: 'a', type: 'sum', monotonic: true, temporality: 2, value: 3 },
      { name: 'b', type: 'gauge', value: -1 },
      { name: 'c', type: 'gauge', value: 2 },
      { name: 'd_total', type: 'sum', value: 4 },
    ])
  })

  test('puts histograms of several label sets together, in whatever order their lines come', () => {
    const { records, refused } = take(
      [
        '# TYPE h histogram',
        'h_bucket{le="1",x="a"} 1',
        'h_bucket{x="b",le="1"} 2',
        'h_bucket{x="a",le="+Inf"} 3',
        'h_bucket{x="b",le="+Inf"} 2',
        'h_sum{x="a"} 10',
        'h_count{x="a"} 3',
        'h_count{x="b"} 2',
      ].join('\n'),
    )
    expect(refused).toBe(0)
    expect(metricsOf(records)).toMatchObject([
      {
        name: 'h',
        histogram: {
          aggregationTemporality: 2,
          dataPoints: [
            { count: '3', sum: 10, bucketCounts: ['1', '2'], explicitBounds: [1] },
            { count: '2', bucketCounts: ['2', '0'], explicitBounds: [1] },
          ],
        },
      },
    ])
  })

  test('a histogram whose buckets fall is refused by name, its neighbours are taken', () => {
    const taken = take('# TYPE h histogram\nh_bucket{le="1"} 5\nh_bucket{le="+Inf"} 3\n# TYPE g gauge\ng 1')
    expect(taken).toMatchObject({ refused: 1, first: { reason: 'h: buckets that are not cumulative' } })
    expect(collectPoints(taken.records).map(({ name }) => name)).toEqual(['g'])
  })

  test('NaN is no value, infinities are', () => {
    const { records } = take(
      'a NaN\nb +Inf\nc -Inf\n# TYPE s summary\ns{quantile="0.5"} NaN\ns_sum 0\ns_count 0',
    )
    expect(collectPoints(records).map(({ name, value }) => [name, value])).toEqual([
      ['b', Infinity],
      ['c', -Infinity],
      ['s', undefined],
    ])
  })

  test('names and labels in quotes are those of Prometheus 3', () => {
    const { records } = take(
      '{"my.metric","my label"="x y",z="1"} 5\n# TYPE "other.one" counter\n{"other.one"} 6',
    )
    expect(collectPoints(records)).toMatchObject([
      { name: 'my.metric', attributes: { 'my label': 'x y', z: '1' }, value: 5 },
      { name: 'other.one', type: 'sum', value: 6 },
    ])
  })

  test.each([
    ['{x="1"} 5', 'no name'],
    ['a{x="1} 5', 'a text without its closing quote'],
    ['a{x=1} 5', 'a label whose value is not in quotes'],
    ['a{x="1"', 'labels that are not closed'],
    ['a{x} 5', 'a label without a value'],
    ['a', 'value  is no number'],
    ['a five', 'value five is no number'],
    ['a 5 six', 'a timestamp that is no time'],
    ['a 5 6 7', 'text behind the timestamp'],
    [`a{x="${'x'.repeat(70_000)}"} 5`, 'longer than 65536 bytes'],
  ])('of which a line is malformed says why: %s', (text, reason) => {
    const taken = take(`b 1\n${text}\nc 2`)
    expect(taken.first).toEqual({ line: 2, reason: expect.stringContaining(reason) as string })
    expect(collectPoints(taken.records).map(({ name }) => name)).toEqual(['b', 'c'])
  })

  test('reads exemplars past', () => {
    const { records, refused } = take(
      '# TYPE a counter\na_total{x="1"} 5 # {trace_id="abc # d"} 0.5 123.4\n# EOF',
      true,
    )
    expect([refused, collectPoints(records).map(({ value }) => value)]).toEqual([0, [5]])
  })

  test('takes no more samples than it may', () => {
    const taken = exposition().take(Buffer.from('a 1\nb 2\nc 3'), false, now, 2)
    expect(taken).toMatchObject({ samples: 3, refused: 1, first: { reason: 'more than 2 samples' } })
  })

  const name = fc.stringMatching(/^[a-z_:][a-z0-9_:]{0,10}$/)
  const label = fc.tuple(fc.stringMatching(/^[a-z_]{1,6}$/), fc.string({ unit: 'grapheme', maxLength: 10 }))
  const sample = fc.record({
    name,
    labels: fc.uniqueArray(label, { maxLength: 4, selector: ([key]) => key }),
    value: fc.double({ noNaN: true }),
  })
  const escaped = (text: string): string =>
    text.replaceAll(/[\\"\n]/g, (one) => (one === '\n' ? String.raw`\n` : `\\${one}`))

  test('of random gauges is read back equal', () => {
    fc.assert(
      fc.property(fc.array(sample, { maxLength: 20 }), (samples) => {
        const text = samples.map(({ name: of, labels, value }) => {
          const inner = labels.map(([key, content]) => `${key}="${escaped(content)}"`).join(',')
          return `${of}{${inner}} ${value === Infinity ? '+Inf' : value === -Infinity ? '-Inf' : String(value)}`
        })
        const { records, refused } = take(text.join('\n'))
        expect(refused).toBe(0)
        const key = (of: string, labels: [string, unknown][], value: unknown): string =>
          JSON.stringify([of, labels.map((one) => JSON.stringify(one)).toSorted(), String(value)])
        const found = collectPoints(records).map((point) =>
          key(point.name, Object.entries(point.attributes), point.value),
        )
        const expected = samples.map(({ name: of, labels, value }) => key(of, labels, value))
        expect(found.toSorted()).toEqual(expected.toSorted())
      }),
    )
  })

  test('of random bytes crashes nothing, and what comes of it is well-formed', () => {
    const piece = fc.constantFrom(
      'a',
      '_bucket',
      '{',
      '}',
      '"',
      '=',
      ',',
      'le="1"',
      ' ',
      '1',
      'NaN',
      '\n',
      '#',
      ' TYPE a histogram\n',
      '\\',
    )
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 100 }).map((one) => Buffer.from(Buffer.from(one).toString('utf8'))),
      fc.array(piece, { maxLength: 60 }).map((pieces) => Buffer.from(pieces.join(''))),
    )
    fc.assert(
      fc.property(bytes, fc.boolean(), (body, openMetrics) => {
        for (const records of take(body, openMetrics).records) expectWellFormed(records)
      }),
      { numRuns: 500 },
    )
  })
})
