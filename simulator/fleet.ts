// Makes the devices of a fleet from a seed: which kinds, what they are called, and where they sit (one or two cards a host,
// sixteen hosts a rack). One device more changes nothing of the others.
import { PermanentError } from '../plugins/contract/index.ts'
import { Beat } from './beat.ts'
import type { Device, Kind, Placement } from './model.ts'
import { World, createState } from './physics/index.ts'
import { Random } from './random.ts'

export interface FleetOptions {
  /** How many, of all kinds as they are shared; or how many of which. */
  readonly devices: number | ReadonlyMap<string, number>
  readonly seed: number
  /** Unix time, in milliseconds, at which the run begins. */
  readonly epochMs: number
  readonly kinds: readonly Kind[]
}

const hostsInRack = 16
const racksInSite = 20
/** So many hosts of a hundred have two cards. */
const twoCards = 30
const sites = ['ams1', 'fra2', 'iad3', 'sin1', 'pdx4', 'gru1']
const tenants = ['acme', 'borealis', 'cobalt', 'delta-labs', 'evergreen', 'fjord', 'granite', 'helix']

/** @throws PermanentError CONFIG_INVALID where a kind is asked for that there is not. */
export function makeFleet(options: FleetOptions): Device[] {
  const wanted = kindsOf(options)
  const devices: Device[] = []
  const taken = new Set<string>()
  const world = new World(options.seed, options.epochMs)
  for (let host = 0; devices.length < wanted.length; host++) {
    const random = new Random(options.seed, `host ${host}`)
    const cards = random.below(100) < twoCards ? 2 : 1
    const tenant = tenants[Math.floor(random.float() ** 2 * tenants.length)] ?? 'acme' // few are large
    for (let slot = 0; slot < cards && devices.length < wanted.length; slot++) {
      const kind = wanted[devices.length]
      if (kind)
        devices.push(makeDevice(options, kind, devices.length, placed(host, slot, tenant), { world, taken }))
    }
  }
  return devices
}

/** The kind of each device, in order. */
function kindsOf({ devices, seed, kinds }: FleetOptions): Kind[] {
  if (typeof devices !== 'number') {
    return [...devices].flatMap(([name, count]) => {
      const kind = kinds.find((one) => one.name === name)
      const known = kinds.map((one) => one.name).join(', ')
      if (!kind) throw new PermanentError('CONFIG_INVALID', `no kind of device ${name}; there is ${known}`)
      return Array.from({ length: count }, () => kind)
    })
  }
  const all = kinds.reduce((sum, { share }) => sum + share, 0)
  return Array.from({ length: devices }, (_, index) => {
    let left = new Random(seed, `kind ${index}`).float() * all
    const chosen = kinds.find(({ share }) => (left -= share) < 0) ?? kinds[0]
    if (!chosen) throw new PermanentError('CONFIG_INVALID', 'there is no kind of device')
    return chosen
  })
}

function placed(host: number, slot: number, tenant: string): Placement {
  const rack = Math.floor(host / hostsInRack)
  const site = Math.floor(rack / racksInSite)
  const name = sites[site % sites.length] ?? 'ams1'
  const again = site < sites.length ? '' : `-${Math.floor(site / sites.length) + 1}`
  const number = (value: number) => String(value + 1).padStart(2, '0')
  const rackName = `r${number(rack % racksInSite)}`
  return {
    site: `${name}${again}`,
    rack: rackName,
    host: `${name}${again}-${rackName}-h${number(host % hostsInRack)}`,
    slot,
    tenant,
  }
}

function makeDevice(
  { seed, epochMs }: FleetOptions,
  kind: Kind,
  index: number,
  placement: Placement,
  { world, taken }: { world: World; taken: Set<string> },
): Device {
  const random = (part: string) => new Random(seed, `device ${index} ${part}`)
  const draw = random('identity')
  let serial = ''
  do serial = kind.serial.replace(/#/g, () => String(draw.below(10)))
  while (taken.has(serial))
  taken.add(serial)
  const hex = (digits: number) => Array.from({ length: digits }, () => draw.below(16).toString(16)).join('')
  const device = {
    index,
    id: `${kind.name}-${serial.toLowerCase()}`,
    serial,
    uuid: `${hex(8)}-${hex(4)}-4${hex(3)}-a${hex(3)}-${hex(12)}`,
    kind,
    placement,
    epochMs,
    world,
    random,
    beat: new Beat(),
  }
  return { ...device, state: createState(device) }
}
