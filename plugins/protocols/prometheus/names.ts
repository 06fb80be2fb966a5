// Names of OpenTelemetry as Prometheus has them (opentelemetry.io, "Prometheus and OpenMetrics Compatibility"): characters
// replaced, the unit and `total` at the end.

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
  KBy: 'kilobytes',
  MBy: 'megabytes',
  GBy: 'gigabytes',
  m: 'meters',
  V: 'volts',
  A: 'amperes',
  J: 'joules',
  W: 'watts',
  g: 'grams',
  Cel: 'celsius',
  Hz: 'hertz',
  '%': 'percent',
  rpm: 'rpm',
}
const perUnits: Readonly<Record<string, string>> = {
  s: 'second',
  m: 'minute',
  min: 'minute',
  h: 'hour',
  d: 'day',
}

/** A unit as a word, or empty: what stands in braces is a comment. */
function unitWord(unit: string): string {
  const [first = '', per] = unit.replaceAll(/\{[^}]*\}/g, '').split('/')
  const word = units[first] ?? (/^[A-Za-z]+$/.test(first) ? first : '')
  if (per === undefined || per === '') return word
  const perWord = perUnits[per] ?? per.replaceAll(/[^A-Za-z]/g, '')
  return perWord === '' ? word : `${word}${word === '' ? '' : '_'}per_${perWord}`
}

const cleaned = (name: string, allowed: RegExp): string =>
  name
    .replaceAll(allowed, '_')
    .replaceAll(/_{2,}/g, '_')
    .replace(/^(?=\d)/, '_') || '_'

/** The name of a family; that of a counter's samples has `_total` at its end. */
export function metricName(name: string, unit: string, isCounter: boolean, isGauge: boolean): string {
  let found = cleaned(name, /[^a-zA-Z0-9_:]/g)
  if (isCounter) found = found.replace(/_total$/, '')
  const word = unit === '1' && isGauge ? 'ratio' : unit === '1' ? '' : unitWord(unit)
  if (word !== '' && !found.endsWith(`_${word}`) && found !== word) found += `_${word}`
  return isCounter ? `${found}_total` : found
}

export const labelName = (key: string): string => cleaned(key, /[^a-zA-Z0-9_]/g)

const escapes: Readonly<Record<string, string>> = { '\\': '\\\\', '"': '\\"', '\n': '\\n' }
export const labelValue = (text: string): string => text.replaceAll(/[\\"\n]/g, (one) => escapes[one] ?? one)

/** `a="1",b="2"`, sorted; two keys that become one name have their values joined. */
export function labelsOf(pairs: readonly (readonly [string, string])[]): string {
  const labels = new Map<string, string>()
  for (const [key, value] of pairs.toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const name = labelName(key)
    const before = labels.get(name)
    labels.set(name, before === undefined ? value : `${before};${value}`)
  }
  return [...labels].map(([name, value]) => `${name}="${labelValue(value)}"`).join(',')
}
