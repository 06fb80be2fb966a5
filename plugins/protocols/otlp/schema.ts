// The messages of OTLP as tables: number, JSON name and type of every field. One table drives protobuf → JSON,
// JSON → protobuf and the check of what a peer sent. (opentelemetry-proto 1.x; names as protobuf's JSON mapping
// has them, with OTLP's own rules: ids are hex, enums are numbers.)
import { bytesType, fixed32Type, fixed64Type, varintType } from '../../contract/wire.ts'
import type { Signal } from '../../contract/signal.ts'

/** Types of proto3; `hex` is bytes that JSON writes in hex (trace and span ids), `bytes` in base64. */
export type ScalarType =
  | 'string'
  | 'bytes'
  | 'hex'
  | 'bool'
  | 'int32'
  | 'uint32'
  | 'sint32'
  | 'int64'
  | 'uint64'
  | 'fixed32'
  | 'fixed64'
  | 'sfixed64'
  | 'double'

export interface Field {
  readonly number: number
  /** lowerCamelCase, as JSON has it. */
  readonly name: string
  /** `"name":` */
  readonly label: string
  /** Position in `Message.fields`. */
  readonly index: number
  readonly type: ScalarType | 'message'
  /** Where the type is `message`. */
  readonly message: Message | undefined
  readonly wireType: number
  readonly repeated: boolean
  /** True for members of a oneof and for `optional`: then a default value is told from an absent one. */
  readonly presence: boolean
  /** Positions of the other members of the oneof. */
  siblings: readonly number[]
}

export interface Message {
  readonly name: string
  fields: readonly Field[]
  readonly byNumber: (Field | undefined)[]
  readonly byName: Map<string, Field>
}

type Type = ScalarType | Message
interface Given {
  number: number
  type: Type
  repeated?: boolean
  optional?: boolean
  oneof?: boolean
}

const one = (number: number, type: Type): Given => ({ number, type })
const many = (number: number, type: Type): Given => ({ number, type, repeated: true })
const optional = (number: number, type: Type): Given => ({ number, type, optional: true })
/** No message of OTLP has more than one oneof. */
const oneof = (number: number, type: Type): Given => ({ number, type, oneof: true })

const wireTypes: Readonly<Record<ScalarType, number>> = {
  string: bytesType,
  bytes: bytesType,
  hex: bytesType,
  bool: varintType,
  int32: varintType,
  uint32: varintType,
  sint32: varintType,
  int64: varintType,
  uint64: varintType,
  fixed32: fixed32Type,
  fixed64: fixed64Type,
  sfixed64: fixed64Type,
  double: fixed64Type,
}

const empty = (name: string): Message => ({ name, fields: [], byNumber: [], byName: new Map() })

/** Fills a message that others refer to already, as AnyValue needs it. */
function fill(message: Message, given: Readonly<Record<string, Given>>): Message {
  const fields = Object.entries(given).map(([name, { number, type, repeated, optional, oneof }], index) => ({
    number,
    name,
    label: `${JSON.stringify(name)}:`,
    index,
    type: typeof type === 'string' ? type : ('message' as const),
    message: typeof type === 'string' ? undefined : type,
    wireType: typeof type === 'string' ? wireTypes[type] : bytesType,
    repeated: repeated === true,
    presence: optional === true || oneof === true,
    siblings: [] as readonly number[],
  }))
  const members = fields.filter((field) => given[field.name]?.oneof === true).map((field) => field.index)
  for (const index of members) {
    const field = fields[index]
    if (field) field.siblings = members.filter((other) => other !== index)
  }
  message.fields = fields
  for (const field of fields) {
    message.byNumber[field.number] = field
    message.byName.set(field.name, field)
  }
  return message
}

const define = (name: string, given: Readonly<Record<string, Given>>): Message => fill(empty(name), given)

// common/v1, resource/v1
const anyValue = empty('AnyValue')
const keyValue = define('KeyValue', {
  key: one(1, 'string'),
  value: one(2, anyValue),
  keyStrindex: one(3, 'int32'),
})
fill(anyValue, {
  stringValue: oneof(1, 'string'),
  boolValue: oneof(2, 'bool'),
  intValue: oneof(3, 'int64'),
  doubleValue: oneof(4, 'double'),
  arrayValue: oneof(5, define('ArrayValue', { values: many(1, anyValue) })),
  kvlistValue: oneof(6, define('KeyValueList', { values: many(1, keyValue) })),
  bytesValue: oneof(7, 'bytes'),
  stringValueStrindex: oneof(8, 'int32'),
})
const scope = define('InstrumentationScope', {
  name: one(1, 'string'),
  version: one(2, 'string'),
  attributes: many(3, keyValue),
  droppedAttributesCount: one(4, 'uint32'),
})
const resource = define('Resource', {
  attributes: many(1, keyValue),
  droppedAttributesCount: one(2, 'uint32'),
  entityRefs: many(
    3,
    define('EntityRef', {
      schemaUrl: one(1, 'string'),
      type: one(2, 'string'),
      idKeys: many(3, 'string'),
      descriptionKeys: many(4, 'string'),
    }),
  ),
})

// logs/v1
const logRecord = define('LogRecord', {
  timeUnixNano: one(1, 'fixed64'),
  observedTimeUnixNano: one(11, 'fixed64'),
  severityNumber: one(2, 'int32'),
  severityText: one(3, 'string'),
  body: one(5, anyValue),
  attributes: many(6, keyValue),
  droppedAttributesCount: one(7, 'uint32'),
  flags: one(8, 'fixed32'),
  traceId: one(9, 'hex'),
  spanId: one(10, 'hex'),
  eventName: one(12, 'string'),
})

// metrics/v1
const exemplar = define('Exemplar', {
  filteredAttributes: many(7, keyValue),
  timeUnixNano: one(2, 'fixed64'),
  asDouble: oneof(3, 'double'),
  asInt: oneof(6, 'sfixed64'),
  spanId: one(4, 'hex'),
  traceId: one(5, 'hex'),
})
const numberDataPoint = define('NumberDataPoint', {
  attributes: many(7, keyValue),
  startTimeUnixNano: one(2, 'fixed64'),
  timeUnixNano: one(3, 'fixed64'),
  asDouble: oneof(4, 'double'),
  asInt: oneof(6, 'sfixed64'),
  exemplars: many(5, exemplar),
  flags: one(8, 'uint32'),
})
const histogramDataPoint = define('HistogramDataPoint', {
  attributes: many(9, keyValue),
  startTimeUnixNano: one(2, 'fixed64'),
  timeUnixNano: one(3, 'fixed64'),
  count: one(4, 'fixed64'),
  sum: optional(5, 'double'),
  bucketCounts: many(6, 'fixed64'),
  explicitBounds: many(7, 'double'),
  exemplars: many(8, exemplar),
  flags: one(10, 'uint32'),
  min: optional(11, 'double'),
  max: optional(12, 'double'),
})
const buckets = define('Buckets', { offset: one(1, 'sint32'), bucketCounts: many(2, 'uint64') })
const exponentialHistogramDataPoint = define('ExponentialHistogramDataPoint', {
  attributes: many(1, keyValue),
  startTimeUnixNano: one(2, 'fixed64'),
  timeUnixNano: one(3, 'fixed64'),
  count: one(4, 'fixed64'),
  sum: optional(5, 'double'),
  scale: one(6, 'sint32'),
  zeroCount: one(7, 'fixed64'),
  positive: one(8, buckets),
  negative: one(9, buckets),
  flags: one(10, 'uint32'),
  exemplars: many(11, exemplar),
  min: optional(12, 'double'),
  max: optional(13, 'double'),
  zeroThreshold: one(14, 'double'),
})
const summaryDataPoint = define('SummaryDataPoint', {
  attributes: many(7, keyValue),
  startTimeUnixNano: one(2, 'fixed64'),
  timeUnixNano: one(3, 'fixed64'),
  count: one(4, 'fixed64'),
  sum: one(5, 'double'),
  quantileValues: many(6, define('ValueAtQuantile', { quantile: one(1, 'double'), value: one(2, 'double') })),
  flags: one(8, 'uint32'),
})
const metric = define('Metric', {
  name: one(1, 'string'),
  description: one(2, 'string'),
  unit: one(3, 'string'),
  gauge: oneof(5, define('Gauge', { dataPoints: many(1, numberDataPoint) })),
  sum: oneof(
    7,
    define('Sum', {
      dataPoints: many(1, numberDataPoint),
      aggregationTemporality: one(2, 'int32'),
      isMonotonic: one(3, 'bool'),
    }),
  ),
  histogram: oneof(
    9,
    define('Histogram', {
      dataPoints: many(1, histogramDataPoint),
      aggregationTemporality: one(2, 'int32'),
    }),
  ),
  exponentialHistogram: oneof(
    10,
    define('ExponentialHistogram', {
      dataPoints: many(1, exponentialHistogramDataPoint),
      aggregationTemporality: one(2, 'int32'),
    }),
  ),
  summary: oneof(11, define('Summary', { dataPoints: many(1, summaryDataPoint) })),
  metadata: many(12, keyValue),
})

// trace/v1
const span = define('Span', {
  traceId: one(1, 'hex'),
  spanId: one(2, 'hex'),
  traceState: one(3, 'string'),
  parentSpanId: one(4, 'hex'),
  flags: one(16, 'fixed32'),
  name: one(5, 'string'),
  kind: one(6, 'int32'),
  startTimeUnixNano: one(7, 'fixed64'),
  endTimeUnixNano: one(8, 'fixed64'),
  attributes: many(9, keyValue),
  droppedAttributesCount: one(10, 'uint32'),
  events: many(
    11,
    define('Event', {
      timeUnixNano: one(1, 'fixed64'),
      name: one(2, 'string'),
      attributes: many(3, keyValue),
      droppedAttributesCount: one(4, 'uint32'),
    }),
  ),
  droppedEventsCount: one(12, 'uint32'),
  links: many(
    13,
    define('Link', {
      traceId: one(1, 'hex'),
      spanId: one(2, 'hex'),
      traceState: one(3, 'string'),
      attributes: many(4, keyValue),
      droppedAttributesCount: one(5, 'uint32'),
      flags: one(6, 'fixed32'),
    }),
  ),
  droppedLinksCount: one(14, 'uint32'),
  status: one(15, define('Status', { message: one(2, 'string'), code: one(3, 'int32') })),
})

// collector/*/v1: Resource → scope → item has the same numbers in all three signals.
function request(signal: string, resources: string, scopes: string, items: string, item: Message): Message {
  const plural = signal === 'Trace' ? 'Spans' : signal
  const scoped = define(`Scope${plural}`, {
    scope: one(1, scope),
    [items]: many(2, item),
    schemaUrl: one(3, 'string'),
  })
  const container = define(`Resource${plural}`, {
    resource: one(1, resource),
    [scopes]: many(2, scoped),
    schemaUrl: one(3, 'string'),
  })
  return define(`Export${signal}ServiceRequest`, { [resources]: many(1, container) })
}

const response = (signal: string, rejected: string): Message =>
  define(`Export${signal}ServiceResponse`, {
    partialSuccess: one(
      1,
      define(`Export${signal}PartialSuccess`, {
        [rejected]: one(1, 'int64'),
        errorMessage: one(2, 'string'),
      }),
    ),
  })

/** Export{Logs,Metrics,Trace}ServiceRequest. The header of a batch (field 7200) is not among its fields. */
export const requests: Readonly<Record<Signal, Message>> = {
  logs: request('Logs', 'resourceLogs', 'scopeLogs', 'logRecords', logRecord),
  metrics: request('Metrics', 'resourceMetrics', 'scopeMetrics', 'metrics', metric),
  traces: request('Trace', 'resourceSpans', 'scopeSpans', 'spans', span),
}

/** How a response names the number of records that were refused. */
export const rejectedNames: Readonly<Record<Signal, string>> = {
  logs: 'rejectedLogRecords',
  metrics: 'rejectedDataPoints',
  traces: 'rejectedSpans',
}
export const responses: Readonly<Record<Signal, Message>> = {
  logs: response('Logs', rejectedNames.logs),
  metrics: response('Metrics', rejectedNames.metrics),
  traces: response('Trace', rejectedNames.traces),
}

/** google.rpc.Status, with which an OTLP receiver answers a failure. `value` of a detail is a message of its own. */
export const rpcStatus = define('Status', {
  code: one(1, 'int32'),
  message: one(2, 'string'),
  details: many(3, define('Any', { typeUrl: one(1, 'string'), value: one(2, 'bytes') })),
})
/** google.rpc.RetryInfo: how long to leave an overloaded receiver alone. */
export const retryInfo = define('RetryInfo', {
  retryDelay: one(1, define('Duration', { seconds: one(1, 'int64'), nanos: one(2, 'int32') })),
})
