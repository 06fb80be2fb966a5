// What a Redfish reading measures: its kind by type or unit, its limits, and what it is of by physical context.
import { kinds, measured } from '../bmc/kinds.ts'
import type { Kind, KindName } from '../bmc/kinds.ts'
import { inside, numberOf, textOf } from './json.ts'
import type { Json } from './json.ts'

/** Sensor.ReadingType (DSP0268). */
const byReadingType: Readonly<Record<string, KindName>> = {
  Temperature: 'temperature',
  Voltage: 'voltage',
  Current: 'current',
  Power: 'power',
  Rotational: 'fan',
  EnergyJoules: 'joules',
  EnergyWh: 'wattHours',
  EnergykWh: 'kilowattHours',
  Frequency: 'frequency',
  Humidity: 'humidity',
  PressurekPa: 'kilopascal',
  PressurePa: 'pressure',
  Pressure: 'kilopascal',
}
/** ReadingUnits is UCUM; services write some in other ways. */
const byUnit: Readonly<Record<string, KindName>> = {
  Cel: 'temperature',
  C: 'temperature',
  V: 'voltage',
  A: 'current',
  W: 'power',
  RPM: 'fan',
  rpm: 'fan',
  '{rev}/min': 'fan',
  J: 'joules',
  'W.h': 'wattHours',
  'kW.h': 'kilowattHours',
  Hz: 'frequency',
  kPa: 'kilopascal',
  Pa: 'pressure',
}

/** What a Sensor resource measures; undefined where we have no metric for it. */
export function kindOf(body: Json): KindName | undefined {
  const type = textOf(body.ReadingType)
  const unit = textOf(body.ReadingUnits)
  if (type === 'Percent' || (type === undefined && unit === '%')) {
    const context = `${String(body.PhysicalContext)} ${String(body.Name)} ${String(body.Id)}`
    return /fan/i.test(context) ? 'fanRatio' : 'ratio'
  }
  return type === undefined ? byUnit[unit ?? ''] : byReadingType[type]
}

/** In our unit; undefined where it is none, or one that such a sensor cannot mean. */
export function readingOf(name: KindName, given: unknown): number | undefined {
  const told = numberOf(given)
  return told === undefined ? undefined : measured(name, told)
}

export interface Limit {
  /** Of OTel's `hw.limit_type`. */
  readonly type: 'low.critical' | 'low.degraded' | 'high.degraded' | 'high.critical'
  readonly value: number
}

const thresholds = [
  ['LowerCritical', 'low.critical'],
  ['LowerCaution', 'low.degraded'],
  ['UpperCaution', 'high.degraded'],
  ['UpperCritical', 'high.critical'],
] as const

/** The same limits as members of entries of Thermal and Power. */
const legacyThresholds = [
  ['LowerThresholdCritical', 'low.critical'],
  ['LowerThresholdNonCritical', 'low.degraded'],
  ['UpperThresholdNonCritical', 'high.degraded'],
  ['UpperThresholdCritical', 'high.critical'],
] as const

/** Limits of a Sensor; those that a user set have no name in OTel and are left out. */
export const limitsOf = (kind: KindName, body: Json): Limit[] =>
  thresholds.flatMap(([key, type]) => limit(kind, type, inside(body, 'Thresholds', key).Reading))

export const legacyLimitsOf = (kind: KindName, entry: Json): Limit[] =>
  legacyThresholds.flatMap(([key, type]) => limit(kind, type, entry[key]))

function limit(kind: KindName, type: Limit['type'], given: unknown): Limit[] {
  const value = readingOf(kind, given)
  return value === undefined ? [] : [{ type, value }]
}

/** PhysicalContext → `hw.type` of what takes power. */
const contexts: readonly [RegExp, string][] = [
  [/^(CPU|Processor)/, 'cpu'],
  [/^Memory/, 'memory'],
  [/^PowerSupply/, 'power_supply'],
  [/^Fan/, 'fan'],
  [/^GPU/, 'gpu'],
  [/^(StorageDevice|SSD|Storage)/, 'physical_disk'],
  [/^Network/, 'network'],
]

export const hwTypeOf = (kind: KindName, context: string | undefined): string => {
  const { type }: Kind = kinds[kind]
  return type ?? contexts.find(([pattern]) => pattern.test(context ?? ''))?.[1] ?? 'enclosure'
}
