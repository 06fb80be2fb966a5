// Virtual devices for tests of what serves or reads them: of each flavour of BMC, moved on when told.
import { bluefield3 } from '../../simulator/kinds/bluefield-3.ts'
import type { Device, Kind } from '../../simulator/model.ts'
import { World, createState, step } from '../../simulator/physics/index.ts'
import { Random } from '../../simulator/random.ts'

const fast: Kind = { ...bluefield3, bmc: { ...bluefield3.bmc, answerMs: 0 } }

/** A card with fans whose BMC is OpenBMC as it comes. */
const openbmc: Kind = {
  ...fast,
  name: 'open-card',
  vendor: 'Example',
  model: 'Open Card',
  fans: 2,
  sensors: [
    { id: 'asic_temp', kind: 'temperature', of: 'asic', warning: 95, critical: 105 },
    { id: 'inlet_temp', kind: 'temperature', of: 'inlet', warning: 45 },
    { id: 'input_power', kind: 'power', of: 'input' },
    { id: 'vdd', kind: 'voltage', of: 'rail', nominal: 0.8, lowWarning: 0.7, warning: 0.9 },
    { id: 'fan_0', kind: 'fan', of: 'fan', index: 0, lowWarning: 1200, lowCritical: 600 },
    { id: 'fan_1', kind: 'fan', of: 'fan', index: 1, lowWarning: 1200, lowCritical: 600 },
  ],
  firmware: { bmc: ['2.14.0', '2.16.0'], nic: ['1.4.0', '1.5.0'] },
  bmc: { flavour: 'openbmc', version: '2.14.0', answerMs: 0 },
}

export const virtualKinds = {
  /** Before there was a stream of events. */
  early: { ...fast, firmware: { ...fast.firmware, BMC_Firmware: ['BF-23.10-5'] } },
  bluefield: { ...fast, firmware: { ...fast.firmware, BMC_Firmware: ['BF-24.07-14'] } },
  openbmc,
} as const satisfies Record<string, Kind>

/** @param index Another number is another device of the kind. */
export function virtualDevice(kind: Kind, index = 0): Device {
  const origin = {
    index,
    id: `${kind.name}-mt2413x${index}`,
    serial: `MT2413X${String(index).padStart(5, '0')}`,
    uuid: `3f0a1c52-8f6e-4d0b-a7d4-${String(index).padStart(12, '0')}`,
    kind,
    placement: { site: 'a', rack: 'r1', host: 'h1', slot: 0, tenant: 't' },
    epochMs: Date.UTC(2026, 10, 21),
    world: new World(7, Date.UTC(2026, 10, 21)),
    random: (part: string) => new Random(7, `${index} ${part}`),
  }
  return { ...origin, state: createState(origin) }
}

/** So many seconds of physics. */
export function pass(device: Device, seconds: number): void {
  for (let second = 0; second < seconds; second++) step(device)
}
