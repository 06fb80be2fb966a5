// What a line of a program says of itself: the time at its beginning and how severe it is. Only what is certain counts;
// a line that says neither has the time of its arrival and no severity.

/** Bytes of a line in which its time and severity are looked for. */
export const readingLength = 160

const words: Readonly<Record<string, number>> = {
  trace: 1,
  debug: 5,
  info: 9,
  information: 9,
  notice: 10,
  warn: 13,
  warning: 13,
  err: 17,
  error: 17,
  crit: 18,
  critical: 18,
  alert: 19,
  panic: 21,
  emerg: 21,
  fatal: 21,
}
const names = Object.keys(words).join('|')
/** `level=warn`, `"level":"warn"`, `severity: warn` */
const assigned = new RegExp(`\\b(?:level|lvl|severity)"?\\s?[=:]\\s?"?(${names})\\b`, 'i')
/** `[warn]`, `<warn>`, `(warn)` */
const bracketed = new RegExp(`[[<(]\\s?(${names})\\s?[\\]>)]`, 'i')
/** `WARN` as a word of its own; in small letters it may be part of a sentence. */
const capital = new RegExp(`(?:^|[\\s|:])(${names.toUpperCase()})(?=$|[\\s|:\\]])`)
/** klog: `E1121 16:25:00.123456   1 file.go:12] text` */
const klog = /^([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ /
const klogSeverities: Readonly<Record<string, number>> = { I: 9, W: 13, E: 17, F: 21 }

export interface Severity {
  number: number
  /** As the line spells it. */
  text: string
}

export function severityOf(line: string): Severity | undefined {
  const letter = klog.exec(line)?.[1]
  if (letter !== undefined) return { number: klogSeverities[letter] ?? 0, text: letter }
  const text = (assigned.exec(line) ?? bracketed.exec(line) ?? capital.exec(line))?.[1]
  const number = text === undefined ? undefined : words[text.toLowerCase()]
  return text === undefined || number === undefined ? undefined : { number, text }
}

export interface LineTime {
  seconds: number
  nanos: number
}

const iso =
  /^\W?(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(?: ?(Z|UTC|[+-]\d\d(?::?\d\d)?)\b)?/

/** An RFC 3339 or ISO 8601 time at the beginning; one without a zone is local. */
export function timeOf(line: string): LineTime | undefined {
  const [found, year, month, day, hour, minute, second, fraction = '', zone] = iso.exec(line) ?? []
  if (found === undefined) return undefined
  const parts = [year, Number(month) - 1, day, hour, minute, second].map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  const ms = zone === undefined ? new Date(...parts).getTime() : Date.UTC(...parts)
  if (!Number.isFinite(ms) || ms < 0 || Number(month) > 12 || Number(hour) > 24) return undefined
  return { seconds: ms / 1000 - offsetOf(zone), nanos: Number(fraction.padEnd(9, '0')) }
}

function offsetOf(zone: string | undefined): number {
  const [, sign, hours, minutes] = /^([+-])(\d\d):?(\d\d)?$/.exec(zone ?? '') ?? []
  const seconds = (Number(hours ?? 0) * 60 + Number(minutes ?? 0)) * 60
  return sign === '-' ? -seconds : seconds
}
