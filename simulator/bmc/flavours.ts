// The trees of Redfish services: how makers name and fill what all of them have. Whoever finds another oddity of a maker adds a
// member here, not a condition elsewhere.
import type { Device } from '../model.ts'

export interface Flavour {
  /** Ids of the system, its manager, the chassis with the sensors, and the network adapter. */
  readonly system: string
  readonly manager: string
  readonly card: string
  readonly adapter: string
  /** Chassis beside the card, all contained by it. */
  readonly parts: readonly { readonly id: string; readonly model: string }[]
  readonly redfishVersion: string
  /** Thermal and Power, as services had before 2020.4, beside their successors. */
  readonly hasLegacy: boolean
  /** Processors, memory and drives are shown; else their collections are empty. */
  readonly hasInventory: boolean
  /** Nvidia's resources and members, padded serial numbers, no UUID of the system, numbers as texts. */
  readonly isNvidia: boolean
  readonly resetTypes: readonly string[]
}

const common = [
  'On',
  'ForceOff',
  'ForceOn',
  'ForceRestart',
  'GracefulRestart',
  'GracefulShutdown',
  'PowerCycle',
]

const bluefield: Flavour = {
  system: 'Bluefield',
  manager: 'Bluefield_BMC',
  card: 'Card1',
  adapter: 'NvidiaNetworkAdapter',
  parts: [
    { id: 'Bluefield_BMC', model: 'Nvidia-BMCMezz' },
    { id: 'Bluefield_ERoT', model: 'ERoT' },
  ],
  redfishVersion: '1.17.0',
  hasLegacy: true,
  hasInventory: true,
  isNvidia: true,
  resetTypes: [...common, 'Nmi'],
}

/** Until BF-23.10 the Arm side was a stranger to the BMC. */
const earlyBluefield: Flavour = {
  ...bluefield,
  redfishVersion: '1.9.0',
  hasInventory: false,
}

const openbmc: Flavour = {
  system: 'system',
  manager: 'bmc',
  card: 'card',
  adapter: 'nic',
  parts: [],
  redfishVersion: '1.17.0',
  hasLegacy: false,
  hasInventory: true,
  isNvidia: false,
  resetTypes: [...common, 'Nmi'],
}

/** What its BMC calls the maker; the card may call itself otherwise. */
export const makerOf = ({ kind }: Device): string =>
  kind.bmc.flavour === 'bluefield' ? 'Nvidia' : kind.vendor

/** The part of the firmware that is the BMC's own, where the inventory has one. */
export const bmcPartOf = ({ state }: Device): string | undefined =>
  Object.keys(state.firmware).find((part) => /bmc/i.test(part))

export function bmcVersionOf(device: Device): string {
  const part = bmcPartOf(device)
  return (part === undefined ? undefined : device.state.firmware[part]) ?? device.kind.bmc.version
}

/** As its firmware shows it now: an update may bring more. */
export function flavourOf(device: Device): Flavour {
  if (device.kind.bmc.flavour === 'openbmc') return openbmc
  return /^(BF-)?(1\d|2[0-3])\./.test(bmcVersionOf(device)) ? earlyBluefield : bluefield
}
