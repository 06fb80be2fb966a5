// What physics remembers of a device from step to step, beside what can be seen of it: its own streams of chance, how it
// differs from others of its kind, and what is under way. Nobody but physics looks at it.
import type { Random } from '../random.ts'
import type { Rack, Site, Tenant } from './world.ts'

export interface Inner {
  readonly site: Site
  readonly rack: Rack
  readonly tenant: Tenant
  readonly traffic: Random
  readonly work: Random
  readonly errors: Random
  readonly talk: Random
  readonly life: Random
  /** Beside others of its kind and tenant: work, thermal resistance, power. */
  readonly weight: number
  readonly resistance: number
  readonly thirst: number
  /** Slow noises around 0. */
  noise: { network: number; cpu: number; storage: number }
  burst: { height: number; untilMs: number }
  /** It went off for its heat, and comes back when it has cooled. */
  isTooHot: boolean
  /** How often it had to slow down since its boot. */
  throttles: number
  /** Limits that are crossed, by sensor of the kind: a bit for each of its four. */
  readonly crossed: Int8Array
  /** Next line of the boot that the kernel has not said. */
  bootLine: number
  /** What is told after the next boot of the end of the last: lines of the kernel then. */
  readonly lastWords: { readonly severity: number; readonly text: string }[]
  readonly services: {
    pid: number
    /** Bytes that it needs at rest, and that it lost track of. */
    readonly restBytes: number
    leakedBytes: number
    /** When it dies next, and when systemd starts it again. */
    diesAtMs: number
    startsAtMs: number
  }[]
  /** Until the next line of each sort, in expected lines. */
  quietFor: number
  repeat: { template: number; left: number }
  /** Lines that found no room, by service. */
  suppressed: Map<string, number>
  /** Cages without a module: bit i is port i. */
  readonly empty: number
  readonly isWellTimed: boolean
  /** When its clock is next compared with that of a server. */
  syncAtMs: number
}
