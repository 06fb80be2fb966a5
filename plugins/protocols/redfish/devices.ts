// Whom a resource is about: the system that it belongs to, named as the collector on that system would name itself (serial
// number, then UUID, without placeholders), so that both speak of one device. What was known once stays known: a BMC that
// answers "NA" for a while makes no second device.
import type { WatchedDevice } from '../bmc/resource.ts'
import { deviceFromHostId } from '../otlp/device.ts'
import { realSerial, realUuid } from '../hardware-ids.ts'
import { inside, linkOf, textOf } from './json.ts'
import type { Json } from './json.ts'
import { linksOf, ownerOf } from './walk.ts'
import type { Resource } from './walk.ts'

export type Device = WatchedDevice

/** Devices by the path of their system, as they were known before. */
export type KnownDevices = Record<string, string>

export class Devices {
  readonly #fixed: string | undefined
  readonly #fallback: string
  readonly known: KnownDevices
  readonly #bySystem = new Map<string, Device>()
  readonly #systemOf = new Map<string, string>()
  #main: Device

  /** @param fixed The one that the configuration names for everything. @param fallback Where nothing names one. */
  constructor(fixed: string | undefined, fallback: string, known: KnownDevices) {
    this.#fixed = fixed
    this.#fallback = deviceFromHostId(fallback)
    this.known = known
    this.#main = { id: fixed ?? this.#fallback, name: undefined, isDpu: false }
  }

  /** Learns from the systems, chassis and managers of a walk. */
  learn(resources: readonly Resource[], root: Json): void {
    const of = (type: string) => resources.filter((one) => one.type === type)
    const systems = of('ComputerSystem')
    const chassis = new Map(of('Chassis').map((one) => [one.path, one.body]))
    // A system that does not answer for once is no reason to speak of another device.
    for (const { path, body } of systems) this.#bySystem.set(path, this.#deviceOf(path, body, chassis))
    for (const [path, body] of chassis) {
      const system = systemOfChassis(path, body, chassis)
      if (system !== undefined) this.#systemOf.set(path, system)
    }
    for (const { path, body } of of('Manager')) {
      const [system] = linksOf(body, 'ManagerForServers')
      if (system !== undefined) this.#systemOf.set(path, system)
    }
    const [first] = this.#bySystem.values()
    this.#main = first ?? this.#alone(chassis, root)
  }

  /** The device that a path is about. */
  of(path: string): Device {
    const owner = ownerOf(path)
    return this.#bySystem.get(owner) ?? this.#bySystem.get(this.#systemOf.get(owner) ?? '') ?? this.#main
  }

  #deviceOf(path: string, body: Json, chassis: ReadonlyMap<string, Json>): Device {
    const inChassis = linksOf(body, 'Chassis').map((one) => chassis.get(one)?.SerialNumber)
    const found = nameFrom([body.SerialNumber, ...inChassis], [body.UUID])
    const id = this.#fixed ?? this.#remember(path, found)
    const isDpu = body.SystemType === 'DPU' || /bluefield/i.test(String(body.Name))
    return { id, name: textOf(body.HostName), isDpu }
  }

  /** Where the service shows no system. */
  #alone(chassis: ReadonlyMap<string, Json>, root: Json): Device {
    const serials = [...chassis.values()].map(({ SerialNumber }) => SerialNumber)
    const [before] = Object.values(this.known)
    const id = this.#fixed ?? before ?? this.#remember('/', nameFrom(serials, [root.UUID]))
    return { id, name: undefined, isDpu: false }
  }

  #remember(path: string, found: string | undefined): string {
    const id = found ?? this.known[path] ?? this.#fallback
    if (found !== undefined) this.known[path] = found
    return id
  }
}

function nameFrom(serials: readonly unknown[], uuids: readonly unknown[]): string | undefined {
  const serial = serials.map((one) => realSerial(textOf(one))).find((one) => one !== undefined)
  const best = serial ?? uuids.map((one) => realUuid(textOf(one))).find((one) => one !== undefined)
  return best === undefined ? undefined : deviceFromHostId(best)
}

const deepest = 8

/** The system of a chassis, else that of the chassis that contains it. */
function systemOfChassis(path: string, body: Json, chassis: ReadonlyMap<string, Json>): string | undefined {
  let at: Json | undefined = body
  for (let depth = 0; at !== undefined && depth < deepest; depth++) {
    const [system] = linksOf(at, 'ComputerSystems')
    if (system !== undefined) return system
    const outer = linkOf(inside(at, 'Links')['ContainedBy'])
    if (outer === path) return undefined
    at = outer === undefined ? undefined : chassis.get(outer)
  }
  return undefined
}
