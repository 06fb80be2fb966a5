// Entries of logs and events of subscriptions as log records: with their own time, severity and message id, each with a key
// by which it is known again.
import { createHash } from 'node:crypto'
import { LogsEncoder } from '../../contract/encoder.ts'
import type { Records } from '../../contract/batch.ts'
import { timeParts } from '../../contract/readings.ts'
import { classOfLog } from '../../contract/signal.ts'
import type { Class } from '../../contract/signal.ts'
import type { Attributes } from '../../contract/values.ts'
import type { Device } from './devices.ts'
import { inside, linkOf, numberOf, textOf, timeOf } from './json.ts'
import type { Json } from './json.ts'
import { meaningOf, severityOf } from './messages.ts'

/** A record to be: what is told of a device at a time. */
export interface Entry {
  /** Known by it again in its log, over restarts. */
  readonly key: string
  /** Equal for an event and the log entry that tells of it. */
  readonly match: string
  /** The path by which the device is found. */
  readonly path: string
  /** Undefined where it tells none. */
  readonly timeUnixNano: bigint | undefined
  readonly severity: number
  /** As the service says it. */
  readonly severityText: string | undefined
  readonly eventName: string | undefined
  readonly body: string
  readonly attributes: Attributes
}

const hash = (...parts: readonly (string | undefined)[]): string =>
  createHash('sha1').update(parts.join('\0')).digest('base64url').slice(0, 9)

const mostArguments = 32

/** @param log The path of the log service; of events, that of the event service. */
export function entryOf(body: Json, log: string): Entry {
  const id = textOf(body.Id) ?? textOf(body.EventId)
  const messageId = textOf(body.MessageId)
  const created = textOf(body.Created) ?? textOf(body.EventTimestamp)
  const message = textOf(body.Message) ?? textOf(body.Name) ?? messageId ?? 'an entry without text'
  const args = (Array.isArray(body.MessageArgs) ? (body.MessageArgs as unknown[]) : [])
    .slice(0, mostArguments)
    .map((one) => (typeof one === 'string' ? one : JSON.stringify(one)).slice(0, 256))
  const severityText = textOf(body.Severity) ?? textOf(body.MessageSeverity)
  const dump = textOf(body.DiagnosticDataType)
  const meaning =
    meaningOf(messageId, args) ?? (dump === undefined ? undefined : { eventName: 'dpu.dump.created' })
  const origin = linkOf(inside(body, 'Links')['OriginOfCondition']) ?? linkOf(body.OriginOfCondition)
  const key = hash(id, created, messageId, message)
  const told: Record<string, Attributes[string] | undefined> = {
    'log.record.uid': `${log}#${key}`,
    'redfish.log': log,
    'redfish.entry_id': id,
    'redfish.entry_type': textOf(body.EntryType) ?? textOf(body.EventType),
    'redfish.message_id': messageId,
    'redfish.message_args': args.length > 0 ? args : undefined,
    'redfish.entry_code': textOf(body.EntryCode),
    'redfish.sensor_type': textOf(body.SensorType),
    'redfish.sensor_number': numberOf(body.SensorNumber),
    'redfish.resolution': textOf(body.Resolution),
    'redfish.additional_data_uri': textOf(body.AdditionalDataURI),
    'redfish.diagnostic_data_type': dump,
    'hw.id': origin,
  }
  return {
    key,
    match: hash(messageId, created === undefined ? undefined : String(timeOf(created)), message),
    path: origin ?? log,
    timeUnixNano: timeOf(created),
    severity: meaning?.severity ?? severityOf(severityText),
    severityText,
    eventName: meaning?.eventName,
    body: message,
    attributes: Object.fromEntries(
      Object.entries(told).filter(([, value]) => value !== undefined),
    ) as Attributes,
  }
}

export interface EncodeOptions {
  readonly deviceOf: (path: string) => Device
  readonly resourceOf: (device: Device) => Uint8Array
  readonly nowUnixNano: bigint
}

const scope = { name: 'redfish' }

/** Records of entries, those of each device and class apart, in their order. */
export function encodeEntries(entries: readonly Entry[], options: EncodeOptions): Records[] {
  const open = new Map<string, { encoder: LogsEncoder; device: string; name: Class }>()
  const done: Records[] = []
  const observed = timeParts(options.nowUnixNano)
  for (const entry of entries) {
    const device = options.deviceOf(entry.path)
    const name = classOfLog(entry.severity, entry.eventName !== undefined)
    const key = `${device.id} ${name}`
    let into = open.get(key)
    if (!into) {
      into = { encoder: new LogsEncoder(scope, 16 * 1024), device: device.id, name }
      into.encoder.begin(options.resourceOf(device))
      open.set(key, into)
    }
    write(into.encoder, entry, observed)
    if (!into.encoder.full) continue
    done.push(into.encoder.finish(into.device, into.name))
    open.delete(key)
  }
  for (const { encoder, device, name } of open.values()) done.push(encoder.finish(device, name))
  return done
}

function write(encoder: LogsEncoder, entry: Entry, observed: { seconds: number; nanos: number }): void {
  const at = entry.timeUnixNano === undefined ? observed : timeParts(entry.timeUnixNano)
  encoder.record(at.seconds, at.nanos, observed.seconds, observed.nanos, entry.severity)
  if (entry.severityText !== undefined) encoder.severityText(entry.severityText)
  encoder.body(entry.body)
  for (const [key, value] of Object.entries(entry.attributes)) encoder.attribute(key, value)
  if (entry.eventName !== undefined) encoder.eventName(entry.eventName)
  encoder.end()
}
