// Quotas of senders over OTLP/gRPC, as two real clients see them: grpc-js, which shows status and details as they came,
// and the exporter of the OpenTelemetry SDK.
import type { ServiceError } from '@grpc/grpc-js'
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-grpc'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics'
import type { PushMetricExporter, ResourceMetrics } from '@opentelemetry/sdk-metrics'
import { afterEach, expect, onTestFinished, test, vi } from 'vitest'
import { ledgerOf } from '../../collector/api.ts'
import { decodeStatus } from '../../plugins/protocols/otlp/answers.ts'
import { jsonToRequest } from '../../plugins/protocols/otlp/json.ts'
import { grpcMethod } from '../../plugins/protocols/otlp/methods.ts'
import otlp from '../../plugins/sources/otlp.ts'
import { call, closeAll, grpcClient } from '../plugins/protocols/otlp/senders.ts'
import { startWithQuotas } from './with-quotas.ts'

afterEach(closeAll)

const logs = (service: string, count: number): Buffer =>
  Buffer.from(
    jsonToRequest(
      'logs',
      JSON.stringify({
        resourceLogs: [
          {
            resource: { attributes: [{ key: 'service.name', value: { stringValue: service } }] },
            scopeLogs: [
              { logRecords: Array.from({ length: count }, () => ({ body: { stringValue: 'x' } })) },
            ],
          },
        ],
      }),
    ),
  )

/** RESOURCE_EXHAUSTED. */
const exhausted = 8
const start = () =>
  startWithQuotas(
    otlp,
    '{ records: 500, burst: 100ms, by: service }',
    "grpc: '127.0.0.1:0', http: '127.0.0.1:0'",
  )

async function refusalOf(attempt: Promise<unknown>): Promise<ServiceError | undefined> {
  try {
    await attempt
    return undefined
  } catch (error) {
    return error as ServiceError
  }
}

test('gRPC: who is beyond its quota is told RESOURCE_EXHAUSTED and when to come again, and gets through then', async () => {
  const { runtime, port, counts } = await start()
  const client = grpcClient(port)
  const send = (service: string, count: number) => call(client, grpcMethod('logs'), logs(service, count))
  await send('noisy', 2000) // taken whole: nothing was owed before
  // A few requests wait; the others are not let into the memory.
  const answers = Array.from({ length: 12 }, () => refusalOf(send('noisy', 1)))
  const refused = await Promise.any(
    answers.map(async (answer) => (await answer) ?? Promise.reject(new Error('it was taken'))),
  )
  await send('quiet', 10)
  expect(counts().get('quiet')).toMatchObject({ records: 10, slowedSeconds: 0 })
  expect(refused.code).toBe(exhausted)
  const [details] = refused.metadata.get('grpc-status-details-bin')
  const { message, retryAfterMs = 0 } = decodeStatus(details as Buffer)
  expect(message).toBe('this sender is beyond its quota')
  expect(retryAfterMs).toBeGreaterThan(0)
  expect(retryAfterMs).toBeLessThanOrEqual(4000)
  // As a client does that keeps to what it is told.
  await new Promise((resume) => setTimeout(resume, retryAfterMs))
  await send('noisy', 1)
  const taken = (await Promise.all(answers)).filter((answer) => answer === undefined).length
  await vi.waitFor(() => expect(ledgerOf(runtime).produced).toBe(2000 + 10 + 1 + taken))
  expect(ledgerOf(runtime)).toMatchObject({ dropped: {}, balanced: true })
})

test('gRPC: the exporter of the OpenTelemetry SDK is refused as exhausted, and nothing of it is counted', async () => {
  const { runtime, port, counts } = await start()
  const exporter = new OTLPMetricExporter({ url: `http://127.0.0.1:${port}` })
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })
  const resource = resourceFromAttributes({ 'service.name': 'noisy' })
  const provider = new MeterProvider({ resource, readers: [reader] })
  onTestFinished(() => exporter.shutdown())
  const counter = provider.getMeter('test').createCounter('requests')
  for (let client = 0; client < 1500; client++) counter.add(1, { client })
  const { resourceMetrics } = await reader.collect()
  expect(await exported(exporter, resourceMetrics)).toBeUndefined()
  await vi.waitFor(() => expect(counts().get('noisy')?.records).toBe(1500))
  const answers = await Promise.all(Array.from({ length: 12 }, () => exported(exporter, resourceMetrics)))
  const refused = answers.filter((error) => error !== undefined)
  expect(refused.length).toBeGreaterThanOrEqual(4)
  expect(new Set(refused.map((error) => (error as ServiceError).code))).toEqual(new Set([exhausted]))
  const { produced, dropped } = ledgerOf(runtime)
  expect({ produced, dropped }).toEqual({
    produced: 1500 * (1 + answers.length - refused.length),
    dropped: {},
  })
})

const exported = (exporter: PushMetricExporter, metrics: ResourceMetrics): Promise<Error | undefined> =>
  new Promise((resolve) => {
    exporter.export(metrics, ({ error }) => resolve(error))
  })
