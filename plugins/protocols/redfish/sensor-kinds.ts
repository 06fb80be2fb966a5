// What a Redfish reading measures: from its type or unit to our metric, in our unit, within what such a sensor can mean.
import { isPlausible } from '../hwmon.ts'
import type { SensorKind } from '../hwmon.ts'
import { inside, numberOf, textOf } from './json.ts'
import type { Json } from './json.ts'
import type { SensorMetric } from './metrics.ts'

export interface Kind {
  readonly metric: SensorMetric
  readonly limit?: SensorMetric
  /** From their unit to ours. */
  readonly factor: number
  readonly plausible: (value: number) => boolean
  /** OTel's `hw.type`; undefined where the physical context decides. */
  readonly type?: string
}

const as = (kind: SensorKind) => (value: number) => isPlausible(kind, value)
const within = (least: number, most: number) => (value: number) => value >= least && value <= most
const energy = (factor: number): Kind => ({ metric: 'hw.energy', factor, plausible: as('energy') })

export const kinds = {
  temperature: {
    metric: 'hw.temperature',
    limit: 'hw.temperature.limit',
    factor: 1,
    plausible: as('temperature'),
    type: 'temperature',
  },
  voltage: {
    metric: 'hw.voltage',
    limit: 'hw.voltage.limit',
    factor: 1,
    plausible: as('voltage'),
    type: 'voltage',
  },
  current: { metric: 'dpu.current', limit: 'dpu.current.limit', factor: 1, plausible: as('current') },
  power: { metric: 'hw.power', limit: 'dpu.power.limit', factor: 1, plausible: as('power') },
  fan: { metric: 'hw.fan.speed', limit: 'hw.fan.speed.limit', factor: 1, plausible: as('fan'), type: 'fan' },
  fanRatio: { metric: 'hw.fan.speed_ratio', factor: 0.01, plausible: within(0, 2), type: 'fan' },
  ratio: { metric: 'dpu.sensor.ratio', factor: 0.01, plausible: within(-10, 100) },
  joules: energy(1),
  wattHours: energy(3600),
  kilowattHours: energy(3_600_000),
  frequency: { metric: 'dpu.frequency', factor: 1, plausible: within(0, 1e12) },
  humidity: { metric: 'dpu.humidity', factor: 0.01, plausible: within(0, 1) },
  pressure: { metric: 'dpu.pressure', factor: 1, plausible: within(0, 1e9) },
  kilopascal: { metric: 'dpu.pressure', factor: 1000, plausible: within(0, 1e9) },
} as const satisfies Record<string, Kind>
export type KindName = keyof typeof kinds

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
  if (told === undefined) return undefined
  const { factor, plausible } = kinds[name]
  // 45 % is 0.45, not 0.45000000000000001.
  const value = factor === 0.01 ? told / 100 : told * factor
  return plausible(value) ? value + 0 : undefined // −0 is 0
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
