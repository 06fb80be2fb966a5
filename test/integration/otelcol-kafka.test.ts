// An OpenTelemetry Collector on both sides of Kafka: what its exporter writes is taken in and accounted for, and what we
// write is read by its receiver.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ulid } from 'ulid'
import { partitionFor } from '../../aggregator/journal/kafka-partition.ts'
import { testContext } from '../support/context.ts'
import { brokers, headedBatch, kafkaPlace, noKafka, openTestKafka, testSender } from '../support/kafka.ts'
import { booksOf, startMember, storedIn } from '../support/member.ts'
import { freePorts } from '../support/ports.ts'
import { sampleBatch, samplePoints } from '../support/records.ts'
import { eventually } from '../support/programs.ts'

const services = resolve(import.meta.dirname, '../../../shared/services/services')
const found = existsSync(services)
  ? spawnSync(services, ['path', 'otelcol'], { encoding: 'utf8' })
  : undefined
const binary = found?.status === 0 ? found.stdout.trim() : ''
const missing =
  noKafka ?? (binary === '' ? 'no OpenTelemetry Collector: ../shared/services can install it' : undefined)

const request = (from: number, count: number): string =>
  JSON.stringify({
    resourceLogs: [
      {
        resource: { attributes: [{ key: 'host.id', value: { stringValue: 'edge-7' } }] },
        scopeLogs: [
          {
            logRecords: Array.from({ length: count }, (_, index) => ({
              timeUnixNano: `${Date.now()}000000`,
              severityNumber: 9,
              body: { stringValue: `from otelcol ${from + index}` },
            })),
          },
        ],
      },
    ],
  })

const points = JSON.stringify({
  resourceMetrics: [
    {
      resource: { attributes: [{ key: 'host.id', value: { stringValue: 'edge-7' } }] },
      scopeMetrics: [
        {
          metrics: [
            {
              name: 'edge.level',
              gauge: { dataPoints: [1, 2].map((asInt) => ({ timeUnixNano: `${Date.now()}000000`, asInt })) },
            },
          ],
        },
      ],
    },
  ],
})

describe('an OpenTelemetry Collector beside Kafka', () => {
  test('writes what we account for as a stream of its partition, and reads what we write', async ({
    onTestFinished,
    skip,
  }) => {
    if (missing !== undefined) skip(missing)
    const place = kafkaPlace()
    const folder = mkdtempSync(join(tmpdir(), 'dpulse-otelcol-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    const { log } = testContext()
    const member = await startMember(await openTestKafka(place), join(folder, 'store'), log)
    onTestFinished(() => member.stop())
    const [http = 0] = await freePorts(1)
    const [logs, metrics] = [`${place.prefix}otlp_logs`, `${place.prefix}otlp_metrics`]
    const out = join(folder, 'out.json')
    writeFileSync(
      join(folder, 'config.yaml'),
      `
receivers:
  otlp: { protocols: { http: { endpoint: '127.0.0.1:${http}' } } }
  kafka:
    brokers: [${brokers.join(', ')}]
    group_id: ${place.group}-otelcol
    initial_offset: earliest
    logs: { topics: [${logs}], encoding: otlp_proto }
    metrics: { topics: [${metrics}], encoding: otlp_proto }
exporters:
  kafka:
    brokers: [${brokers.join(', ')}]
    logs: { topic: ${logs}, encoding: otlp_proto }
    metrics: { topic: ${metrics}, encoding: otlp_proto }
    producer: { compression: zstd }
  file: { path: ${out}, flush_interval: 100ms }
service:
  telemetry: { metrics: { level: none } }
  pipelines:
    logs/in: { receivers: [otlp], exporters: [kafka] }
    logs/out: { receivers: [kafka], exporters: [file] }
    metrics/in: { receivers: [otlp], exporters: [kafka] }
    metrics/out: { receivers: [kafka], exporters: [file] }
`,
    )
    const otelcol = spawn(binary, ['--config', join(folder, 'config.yaml')], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let errors = ''
    otelcol.stderr.setEncoding('utf8').on('data', (text: string) => (errors = (errors + text).slice(-4000)))
    onTestFinished(async () => {
      if (otelcol.exitCode !== null) return
      otelcol.kill('SIGKILL')
      await once(otelcol, 'exit')
    })
    const post = async (signal: string, body: string): Promise<boolean> => {
      if (otelcol.exitCode !== null) throw new Error(errors)
      const headers = { 'content-type': 'application/json' }
      return (await fetch(`http://127.0.0.1:${http}/v1/${signal}`, { method: 'POST', headers, body })).ok
    }
    await eventually('the collector takes a request', 30, () => post('logs', request(0, 7)))
    await eventually('another', 30, () => post('logs', request(7, 5)))
    await eventually('one of points', 30, () => post('metrics', points))
    const { accounts } = booksOf(member.journal)
    const account = () => [...accounts.entries()].filter(([key]) => key.includes('/edge-7/'))
    const records = () => account().reduce((sum, [, one]) => sum + one.records, 0)
    await eventually('all are in the books', 30, () => records() === 14)
    for (const [key, one] of account()) {
      expect(key).toMatch(/^kafka-otlp-(logs-\d\/.*\/log|metrics-\d\/.*\/resource)$/)
      expect(one.produced).toBe(one.records)
    }
    expect((await storedIn(join(folder, 'store'))).size).toBe(3)

    const batch = headedBatch({ device: 'dpu-1', session: ulid(), seq: 1, count: 4 })
    const readings = sampleBatch(samplePoints(2, 'dpu-1'))
    const partition = partitionFor(batch.key, 3)
    await testSender(place).send([
      { ...batch, partition },
      { topic: 'otlp_metrics', key: 'dpu-1', partition, value: readings.bytes },
    ])
    const expected = [
      '"line 3"',
      'from otelcol 11',
      '"dpu-1"',
      '"edge.level"',
      '"test.level"',
      '"test.total"',
    ]
    await eventually('it has read our batches', 30, () => {
      const text = existsSync(out) ? readFileSync(out, 'utf8') : ''
      return expected.every((one) => text.includes(one))
    })
  }, 120_000)
})
