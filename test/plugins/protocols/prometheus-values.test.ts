import { describe, expect, test } from 'vitest'
import { Readings, encodeResource } from '../../../plugins/contract/index.ts'
import type { Attributes, MetricDeclarations } from '../../../plugins/contract/index.ts'
import { jsonToRequest } from '../../../plugins/protocols/otlp/json.ts'
import { prometheusName } from '../../../plugins/protocols/prometheus-names.ts'
import { NewestValues } from '../../../plugins/protocols/prometheus-values.ts'

const declared = {
  'hw.temperature': { kind: 'gauge', unit: 'Cel' },
  'system.network.io': { kind: 'counter', unit: 'By' },
  'test.queue': { kind: 'updowncounter', unit: '{item}' },
} as const satisfies MetricDeclarations

type Point = [keyof typeof declared, number | bigint, Attributes]

function request(
  points: readonly Point[],
  resource: Attributes = { 'host.id': 'dpu-1', 'service.name': 's' },
) {
  const scope = { name: 'test' }
  const readings = new Readings({
    scope,
    declared,
    device: 'dpu-1',
    resource: encodeResource(resource),
    timeUnixNano: 1_790_000_000_000_000_000n,
  })
  for (const [name, value, attributes] of points) readings.add(name, value, attributes)
  return Buffer.concat(readings.finish().map(({ bytes }) => bytes))
}

const values = (series = 100) => new NewestValues({ series, expireMs: 1000 })
const of = (metrics: object[]) =>
  jsonToRequest(
    'metrics',
    JSON.stringify({
      resourceMetrics: [
        {
          resource: { attributes: [{ key: 'host.id', value: { stringValue: 'dpu-1' } }] },
          scopeMetrics: [{ metrics }],
        },
      ],
    }),
  )

describe('the newest values as Prometheus text', () => {
  test.each([
    ['hw.temperature', 'Cel', 'gauge', 'hw_temperature_celsius'],
    ['system.network.io', 'By', 'counter', 'system_network_io_bytes_total'],
    ['system.cpu.utilization', '1', 'gauge', 'system_cpu_utilization_ratio'],
    ['hw.energy', 'J', 'counter', 'hw_energy_joules_total'],
    ['x.total', '{item}', 'counter', 'x_total'],
    ['link.rate', 'bit/s', 'gauge', 'link_rate_bits_per_second'],
    ['5g.signal', 'dBm', 'gauge', '_5g_signal_dbm'],
    ['http.server.duration_seconds', 's', 'histogram', 'http_server_duration_seconds'],
  ] as const)('call %s in %s, a %s, %s', (name, unit, kind, told) =>
    expect(prometheusName(name, unit, kind)).toBe(told),
  )

  test('are those that came last, exact, with device, service and attributes as labels', () => {
    const newest = values()
    newest.take(request([['hw.temperature', 40.5, { 'hw.id': 'a"b\\c\nd' }]]), 0)
    newest.take(
      request([
        ['hw.temperature', 41, { 'hw.id': 'a"b\\c\nd' }],
        ['hw.temperature', Number.NaN, { 'hw.id': 'x' }],
        ['system.network.io', 9_007_199_254_740_993n, { 'network.interface.name': 'p0' }],
        ['test.queue', -Infinity, {}],
      ]),
      1,
    )
    expect(newest.text(2)).toBe(
      [
        '# TYPE hw_temperature_celsius gauge',
        'hw_temperature_celsius{host_id="dpu-1",hw_id="a\\"b\\\\c\\nd",job="s"} 41',
        'hw_temperature_celsius{host_id="dpu-1",hw_id="x",job="s"} NaN',
        '# TYPE system_network_io_bytes_total counter',
        'system_network_io_bytes_total{host_id="dpu-1",job="s",network_interface_name="p0"} 9007199254740993',
        '# TYPE test_queue gauge',
        'test_queue{host_id="dpu-1",job="s"} -Inf',
        '',
      ].join('\n'),
    )
  })

  test('are the same series whatever the order of attributes or the run of the collector', () => {
    const newest = values()
    newest.take(request([['hw.temperature', 1, { a: 1, b: 2 }]]), 0)
    newest.take(
      request([['hw.temperature', 2, { b: 2, a: 1 }]], {
        'host.id': 'dpu-1',
        'service.name': 's',
        'service.instance.id': '01K00000000000000000000001',
      }),
      0,
    )
    expect(newest.size).toBe(1)
    expect(newest.text(0)).toContain('} 2\n')
  })

  test('of histograms and summaries are cumulative buckets and quantiles', () => {
    const newest = values()
    const histogram = {
      dataPoints: [
        { timeUnixNano: '1', count: '6', sum: 9.5, bucketCounts: ['1', '2', '3'], explicitBounds: [0.5, 1] },
      ],
      aggregationTemporality: 2,
    }
    const summary = {
      dataPoints: [
        { timeUnixNano: '1', count: '2', sum: 3, quantileValues: [{ quantile: 0.5, value: 1.5 }] },
      ],
    }
    newest.take(
      of([
        { name: 'h', unit: 's', histogram },
        { name: 'q', summary },
      ]),
      0,
    )
    expect(newest.text(0).split('\n')).toEqual([
      '# TYPE h_seconds histogram',
      'h_seconds_bucket{host_id="dpu-1",le="0.5"} 1',
      'h_seconds_bucket{host_id="dpu-1",le="1"} 3',
      'h_seconds_bucket{host_id="dpu-1",le="+Inf"} 6',
      'h_seconds_sum{host_id="dpu-1"} 9.5',
      'h_seconds_count{host_id="dpu-1"} 6',
      '# TYPE q summary',
      'q{host_id="dpu-1",quantile="0.5"} 1.5',
      'q_sum{host_id="dpu-1"} 3',
      'q_count{host_id="dpu-1"} 2',
      '',
    ])
  })

  test('leave out deltas, points without a value, and a second metric of one name but another type', () => {
    const newest = values()
    const point = (more: object) => ({ dataPoints: [{ timeUnixNano: '1', asInt: '1', ...more }] })
    newest.take(
      of([
        { name: 'd', sum: { ...point({}), aggregationTemporality: 1, isMonotonic: true } },
        { name: 'n', gauge: point({ flags: 1 }) },
        { name: 'a.b', gauge: point({}) },
        { name: 'a_b', summary: { dataPoints: [{ timeUnixNano: '1', count: '1', sum: 1 }] } },
      ]),
      0,
    )
    expect(newest.text(0)).toBe('# TYPE a_b gauge\na_b{host_id="dpu-1"} 1\n')
    expect(newest.leftOut).toBe(2)
  })

  test('are bounded in number, and forgotten when they say nothing any more', () => {
    const newest = values(2)
    const level = (id: number): Point => ['hw.temperature', id, { id }]
    newest.take(request([level(1), level(2), level(3)]), 0)
    expect([newest.size, newest.leftOut]).toEqual([2, 1])
    newest.take(request([level(2)]), 900)
    expect(newest.text(1500)).toMatch(/^# TYPE .*\n.*id="2".* 2\n$/)
    newest.take(request([level(3)]), 1500)
    expect([newest.size, newest.text(3000)]).toEqual([2, ''])
    expect(newest.size).toBe(0)
  })

  test('survive bytes that are no metrics', () => {
    const newest = values()
    newest.take(Buffer.from('0affffff', 'hex'), 0)
    expect(newest.text(0)).toBe('')
  })
})
