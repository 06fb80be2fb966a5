// A real source whose inputs are simulated: its name, settings and declared metrics are those of the plugin, what it reads
// is the state of a virtual device.
import { Readings } from '../../plugins/contract/index.ts'
import type { Context, Emit, Records, SourceDefinition } from '../../plugins/contract/index.ts'
import { unixNano } from '../clock.ts'
import { stepMs } from '../model.ts'
import type { Device, Kind } from '../model.ts'

/** The virtual device that a collector runs on. */
export type DeviceOf = (name: string) => Device

/** Reads a device again and again; holds what one reading needs of the one before. */
export interface Reader {
  /** Adds the data points of one reading; points of one metric follow each other. */
  points?(readings: Readings): void
  /** Log records, beside or instead of them. */
  logs?(nowUnixNano: bigint): Records[]
}

export interface Simulated {
  /** Of the plugin. */
  readonly name: string
  /** `service.name` of the Resource. */
  readonly service: string
  /** Whether its counters begin to count at the boot of the device and say so. */
  readonly tellsStart?: boolean
  open(device: Device, context: Context): Reader
}

/** Made once for all devices of a kind: of thousands, what they have in common is near when it is read. */
export function ofKind<T>(make: (kind: Kind) => T): (kind: Kind) => T {
  const known = new WeakMap<Kind, { made: T }>()
  return (kind) => {
    let one = known.get(kind)
    if (!one) known.set(kind, (one = { made: make(kind) }))
    return one.made
  }
}

/** The plugin with a simulated reader in the place of its own. */
export function simulate(real: SourceDefinition, simulated: Simulated, deviceOf: DeviceOf): SourceDefinition {
  return {
    ...real,
    create: (config, context) => ({
      async run(emit, signal) {
        const device = deviceOf(context.device)
        const reader = simulated.open(device, context)
        // Between two steps of physics nobody says anything.
        const intervalMs = Math.max(intervalOf(config), reader.points ? 0 : stepMs)
        const resource = context.resource({ 'service.name': simulated.service })
        context.ready()
        const read = (atMs: number) => {
          if (device.state.power !== 'on') return
          const now = unixNano(device.epochMs + atMs + device.state.clock.offsetMs)
          for (const records of takeReading(real, simulated, device, reader, resource, now)) {
            handOver(emit, records)
          }
        }
        // Sources of one device read together, those of a fleet do not.
        const phaseMs = device.random('phase').float() * Math.min(intervalMs, longestPhaseMs)
        const { clock } = context
        if (intervalMs >= stepMs) {
          return device.beat.every(device.state.elapsedMs + phaseMs, intervalMs, signal, read)
        }
        await clock.delay(phaseMs, signal).catch(() => undefined)
        if (!signal.aborted) await clock.every(intervalMs, signal, () => read(clock.elapsedMs()))
      },
    }),
  }
}

/** A first inventory does not wait for an hour. */
const longestPhaseMs = 60_000

/**
 * Nobody waits for the acknowledgement: in memory alone that comes when the aggregator does, and a device that is cut off
 * goes on collecting. A full buffer drops the oldest of the least precious class, counted.
 */
const handOver = (emit: Emit, records: Records): void =>
  void emit(records, { wait: false }).catch(() => undefined) // rejects only while the collector stops

function intervalOf(config: unknown): number {
  const { interval } = config as { interval?: number }
  return interval ?? 1000
}

function takeReading(
  real: SourceDefinition,
  simulated: Simulated,
  device: Device,
  reader: Reader,
  resource: Uint8Array,
  now: bigint,
): Records[] {
  const logs = reader.logs?.(now) ?? []
  if (!reader.points) return logs
  const upMs = device.state.elapsedMs - device.state.bootedAtMs
  const readings = new Readings({
    scope: { name: simulated.name },
    declared: real.emits,
    device: device.id,
    resource,
    timeUnixNano: now,
    ...(simulated.tellsStart === true && { startUnixNano: now - BigInt(Math.round(upMs)) * 1_000_000n }),
  })
  reader.points(readings)
  return [...logs, ...readings.finish()]
}
