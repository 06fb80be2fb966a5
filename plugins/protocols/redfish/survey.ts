// The readings of a service, again and again: now and then a walk over everything, in between only the resources that
// showed something of their own. What is read becomes data points of the devices that it is about.
import { Readings } from '../../contract/readings.ts'
import type { Records } from '../../contract/batch.ts'
import type { Attributes } from '../../contract/values.ts'
import type { Devices, Device } from './devices.ts'
import { redfishMetrics } from './metrics.ts'
import type { RedfishMetric } from './metrics.ts'
import { kinds } from '../bmc/kinds.ts'
import type { Kind } from '../bmc/kinds.ts'
import { readingsOf, sourcesOf } from './sensors.ts'
import type { Found } from './sensors.ts'
import { bootStates, componentsOf, healthStates, powerStates } from './states.ts'
import type { Component, StateOf } from './states.ts'
import { ownerOf } from './walk.ts'
import type { Resource, Unit, Walker } from './walk.ts'

/** What one reading found. */
export interface Survey {
  readonly readings: readonly Found[]
  readonly components: readonly Component[]
}

/** Resources whose state may change between two readings, whether or not they showed a reading. */
const lively = new Set(['ComputerSystem', 'Chassis', 'Manager', 'Sensor'])
/** What changes with an update only. */
const rare = new Set(['SoftwareInventory', 'Memory', 'Processor', 'NetworkAdapter', 'Storage', 'LogService'])

export class Surveyor {
  readonly #walker: Walker
  readonly #devices: Devices
  readonly #wanted: (id: string) => boolean
  #units: readonly Unit[] = []
  /** Those of the last walk that are not asked for in between: their states stand until the next one. */
  #standing: readonly Resource[] = []

  constructor(walker: Walker, devices: Devices, wanted: (id: string) => boolean) {
    this.#walker = walker
    this.#devices = devices
    this.#wanted = wanted
  }

  /** The log services that the last walk found. */
  logServices: readonly Resource[] = []
  /** The sensors that the last reading read, by id. */
  sensors: ReadonlyMap<string, Found> = new Map()

  /** Everything there is. */
  async walk(signal: AbortSignal): Promise<Survey> {
    await this.#walker.begin(signal)
    const found = await this.#walker.everything(signal)
    // A sensor that is in no list, yet named as the source of a reading, tells more than the copy.
    const resources = [...found, ...(await this.#walker.these(sourcesOf(found), signal))]
    this.#devices.learn(resources, this.#walker.root)
    this.logServices = resources.filter(({ type }) => type === 'LogService')
    const readings = readingsOf(resources)
    const showing = new Set(readings.map(({ shownBy }) => shownBy))
    const again = resources.filter(
      (one) =>
        lively.has(one.type) || (!rare.has(one.type) && (showing.has(one) || hasState(one, this.#walker))),
    )
    this.#units = unitsOf(again)
    const asked = new Set(this.#units.map(({ path }) => path))
    this.#standing = resources.filter((one) => !asked.has(one.path) && !asked.has(one.collection ?? ''))
    return this.#survey(resources, readings)
  }

  /** What changes from one reading to the next. */
  async again(signal: AbortSignal): Promise<Survey> {
    const resources = [...(await this.#walker.again(this.#units, signal)), ...this.#standing]
    // Copies of sensors that were not asked for again would be old readings.
    const fresh = resources.filter((one) => !this.#standing.includes(one))
    return this.#survey(resources, readingsOf(fresh))
  }

  #survey(resources: readonly Resource[], readings: readonly Found[]): Survey {
    this.sensors = new Map(readings.map((one) => [one.id, one]))
    return {
      readings: readings.filter(({ value, id }) => value !== undefined && this.#wanted(id)),
      components: componentsOf(resources, this.#walker.quirks),
    }
  }
}

const hasState = (of: Resource, { quirks }: Walker): boolean => componentsOf([of], quirks).length > 0

/** Collections as a whole, where all that they have is wanted. */
function unitsOf(resources: readonly Resource[]): Unit[] {
  const units = new Map<string, Unit>()
  for (const { path, collection } of resources) {
    const at = collection ?? path
    units.set(at, { path: at, isCollection: collection !== undefined })
  }
  return [...units.values()]
}

export interface PointOptions {
  readonly devices: Devices
  readonly resourceOf: (device: Device) => Uint8Array
  readonly timeUnixNano: bigint
}

interface Point {
  readonly metric: RedfishMetric
  readonly value: number | bigint
  readonly path: string
  readonly attributes: Attributes
}

export const scope = { name: 'redfish' }
const order = Object.keys(redfishMetrics)

/** Data points of a reading: those of each device apart, in the order of their metrics. */
export function encodeSurvey({ readings, components }: Survey, options: PointOptions): Records[] {
  const points = [...readings.flatMap(pointsOfReading), ...components.flatMap(pointsOfComponent)]
  const sorted = points.toSorted((a, b) => order.indexOf(a.metric) - order.indexOf(b.metric))
  const open = new Map<string, Readings>()
  for (const { metric, value, path, attributes } of sorted) {
    const device = options.devices.of(path)
    let into = open.get(device.id)
    if (!into) {
      into = new Readings({
        scope,
        declared: redfishMetrics,
        device: device.id,
        resource: options.resourceOf(device),
        timeUnixNano: options.timeUnixNano,
      })
      open.set(device.id, into)
    }
    into.add(metric, value, attributes)
  }
  return [...open.values()].flatMap((one) => one.finish())
}

/** Attributes of a sensor's series. */
export const attributesOf = ({
  id,
  name,
  type,
  location,
}: Pick<Found, 'id' | 'name' | 'type' | 'location'>): Attributes => ({
  'hw.id': id,
  'hw.name': name,
  'hw.type': type,
  'hw.parent': ownerOf(id),
  ...(location === undefined ? {} : { 'hw.sensor_location': location }),
})

function pointsOfReading({ kind, id, name, type, location, value, limits }: Found): Point[] {
  if (value === undefined) return []
  const { metric, limit }: Kind = kinds[kind]
  const attributes = attributesOf({ id, name, type, location })
  const points: Point[] = [{ metric, value, path: id, attributes }]
  if (limit === undefined) return points
  for (const { type: limitType, value: at } of limits) {
    points.push({
      metric: limit,
      value: at,
      path: id,
      attributes: { ...attributes, 'hw.limit_type': limitType },
    })
  }
  return points
}

const sets: Readonly<Partial<Record<StateOf, readonly [RedfishMetric, string, readonly string[]]>>> = {
  health: ['hw.status', 'hw.state', healthStates],
  power: ['dpu.power.state', 'dpu.power.state', powerStates],
  boot: ['dpu.boot.state', 'dpu.boot.state', bootStates],
}

function pointsOfComponent({ id, name, type, values, states }: Component): Point[] {
  const attributes = { 'hw.id': id, 'hw.name': name, 'hw.type': type }
  const points: Point[] = values.map(({ metric, value, attributes: more }) => ({
    metric,
    value,
    path: id,
    attributes: { ...attributes, ...more },
  }))
  for (const [of, state] of Object.entries(states)) {
    const set = sets[of as StateOf]
    if (of === 'reset') {
      points.push({ metric: 'dpu.reset.time', value: Date.parse(state) / 1000, path: id, attributes })
    }
    for (const one of set?.[2] ?? []) {
      // Only drives foretell; for others there is no such state.
      if (one === 'predicted_failure' && type !== 'physical_disk') continue
      const value = one === state ? 1n : 0n
      points.push({
        metric: set?.[0] ?? 'hw.status',
        value,
        path: id,
        attributes: { ...attributes, [set?.[1] ?? '']: one },
      })
    }
  }
  return points
}
