// Sensors as ipmitool lists them (`-c -v sdr elist full`), one line each:
//
//   name,value,unit,status,entity,entity name,type,nominal,normal min,normal max,UNR,UC,UNC,LNR,LC,LNC,min,max
import { kinds, measured } from '../bmc/kinds.ts'
import type { Kind, KindName } from '../bmc/kinds.ts'
import type { SensorMetric } from '../bmc/metrics.ts'

export interface Reading {
  /** Name and where it is: names repeat (`Temp` of each processor). */
  readonly id: string
  readonly name: string
  readonly kind: KindName
  /** Of OTel's `hw.type`. */
  readonly type: string
  readonly location: string | undefined
  /** Undefined where nothing is measured. */
  readonly value: number | undefined
  readonly state: 'ok' | 'degraded' | 'failed' | undefined
  readonly limits: readonly { readonly type: string; readonly value: number }[]
}

const units: readonly [RegExp, KindName, ((value: number) => number)?][] = [
  [/^degrees C$/, 'temperature'],
  [/^degrees F$/, 'temperature', (value) => ((value - 32) * 5) / 9],
  [/^Volts$/, 'voltage'],
  [/^Amps$/, 'current'],
  [/^Watts$/, 'power'],
  [/^RPM$/, 'fan'],
  [/^Joules$/, 'joules'],
  [/^Hz$/, 'frequency'],
]
/** `ok`, `nc`, `Upper Non-Critical`, `ucr`, `Lower Non-Recoverable`; with `ns` and `na` nothing is measured. */
const states: readonly [RegExp, NonNullable<Reading['state']>][] = [
  [/^ok$/i, 'ok'],
  [/^([ul]?nc|(upper|lower) non-critical)$/i, 'degraded'],
  [/^([ul]?(cr|nr)|(upper|lower) (critical|non-recoverable))$/i, 'failed'],
]

/** Columns of the limits that OTel has a name for. */
const limitColumns = [
  [14, 'low.critical'],
  [15, 'low.degraded'],
  [12, 'high.degraded'],
  [11, 'high.critical'],
] as const

/** Entities of IPMI's table 43-13 by name → `hw.type` of what takes power. */
const entities: readonly [RegExp, string][] = [
  [/processor/i, 'cpu'],
  [/memory/i, 'memory'],
  [/power (supply|unit)/i, 'power_supply'],
  [/disk|drive/i, 'physical_disk'],
  [/fan/i, 'fan'],
]

const number = (text: string | undefined): number | undefined =>
  text !== undefined && /^-?\d+(\.\d+)?$/.test(text.trim()) ? Number(text) : undefined

/** Readings of the lines, each with an id of its own. */
export function readingsOf(lines: readonly string[]): Reading[] {
  const taken = new Map<string, number>()
  return lines.flatMap((line) => {
    const columns = line.split(',')
    const [name = '', value, unit = '', status = '', entity = '', place = '', type = ''] = columns.map(
      (one) => one.trim(),
    )
    const known = columns.length >= 7 ? kindOf(unit, type, name) : undefined
    if (name === '' || !known) return []
    const { kind, convert } = known
    const told = number(value)
    const base = `${name}@${entity}`
    const count = (taken.get(base) ?? 0) + 1
    taken.set(base, count)
    // `ns` is no reading, `na` not there; the value beside is an old one.
    const state = told === undefined ? undefined : states.find(([pattern]) => pattern.test(status))?.[1]
    return [
      {
        id: count === 1 ? base : `${base}#${count}`,
        name,
        kind,
        type:
          (kinds[kind] as Kind).type ?? entities.find(([pattern]) => pattern.test(place))?.[1] ?? 'enclosure',
        location: place === '' ? undefined : place,
        value: state === undefined || told === undefined ? undefined : measured(kind, convert(told)),
        state,
        limits: limitsOf(kind, columns, convert),
      },
    ]
  })
}

/** The unit names it; where there is no reading there is none, and the type of the sensor does. */
function kindOf(unit: string, type: string, name: string) {
  const same = (value: number): number => value
  const found = units.find(([pattern]) => pattern.test(unit))
  if (found) return { kind: found[1], convert: found[2] ?? same }
  if (/^(percent|% .*|%)$/.test(unit)) {
    return {
      kind: /fan/i.test(`${type} ${name}`) ? ('fanRatio' as const) : ('ratio' as const),
      convert: same,
    }
  }
  const byType: Readonly<Record<string, KindName>> = {
    Temperature: 'temperature',
    Voltage: 'voltage',
    Fan: 'fan',
  }
  const kind = unit === '' ? byType[type] : undefined
  return kind === undefined ? undefined : { kind, convert: same }
}

function limitsOf(
  kind: KindName,
  columns: readonly string[],
  convert: (value: number) => number,
): Reading['limits'] {
  if ((kinds[kind] as Kind).limit === undefined) return []
  return limitColumns.flatMap(([column, type]) => {
    const told = number(columns[column])
    // A limit of 0 is one that nobody set, except for temperatures.
    if (told === undefined || (told === 0 && (kind !== 'temperature' || type.startsWith('high')))) return []
    const value = measured(kind, convert(told))
    return value === undefined ? [] : [{ type, value }]
  })
}

/** The metric of a reading, and that of its limits. */
export const metricsOf = (kind: KindName): { metric: SensorMetric; limit: SensorMetric | undefined } => {
  const { metric, limit }: Kind = kinds[kind]
  return { metric, limit }
}
