// Readings of sensors from whatever resources show them: Sensor, Fan, PowerSupply, the metrics of subsystems, and the older
// Thermal and Power. One sensor is often shown by many; each of its readings is taken once, from the best of them.
import { documentOf, inside, linkOf, numberOf, objectsOf, textOf } from './json.ts'
import type { Json } from './json.ts'
import { kinds } from '../bmc/kinds.ts'
import { hwTypeOf, kindOf, legacyLimitsOf, limitsOf, readingOf } from './sensor-kinds.ts'
import type { KindName } from '../bmc/kinds.ts'
import type { Limit } from './sensor-kinds.ts'
import { ownerOf } from './walk.ts'
import type { Resource } from './walk.ts'

/** One reading of one sensor. */
export interface Found {
  readonly kind: KindName
  /** `hw.id`: the path of the sensor, whoever shows it. */
  readonly id: string
  readonly name: string
  readonly type: string
  /** Where it sits, as the service says it. */
  readonly location: string | undefined
  /** Undefined where the sensor says that it has none: then no other resource may say one for it. */
  readonly value: number | undefined
  readonly limits: readonly Limit[]
  /** The resource that showed it. */
  readonly shownBy: Resource
  /** 0 the sensor itself, 1 the component that it belongs to, 2 a copy elsewhere. */
  readonly rank: 0 | 1 | 2
  /** Shown without saying which sensor it is: it may be one that the chassis lists. */
  readonly nameless: boolean
}

/** States in which nothing is measured. */
const silent = new Set(['Absent', 'Disabled', 'UnavailableOffline'])
export const isSilent = (body: Json): boolean => silent.has(String(inside(body, 'Status').State))

const readers: Readonly<Record<string, (of: Resource) => Found[]>> = {
  Sensor: sensor,
  Fan: (of) => excerpts(of, [['SpeedPercent', 'fanRatio']], 1),
  PowerSupplyMetrics: (of) =>
    excerpts(
      of,
      [
        ['InputVoltage', 'voltage'],
        ['InputCurrentAmps', 'current'],
        ['InputPowerWatts', 'power'],
        ['OutputPowerWatts', 'power'],
        ['RailVoltage', 'voltage'],
        ['RailCurrentAmps', 'current'],
        ['RailPowerWatts', 'power'],
        ['EnergykWh', 'kilowattHours'],
        ['FrequencyHz', 'frequency'],
        ['TemperatureCelsius', 'temperature'],
        ['FanSpeedPercent', 'fanRatio'],
        ['FanSpeedsPercent', 'fanRatio'],
      ],
      1,
    ),
  EnvironmentMetrics: (of) =>
    excerpts(
      of,
      [
        ['TemperatureCelsius', 'temperature'],
        ['PowerWatts', 'power'],
        ['EnergyJoules', 'joules'],
        ['EnergykWh', 'kilowattHours'],
        ['FanSpeedsPercent', 'fanRatio'],
        ['HumidityPercent', 'humidity'],
        ['Voltage', 'voltage'],
        ['CurrentAmps', 'current'],
      ],
      2,
    ),
  ThermalMetrics: thermalMetrics,
  Thermal: thermal,
  Power: power,
}

/** Sensors that others name as the source of a reading, but that were not read. */
export function sourcesOf(resources: readonly Resource[]): string[] {
  const known = new Set(resources.map(({ path }) => path))
  const named = resources.flatMap((one) => readers[one.type]?.(one) ?? []).map(({ id }) => id)
  return [...new Set(named.filter((id) => !id.includes('#') && !known.has(id)))]
}

/** All that the resources show, each reading once, in their order. */
export function readingsOf(resources: readonly Resource[]): Found[] {
  const shown = resources.flatMap((one) => readers[one.type]?.(one) ?? [])
  const sensors = new Map(shown.filter(({ rank }) => rank === 0).map((one) => [one.id, one]))
  const listed = new Set([...sensors.values()].flatMap(placesOf))
  const best = new Map<string, Found>()
  for (const one of shown) {
    const itself = sensors.get(one.id)
    if (!itself && isListed(one, listed)) continue
    const key = `${kinds[one.kind].metric} ${one.id}`
    const other = best.get(key)
    if (other && other.rank <= one.rank) continue
    best.set(key, itself && one.rank > 0 ? { ...one, name: itself.name, location: itself.location } : one)
  }
  return [...best.values()]
}

/** Where a sensor measures what: on its chassis, and there at a place. */
const placesOf = ({ id, kind, location }: Found): string[] => [
  `${ownerOf(id)} ${familyOf(kind)}`,
  `${ownerOf(id)} ${familyOf(kind)} ${location}`,
]

/**
 * Whether a reading is of a sensor that its chassis lists under another name. Older resources name none. A copy that names
 * a sensor which does not exist (any more) is one of those that measure the same at that place.
 */
function isListed(
  { id, kind, location, shownBy, nameless, rank }: Found,
  listed: ReadonlySet<string>,
): boolean {
  if (nameless) return listed.has(`${ownerOf(shownBy.path)} ${familyOf(kind)}`)
  return rank > 0 && !id.includes('#') && listed.has(`${ownerOf(id)} ${familyOf(kind)} ${location}`)
}

/** Fans are told in rpm or per cent, energy in several units: the same sensors. */
const familyOf = (kind: KindName): string => (kind === 'fanRatio' ? kinds.fan.metric : kinds[kind].metric)

function sensor(of: Resource): Found[] {
  const { body, path } = of
  const kind = kindOf(body)
  if (kind === undefined) return []
  const context = textOf(body.PhysicalContext)
  const found: Found = {
    kind,
    id: path,
    name: nameOf(of),
    type: hwTypeOf(kind, context),
    location: context,
    value: isSilent(body) ? undefined : readingOf(kind, body.Reading),
    limits: limitsOf(kind, body),
    shownBy: of,
    rank: 0,
    nameless: false,
  }
  return [found, ...speedOf(found, isSilent(body) ? undefined : body.SpeedRPM)]
}

/** A fan told in per cent may tell its speed beside. */
function speedOf(fan: Found, rpm: unknown): Found[] {
  const value = fan.kind === 'fanRatio' ? readingOf('fan', rpm) : undefined
  return value === undefined ? [] : [{ ...fan, kind: 'fan', value, limits: [] }]
}

/** Excerpts of sensors (DSP0268, SensorExcerpt): a reading, and where its sensor is. */
function excerpts(of: Resource, members: readonly (readonly [string, KindName])[], rank: 1 | 2): Found[] {
  if (isSilent(of.body)) return []
  return members.flatMap(([key, kind]) => {
    const given = of.body[key]
    const list = Array.isArray(given) ? objectsOf(given) : [inside(of.body, key)]
    return list.flatMap((one, index) => {
      const at = Array.isArray(given) ? `${of.path}#/${key}/${index}` : `${of.path}#/${key}`
      return excerpt(of, one, kind, at, rank)
    })
  })
}

function excerpt(of: Resource, one: Json, kind: KindName, at: string, rank: 1 | 2): Found[] {
  const source = linkOf(one.DataSourceUri)
  const value = readingOf(kind, one.Reading)
  const context = textOf(one.PhysicalContext) ?? contextOf(of)
  const found: Found = {
    kind,
    id: source ?? at,
    name: textOf(one.DeviceName) ?? textOf(one.Name) ?? excerptName(of, at),
    type: hwTypeOf(kind, context),
    location: context,
    value,
    limits: [],
    shownBy: of,
    rank,
    nameless: source === undefined && rank === 2,
  }
  return [...(value === undefined ? [] : [found]), ...speedOf(found, one.SpeedRPM)]
}

/** The component's; with what was read of it where that is more than one thing. */
const excerptName = (of: Resource, at: string): string =>
  of.type === 'Fan' ? nameOf(of) : `${nameOf(of)} ${at.split('#/')[1] ?? ''}`.trim()

const contextOf = ({ type, body }: Resource): string | undefined =>
  textOf(body.PhysicalContext) ?? (type === 'PowerSupplyMetrics' ? 'PowerSupply' : undefined)

/** What the service calls it; by its id where it calls all of a kind the same. */
export function nameOf({ path, type, body }: Pick<Resource, 'path' | 'type' | 'body'>): string {
  const name = textOf(body.Name)
  if (name !== undefined && !generic(type).has(name.replaceAll(' ', ''))) return name
  return textOf(body.Id) ?? textOf(body.MemberId) ?? name ?? path.slice(path.lastIndexOf('/') + 1)
}
const generic = (type: string) => new Set([type, `${type}s`, `Computer${type}`])

function thermalMetrics(of: Resource): Found[] {
  const summary = inside(of.body, 'TemperatureSummaryCelsius')
  return [
    ...excerpts(of, [['TemperatureReadingsCelsius', 'temperature']], 2),
    ...Object.keys(summary).flatMap((key) =>
      excerpt(of, inside(summary, key), 'temperature', `${of.path}#/TemperatureSummaryCelsius/${key}`, 2),
    ),
  ]
}

/** An entry of an array in Thermal or Power, by its `@odata.id`, which may lie in the resource of another chassis. */
function entries(of: Resource, key: string, read: (entry: Json, id: string) => Partial<Found>[]): Found[] {
  return objectsOf(of.body[key]).flatMap((entry, index) => {
    if (isSilent(entry)) return []
    const id = linkOf(entry) ?? `${of.path}#/${key}/${index}`
    const context = textOf(entry.PhysicalContext)
    return read(entry, id).flatMap((part): Found[] => {
      if (part.kind === undefined || part.value === undefined) return []
      return [
        {
          id,
          name: nameOf({ path: id, type: key, body: entry }),
          type: hwTypeOf(part.kind, context),
          location: context,
          limits: legacyLimitsOf(part.kind, entry),
          shownBy: of,
          rank: documentOf(id) === of.path ? 1 : 2,
          nameless: true,
          ...part,
          kind: part.kind,
          value: part.value,
        },
      ]
    })
  })
}

const reading = (kind: KindName, given: unknown): Partial<Found>[] => {
  const value = readingOf(kind, given)
  return value === undefined ? [] : [{ kind, value }]
}

function thermal(of: Resource): Found[] {
  return [
    ...entries(of, 'Temperatures', (entry) => reading('temperature', entry.ReadingCelsius)),
    ...entries(of, 'Fans', (entry) =>
      /percent/i.test(String(entry.ReadingUnits))
        ? reading('fanRatio', entry.Reading)
        : reading('fan', entry.Reading ?? entry.ReadingRPM),
    ),
  ]
}

function power(of: Resource): Found[] {
  return [
    ...entries(of, 'Voltages', (entry) => reading('voltage', entry.ReadingVolts)),
    ...entries(of, 'PowerControl', (entry) =>
      // A total of 0 W is what services say that do not measure it.
      numberOf(entry.PowerConsumedWatts) === 0 ? [] : reading('power', entry.PowerConsumedWatts),
    ).map((one) => ({ ...one, limits: [] })),
    ...entries(of, 'PowerSupplies', (entry, id) => [
      ...reading('voltage', entry.LineInputVoltage).map((one) => ({ ...one, id: `${id}/LineInputVoltage` })),
      ...reading('power', entry.PowerInputWatts),
    ]).map((one) => ({ ...one, type: one.kind === 'power' ? 'power_supply' : one.type, limits: [] })),
  ]
}
