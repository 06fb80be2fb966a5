// Looking into what a Redfish service answered. Nothing is believed: a member may be absent, null, of another type, or a
// text that stands for nothing (DSP0266 §9; reference captures hold them all).

export type Json = Readonly<Record<string, unknown>>

export const isJson = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The object at a path of members; an empty one where there is none. */
export function inside(of: unknown, ...path: readonly string[]): Json {
  let at: unknown = of
  for (const key of path) at = isJson(at) ? at[key] : undefined
  return isJson(at) ? at : {}
}

/** The objects of an array; nothing where there is no array. */
export const objectsOf = (value: unknown): Json[] =>
  Array.isArray(value) ? (value as unknown[]).filter(isJson) : []

const longestText = 1024

/** What BMCs write where they have nothing to say; compared without case. */
const nothing = new Set(['', 'n/a', 'na', 'nan', 'null', 'none', 'unknown', 'not available', 'undefined'])

/** A text, trimmed (serial numbers come padded); undefined where it says nothing. */
export function textOf(value: unknown): string | undefined {
  if (typeof value !== 'string') return undefined
  const text = value.trim()
  return nothing.has(text.toLowerCase()) ? undefined : text.slice(0, longestText)
}

/** A finite number, also one that was written as a text (`"44.000000"`). */
export function numberOf(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined
  if (typeof value !== 'string' || !/^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i.test(value))
    return undefined
  const parsed = Number(value)
  return Number.isFinite(parsed) ? parsed : undefined
}

/** The path that a link names; undefined where it leads elsewhere: credentials go to no other host. */
export function linkOf(value: unknown): string | undefined {
  const id = inside(value)['@odata.id'] ?? value
  return typeof id === 'string' ? pathOf(id) : undefined
}

/** `/redfish/…` without a trailing slash, with its fragment; undefined where it is no path of a service. */
export function pathOf(id: string): string | undefined {
  if (!id.startsWith('/redfish') || id.length > longestText || /[\s\\]|\/\.\.?(\/|$)/.test(id))
    return undefined
  return id.replace(/\/+(?=#|$)/, '')
}

/** Without the fragment. */
export const documentOf = (path: string): string => path.replace(/#.*$/s, '')

/** `#Sensor.v1_2_0.Sensor` → `Sensor`. */
export const typeOf = (body: Json): string =>
  /^#?([A-Za-z0-9]+)\./.exec(typeof body['@odata.type'] === 'string' ? body['@odata.type'] : '')?.[1] ?? ''

/** Months and the like are in no use for intervals: `PT30S`, `PT5M`, `P1DT2H` → milliseconds. */
export function durationOf(value: unknown): number | undefined {
  const found =
    typeof value === 'string'
      ? /^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$/.exec(value)
      : null
  if (!found) return undefined
  const [, days = 0, hours = 0, minutes = 0, seconds = 0] = found
  return ((Number(days) * 24 + Number(hours)) * 60 + Number(minutes)) * 60_000 + Number(seconds) * 1000
}

/**
 * Unix nanoseconds of a date and time; `-0600` (Dell) and a missing offset (taken for UTC) are understood. Undefined where
 * it is none.
 */
export function timeOf(value: unknown): bigint | undefined {
  const found =
    typeof value === 'string'
      ? /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,12}))?\s*(Z|[+-]\d\d:?\d\d)?$/i.exec(value.trim())
      : null
  if (!found) return undefined
  const [, date, clock, fraction = '', offset = 'Z'] = found
  const zone = offset.toUpperCase() === 'Z' ? 'Z' : `${offset.slice(0, 3)}:${offset.slice(-2)}`
  const ms = Date.parse(`${date}T${clock}${zone}`)
  return Number.isNaN(ms) || ms < 0
    ? undefined
    : BigInt(ms) * 1_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, '0'))
}
