// The Prometheus exporter as somebody scrapes it: what it serves is read back by the reader of the source.
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Batch, Records } from '../../../plugins/contract/index.ts'
import { encodeResource } from '../../../plugins/contract/values.ts'
import { jsonToRequest } from '../../../plugins/protocols/otlp/json.ts'
import { ExpositionRecords } from '../../../plugins/protocols/prometheus/index.ts'
import { metricName } from '../../../plugins/protocols/prometheus/names.ts'
import prometheus from '../../../plugins/exporters/prometheus.ts'
import { configOf } from '../../support/conformance-definition.ts'
import type { ExporterPeer } from '../../support/conformance-exporter.ts'
import { conformsToExporter } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { freePort } from '../../support/ports.ts'
import { collectPoints, sampleBatch, sampleLogs, samplePoints } from '../../support/records.ts'

const never = new AbortController().signal
const scrape = async (url: string, headers: Record<string, string> = {}) =>
  (await fetch(url, { headers })).text()

async function peer(): Promise<ExporterPeer> {
  const port = await freePort()
  return {
    config: { listen: `127.0.0.1:${port}` },
    received: async (records) => {
      const text = await scrape(`http://127.0.0.1:${port}/metrics`)
      const samples = text.split('\n').filter((line) => line.startsWith('test_')).length
      const logs = /^log_records_total\{.*\} (\d+)$/m.exec(text)?.[1] ?? '0'
      expect(samples + Number(logs)).toBe(records)
    },
    [Symbol.asyncDispose]: async () => undefined,
  }
}

conformsToExporter(prometheus, { listen: '127.0.0.1:0' }, { peer, local: true })

async function start(config: object = {}) {
  const context = testContext()
  const exporter = prometheus.create(
    configOf(prometheus, { listen: '127.0.0.1:0', ...config }) as Parameters<typeof prometheus.create>[0],
    context,
  )
  const controller = new AbortController()
  const running = exporter.run?.(controller.signal)
  onTestFinished(async () => {
    controller.abort()
    await running
  })
  const url = await context.whenReady
  return { context, url, add: (batch: Batch) => exporter.export(batch, never) }
}

const request = (metrics: object[]): Batch => {
  const resource = { attributes: [{ key: 'host.id', value: { stringValue: 'dpu-1' } }] }
  const bytes = jsonToRequest(
    'metrics',
    JSON.stringify({ resourceMetrics: [{ resource, scopeMetrics: [{ metrics }] }] }),
  )
  const records: Records = {
    device: 'dpu-1',
    signal: 'metrics',
    class: 'resource',
    count: 1,
    from: 0n,
    to: 0n,
    bytes,
  }
  return sampleBatch(records)
}
const histogram = (aggregationTemporality: number) =>
  request([
    {
      name: 'wait',
      unit: 's',
      histogram: {
        aggregationTemporality,
        dataPoints: [{ count: '3', sum: 4.5, bucketCounts: ['1', '2'], explicitBounds: [1] }],
      },
    },
  ])

describe('the prometheus exporter', () => {
  test('serves the newest value of each series under the names of Prometheus', async () => {
    const { url, add } = await start()
    await add(sampleBatch(samplePoints(4)))
    const lines = (await scrape(url)).split('\n')
    expect(lines).toContain('# TYPE test_level_ratio gauge')
    expect(lines).toContain('test_level_ratio{host_id="dpu-under-test",job="test",test_index="2"} 2.5')
    expect(lines).toContain('test_total{host_id="dpu-under-test",job="test",test_index="1"} 9007199254740994')
    expect(lines.find((line) => line.startsWith('target_info'))).toContain('host_arch="arm64"')
  })

  test('what it serves is read back equal, in both formats', async () => {
    const { url, add } = await start()
    await add(sampleBatch(samplePoints(6)))
    await add(histogram(2))
    for (const accept of ['text/plain', 'application/openmetrics-text']) {
      const reader = new ExpositionRecords({
        scope: { name: 'test' },
        device: 'dpu-1',
        resource: encodeResource({}),
      })
      const text = await scrape(url, { accept })
      const { refused } = reader.take(Buffer.from(text), accept !== 'text/plain', 0n, 1000)
      const points = collectPoints(reader.flush())
      expect([refused, text.endsWith('# EOF\n')]).toEqual([0, accept !== 'text/plain'])
      expect(points.filter(({ name }) => name === 'test_level_ratio').map(({ value }) => value)).toEqual([
        0.5, 2.5, 4.5,
      ])
      expect(points.find(({ name }) => name === 'wait_seconds')?.type).toBe('histogram')
    }
  })

  test('histograms are cumulative, those of delta temporality added up', async () => {
    const { url, add } = await start()
    await add(histogram(1))
    await add(histogram(1))
    const lines = (await scrape(url)).split('\n').filter((line) => line.startsWith('wait'))
    expect(lines).toEqual([
      'wait_seconds_bucket{host_id="dpu-1",le="1"} 2',
      'wait_seconds_bucket{host_id="dpu-1",le="+Inf"} 6',
      'wait_seconds_sum{host_id="dpu-1"} 9',
      'wait_seconds_count{host_id="dpu-1"} 6',
    ])
  })

  test('a point without a value is no zero', async () => {
    const { url, add } = await start()
    await add(
      request([
        { name: 'gone', gauge: { dataPoints: [{ timeUnixNano: '1', flags: 1 }] } },
        { name: 'empty', gauge: { dataPoints: [{ timeUnixNano: '1' }] } },
      ]),
    )
    expect(await scrape(url)).not.toMatch(/^(gone|empty)/m)
  })

  test('log records are counted by severity', async () => {
    const { url, add } = await start()
    await add(sampleBatch(sampleLogs([{}, {}, { severity: 17 }])))
    const lines = (await scrape(url)).split('\n').filter((line) => line.startsWith('log_records_total'))
    expect(lines).toEqual([
      'log_records_total{host_id="dpu-under-test",job="test",severity="info"} 2',
      'log_records_total{host_id="dpu-under-test",job="test",severity="error"} 1',
    ])
  })

  test('series of which nothing comes are gone, others stay', async () => {
    const { url, add, context } = await start({ expire: '1m' })
    await add(histogram(2))
    await context.clock.advance(40_000)
    await add(sampleBatch(samplePoints(1)))
    await context.clock.advance(40_000)
    const text = await scrape(url)
    expect([text.includes('wait_seconds'), text.includes('test_level')]).toEqual([false, true])
  })

  test('more series than it may hold are rejected and counted', async () => {
    const { add } = await start({ max_series: 3 })
    expect(await add(sampleBatch(samplePoints(6)))).toMatchObject({
      rejected: 4,
      reason: expect.stringContaining('3 series'),
    })
  })

  test('label values are escaped, and labels that become one are joined', async () => {
    const { url, add } = await start()
    const attributes = ['a.b', 'a_b'].map((key) => ({ key, value: { stringValue: `"${key}"\n\\` } }))
    await add(request([{ name: 'x', gauge: { dataPoints: [{ attributes, asDouble: 1 }] } }]))
    expect(await scrape(url)).toContain(String.raw`x{a_b="\"a.b\"\n\\;\"a_b\"\n\\",host_id="dpu-1"} 1`)
  })

  test('elsewhere is nothing, and that is said', async () => {
    const { url } = await start()
    const answer = await fetch(url.replace('/metrics', '/'))
    expect([answer.status, await answer.text()]).toEqual([404, 'the metrics are at /metrics\n'])
    expect((await fetch(url, { method: 'POST', body: 'x' })).status).toBe(405)
  })

  test.each([
    ['hw.temperature', 'Cel', false, true, 'hw_temperature_celsius'],
    ['system.cpu.time', 's', true, false, 'system_cpu_time_seconds_total'],
    ['system.network.io', 'By', true, false, 'system_network_io_bytes_total'],
    ['system.cpu.utilization', '1', false, true, 'system_cpu_utilization_ratio'],
    ['hw.errors', '{error}', true, false, 'hw_errors_total'],
    ['hw.network.bandwidth.limit', 'By/s', false, false, 'hw_network_bandwidth_limit_bytes_per_second'],
    ['requests_total', '', true, false, 'requests_total'],
    ['2xx', '', false, true, '_2xx'],
  ])('the name of %s in %s', (name, unit, isCounter, isGauge, expected) => {
    expect(metricName(name, unit, isCounter, isGauge)).toBe(expected)
  })
})
