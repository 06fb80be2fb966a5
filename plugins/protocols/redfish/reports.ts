// Metric reports of the telemetry service: values with times of their own, each once. Those of a sensor that is read anyway
// are further points of its series, at their time; others get a metric that names report and property.
import { Readings } from '../../contract/readings.ts'
import type { Records } from '../../contract/batch.ts'
import type { Device } from './devices.ts'
import { numberOf, objectsOf, pathOf, textOf, timeOf } from './json.ts'
import type { Json } from './json.ts'
import type { Memory } from './memory.ts'
import { redfishMetrics } from './metrics.ts'
import { kinds } from '../bmc/kinds.ts'
import { readingOf } from './sensor-kinds.ts'
import type { Found } from './sensors.ts'
import { attributesOf, scope } from './survey.ts'

export interface ReportOptions {
  readonly deviceOf: (path: string) => Device
  readonly resourceOf: (device: Device) => Uint8Array
  readonly memory: Memory
  readonly nowUnixNano: bigint
  /** The sensors that are read by themselves. */
  readonly sensors: ReadonlyMap<string, Found>
}

export interface Report {
  readonly records: readonly Records[]
  /** Keeps in mind how far it was read; when it is safe. */
  readonly remember: () => void
}

type ByTime = Map<bigint, Map<string, Readings>>

const mostValues = 10_000
/** Properties that are the reading of the resource that holds them. */
const itsReading = /^(Reading|ReadingCelsius|ReadingVolts|PowerConsumedWatts)$/

/** The values of a report that are newer than those read before; a value without a time has that of its report. */
export function readReport(body: Json, path: string, options: ReportOptions): Report {
  const { memory } = options
  const through = memory.report(path)
  const reportTime = timeOf(body.Timestamp)
  const byTime: ByTime = new Map()
  let newest = through
  for (const one of objectsOf(body.MetricValues).slice(0, mostValues)) {
    const time = timeOf(one.Timestamp) ?? reportTime ?? options.nowUnixNano
    const point = time > through ? pointOf(one, textOf(body.Id) ?? path, options) : undefined
    if (!point) continue
    if (time > newest) newest = time
    const device = options.deviceOf(point.about ?? path)
    readingsAt(byTime, time, device, options).add(point.metric, point.value, point.attributes)
  }
  const records = [...byTime.values()].flatMap((devices) =>
    [...devices.values()].flatMap((one) => one.finish()),
  )
  return { records, remember: () => memory.setReport(path, newest) }
}

function pointOf(one: Json, report: string, { sensors }: ReportOptions) {
  const property = typeof one.MetricProperty === 'string' ? pathOf(one.MetricProperty) : undefined
  const member = property?.split(/[/#]+/).at(-1) ?? ''
  const holder = property === undefined ? undefined : holderOf(property)
  const sensor =
    sensors.get(property ?? '') ?? (itsReading.test(member) ? sensors.get(holder ?? '') : undefined)
  if (sensor) {
    const value = readingOf(sensor.kind, one.MetricValue)
    if (value === undefined) return undefined
    return { metric: kinds[sensor.kind].metric, value, attributes: attributesOf(sensor), about: sensor.id }
  }
  const value = numberOf(one.MetricValue)
  if (value === undefined) return undefined
  const id = textOf(one.MetricId) ?? member
  const attributes = {
    'redfish.report': report,
    ...(id === '' ? {} : { 'redfish.metric_id': id }),
    ...(property === undefined ? {} : { 'redfish.metric_property': property, 'hw.id': holder ?? property }),
  }
  return { metric: 'dpu.redfish.report' as const, value, attributes, about: property }
}

/** `…/Power#/PowerControl/0/PowerConsumedWatts` → `…/Power#/PowerControl/0`. */
const holderOf = (property: string): string => property.replace(/\/[^/#]*$/, '').replace(/#$/, '')

function readingsAt(byTime: ByTime, time: bigint, device: Device, { resourceOf }: ReportOptions): Readings {
  const devices = byTime.get(time) ?? new Map<string, Readings>()
  byTime.set(time, devices)
  let into = devices.get(device.id)
  if (!into) {
    into = new Readings({
      scope,
      declared: redfishMetrics,
      device: device.id,
      resource: resourceOf(device),
      timeUnixNano: time,
    })
    devices.set(device.id, into)
  }
  return into
}
