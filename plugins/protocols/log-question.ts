// How askers write times, durations and severities, the same for every HTTP API and command (DESIGN §9).

const unitNano: Record<string, bigint> = {
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
  d: 86_400_000_000_000n,
  w: 604_800_000_000_000n,
}

// The names of OpenTelemetry and of syslog; the numbers are the lowest of each.
const severities: Record<string, number> = {
  trace: 1,
  debug: 5,
  info: 9,
  notice: 10,
  warn: 13,
  warning: 13,
  error: 17,
  err: 17,
  critical: 18,
  crit: 18,
  alert: 19,
  fatal: 21,
  emerg: 21,
}

/** What is told to whoever wrote something else. */
export const takes = {
  time: 'takes a duration back from now such as 15m, 1h or 7d, a time such as 2026-11-21T09:55:00Z, or now',
  severity: 'takes trace, debug, info, notice, warn, error, critical, alert, fatal, or a number from 1 to 24',
} as const

/** `15m`, `1h30m`: nanoseconds, or undefined when it is no duration. */
export function parseDuration(text: string): bigint | undefined {
  if (!/^(\d{1,9}(ms|[smhdw]))+$/.test(text)) return undefined
  let total = 0n
  for (const [, digits, unit] of text.matchAll(/(\d+)(ms|[smhdw])/g)) {
    total += BigInt(digits ?? '0') * (unitNano[unit ?? ''] ?? 0n)
  }
  return total
}

/** `now`, a duration back from now, or RFC 3339 (also only its date): Unix nanoseconds, or undefined. */
export function parseTime(text: string, nowUnixNano: bigint): bigint | undefined {
  if (text === 'now') return nowUnixNano
  const back = parseDuration(text)
  if (back !== undefined) return back > nowUnixNano ? 0n : nowUnixNano - back
  const parts =
    /^(\d{4}-\d{2}-\d{2})(?:[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2}))?$/.exec(text)
  if (parts === null) return undefined
  const [, date, time = '00:00:00', fraction = '', zone = 'Z'] = parts
  const millis = Date.parse(`${date}T${time}${zone.toUpperCase()}`)
  if (Number.isNaN(millis)) return undefined
  return BigInt(millis) * 1_000_000n + BigInt(fraction.padEnd(9, '0'))
}

/** The lowest OTel severity number of a name, or a number from 1 to 24; undefined where it is neither. */
export function parseSeverity(text: string): number | undefined {
  const number = severities[text.toLowerCase()] ?? (/^\d{1,2}$/.test(text) ? Number(text) : 0)
  return number >= 1 && number <= 24 ? number : undefined
}
