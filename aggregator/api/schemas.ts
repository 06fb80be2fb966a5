// The answers of the HTTP API as zod schemas: /openapi.json is made from them, and a test holds every answer against it.
// Later fields may be added, so readers ignore what they do not know; what is here stays.
import { z } from '@hono/zod-openapi'
import { aggregates, metricKinds } from '../query.ts'

const Time = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{9}Z$/)
  .openapi('Time', { description: 'RFC 3339, UTC, nine decimals', example: '2026-11-21T09:55:00.000000000Z' })

const Attributes = z.record(z.string(), z.unknown()).openapi('Attributes', {
  description: 'Any JSON values; integers beyond 2^53 are strings, bytes are base64',
})

const Value = z.union([z.number(), z.string()]).openapi({ description: 'Integers beyond 2^53 are strings' })
const Dropped = z
  .record(z.string(), z.number())
  .openapi({ description: 'Records by reason; only reasons that happened', example: { filter: 12 } })
const Kind = z.enum(metricKinds).openapi('MetricKind')

export const LogRecord = z
  .object({
    id: z.string().openapi({ description: 'Stable and unique in this aggregator' }),
    time: Time,
    observedTime: Time,
    device: z.string(),
    severityNumber: z
      .int()
      .openapi({ description: 'OpenTelemetry: 1 to 24, 0 for none; shown as the sender wrote it' }),
    severityText: z.string(),
    body: z.unknown().openapi({ description: 'Text, mostly; any JSON value' }),
    attributes: Attributes,
    resource: Attributes,
    eventName: z.string().openapi({ description: 'Empty when the record is no event' }),
  })
  .openapi('LogRecord')

export const LogPage = z
  .object({
    records: z.array(LogRecord).openapi({ description: 'Oldest first' }),
    next: z
      .string()
      .optional()
      .openapi({ description: 'Give it back as the parameter `next` for older records' }),
  })
  .openapi('LogPage')

export const Metric = z
  .object({
    name: z.string(),
    unit: z.string(),
    kind: Kind,
    attributes: z.array(z.string()),
    series: z.int().min(0),
  })
  .openapi('Metric')

export const Series = z
  .object({
    metric: z.string(),
    unit: z.string(),
    kind: Kind,
    device: z.string().openapi({ description: 'Empty when several devices were joined' }),
    attributes: Attributes,
    points: z
      .array(z.tuple([z.string(), z.union([z.number(), z.string()])]))
      .openapi({ description: 'Pairs of time and value, oldest first' }),
  })
  .openapi('Series', { description: `Aggregations: ${aggregates.join(', ')}` })

export const Latest = z
  .object({
    metric: z.string(),
    unit: z.string(),
    kind: Kind,
    attributes: Attributes,
    time: Time,
    value: Value,
  })
  .openapi('Latest')

const account = {
  produced: z.number(),
  stored: z.number(),
  inFlight: z.number(),
  dropped: Dropped,
  unknown: z.number(),
  balanced: z.boolean().openapi({ description: 'produced = stored + dropped + inFlight + unknown' }),
  forwarded: z.number().optional().openapi({ description: 'Traces: passed on, outside the sum' }),
}

export const LedgerReport = z
  .object({
    ...account,
    streams: z.array(
      z.object({
        collector: z.string(),
        device: z.string(),
        session: z.string(),
        class: z.string(),
        ...account,
        lastSeq: z.number(),
        missing: z
          .array(z.tuple([z.number(), z.number()]))
          .openapi({ description: 'Ranges of sequence numbers, both ends included' }),
      }),
    ),
  })
  .openapi('Ledger')

export const Device = z
  .object({
    device: z.string(),
    name: z.string(),
    labels: z.record(z.string(), z.string()),
    state: z.enum(['online', 'offline']),
    lastSeen: Time,
    collector: z.string(),
    version: z.string(),
    identity: z.array(z.object({ kind: z.string(), value: z.string() })),
    conflicts: z
      .array(z.object({ collectors: z.array(z.string()), since: Time, detail: z.string() }))
      .openapi({ description: 'Live collectors that claim this device together' }),
  })
  .openapi('Device')

export const HealthReport = z
  .object({
    ready: z.boolean(),
    parts: z.array(z.object({ name: z.string(), ready: z.boolean(), detail: z.string() })),
  })
  .openapi('Health')

export const Removed = z.object({ removed: z.string() }).openapi('Removed')

export const Failure = z
  .object({
    error: z.object({
      code: z.string(),
      message: z.string(),
      parameter: z.string().optional().openapi({ description: 'The parameter that was refused' }),
    }),
  })
  .openapi('Error')
