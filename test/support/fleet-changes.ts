// The keeper of wishes over tables and a bus in memory, with collectors that a test plays by hand: what is published to
// them can be read, and what they report is handed in.
import { openChanges } from '../../control/configuration/changes.ts'
import type { ChangesOptions, RunningChanges } from '../../control/configuration/changes.ts'
import type { Table } from '../../control/configuration/wishes.ts'
import { configurationHash, desiredSchema } from '../../plugins/protocols/change.ts'
import type { Desired, Outcome, Reported } from '../../plugins/protocols/change.ts'
import { systemClock } from '../../collector/clock.ts'

export function memoryTable(rows = new Map<string, Uint8Array>()): Table {
  return {
    get: (key) => rows.get(key),
    entries: () => rows.entries(),
    set: async (key, value) => void (value ? rows.set(key, value) : rows.delete(key)),
  }
}

export interface MemoryFleet {
  changes: RunningChanges
  /** Another keeper over the same tables and messages, as after a restart. */
  again(): RunningChanges
  messages: Map<string, string>
  desired(device: string): Desired
  /** A device says what became of the newest wish for its configuration. */
  answer(device: string, state: Outcome, more?: Partial<Reported>): void
  lost: Map<string, number>
  registry: Table
  operations: Table
}

export type FleetDevices = () => Promise<
  readonly { device: string; collector: string; state: 'online' | 'offline' }[]
>

export function memoryFleet(
  devices: FleetDevices,
  given: Partial<Pick<ChangesOptions, 'check' | 'clock' | 'isLeader'>> = {},
): MemoryFleet {
  const messages = new Map<string, string>()
  const lost = new Map<string, number>()
  const silent = {
    error: () => undefined,
    warn: () => undefined,
    info: () => undefined,
    debug: () => undefined,
  }
  const registry = memoryTable()
  const operations = memoryTable()
  const open = () =>
    openChanges({
      registry,
      operations,
      root: 'dpulse',
      bus: {
        publish: async (topic, payload) => void messages.set(topic, payload),
        *retained(pattern) {
          const kind = pattern.slice(pattern.lastIndexOf('/'))
          for (const [topic, payload] of messages) {
            if (topic.endsWith(`config${kind}`)) yield { topic, payload: Buffer.from(payload) }
          }
        },
      },
      devices,
      onLabels: () => undefined,
      losses: async (chosen) => new Map(chosen.map((device) => [device, lost.get(device) ?? 0])),
      check: async () => [],
      isLeader: () => true,
      clock: systemClock,
      log: silent,
      ...given,
    })
  const fleet: MemoryFleet = {
    changes: open(),
    again: () => (fleet.changes = open()),
    messages,
    lost,
    registry,
    operations,
    desired: (device) =>
      desiredSchema.parse(JSON.parse(messages.get(`dpulse/${device}/config/desired`) ?? 'null')),
    answer(device, state, more = {}) {
      const { revision, configuration } = fleet.desired(device)
      const time = new Date().toISOString()
      const own = { hash: configurationHash('own'), origin: 'file' as const }
      const applied = configuration?.hash
      const isApplied =
        applied !== null && applied !== undefined && (state === 'in_force' || state === 'trial')
      const reported: Reported = {
        instance: 'one',
        time,
        revision,
        configuration: isApplied
          ? { hash: applied, origin: 'applied', since: time }
          : { ...own, since: time },
        base: own,
        outcome: configuration && {
          revision: configuration.revision,
          hash: configuration.hash,
          state,
          reason: state === 'refused' ? 'sources.a.type: no such type' : '',
          problems: [],
          time,
        },
        verbosity: [],
        labels: {},
        ...more,
      }
      fleet.changes.onReported(device, Buffer.from(JSON.stringify(reported)))
    },
  }
  return fleet
}
