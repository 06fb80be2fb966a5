// What IPMI tells, as data points and log records.
import { LogsEncoder } from '../../contract/encoder.ts'
import type { Records } from '../../contract/batch.ts'
import { Readings, timeParts } from '../../contract/readings.ts'
import { classOfLog } from '../../contract/signal.ts'
import type { Class } from '../../contract/signal.ts'
import type { Attributes } from '../../contract/values.ts'
import type { Condition } from './discrete.ts'
import { fruAttributes } from './fru.ts'
import type { Fru } from './fru.ts'
import { metricsOf } from './sdr.ts'
import type { Reading } from './sdr.ts'
import type { SelMeaning, SelRecord } from './sel.ts'
import { ipmiMetrics } from './settings.ts'
import type { IpmiMetric } from './settings.ts'

export interface About {
  readonly device: string
  readonly resource: Uint8Array
  readonly nowUnixNano: bigint
}

const scope = { name: 'ipmi' }
const order = Object.keys(ipmiMetrics)

export interface Status {
  readonly readings: readonly Reading[]
  readonly conditions: readonly Condition[]
  readonly frus: readonly Fru[]
  /** Undefined where the BMC does not say. */
  readonly isOn: boolean | undefined
}

interface Point {
  readonly metric: IpmiMetric
  readonly value: number | bigint
  readonly attributes: Attributes
}

/** The points of one reading, in the order of their metrics. */
export function encodeStatus({ readings, conditions, frus, isOn }: Status, about: About): Records[] {
  const points: Point[] = readings.flatMap(pointsOf)
  for (const { id, name, type, state } of conditions) {
    points.push(...statusOf({ 'hw.id': id, 'hw.name': name, 'hw.type': type }, state))
  }
  for (const one of frus) points.push({ metric: 'dpu.fru.info', value: 1n, attributes: fruAttributes(one) })
  for (const state of isOn === undefined ? [] : ['on', 'off']) {
    const attributes = {
      'hw.id': 'chassis',
      'hw.name': 'chassis',
      'hw.type': 'enclosure',
      'dpu.power.state': state,
    }
    points.push({ metric: 'dpu.power.state', value: (state === 'on') === isOn ? 1n : 0n, attributes })
  }
  const into = new Readings({
    scope,
    declared: ipmiMetrics,
    device: about.device,
    resource: about.resource,
    timeUnixNano: about.nowUnixNano,
  })
  for (const { metric, value, attributes } of points.toSorted(
    (a, b) => order.indexOf(a.metric) - order.indexOf(b.metric),
  )) {
    into.add(metric, value, attributes)
  }
  return into.finish()
}

function pointsOf({ id, name, kind, type, location, value, state, limits }: Reading): Point[] {
  const attributes = {
    'hw.id': id,
    'hw.name': name,
    'hw.type': type,
    ...(location === undefined ? {} : { 'hw.sensor_location': location }),
  }
  const { metric, limit } = metricsOf(kind)
  const points: Point[] = value === undefined ? [] : [{ metric, value, attributes }]
  if (value !== undefined && limit !== undefined) {
    for (const one of limits) {
      points.push({
        metric: limit,
        value: one.value,
        attributes: { ...attributes, 'hw.limit_type': one.type },
      })
    }
  }
  if (state !== undefined) points.push(...statusOf(attributes, state))
  return points
}

const statusOf = (attributes: Attributes, state: string): Point[] =>
  ['ok', 'degraded', 'failed'].map((one) => ({
    metric: 'hw.status',
    value: one === state ? 1n : 0n,
    attributes: { ...attributes, 'hw.state': one },
  }))

interface Judged {
  readonly severity: number
  readonly eventName: string | undefined
}

/** What an asserted event is, by its sensor and description; the first that fits. */
const rows: readonly { readonly event: RegExp; readonly severity: number; readonly eventName: string }[] = [
  { event: /Non-recoverable/i, severity: 21, eventName: 'dpu.sensor.alarm' },
  { event: /(Upper|Lower) Critical/i, severity: 18, eventName: 'dpu.sensor.alarm' },
  { event: /(Upper|Lower) Non-critical/i, severity: 13, eventName: 'dpu.sensor.alarm' },
  { event: /^Memory .*Uncorrectable/i, severity: 18, eventName: 'dpu.memory.error' },
  { event: /^Memory .*(Correctable|limit reached)/i, severity: 13, eventName: 'dpu.memory.error' },
  { event: /^Critical Interrupt /i, severity: 18, eventName: 'dpu.bus.error' },
  {
    event: /^Processor .*(IERR|Thermal Trip|Machine Check|Configuration Error)/i,
    severity: 18,
    eventName: 'dpu.cpu.error',
  },
  { event: /^Power Supply .*(Failure|lost)/i, severity: 18, eventName: 'dpu.power_supply.failed' },
  { event: /^OS Critical Stop /i, severity: 21, eventName: 'dpu.crash.recorded' },
  { event: /^Watchdog\d? /i, severity: 13, eventName: 'dpu.watchdog.expired' },
  {
    event: /^(Drive Slot|Cable|Module|Fan|Version Change) .*(Fault|Fail|Error|Predictive)/i,
    severity: 18,
    eventName: 'dpu.component.failed',
  },
]

function judge(
  isAsserted: boolean,
  { sensorType = '', description = '', eventType = '' }: SelMeaning,
): Judged {
  if (!isAsserted) {
    return { severity: 9, eventName: eventType === 'Threshold' ? 'dpu.sensor.recovered' : undefined }
  }
  return (
    rows.find(({ event }) => event.test(`${sensorType} ${description}`)) ?? {
      severity: 9,
      eventName: undefined,
    }
  )
}

/** Log records of the event log, those of each class apart. */
export function encodeEvents(
  events: readonly { readonly record: SelRecord; readonly meaning: SelMeaning }[],
  about: About,
): Records[] {
  const open = new Map<Class, LogsEncoder>()
  const observed = timeParts(about.nowUnixNano)
  for (const { record, meaning } of events) {
    const { severity, eventName } = judge(record.isAsserted, meaning)
    const name = classOfLog(severity, eventName !== undefined)
    let encoder = open.get(name)
    if (!encoder) {
      encoder = new LogsEncoder(scope, 16 * 1024)
      encoder.begin(about.resource)
      open.set(name, encoder)
    }
    const at = record.timeUnixNano === undefined ? observed : timeParts(record.timeUnixNano)
    encoder.record(at.seconds, at.nanos, observed.seconds, observed.nanos, severity)
    encoder.body(bodyOf(record, meaning))
    for (const [key, value] of Object.entries(attributesOf(record, meaning))) encoder.attribute(key, value)
    if (eventName !== undefined) encoder.eventName(eventName)
    encoder.end()
  }
  return [...open].map(([name, encoder]) => encoder.finish(about.device, name))
}

/** As ipmitool lists it: the sensor, what happened, and by how much. */
function bodyOf({ isAsserted, raw }: SelRecord, meaning: SelMeaning): string {
  const { sensorType, sensorName, sensorNumber, description, reading, threshold } = meaning
  if (sensorType === undefined && description === undefined) return `OEM record ${raw}`
  const which = sensorName ?? (sensorNumber === undefined ? '' : `#0x${sensorNumber}`)
  const limits =
    reading === undefined
      ? ''
      : `, reading ${reading}${threshold === undefined ? '' : `, threshold ${threshold}`}`
  return `${sensorType ?? 'Event'} ${which}: ${description ?? 'event'}${isAsserted ? '' : ' (deasserted)'}${limits}`
}

function attributesOf({ id, key, raw }: SelRecord, meaning: SelMeaning): Attributes {
  const { sensorType, sensorName, sensorNumber, eventType } = meaning
  const told = {
    'log.record.uid': `sel#${key}`,
    'ipmi.record_id': id,
    'ipmi.record': raw,
    'ipmi.sensor_type': sensorType,
    'ipmi.sensor_name': sensorName,
    'ipmi.sensor_number': sensorNumber === undefined ? undefined : parseInt(sensorNumber, 16),
    'ipmi.event_type': eventType,
  }
  return Object.fromEntries(Object.entries(told).filter(([, value]) => value !== undefined)) as Attributes
}
