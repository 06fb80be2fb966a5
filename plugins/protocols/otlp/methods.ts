// Where OTLP takes each signal: paths of HTTP, methods of gRPC.
import type { Signal } from '../../contract/signal.ts'

export const httpPaths: Readonly<Record<Signal, string>> = {
  logs: '/v1/logs',
  metrics: '/v1/metrics',
  traces: '/v1/traces',
}

export const grpcMethods: Readonly<Record<Signal, string>> = {
  logs: '/opentelemetry.proto.collector.logs.v1.LogsService/Export',
  metrics: '/opentelemetry.proto.collector.metrics.v1.MetricsService/Export',
  traces: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
}
/** The path of the gRPC method that takes a signal. */
export const grpcMethod = (signal: Signal): string => grpcMethods[signal]
