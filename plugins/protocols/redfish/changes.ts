// Changes of state between two readings, as events: power, boot, reset, firmware and health of each component.
import type { Entry } from './entries.ts'
import type { Memory } from './memory.ts'
import type { Component, StateOf } from './states.ts'

const events: Readonly<Record<StateOf, { name: string; text: string }>> = {
  health: { name: 'dpu.health.changed', text: 'health' },
  power: { name: 'dpu.power.changed', text: 'power state' },
  boot: { name: 'dpu.boot.changed', text: 'boot state' },
  reset: { name: 'dpu.reset.happened', text: 'time of the last reset' },
  firmware: { name: 'dpu.firmware.changed', text: 'firmware' },
}
const severities: Readonly<Record<string, number>> = {
  degraded: 13,
  predicted_failure: 13,
  failed: 18,
  crashing: 18,
  crashed: 18,
  faulting: 18,
  faulted: 18,
}

export interface Changes {
  readonly entries: readonly Entry[]
  /** Keeps in mind what is told, when it is safe; false where there was nothing new. */
  readonly remember: () => boolean
}

/** What is first seen is no change. */
export function changesOf(components: readonly Component[], memory: Memory): Changes {
  const entries: Entry[] = []
  const known: [string, string][] = []
  for (const { id, name, type, states } of components) {
    for (const [of, state] of Object.entries(states)) {
      const key = `${of} ${id}`
      const before = memory.state(key)
      if (before === state) continue
      known.push([key, state])
      if (before !== undefined) entries.push(change(of as StateOf, before, state, { id, name, type }))
    }
  }
  return {
    entries,
    remember: () => known.filter(([key, state]) => memory.setState(key, state)).length > 0,
  }
}

function change(
  of: StateOf,
  before: string,
  state: string,
  { id, name, type }: Pick<Component, 'id' | 'name' | 'type'>,
): Entry {
  const event = events[of]
  return {
    key: '',
    match: '',
    path: id,
    // The reset has a time of its own; of the others the BMC tells none.
    timeUnixNano: of === 'reset' ? BigInt(Date.parse(state)) * 1_000_000n : undefined,
    severity: severities[state] ?? 9,
    severityText: undefined,
    eventName: event.name,
    body: `${name}: ${event.text} changed from ${before} to ${state}`,
    attributes: {
      'hw.id': id,
      'hw.name': name,
      'hw.type': type,
      'dpu.state.before': before,
      'dpu.state.after': state,
    },
  }
}
