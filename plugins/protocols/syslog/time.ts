// Timestamps of syslog lines, read from bytes: RFC 5424 §6.2.3 and its ISO relatives, RFC 3164 §4.1.2 and what devices
// make of it. Lines repeat the same second many times, so the last one of each form is remembered by its bytes.
import type { Zone } from './zone.ts'

const months: readonly string[] = [
  'jan',
  'feb',
  'mar',
  'apr',
  'may',
  'jun',
  'jul',
  'aug',
  'sep',
  'oct',
  'nov',
  'dec',
]
const monthOf = new Map(
  months.map((name, index) => [
    (name.charCodeAt(0) << 16) | (name.charCodeAt(1) << 8) | name.charCodeAt(2),
    index + 1,
  ]),
)
const lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

/** Abbreviations whose meaning is beyond doubt in a log; others leave the configured zone in force. Hours. */
const abbreviations: Readonly<Record<string, number>> = {
  UTC: 0,
  GMT: 0,
  Z: 0,
  WET: 0,
  WEST: 1,
  CET: 1,
  CEST: 2,
  EET: 2,
  EEST: 3,
  MSK: 3,
  JST: 9,
  EST: -5,
  EDT: -4,
  CST: -6,
  CDT: -5,
  MST: -7,
  MDT: -6,
  PST: -8,
  PDT: -7,
}

const isLeap = (year: number): boolean => (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0
const isDate = (year: number, month: number, day: number): boolean =>
  day >= 1 && day <= (month === 2 && isLeap(year) ? 29 : (lengths[month - 1] ?? 0))

/** Seconds since 1970 of a date and time of the proleptic Gregorian calendar, as UTC. */
function civil(year: number, month: number, day: number, secondOfDay: number): number {
  return Date.UTC(year, month - 1, day) / 1000 + secondOfDay
}

// What fixed64 nanoseconds can hold, less a day for offsets.
const latest = 18_446_744_073 - 86_400

/** Reads timestamps; the result is in `seconds` and `nanos`. Every method answers the position behind it, or -1. */
export class TimeReader {
  seconds = 0
  nanos = 0
  readonly #zone: Zone
  readonly #iso = new Uint8Array(19)
  #isoWall = 0
  readonly #bsd = new Uint8Array(15)
  #bsdSeconds = 0
  #bsdNow = -Infinity
  #wall = 0
  #wallNow = -Infinity
  #wallSeconds = 0
  #year = -1
  #offset = Number.NaN

  constructor(zone: Zone) {
    this.#zone = zone
  }

  /** `2026-10-11T22:14:15.003000001+02:00`. Without an offset, where `bare` allows it, it is local. */
  iso(bytes: Uint8Array, start: number, end: number, now: number, bare: boolean): number {
    if (end - start < 19) return -1
    const cached = this.#iso
    let index = 18
    while (index >= 0 && bytes[start + index] === cached[index]) index--
    if (index >= 0 && !this.#isoSlow(bytes, start)) return -1
    let at = this.#fraction(bytes, start + 19, end)
    if (at < 0) return -1
    const mark = at < end ? bytes[at] : 0
    if (mark === 0x5a || mark === 0x7a) {
      this.seconds = this.#isoWall
      at++
    } else if (mark === 0x2b || mark === 0x2d) {
      const hours = two(bytes, at + 1, end)
      const colon = bytes[at + 3] === 0x3a ? 1 : 0
      const minutes = two(bytes, at + 3 + colon, end)
      if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return -1
      const offset = hours * 3600 + minutes * 60
      this.seconds = this.#isoWall - (mark === 0x2b ? offset : -offset)
      at += 5 + colon
    } else if (bare) this.seconds = this.#local(this.#isoWall, now)
    else return -1
    return this.seconds >= 0 && this.seconds <= latest ? at : -1
  }

  #isoSlow(bytes: Uint8Array, start: number): boolean {
    const end = start + 19
    const century = two(bytes, start, end)
    const years = two(bytes, start + 2, end)
    const month = two(bytes, start + 5, end)
    const day = two(bytes, start + 8, end)
    const clock = clockAt(bytes, start + 11, end)
    const separator = bytes[start + 10]
    if (bytes[start + 4] !== 0x2d || bytes[start + 7] !== 0x2d || century < 0 || years < 0) return false
    if (separator !== 0x54 && separator !== 0x74 && separator !== 0x20) return false
    const year = century * 100 + years
    if (year < 1970 || clock < 0 || !isDate(year, month, day)) return false
    this.#isoWall = civil(year, month, day, clock)
    this.#iso.set(bytes.subarray(start, end))
    return true
  }

  /** Unix time with an optional fraction, as some access points send it behind a version. */
  epoch(bytes: Uint8Array, start: number, end: number): number {
    let at = start
    let value = 0
    while (at < end && at - start < 11 && isDigit(bytes[at])) value = value * 10 + (bytes[at++] ?? 0) - 0x30
    if (at - start < 9 || at - start > 10) return -1
    this.seconds = value
    return this.#fraction(bytes, at, end)
  }

  /**
   * `Oct  1 22:14:15`, `Oct 11 2026 22:14:15.123`, `Aug 24 05:34:00 CST 1987`, `1990 Oct 22 10:52:01 TZ-6`, a `*` or `.`
   * in front and a `:` behind. A year that is missing is the one that brings the time nearest to `now`.
   */
  bsd(bytes: Uint8Array, start: number, end: number, now: number): number {
    if (end - start < 14) return -1
    const cached = this.#bsd
    let index = 14
    while (index >= 0 && bytes[start + index] === cached[index]) index--
    if (index < 0 && now - this.#bsdNow < 600 && now >= this.#bsdNow && bytes[start + 15] === 0x20) {
      this.#year = -1
      if (this.#suffix(bytes, start + 15, end, false) === start + 15) {
        this.seconds = this.#bsdSeconds
        this.nanos = 0
        return start + 15
      }
    }
    return this.#bsdSlow(bytes, start, end, now)
  }

  #bsdSlow(bytes: Uint8Array, start: number, end: number, now: number): number {
    let at = start
    if (bytes[at] === 0x2a || bytes[at] === 0x2e) at++
    this.#offset = Number.NaN
    this.#year = yearAt(bytes, at, end)
    const yearFirst = this.#year >= 0 && bytes[at + 4] === 0x20
    if (this.#year >= 0) at += 5
    if (this.#year >= 0 && !yearFirst) return -1
    const month = monthAt(bytes, at, end)
    if (month < 0 || bytes[at + 3] !== 0x20) return -1
    at += bytes[at + 4] === 0x20 ? 5 : 4
    if (!isDigit(bytes[at])) return -1
    let day = (bytes[at++] ?? 0) - 0x30
    if (isDigit(bytes[at])) day = day * 10 + (bytes[at++] ?? 0) - 0x30
    if (bytes[at++] !== 0x20) return -1
    const year = yearAt(bytes, at, end)
    if (year >= 0 && bytes[at + 4] === 0x20) {
      this.#year = year
      at += 5
    }
    const clock = clockAt(bytes, at, end)
    if (clock < 0) return -1
    const simple = at - start === 7 && this.#year < 0
    at = this.#fraction(bytes, at + 8, end)
    if (at < 0) return -1
    const behind = this.#suffix(bytes, at, end, yearFirst)
    if (!this.#resolve(month, day, clock, now)) return -1
    if (simple && behind === start + 15) {
      this.#bsd.set(bytes.subarray(start, start + 15))
      this.#bsdSeconds = this.seconds
      this.#bsdNow = now
    }
    // `datetime msec` of IOS: a colon ends the timestamp.
    return bytes[behind] === 0x3a && (behind + 1 === end || bytes[behind + 1] === 0x20) ? behind + 1 : behind
  }

  // A zone, a year or both behind the time, without mistaking a host name for one of them.
  #suffix(bytes: Uint8Array, start: number, end: number, yearFirst: boolean): number {
    if (start >= end || bytes[start] !== 0x20) return start
    let at = start + 1
    const year = yearAt(bytes, at, end)
    if (year >= 0 && this.#year < 0 && endsToken(bytes, at + 4, end)) {
      this.#year = year
      return at + 4
    }
    while (at < end && at - start <= 5 && isUpper(bytes[at])) at++
    if (at === start + 1) return start
    const name = String.fromCharCode(...bytes.subarray(start + 1, at))
    let hours = abbreviations[name]
    if (bytes[at] === 0x2b || bytes[at] === 0x2d) {
      const sign = bytes[at] === 0x2b ? 1 : -1
      let digits = at + 1
      let amount = 0
      while (digits < end && digits - at <= 2 && isDigit(bytes[digits]))
        amount = amount * 10 + (bytes[digits++] ?? 0) - 0x30
      if (digits === at + 1 || amount > 14) return start
      hours = (hours ?? 0) + sign * amount
      at = digits
    }
    if (!endsToken(bytes, at, end)) return start
    const after = bytes[at] === 0x20 && this.#year < 0 ? yearAt(bytes, at + 1, end) : -1
    if (after >= 0 && endsToken(bytes, at + 5, end)) {
      this.#year = after
      at += 5
    } else if (hours === undefined || (!yearFirst && bytes[at] !== 0x3a)) return start
    if (hours !== undefined) this.#offset = hours * 3600
    return at
  }

  #resolve(month: number, day: number, clock: number, now: number): boolean {
    if (this.#year >= 0) {
      if (!isDate(this.#year, month, day)) return false
      this.seconds = this.#utc(civil(this.#year, month, day, clock), now)
      return this.seconds >= 0 && this.seconds <= latest
    }
    const current = new Date(now * 1000).getUTCFullYear()
    let best = Infinity
    // The 29th of February may be years away.
    for (let reach = 1; reach <= 8 && best === Infinity; reach += 7) {
      for (let year = Math.max(1970, current - reach); year <= current + reach; year++) {
        if (!isDate(year, month, day)) continue
        const wall = civil(year, month, day, clock)
        if (Math.abs(wall - now) < Math.abs(best - now)) best = wall
      }
    }
    if (best === Infinity) return false
    this.seconds = this.#utc(best, now)
    return this.seconds >= 0
  }

  #utc(wall: number, now: number): number {
    return Number.isNaN(this.#offset) ? this.#local(wall, now) : wall - this.#offset
  }

  #local(wall: number, now: number): number {
    if (wall !== this.#wall || now !== this.#wallNow) {
      this.#wall = wall
      this.#wallNow = now
      this.#wallSeconds = wall - this.#zone(wall, now)
    }
    return this.#wallSeconds
  }

  // Digits beyond nanoseconds say nothing that can be kept.
  #fraction(bytes: Uint8Array, start: number, end: number): number {
    this.nanos = 0
    const mark = start < end ? bytes[start] : 0
    if ((mark !== 0x2e && mark !== 0x2c) || start + 1 >= end || !isDigit(bytes[start + 1])) {
      return mark === 0x2e ? -1 : start
    }
    let at = start + 1
    let scale = 100_000_000
    let nanos = 0
    for (; at < end && isDigit(bytes[at]); at++) {
      nanos += scale * ((bytes[at] ?? 0) - 0x30)
      scale = scale > 1 ? scale / 10 : 0
    }
    this.nanos = nanos
    return at
  }
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39
}

function isUpper(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x41 && byte <= 0x5a
}

function endsToken(bytes: Uint8Array, at: number, end: number): boolean {
  return at >= end || bytes[at] === 0x20 || bytes[at] === 0x3a
}

/** Two digits as a number, or -1. */
function two(bytes: Uint8Array, at: number, end: number): number {
  const tens = (bytes[at] ?? 0) - 0x30
  const ones = (bytes[at + 1] ?? 0) - 0x30
  return at + 2 <= end && tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? tens * 10 + ones : -1
}

/** Second of the day from `hh:mm:ss`, or -1; a leap second is the one that follows. */
function clockAt(bytes: Uint8Array, at: number, end: number): number {
  const hour = two(bytes, at, end)
  const minute = two(bytes, at + 3, end)
  const second = two(bytes, at + 6, end)
  if (bytes[at + 2] !== 0x3a || bytes[at + 5] !== 0x3a) return -1
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60) return -1
  return hour * 3600 + minute * 60 + second
}

function monthAt(bytes: Uint8Array, at: number, end: number): number {
  if (end - at < 3) return -1
  const packed =
    (((bytes[at] ?? 0) | 0x20) << 16) | (((bytes[at + 1] ?? 0) | 0x20) << 8) | ((bytes[at + 2] ?? 0) | 0x20)
  return monthOf.get(packed) ?? -1
}

/** A year from 1970 to 2199, or -1. */
function yearAt(bytes: Uint8Array, at: number, end: number): number {
  const century = two(bytes, at, end)
  if (century < 19 || century > 21) return -1
  const years = two(bytes, at + 2, end)
  const year = century * 100 + years
  return years < 0 || year < 1970 ? -1 : year
}
