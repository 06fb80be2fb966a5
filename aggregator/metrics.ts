// The aggregator's own metrics: one list of readings, told as Prometheus text at /metrics, and to the aggregator's own
// ingest, or through the OpenTelemetry SDK to whom the configuration names.
import type { Clock, Log } from '../plugins/contract/define.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import { Readings } from '../plugins/contract/readings.ts'
import type { MetricDeclaration } from '../plugins/contract/readings.ts'
import { encodeResource } from '../plugins/contract/values.ts'

export interface Measure {
  /** `dpulse.aggregator.…`, as semantic conventions would write it. */
  readonly name: string
  readonly kind: 'counter' | 'gauge'
  /** UCUM. */
  readonly unit: string
  readonly description: string
  /** The value now, or one for each set of attributes. */
  read(): number | readonly (readonly [Readonly<Record<string, string>>, number])[]
}

const valuesOf = (measure: Measure): readonly (readonly [Readonly<Record<string, string>>, number])[] => {
  const value = measure.read()
  return typeof value === 'number' ? [[{}, value]] : value
}

const unitNames: Readonly<Record<string, string>> = { By: 'bytes', s: 'seconds', ms: 'milliseconds' }

/** Prometheus text exposition format 0.0.4. */
export function prometheusText(measures: readonly Measure[]): string {
  const lines: string[] = []
  for (const measure of measures) {
    const unit = unitNames[measure.unit]
    const base = measure.name.replaceAll(/[^a-zA-Z0-9_]/g, '_') + (unit ? `_${unit}` : '')
    const name = measure.kind === 'counter' ? `${base}_total` : base
    lines.push(`# HELP ${name} ${measure.description}`, `# TYPE ${name} ${measure.kind}`)
    for (const [attributes, value] of valuesOf(measure)) {
      const labels = Object.entries(attributes).map(
        ([key, text]) => `${key.replaceAll(/[^a-zA-Z0-9_]/g, '_')}=${JSON.stringify(text)}`,
      )
      lines.push(`${name}${labels.length > 0 ? `{${labels.join(',')}}` : ''} ${value}`)
    }
  }
  return `${lines.join('\n')}\n`
}

interface Telling {
  measures: readonly Measure[]
  intervalMs: number
  /** Resource attributes: host.id, service.name, service.instance.id. */
  resource: Readonly<Record<string, string>>
  log: Log
}

export interface FeedOptions extends Telling {
  /** Takes an OTLP request of metrics. */
  take(request: Uint8Array): Promise<unknown>
  clock: Clock
  signal: AbortSignal
}

const scope = { name: 'dpulse.aggregator' }

/** Reads at the end of each interval, until aborted. Not through a listener of ours: those may want TLS, or be elsewhere. */
export async function feedMetrics(options: FeedOptions): Promise<void> {
  const { measures, clock, signal, log } = options
  const declared = Object.fromEntries(
    measures.map(({ name, kind, unit, description }) => [name, { kind, unit, description }]),
  ) satisfies Record<string, MetricDeclaration>
  const resource = encodeResource(options.resource)
  const device = options.resource['host.id'] ?? ''
  const startUnixNano = clock.nowUnixNano()
  const tell = async (): Promise<void> => {
    const timeUnixNano = clock.nowUnixNano()
    const readings = new Readings({ scope, declared, device, resource, timeUnixNano, startUnixNano })
    for (const measure of measures) {
      for (const [attributes, value] of valuesOf(measure)) readings.add(measure.name, value, attributes)
    }
    try {
      await Promise.all(readings.finish().map(({ bytes }) => options.take(bytes)))
    } catch (error) {
      // The next reading tells as much; why the journal takes none is told by those who depend on it.
      log.debug('own metrics not taken', { error: messageOf(error) })
    }
  }
  let isOver = false
  await clock.every(options.intervalMs, signal, async () => {
    if (isOver) await tell()
    isOver = true
  })
}

export interface ExportOptions extends Telling {
  /** OTLP/gRPC, for example `http://127.0.0.1:4327`. */
  endpoint: string
}

/** Starts the SDK; the result flushes and stops it. The SDK is loaded only here. */
export async function exportMetrics(options: ExportOptions): Promise<() => Promise<void>> {
  const { NodeSDK } = await import('@opentelemetry/sdk-node')
  const { PeriodicExportingMetricReader } = await import('@opentelemetry/sdk-metrics')
  const { resourceFromAttributes } = await import('@opentelemetry/resources')
  const { OTLPMetricExporter } = await import('@opentelemetry/exporter-metrics-otlp-grpc')
  const { metrics } = await import('@opentelemetry/api')
  const reader = new PeriodicExportingMetricReader({
    exporter: new OTLPMetricExporter({ url: options.endpoint }),
    exportIntervalMillis: options.intervalMs,
    exportTimeoutMillis: Math.min(options.intervalMs, 10_000),
  })
  const sdk = new NodeSDK({
    autoDetectResources: false,
    instrumentations: [],
    resource: resourceFromAttributes(options.resource),
    metricReaders: [reader],
    spanProcessors: [],
    logRecordProcessors: [],
  })
  sdk.start()
  const meter = metrics.getMeter('dpulse.aggregator')
  for (const measure of options.measures) {
    const shape = { description: measure.description, unit: measure.unit }
    const instrument =
      measure.kind === 'counter'
        ? meter.createObservableCounter(measure.name, shape)
        : meter.createObservableGauge(measure.name, shape)
    instrument.addCallback((result) => {
      for (const [attributes, value] of valuesOf(measure)) result.observe(value, attributes)
    })
  }
  return async () => {
    try {
      await sdk.shutdown()
    } catch (error) {
      // Its last export may go to a listener that has closed already.
      options.log.debug('own metrics not flushed', { error: messageOf(error) })
    }
  }
}
