// Times as programs write them into JSON: Unix numbers of whatever unit, or RFC 3339.

const form = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:[.,](\d{1,9})\d*)?(?:[Zz]|[+-]\d\d:?\d\d)$/

/** Unix seconds and nanoseconds; undefined where it is no time. The unit of a number is told by its size. */
export function parseTime(value: unknown): [seconds: number, nanos: number] | undefined {
  if (typeof value === 'number') return ofNumber(value)
  if (typeof value !== 'string' || value.length > 40) return undefined
  if (/^\d{1,13}(\.\d{1,9})?$/.test(value)) return ofNumber(Number(value))
  // More digits than a double holds: nanoseconds.
  if (/^\d{16,19}$/.test(value)) return valid(Number(value.slice(0, -9)), Number(value.slice(-9)))
  const fraction = form.exec(value)
  if (!fraction) return undefined
  const ms = Date.parse(value.replace(/[.,]\d+/, '').replace(' ', 'T'))
  return Number.isNaN(ms) ? undefined : valid(ms / 1000, Number((fraction[1] ?? '').padEnd(9, '0')))
}

function ofNumber(value: number): [number, number] | undefined {
  // Seconds until the year 5138, then milliseconds, microseconds, nanoseconds: each from 1973 on.
  const scale = value < 1e11 ? 1 : value < 1e14 ? 1e3 : value < 1e17 ? 1e6 : 1e9
  if (scale === 1) {
    const seconds = Math.floor(value)
    return valid(seconds, Math.min(999_999, Math.round((value - seconds) * 1e6)) * 1000)
  }
  const seconds = Math.floor(value / scale)
  return valid(seconds, Math.min(999_999_999, Math.round((value - seconds * scale) * (1e9 / scale))))
}

const valid = (seconds: number, nanos: number): [number, number] | undefined =>
  seconds >= 0 && seconds < 9_223_372_036 ? [seconds, nanos] : undefined
