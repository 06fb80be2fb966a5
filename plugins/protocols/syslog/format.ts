// Records as messages of RFC 5424, framed by octet counting (RFC 5425 §4.3, RFC 6587 §3.4.1).
//
//   MSG-LEN SP "<" PRI ">1" SP TIMESTAMP SP HOSTNAME SP APP-NAME SP PROCID SP MSGID SP STRUCTURED-DATA [SP BOM MSG]
import type { AttributeValue, Attributes } from '../../contract/values.ts'
import { textOf } from '../records/plain.ts'
import type { PlainRecord } from '../records/plain.ts'

export interface FormatOptions {
  readonly facility: number
  /** Attributes go into structured data of this id. */
  readonly structuredDataId: string
}

/** Severities of syslog for the severity numbers of OpenTelemetry, as our source reads them. */
function severityOf(number: number): number {
  if (number >= 21) return 0
  if (number >= 19) return 1
  if (number >= 18) return 2
  if (number >= 17) return 3
  if (number >= 13) return 4
  if (number >= 10) return 5
  return number >= 9 || number === 0 ? 6 : 7
}

/** Attributes that have a place of their own in a message. */
const placed = new Set([
  'syslog.hostname',
  'syslog.appname',
  'syslog.procid',
  'syslog.msgid',
  'syslog.facility',
  'syslog.version',
])
const longestValue = 8192
const mostParameters = 100

export function formatMessage(record: PlainRecord, options: FormatOptions): Buffer {
  const { attributes, resource, text } = record
  const of = (name: string): AttributeValue | undefined => attributes[`syslog.${name}`]
  const facility = of('facility')
  const pri =
    (typeof facility === 'number' && facility >= 0 && facility < 24 ? facility : options.facility) * 8
  const head = [
    `<${pri + severityOf(record.severity)}>1`,
    timestamp(record),
    field(of('hostname') ?? resource['host.name'] ?? resource['host.id'], 255),
    field(of('appname') ?? resource['service.name'], 48),
    field(of('procid') ?? attributes['process.pid'], 128),
    field(of('msgid') ?? (record.eventName || attributes['metric.name']), 32),
    structuredData(attributes, resource, options.structuredDataId),
  ].join(' ')
  // A byte order mark says that the text is UTF-8; it is left out where it could only be ASCII.
  const isPlain = /^[\x20-\x7e]*$/.test(text)
  const message = Buffer.from(text === '' ? head : `${head} ${isPlain ? '' : '\ufeff'}${text}`)
  return Buffer.concat([Buffer.from(`${message.length} `), message])
}

/** RFC 3339 with microseconds, which is the most that RFC 5424 allows. */
function timestamp({ seconds, nanos }: PlainRecord): string {
  if (seconds === 0 && nanos === 0) return '-'
  const date = new Date(seconds * 1000)
  if (Number.isNaN(date.getTime()) || date.getUTCFullYear() > 9999) return '-'
  return `${date.toISOString().slice(0, 19)}.${String(Math.floor(nanos / 1000)).padStart(6, '0')}Z`
}

/** PRINTUSASCII of a bounded length, or `-`. */
function field(value: AttributeValue | undefined, longest: number): string {
  if (value === undefined) return '-'
  return (
    textOf(value)
      .replaceAll(/[^\x21-\x7e]/g, '_')
      .slice(0, longest) || '-'
  )
}

const structuredPrefix = 'syslog.sd.'

function structuredData(attributes: Attributes, resource: Attributes, ownId: string): string {
  const elements = new Map<string, string[]>()
  let count = 0
  const add = (id: string, name: string, value: AttributeValue): void => {
    const param = sdName(name)
    if (param === '' || ++count > mostParameters) return
    const escaped = textOf(value)
      .slice(0, longestValue)
      .replaceAll(/["\\\]]/g, String.raw`\$&`)
    const parameters = elements.get(id) ?? []
    elements.set(id, parameters)
    parameters.push(`${param}="${escaped}"`)
  }
  for (const [key, value] of Object.entries(attributes)) {
    if (placed.has(key)) continue
    const [id, ...rest] = key.startsWith(structuredPrefix)
      ? key.slice(structuredPrefix.length).split('.')
      : ['']
    const values = Array.isArray(value) ? (value as readonly AttributeValue[]) : [value]
    if (sdName(id ?? '') !== '' && rest.length > 0)
      for (const one of values) add(sdName(id ?? ''), rest.join('.'), one)
    else add(ownId, key, value)
  }
  const device = resource['host.id']
  if (device !== undefined) add(ownId, 'host.id', device)
  if (elements.size === 0) return '-'
  return [...elements].map(([id, parameters]) => `[${[id, ...parameters].join(' ')}]`).join('')
}

/** SD-NAME: at most 32 printable characters without `=`, space, `]` and quotes. */
const sdName = (name: string): string => name.replaceAll(/[^\x21-\x7e]|[="\]]/g, '_').slice(0, 32)
