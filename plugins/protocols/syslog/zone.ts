// Time zones for timestamps that carry none: wall-clock seconds to seconds east of UTC, by IANA name, fixed offset,
// or the zone of this machine.

/** Seconds east of UTC for a wall-clock time (given as if it were UTC). An hour that exists twice is the one nearer to `now`. */
export type Zone = (wall: number, now: number) => number

const day = 86_400
const quarter = 900
const rememberedQuarters = 512

/** `local`, `UTC`, `+05:30` or an IANA name; undefined where there is no such zone. */
export function zoneOf(name: string): Zone | undefined {
  const fixed = /^(?:UTC)?([+-])(\d{2}):?(\d{2})$/.exec(name)
  if (fixed) {
    const seconds = (Number(fixed[2]) * 60 + Number(fixed[3])) * 60
    if (Number(fixed[2]) > 14 || Number(fixed[3]) > 59) return undefined
    return () => (fixed[1] === '-' ? -seconds : seconds)
  }
  if (name === 'UTC' || name === 'Z') return () => 0
  const zone = name === 'local' ? new Intl.DateTimeFormat().resolvedOptions().timeZone : name
  try {
    return named(
      new Intl.DateTimeFormat('en-US', {
        timeZone: zone,
        calendar: 'iso8601',
        hourCycle: 'h23',
        year: 'numeric',
        month: 'numeric',
        day: 'numeric',
        hour: 'numeric',
        minute: 'numeric',
        second: 'numeric',
      }),
    )
  } catch {
    return undefined
  }
}

// Asking Intl costs microseconds, and transitions happen on quarters of an hour, so answers are kept by quarter.
function named(format: Intl.DateTimeFormat): Zone {
  const known = new Map<number, number>()
  return (wall, now) => {
    // Which of two equal hours is nearer depends on now, so what was answered holds within a quarter of it.
    const key = Math.floor(wall / quarter) * 65_536 + (Math.floor(now / quarter) % 65_536)
    const before = known.get(key)
    if (before !== undefined) return before
    if (known.size >= rememberedQuarters) known.clear()
    const offset = resolve(format, wall, now)
    known.set(key, offset)
    return offset
  }
}

function resolve(format: Intl.DateTimeFormat, wall: number, now: number): number {
  const earlier = offsetAt(format, wall - day)
  const later = offsetAt(format, wall + day)
  if (earlier === later) return earlier
  const fits = [earlier, later].filter((offset) => offsetAt(format, wall - offset) === offset)
  // An hour that the clock skipped: read it as the clock ran before.
  const [first = earlier, second = first] = fits
  return Math.abs(wall - second - now) < Math.abs(wall - first - now) ? second : first
}

function offsetAt(format: Intl.DateTimeFormat, utc: number): number {
  const of: Partial<Record<Intl.DateTimeFormatPartTypes, number>> = {}
  for (const { type, value } of format.formatToParts(utc * 1000)) of[type] = Number(value)
  const { year = 1970, month = 1, day: date = 1, hour = 0, minute = 0, second = 0 } = of
  return Date.UTC(year, month - 1, date, hour, minute, second) / 1000 - Math.floor(utc)
}
