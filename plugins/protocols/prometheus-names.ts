// Names of OpenTelemetry as Prometheus writes them: the unit becomes a word at the end, a counter ends in `_total`.
// (OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility", OTLP metric points to Prometheus)
import type { MetricKind } from './series.ts'

const units: Readonly<Record<string, string>> = {
  d: 'days',
  h: 'hours',
  min: 'minutes',
  s: 'seconds',
  ms: 'milliseconds',
  us: 'microseconds',
  ns: 'nanoseconds',
  By: 'bytes',
  KiBy: 'kibibytes',
  MiBy: 'mebibytes',
  GiBy: 'gibibytes',
  TiBy: 'tibibytes',
  KBy: 'kilobytes',
  MBy: 'megabytes',
  GBy: 'gigabytes',
  TBy: 'terabytes',
  m: 'meters',
  V: 'volts',
  mV: 'millivolts',
  A: 'amperes',
  mA: 'milliamperes',
  J: 'joules',
  W: 'watts',
  mW: 'milliwatts',
  g: 'grams',
  Cel: 'celsius',
  Hz: 'hertz',
  MHz: 'megahertz',
  bit: 'bits',
  dBm: 'dbm',
  '%': 'percent',
}
const per: Readonly<Record<string, string>> = {
  s: 'second',
  m: 'minute',
  min: 'minute',
  h: 'hour',
  d: 'day',
  w: 'week',
  mo: 'month',
  y: 'year',
}

/** `hw.temperature`, `Cel`, gauge → `hw_temperature_celsius`. */
export function prometheusName(name: string, unit: string, kind: MetricKind): string {
  const words = clean(name).split('_').filter(Boolean)
  const add = (word: string) => {
    if (word !== '' && !words.includes(word)) words.push(word)
  }
  const [main = '', divisor = ''] = unit.replaceAll(/\{[^}]*\}/g, '').split('/')
  for (const word of clean(units[main] ?? (main === '1' ? '' : main)).split('_')) add(word)
  if (divisor !== '') add(`per_${clean(per[divisor] ?? divisor)}`)
  if (unit === '1' && kind === 'gauge') add('ratio')
  if (kind === 'counter') {
    const at = words.indexOf('total')
    if (at >= 0) words.splice(at, 1)
    words.push('total')
  }
  const full = words.join('_')
  return /^\d/.test(full) ? `_${full}` : full
}

/** `network.interface.name` → `network_interface_name`. */
export function prometheusLabel(key: string): string {
  const label = clean(key)
  return /^\d/.test(label) ? `_${label}` : label
}

const clean = (text: string): string => text.replaceAll(/[^A-Za-z0-9_]+/g, '_')

export const quotedLabel = (text: string): string =>
  `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`

export const helpText = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
