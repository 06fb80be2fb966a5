// What devices share: the air of a site, the heat of a rack, the day and the bursts of a tenant. Everything is a function
// of the seed, a name and the time, so that it does not matter in which order devices step.
import { Random } from '../random.ts'

const dayMs = 86_400_000
const slotMs = 60_000
/** A burst that is drawn in one slot may last into so many after it. */
const reach = 12

/** What the load of a tenant looks like over a day, by hour of its local time. */
const days = {
  office: [5, 4, 4, 4, 5, 8, 18, 40, 70, 88, 95, 92, 80, 86, 95, 92, 84, 68, 48, 34, 24, 16, 10, 7],
  evening: [30, 20, 14, 10, 8, 9, 14, 22, 30, 34, 38, 42, 46, 46, 46, 50, 56, 66, 80, 92, 98, 95, 76, 48],
  nightly: [88, 98, 98, 92, 84, 66, 38, 24, 18, 16, 15, 15, 15, 15, 16, 16, 18, 20, 24, 30, 38, 50, 64, 78],
  even: [52, 50, 48, 48, 48, 50, 52, 55, 58, 60, 60, 60, 58, 60, 60, 60, 58, 57, 56, 56, 55, 55, 54, 53],
} as const

export interface Site {
  /** Degrees of the air that comes in, at that time. */
  inlet(atMs: number): number
}

export interface Tenant {
  /** Mean size of a packet, bytes. */
  readonly packetBytes: number
  /** How much of its work is storage and acceleration beside the network, 0 to 1. */
  readonly storage: number
  readonly acceleration: number
  /** 0 to 1: the hour of its day, the day of its week and its bursts. */
  level(atMs: number): number
}

export class World {
  readonly seed: number
  /** Unix time, in milliseconds, at which the run begins. */
  readonly epochMs: number
  readonly #sites = new Map<string, Site>()
  readonly #racks = new Map<string, Rack>()
  readonly #tenants = new Map<string, Tenant>()

  constructor(seed: number, epochMs: number) {
    this.seed = seed
    this.epochMs = epochMs
  }

  site(name: string): Site {
    return kept(this.#sites, name, () => siteOf(new Random(this.seed, `site ${name}`), this.epochMs))
  }

  rack(site: string, name: string): Rack {
    const key = `${site} ${name}`
    return kept(this.#racks, key, () => new Rack(new Random(this.seed, `rack ${key}`)))
  }

  tenant(name: string): Tenant {
    return kept(this.#tenants, name, () => tenantOf(this.seed, name, this.epochMs))
  }
}

function kept<T>(of: Map<string, T>, key: string, make: () => T): T {
  let one = of.get(key)
  if (one === undefined) of.set(key, (one = make()))
  return one
}

/** The heat of neighbours: each step reads what all cards gave off in the step before. */
export class Rack {
  /** Degrees that it is warmer here than at the door of the row. */
  readonly offset: number
  #atMs = -1
  #before = 0
  #sum = 0
  #count = 0

  constructor(random: Random) {
    this.offset = random.between(0, 2.5)
  }

  /** How hard its cards work, 0 to 1, in the step before; and what this one adds to it. */
  share(atMs: number, effort: number): number {
    if (atMs !== this.#atMs) {
      this.#before = this.#count === 0 ? 0 : this.#sum / this.#count
      this.#atMs = atMs
      this.#sum = 0
      this.#count = 0
    }
    this.#sum += effort
    this.#count++
    return this.#before
  }
}

function siteOf(random: Random, epochMs: number): Site {
  const mean = random.between(20, 25)
  const swing = random.between(0.8, 2.8)
  const phase = random.float() * dayMs
  const weather = random.float() * dayMs
  return {
    inlet: (atMs) =>
      mean +
      swing * Math.sin((2 * Math.PI * (epochMs + atMs + phase)) / dayMs) +
      0.7 * Math.sin((2 * Math.PI * (atMs + weather)) / (4.3 * dayMs)),
  }
}

function tenantOf(seed: number, name: string, epochMs: number): Tenant {
  const random = new Random(seed, `tenant ${name}`)
  const hours = days[random.pick(['office', 'office', 'evening', 'nightly', 'even'] as const)]
  const shiftMs = random.below(24) * 3_600_000
  const weekend = random.between(0.35, 1)
  const burstiness = random.between(0.5, 2)
  let slot = Number.NaN
  let base = 0
  let nextBase = 0
  let burst = 0
  const hourly = (atMs: number): number => {
    const local = epochMs + atMs + shiftMs
    const hour = (local / 3_600_000) % 24
    const before = hours[Math.floor(hour)] ?? 0
    const after = hours[(Math.floor(hour) + 1) % 24] ?? 0
    const ofWeek = Math.floor(local / dayMs + 4) % 7 // the epoch was a Thursday
    const level = (before + (after - before) * (hour % 1)) / 100
    return level * (ofWeek === 0 || ofWeek === 6 ? weekend : 1)
  }
  return {
    packetBytes: random.between(280, 1250),
    storage: random.between(0.1, 0.9),
    acceleration: random.between(0.1, 0.9),
    level(atMs) {
      const now = Math.floor(atMs / slotMs)
      if (now !== slot) {
        slot = now
        base = hourly(now * slotMs)
        nextBase = hourly((now + 1) * slotMs)
        burst = burstOf(seed, name, now, burstiness)
      }
      const part = (atMs - slot * slotMs) / slotMs
      return Math.min(1, base + (nextBase - base) * part + burst)
    },
  }
}

/** Bursts are rare, short mostly, and now and then huge: length and height are drawn from Pareto's law. */
function burstOf(seed: number, name: string, slot: number, burstiness: number): number {
  let height = 0
  for (let back = 0; back < reach; back++) {
    const random = new Random(seed, `burst ${name} ${slot - back}`)
    if (!random.chance(0.03 * burstiness)) continue
    const slots = Math.min(reach, random.pareto(1, 1.2))
    if (back < slots) height += Math.min(0.7, random.pareto(0.06, 1.4))
  }
  return height
}
