// Which fault hits which device when: what `--faults` asks for, drawn from each device's own stream or told exactly.
import type { Device, Fault, FaultKind, Schedule, ScheduleOptions, Truth } from '../model.ts'
import type { Random } from '../random.ts'
import { parseDuration } from '../../plugins/contract/index.ts'
import { faultKinds } from './index.ts'

const dayMs = 86_400_000
const perDayOf = { day: 1, hour: 24 } as const

export interface Plan {
  /** Begin by chance, that often a day on each device. */
  readonly drawn: readonly { readonly kind: FaultKind; readonly perDay: number }[]
  readonly told: readonly Told[]
}

/** Begins at that time of the run on that device: its id, or its number as `#3`. */
export interface Told {
  readonly kind: FaultKind
  readonly device: string
  readonly atMs: number
  /** Absent: as long as such ones last usually. */
  readonly forMs?: number
}

/**
 * Reads `overheating,link_flaps:2/day,memory_leak@#3+10m/5m,all`. Whatever is wrong with it is told at once.
 * A later item of one name overrides an earlier one, so that `all,overheating:6/day` means what it says.
 */
export function parseFaults(text: string): Plan {
  const drawn = new Map<string, { kind: FaultKind; perDay: number }>()
  const told: Told[] = []
  const complaints: string[] = []
  const items = text.split(',').map((item) => item.trim())
  for (const item of items) {
    if (item === '' || item === 'none') continue
    const match = /^([a-z_]+)(?::([\d.]+)\/(day|hour)|@([^+]+)\+([^/]+)(?:\/(.+))?)?$/.exec(item)
    const [, name = '', rate, unit, device, at, length] = match ?? []
    const named = name === 'all' ? faultKinds : faultKinds.filter((kind) => kind.name === name)
    if (match === null) {
      complaints.push(
        `${JSON.stringify(item)} is none of NAME, NAME:2/day, NAME:1/hour and NAME@DEVICE+10m/5m`,
      )
      continue
    }
    if (named.length === 0) complaints.push(`there is no fault ${JSON.stringify(name)}`)
    if (rate !== undefined && !(Number(rate) > 0)) complaints.push(`${item}: ${rate} is no rate above 0`)
    const atMs = at === undefined ? undefined : parseDuration(at)
    const forMs = length === undefined ? undefined : parseDuration(length)
    if (at !== undefined && atMs === undefined)
      complaints.push(`${item}: ${at} is no time such as 90s or 10m`)
    if (length !== undefined && !forMs) complaints.push(`${item}: ${length} is no length such as 90s or 10m`)
    for (const kind of named) {
      if (device !== undefined && atMs !== undefined)
        told.push({ kind, device, atMs, ...(forMs === undefined ? {} : { forMs }) })
      else {
        const perDay = rate === undefined ? kind.perDay : Number(rate) * perDayOf[unit as 'day' | 'hour']
        drawn.set(kind.name, { kind, perDay })
      }
    }
  }
  if (complaints.length > 0)
    throw new Error(`--faults: ${complaints.join('; ')}. There are: ${faultNames().join(', ')}, and all`)
  return { drawn: [...drawn.values()], told }
}

export const faultNames = (): string[] => faultKinds.map(({ name }) => name)

interface Coming {
  readonly kind: FaultKind
  readonly random: Random
  /** Undefined: told, and so but once. */
  readonly perDay: number | undefined
  readonly forMs: number | undefined
  atMs: number
  running: { fault: Fault; sinceMs: number; untilMs: number } | undefined
}

/** @throws where `faults` is wrong, or tells of devices that there are not. */
export const createSchedule = ({ faults, devices, tell }: ScheduleOptions): Schedule =>
  new FleetSchedule(parseFaults(faults), devices, tell)

/** Begins, steps and ends the faults of a fleet. */
class FleetSchedule implements Schedule {
  readonly #coming = new Map<Device, Coming[]>()
  readonly #tell: (truth: Truth) => void

  constructor(plan: Plan, devices: readonly Device[], tell: (truth: Truth) => void) {
    this.#tell = tell
    const unknown = plan.told.filter((one) => !devices.some((device) => isMeant(one, device)))
    if (unknown.length > 0) {
      const names = [...new Set(unknown.map(({ device }) => device))].join(', ')
      const first = devices[0]?.id ?? ''
      throw new Error(
        `--faults: there is no device ${names}. There are ${devices.length}, #0 (${first}) to #${devices.length - 1}`,
      )
    }
    for (const device of devices) {
      const coming = comingFor(plan, device)
      if (coming.length > 0) this.#coming.set(device, coming)
    }
  }

  step(device: Device): void {
    const coming = this.#coming.get(device)
    if (coming === undefined) return
    for (const one of coming) this.#stepOne(device, one, coming)
  }

  end(device: Device): void {
    for (const one of this.#coming.get(device) ?? []) this.#end(device, one)
  }

  #stepOne(device: Device, one: Coming, all: readonly Coming[]): void {
    const now = device.state.elapsedMs
    if (one.running === undefined) {
      // One of a kind at a time, and none begins on a device that does not run.
      if (now < one.atMs || device.state.power !== 'on') return
      if (all.some(({ kind, running }) => kind === one.kind && running !== undefined)) return
      const lasts = one.forMs ?? one.kind.seconds * 1000 * one.random.between(0.6, 1.6)
      const fault = one.kind.begin(device, one.random, lasts / 1000)
      one.running = { fault, sinceMs: now, untilMs: now + lasts }
      this.#write(device, one.kind, fault, 'begin')
    }
    if (now >= one.running.untilMs) this.#end(device, one)
    else one.running.fault.step(device, (now - one.running.sinceMs) / 1000)
  }

  #end(device: Device, one: Coming): void {
    if (one.running === undefined) return
    const { fault } = one.running
    fault.end(device)
    one.running = undefined
    one.atMs =
      one.perDay === undefined
        ? Number.POSITIVE_INFINITY
        : device.state.elapsedMs + one.random.until(dayMs / one.perDay)
    this.#write(device, one.kind, fault, 'end')
  }

  #write(device: Device, kind: FaultKind, fault: Fault, phase: Truth['phase']): void {
    const at = new Date(device.epochMs + device.state.elapsedMs).toISOString()
    this.#tell({ at, device: device.id, fault: kind.name, where: fault.where, phase })
  }
}

const isMeant = ({ device: name }: Told, device: Device): boolean =>
  name === device.id || name === `#${device.index}`

function comingFor(plan: Plan, device: Device): Coming[] {
  const drawn = plan.drawn
    .filter(({ kind }) => kind.fits(device))
    .map(({ kind, perDay }): Coming => {
      const random = device.random(`fault ${kind.name}`)
      const atMs = random.until(dayMs / perDay)
      return { kind, random, perDay, forMs: undefined, atMs, running: undefined }
    })
  const told = plan.told
    .filter((one) => isMeant(one, device))
    .map(({ kind, atMs, forMs }, index): Coming => {
      if (!kind.fits(device))
        throw new Error(`--faults: ${device.id} (${device.kind.name}) cannot have ${kind.name}`)
      const random = device.random(`fault ${kind.name} ${index}`)
      return { kind, random, perDay: undefined, forMs, atMs, running: undefined }
    })
  return [...drawn, ...told]
}
