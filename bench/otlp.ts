// What OTLP costs per record on one core: our encoder, cursors, split and JSON beside protobufjs and the serializers of
// the OpenTelemetry SDK, on the same records in the same run. One table; run it with `npm run bench otlp`.
import { fileURLToPath } from 'node:url'
import { JsonLogsSerializer, ProtobufLogsSerializer } from '@opentelemetry/otlp-transformer'
import protobuf from 'protobufjs'
import {
  LogCursor,
  LogsEncoder,
  PointCursor,
  Readings,
  encodeResource,
  encodeKey,
} from '../plugins/contract/index.ts'
import { compressSync, decompressSync } from '../plugins/protocols/compression.ts'
import { checkRequest } from '../plugins/protocols/otlp/check.ts'
import { jsonToRequest, requestToJson } from '../plugins/protocols/otlp/json.ts'
import { splitRequest } from '../plugins/protocols/otlp/split.ts'
import { printTable } from './measure/process.ts'

const count = 500
const seconds = 1_790_000_000
const resourceAttributes = {
  'host.id': 'mt2334x00123',
  'host.name': 'dpu-17.rack-4.example',
  'host.arch': 'arm64',
  'host.type': 'dpu',
  'service.name': 'syslog',
  'service.instance.id': '01K00000000000000000000000',
  'dpu.site': 'fra1',
}
const scope = { name: 'syslog', version: '1' }
const lines = Array.from({ length: count }, (_, index) => ({
  nanos: index * 1_000_000,
  body: `mlx5_core 0000:03:00.${index % 2}: Port module event: module ${index}, Cable plugged, temperature ${index % 90}`,
  attributes: {
    'syslog.hostname': 'dpu-17',
    'syslog.appname': 'kernel',
    'syslog.procid': String(1000 + index),
    'syslog.facility': index % 24,
    'network.peer.address': '127.0.0.1',
    'dpulse.sequence': index,
  },
}))

function encodeOurs(resource: Uint8Array, encoder: LogsEncoder): Uint8Array {
  encoder.begin(resource)
  for (const { nanos, body, attributes } of lines) {
    encoder.record(seconds, nanos, seconds, nanos, 9)
    encoder.body(body)
    for (const key in attributes) encoder.attribute(key, attributes[key as keyof typeof attributes])
    encoder.end()
  }
  return encoder.finish('mt2334x00123', 'log').bytes
}

// As sources that read bytes do it: keys encoded once, bodies and values copied from the packet.
const keys = Object.keys(lines[0]?.attributes ?? {}).map(encodeKey)
const packets = lines.map(({ body, attributes }) => ({
  body: Buffer.from(body),
  values: Object.values(attributes).map((value) => Buffer.from(String(value))),
}))
function encodeBytes(resource: Uint8Array, encoder: LogsEncoder): Uint8Array {
  encoder.begin(resource)
  for (const { body, values } of packets) {
    encoder.record(seconds, 0, seconds, 0, 9)
    encoder.bodyBytes(body, 0, body.length)
    for (let index = 0; index < keys.length; index++) {
      const value = values[index]
      const key = keys[index]
      if (value && key) encoder.attributeBytes(key, value, 0, value.length)
    }
    encoder.end()
  }
  return encoder.finish('mt2334x00123', 'log').bytes
}

function points(): Uint8Array {
  const made = new Readings({
    scope,
    declared: { 'system.network.io': { kind: 'counter', unit: 'By' } },
    device: 'mt2334x00123',
    resource: encodeResource(resourceAttributes),
    timeUnixNano: BigInt(seconds) * 1_000_000_000n,
    startUnixNano: 1n,
  })
  for (let index = 0; index < count; index++) {
    made.add('system.network.io', index * 1.5, {
      'network.interface.name': `p${index}`,
      direction: 'receive',
    })
  }
  return made.finish()[0]?.bytes ?? Buffer.of()
}

const directory = fileURLToPath(new URL('../test/fixtures/proto/', import.meta.url))
const root = new protobuf.Root()
root.resolvePath = (_origin, target) => (target.startsWith('/') ? target : directory + target)
const base = 'opentelemetry/proto/collector'
root.loadSync([`${base}/logs/v1/logs_service.proto`, `${base}/metrics/v1/metrics_service.proto`])
const theirs = root.lookupType('opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest')
const theirMetrics = root.lookupType('opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest')

// What the SDK's serializers read of its log records.
const sdkResource = { attributes: resourceAttributes }
const sdkRecords = lines.map(({ nanos, body, attributes }) => ({
  hrTime: [seconds, nanos],
  hrTimeObserved: [seconds, nanos],
  severityNumber: 9,
  body,
  attributes,
  droppedAttributesCount: 0,
  resource: sdkResource,
  instrumentationScope: scope,
})) as unknown as Parameters<typeof ProtobufLogsSerializer.serializeRequest>[0]

/** Median of rounds, in microseconds a record. */
function measure(run: () => unknown): number {
  const rounds: number[] = []
  for (const end = performance.now() + 300; performance.now() < end;) run()
  for (let round = 0; round < 7; round++) {
    let runs = 0
    const began = performance.now()
    for (; performance.now() - began < 150; runs++) run()
    rounds.push(((performance.now() - began) * 1000) / (runs * count))
  }
  return rounds.toSorted((one, other) => one - other)[3] ?? 0
}

const resource = encodeResource(resourceAttributes)
const encoder = new LogsEncoder(scope)
const request = Buffer.from(encodeOurs(resource, encoder))
const metrics = Buffer.from(points())
const json = requestToJson('logs', request)
const decoded = theirs.decode(request)
// Every second record belongs to another class: the whole request has to be divided.
let turn = 0
const mixed = Buffer.from(
  jsonToRequest(
    'logs',
    json.replaceAll('"severityNumber":9', () => `"severityNumber":${turn++ % 2 === 0 ? 9 : 17}`),
  ),
)
const zipped = compressSync(request, 'zstd')
const logs = new LogCursor()
const cursor = new PointCursor()

function readLogs(): number {
  logs.reset(request)
  let length = 0
  while (logs.next()) length += logs.text(logs.body).length + logs.attributeCount
  return length
}

function readPoints(): number {
  cursor.reset(metrics)
  let sum = 0
  while (cursor.next()) sum += cursor.double
  return sum
}

type Row = readonly [group: string, name: string, run: () => unknown]
const rows: readonly Row[] = [
  ['encode logs', 'dpulse, from values', () => encodeOurs(resource, encoder)],
  ['encode logs', 'dpulse, from bytes', () => encodeBytes(resource, encoder)],
  ['encode logs', 'SDK serializer', () => ProtobufLogsSerializer.serializeRequest(sdkRecords)],
  ['encode logs', 'protobufjs', () => theirs.encode(decoded).finish()],
  ['decode logs', 'dpulse cursor', readLogs],
  ['decode logs', 'protobufjs', () => theirs.decode(request)],
  ['decode points', 'dpulse cursor', readPoints],
  ['decode points', 'protobufjs', () => theirMetrics.decode(metrics)],
  ['check logs', 'dpulse, to the last leaf', () => checkRequest('logs', request)],
  ['split logs', 'dpulse, passed through', () => splitRequest('logs', request, { device: 'd' })],
  ['split logs', 'dpulse, divided', () => splitRequest('logs', mixed, { device: 'd' })],
  ['to JSON', 'dpulse, from protobuf', () => requestToJson('logs', request)],
  ['to JSON', 'SDK serializer, from records', () => JsonLogsSerializer.serializeRequest(sdkRecords)],
  [
    'to JSON',
    'protobufjs, from protobuf',
    () => JSON.stringify(theirs.toObject(theirs.decode(request), { longs: String })),
  ],
  ['from JSON', 'dpulse, to protobuf', () => jsonToRequest('logs', json)],
  ['from JSON', 'JSON.parse alone', () => JSON.parse(json) as unknown],
  ['zstd', 'compress', () => compressSync(request, 'zstd')],
  ['zstd', 'decompress', () => decompressSync(zipped, 1e7)],
]

const { records } = splitRequest('logs', mixed, { device: 'd' })
process.stdout.write(
  `${count} log records, ${(request.length / count).toFixed(0)} B each (${(zipped.length / count).toFixed(0)} B zstd); ` +
    `divided into ${records.length} parts; Node ${process.version}\n\n`,
)
const table = [['work', 'by', 'µs a record', 'beside ours']]
let first = { group: '', cost: 1 }
for (const [group, name, run] of rows) {
  const cost = measure(run)
  if (group !== first.group) first = { group, cost }
  table.push([group, name, cost.toFixed(3), `× ${(cost / first.cost).toFixed(1)}`])
}
printTable(table)
