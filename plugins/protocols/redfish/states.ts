// What resources say beside readings of sensors: health, power, boot and reset, sizes, links, firmware.
import { inside, numberOf, objectsOf, linkOf, textOf, timeOf } from './json.ts'
import type { Json } from './json.ts'
import type { RedfishMetric } from './metrics.ts'
import type { Quirks } from './quirks.ts'
import { hwTypeOf, kindOf, readingOf } from './sensor-kinds.ts'
import { isSilent, nameOf } from './sensors.ts'
import type { Resource } from './walk.ts'

/** A component of which something is told. */
export interface Component {
  readonly id: string
  readonly name: string
  /** Of OTel's `hw.type`, or its like. */
  readonly type: string
  readonly values: readonly Value[]
  /** States that it is in, by what they are states of; a change of one is an event. */
  readonly states: Readonly<Partial<Record<StateOf, string>>>
}

export interface Value {
  readonly metric: RedfishMetric
  /** A bigint is stored as an integer. */
  readonly value: number | bigint
  readonly attributes?: Readonly<Record<string, string | boolean>>
}

export type StateOf = 'health' | 'power' | 'boot' | 'reset' | 'firmware'

export const healthStates = ['ok', 'degraded', 'failed', 'predicted_failure'] as const
export const powerStates = ['on', 'off', 'powering_on', 'powering_off', 'paused'] as const
/** The states of OPI's boot table (PLDM). */
export const bootStates = [
  'booting',
  'ready',
  'off',
  'updating',
  'crashing',
  'crashed',
  'faulting',
  'faulted',
] as const

const types: Readonly<Record<string, string>> = {
  Chassis: 'enclosure',
  ComputerSystem: 'system',
  Manager: 'management_controller',
  Fan: 'fan',
  PowerSupply: 'power_supply',
  Battery: 'battery',
  Processor: 'cpu',
  Memory: 'memory',
  Drive: 'physical_disk',
  Storage: 'disk_controller',
  NetworkAdapter: 'network',
  Port: 'network',
  SoftwareInventory: 'firmware',
}

const health: Readonly<Record<string, string>> = { OK: 'ok', Warning: 'degraded', Critical: 'failed' }
const power: Readonly<Record<string, string>> = {
  On: 'on',
  Off: 'off',
  PoweringOn: 'powering_on',
  PoweringOff: 'powering_off',
  Paused: 'paused',
}
/** BootProgress.LastState (DSP0268) and what BlueField says beside it. */
const boot: Readonly<Record<string, string>> = {
  PrimaryProcessorInitializationStarted: 'booting',
  BusInitializationStarted: 'booting',
  MemoryInitializationStarted: 'booting',
  SecondaryProcessorInitializationStarted: 'booting',
  PCIResourceConfigStarted: 'booting',
  SystemHardwareInitializationComplete: 'booting',
  SetupEntered: 'booting',
  OSBootStarted: 'booting',
  OSRunning: 'ready',
  BootRom: 'booting',
  BL2: 'booting',
  BL31: 'booting',
  UEFI: 'booting',
  OsStarting: 'booting',
  OsIsRunning: 'ready',
  LowPowerStandby: 'off',
  FirmwareUpdateInProgress: 'updating',
  OsCrashDumpInProgress: 'crashing',
  OsCrashDumpIsComplete: 'crashed',
  FWFaultCrashDumpInProgress: 'faulting',
  FWFaultCrashDumpIsComplete: 'faulted',
}

/** Components of all resources; those of older ones (Thermal, Power) too. */
export function componentsOf(resources: readonly Resource[], quirks: Quirks): Component[] {
  const found = new Map<string, Component>()
  for (const { type, path, body } of resources) {
    const ofType = types[type]
    const parts =
      ofType === undefined ? sensorHealth(type, path, body) : [component(path, type, ofType, body, quirks)]
    for (const one of [...parts, ...older(type, path, body)]) {
      if (!found.has(one.id) && (one.values.length > 0 || Object.keys(one.states).length > 0))
        found.set(one.id, one)
    }
  }
  return [...found.values()]
}

function component(path: string, resource: string, type: string, body: Json, quirks: Quirks): Component {
  const name = nameOf({ path, type: resource, body })
  const base = { id: path, name, type }
  if (isSilent(body)) return { ...base, values: [], states: {} }
  if (resource === 'SoftwareInventory') return { ...base, ...firmware(body, name, quirks) }
  const state = {
    health: healthOf(body),
    power: power[String(body.PowerState)],
    boot: resource === 'ComputerSystem' ? bootOf(body, quirks) : undefined,
    reset: resetOf(body),
  }
  const states = Object.fromEntries(Object.entries(state).filter(([, value]) => value !== undefined))
  return { ...base, values: valuesOf(resource, body), states }
}

/** A sensor without a reading whose health is OK says nothing: an empty cage is well. */
function sensorHealth(resource: string, id: string, body: Json): Component[] {
  const state = resource === 'Sensor' && !isSilent(body) ? healthOf(body) : undefined
  const kind = kindOf(body)
  if (state === undefined || kind === undefined) return []
  if (state === 'ok' && readingOf(kind, body.Reading) === undefined) return []
  const type = hwTypeOf(kind, textOf(body.PhysicalContext))
  return [
    { id, name: nameOf({ path: id, type: resource, body }), type, values: [], states: { health: state } },
  ]
}

function healthOf(body: Json): string | undefined {
  if (body.FailurePredicted === true) return 'predicted_failure'
  return health[String(inside(body, 'Status').Health)]
}

function bootOf(body: Json, { bootState }: Quirks): string | undefined {
  const special = bootState ? inside(body, ...bootState.slice(0, -1))[bootState.at(-1) ?? ''] : undefined
  return boot[String(special)] ?? boot[String(inside(body, 'BootProgress').LastState)]
}

/** Before that, no BMC knew what time it was. */
const leastSeconds = 946_684_800n

function resetOf(body: Json): string | undefined {
  const seconds = (timeOf(body.LastResetTime) ?? 0n) / 1_000_000_000n
  return seconds > leastSeconds ? new Date(Number(seconds) * 1000).toISOString() : undefined
}

function valuesOf(resource: string, body: Json): Value[] {
  const whole = (metric: RedfishMetric, given: unknown, factor: number): Value[] => {
    const value = numberOf(given)
    return value === undefined || value <= 0 ? [] : [{ metric, value: BigInt(Math.round(value * factor)) }]
  }
  const part = (metric: RedfishMetric, given: unknown, attributes: Record<string, string> = {}): Value[] => {
    const value = numberOf(given)
    return value === undefined || value < 0 ? [] : [{ metric, value, attributes }]
  }
  switch (resource) {
    case 'PowerSupply':
      return part('hw.power_supply.limit', body.PowerCapacityWatts, { 'hw.limit_type': 'max' })
    case 'Memory':
      return whole('hw.memory.size', body.CapacityMiB, 1024 ** 2)
    case 'Drive': {
      const left = numberOf(body.PredictedMediaLifeLeftPercent)
      const attributes = { 'hw.physical_disk.state': 'remaining' }
      return [
        ...whole('hw.physical_disk.size', body.CapacityBytes, 1),
        ...part(
          'hw.physical_disk.endurance_utilization',
          left === undefined ? undefined : left / 100,
          attributes,
        ),
      ]
    }
    case 'Port': {
      const status = String(body.LinkStatus)
      const up = /^(LinkUp|Up)$/.test(status) ? 1n : /^(LinkDown|Down|NoLink)$/.test(status) ? 0n : undefined
      return [
        ...(up === undefined ? [] : [{ metric: 'hw.network.up' as const, value: up }]),
        ...(up === 0n ? [] : whole('hw.network.bandwidth.limit', body.CurrentSpeedGbps, 125_000_000)),
      ]
    }
    default:
      return []
  }
}

/** `ion:`, `TF`, `no valid golden_image_arm!!!!`: a version has a digit, and says no more than one. */
const isVersion = (text: string): boolean =>
  /\d/.test(text) && !/no valid|not (available|present)/i.test(text)

function firmware(body: Json, name: string, { notFirmware }: Quirks): Pick<Component, 'values' | 'states'> {
  const version = textOf(body.Version)
  if (version === undefined || !isVersion(version) || notFirmware?.test(name) === true)
    return { values: [], states: {} }
  const attributes = {
    'hw.firmware_version': version,
    ...(typeof body.Updateable === 'boolean' ? { 'dpu.firmware.updateable': body.Updateable } : {}),
  }
  const values = [{ metric: 'dpu.firmware.info' as const, value: 1n, attributes }]
  const state = healthOf(body)
  return { values, states: { firmware: version, ...(state === undefined ? {} : { health: state }) } }
}

/** Fans, temperatures, voltages and power supplies as entries of Thermal and Power. */
function older(type: string, path: string, body: Json): Component[] {
  const lists: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
    Thermal: [['Fans', 'fan']],
    Power: [['PowerSupplies', 'power_supply']],
  }
  return (lists[type] ?? []).flatMap(([key, ofType]) =>
    objectsOf(body[key]).flatMap((entry, index): Component[] => {
      const id = linkOf(entry) ?? `${path}#/${key}/${index}`
      if (isSilent(entry)) return []
      const state = healthOf(entry)
      const states = state === undefined ? {} : { health: state }
      const values = ofType === 'power_supply' ? supplyOf(entry) : []
      return [{ id, name: nameOf({ path: id, type: key, body: entry }), type: ofType, values, states }]
    }),
  )
}

function supplyOf(entry: Json): Value[] {
  const capacity = numberOf(entry.PowerCapacityWatts)
  const output = numberOf(entry.PowerOutputWatts ?? entry.LastPowerOutputWatts)
  return [
    ...(capacity === undefined || capacity <= 0
      ? []
      : [
          {
            metric: 'hw.power_supply.limit' as const,
            value: capacity,
            attributes: { 'hw.limit_type': 'max' },
          },
        ]),
    ...(output === undefined || output < 0
      ? []
      : [{ metric: 'hw.power_supply.usage' as const, value: output }]),
  ]
}
