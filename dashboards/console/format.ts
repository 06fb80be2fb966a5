// Numbers, units, times and attributes as people read them.

const grouped = new Intl.NumberFormat('en-US')
const binary = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei']
const decimal = ['', 'k', 'M', 'G', 'T', 'P', 'E']

export function count(value: number): string {
  return grouped.format(value)
}

/** A value with its UCUM unit: `0.42` of `1` is 42 %, bytes are KiB, annotations such as `{thread}` stay out. */
export function quantity(value: number | string, unit: string): string {
  const number = Number(value)
  // An integer that JavaScript cannot hold came as text: it is shown as it is.
  if (typeof value === 'string' && !Number.isSafeInteger(number)) return `${value} ${symbol(unit)}`.trim()
  if (!Number.isFinite(number)) return String(value)
  const [base = '', per] = unit.split('/')
  const suffix = per === undefined ? '' : `/${per.replaceAll(/[{}]/g, '')}`
  if (base === '1') return `${short(number * 100)} %${suffix}`
  if (base === 'By') return `${scaled(number, 1024, binary)}B${suffix}`
  if (base === 's' && Math.abs(number) >= 120) return span(number)
  if (base === 's' && number !== 0 && Math.abs(number) < 1) return `${short(number * 1000)} ms${suffix}`
  const shown = symbol(base)
  return `${scaled(number, 1000, decimal)}${shown}${suffix}`.trim()
}

export function unitOfRate(unit: string): string {
  return `${unit}/s`
}

function symbol(unit: string): string {
  if (unit === 'Cel') return '°C'
  return unit.replaceAll(/\{[^}]*\}/g, '')
}

function scaled(value: number, step: number, prefixes: readonly string[]): string {
  let rank = 0
  let rest = value
  while (Math.abs(rest) >= step * 0.9995 && rank < prefixes.length - 1) {
    rest /= step
    rank += 1
  }
  return `${short(rest)} ${prefixes[rank] ?? ''}`
}

// Three significant digits, no exponent, no trailing zeros.
function short(value: number): string {
  if (Math.abs(value) >= 100) return grouped.format(Math.round(value))
  return String(Number(value.toPrecision(3)))
}

function span(seconds: number): string {
  if (Math.abs(seconds) < 7200) return `${Math.round(seconds / 60)} min`
  if (Math.abs(seconds) < 172_800) return `${short(seconds / 3600)} h`
  return `${short(seconds / 86_400)} d`
}

export function ago(time: string): string {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000))
  if (Number.isNaN(seconds)) return time
  if (seconds < 5) return 'now'
  if (seconds < 100) return `${seconds} s ago`
  return `${span(seconds)} ago`
}

/** Local time to the millisecond, with the date where it is not today's. */
export function clock(time: string): string {
  const date = new Date(time)
  if (Number.isNaN(date.getTime())) return time
  const two = (value: number) => String(value).padStart(2, '0')
  const millis = String(date.getMilliseconds()).padStart(3, '0')
  const ofDay = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${millis}`
  if (date.toDateString() === new Date().toDateString()) return ofDay
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${ofDay}`
}

export function text(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '')
}

/** Control characters as escapes, as `dpulse logs` shows them; nothing that a device sent is invisible. */
export function visible(value: unknown): string {
  // oxlint-disable-next-line no-control-regex
  return text(value).replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (character) => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
  })
}

export function severityName(number: number): string {
  if (number < 1 || number > 24) return 'none'
  return ['trace', 'debug', 'info', 'warn', 'error', 'fatal'][Math.floor((number - 1) / 4)] ?? 'none'
}
