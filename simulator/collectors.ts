// The configuration of the collectors of a fleet: the same for all devices, nothing of it speaks of one.
import type { CollectorConfig } from '../collector/config.ts'
import { bufferSettings, outline } from '../collector/settings.ts'
import type { Definition } from '../plugins/contract/index.ts'
import { behindCable } from './exporters.ts'
import type { Cable, Destination } from './exporters.ts'
import type { Device } from './model.ts'
import { simulatedSources } from './sources/index.ts'

/** Of all devices together, where nobody gives them a disk: shared out alike. */
const allBuffers = 2 * 2 ** 30
const largestBuffer = 8 * 2 ** 20
const smallestBuffer = 256 * 1024
/** How long a peer may take, in seconds of the machine. */
const answerSeconds = 30

export interface CollectorsOptions {
  readonly plugins: readonly Definition[]
  readonly devices: readonly Device[]
  readonly cables: ReadonlyMap<string, Cable>
  readonly destination: Destination
  /** Simulated milliseconds between readings. */
  readonly interval: number
  readonly speed: number
}

export function collectorsConfig(options: CollectorsOptions): CollectorConfig {
  const { plugins, devices, cables, destination, interval, speed } = options
  const byId = new Map(devices.map((device) => [device.id, device]))
  const sources = simulatedSources(plugins, known(byId), interval)
  const room = Math.max(smallestBuffer, Math.min(largestBuffer, allBuffers / Math.max(1, devices.length)))
  const base = outline.parse({})
  // Deadlines are in simulated time, answers come in that of the machine.
  const buffer = {
    ...bufferSettings.parse({ timeout: `${answerSeconds * speed}s` }),
    memory: Math.floor(room),
  }
  const exporter = behindCable(destination.definition, known(cables))
  return {
    collector: base.collector,
    api: base.api,
    limits: base.limits,
    modules: [],
    sources: sources.map((source) => ({ id: source.definition.name, written: '', ...source })),
    processors: [],
    exporters: [
      {
        id: 'out',
        definition: exporter,
        config: destination.config,
        written: destination.address,
        buffer,
      },
    ],
    subscribers: [],
    pipelines: [
      {
        id: 'all',
        sources: sources.map(({ definition }) => definition.name),
        processors: [],
        exporters: ['out'],
      },
    ],
  }
}

const known =
  <T>(list: ReadonlyMap<string, T>) =>
  (id: string): T => {
    const one = list.get(id)
    if (one === undefined) throw new Error(`no device ${id}`)
    return one
  }
