// Numbers as text, read in place: what line protocol, StatsD and Prometheus' text share. No string is made for the
// usual ones; the unusual ones go through Number.

const zero = 0x30
const minus = 0x2d
const plus = 0x2b
const dot = 0x2e

/** 10^0 … 10^22 are exact doubles, so that one division rounds right. */
const powers = Array.from({ length: 23 }, (_, exponent) => 10 ** exponent)
const strict = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/
/** Nobody writes longer ones. */
const longest = 400

const isDigit = (byte: number): boolean => byte >= zero && byte <= 0x39

/** The decimal number that `bytes[start, end)` spells; NaN where it spells none, `NaN` and infinities among them. */
export function readDecimal(bytes: Buffer, start: number, end: number): number {
  let at = start
  const sign = bytes[at] ?? 0
  if (sign === minus || sign === plus) at++
  let mantissa = 0
  let digits = 0
  let fraction = 0
  let seenDot = false
  for (; at < end; at++) {
    const byte = bytes[at] ?? 0
    if (isDigit(byte)) {
      mantissa = mantissa * 10 + (byte - zero)
      digits++
      if (seenDot) fraction++
    } else if (byte === dot && !seenDot) seenDot = true
    else break
  }
  if (at === end && digits > 0 && digits <= 15) {
    const value = mantissa / (powers[fraction] ?? 1)
    return sign === minus ? -value : value
  }
  if (end - start > longest || end <= start) return NaN
  const text = bytes.toString('latin1', start, end)
  return strict.test(text) ? Number(text) : NaN
}

/** Reads 64-bit integers into two halves. */
export class IntegerReader {
  low = 0
  high = 0

  /**
   * Whether `bytes[start, end)` spells an integer from -2^63 to 2^63 - 1, or, where `signed` is false, from 0 on.
   * Larger ones are no integers that OTLP could carry.
   */
  read(bytes: Buffer, start: number, end: number, signed: boolean): boolean {
    const negative = bytes[start] === minus
    let at = start
    if (negative) {
      if (!signed) return false
      at++
    }
    while (at < end - 1 && bytes[at] === zero) at++
    const digits = end - at
    if (digits < 1 || digits > 19) return false
    // Two decimal halves that both are exact: value = upper * 10^9 + lower.
    const middle = Math.max(at, end - 9)
    let upper = 0
    let lower = 0
    for (let index = at; index < end; index++) {
      const digit = (bytes[index] ?? 0) - zero
      if (digit < 0 || digit > 9) return false
      if (index < middle) upper = upper * 10 + digit
      else lower = lower * 10 + digit
    }
    if (upper > 9_223_372_036 || (upper === 9_223_372_036 && lower > (negative ? 854_775_808 : 854_775_807)))
      return false
    this.#set(upper, lower)
    if (negative) this.#negate()
    return true
  }

  #set(upper: number, lower: number): void {
    // As Writer.fixed64Time: 10^9 times the upper one, in 16-bit steps that stay below 2^53.
    const scaled = Math.floor(upper / 65_536) * 1e9
    const rest = (scaled % 65_536) * 65_536 + (upper % 65_536) * 1e9 + lower
    this.high = Math.floor(scaled / 65_536) + Math.floor(rest / 4_294_967_296)
    this.low = rest % 4_294_967_296
  }

  #negate(): void {
    this.low = (~this.low + 1) >>> 0
    this.high = (~this.high + (this.low === 0 ? 1 : 0)) >>> 0
  }
}

/** Unix times as whole numbers of some unit. */
export class TimeReader {
  seconds = 0
  nanos = 0

  /** Whether `bytes[start, end)` spells a time from 1970 to 2262 in units of which a second has `perSecond`. */
  read(bytes: Buffer, start: number, end: number, perSecond: number): boolean {
    if (end <= start || end - start > 19) return false
    const split = Math.max(start, perSecond === 1e9 ? end - 9 : start)
    let upper = 0
    let lower = 0
    for (let at = start; at < end; at++) {
      const digit = (bytes[at] ?? 0) - zero
      if (digit < 0 || digit > 9) return false
      if (at < split) upper = upper * 10 + digit
      else lower = lower * 10 + digit
    }
    if (perSecond === 1e9) {
      this.seconds = upper
      this.nanos = lower
    } else {
      if (lower > Number.MAX_SAFE_INTEGER) return false
      this.seconds = perSecond < 1 ? lower * Math.round(1 / perSecond) : Math.floor(lower / perSecond)
      this.nanos = perSecond < 1 ? 0 : (lower % perSecond) * (1e9 / perSecond)
    }
    return this.seconds < 9_223_372_036
  }

  /** From seconds with a fraction. */
  set(seconds: number): boolean {
    if (!(seconds >= 0 && seconds < 9_223_372_036)) return false
    this.seconds = Math.floor(seconds)
    // A double of today's seconds is good for a quarter of a microsecond.
    this.nanos = Math.min(999_999, Math.round((seconds - this.seconds) * 1e6)) * 1000
    return true
  }
}
