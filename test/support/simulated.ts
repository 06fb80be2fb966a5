// Virtual devices for tests of what moves and disturbs them: each in a world of its own, so that two of one seed are twins.
import { kinds } from '../../simulator/kinds/index.ts'
import { Beat } from '../../simulator/beat.ts'
import type { Device, Kind } from '../../simulator/model.ts'
import { createState, step, World } from '../../simulator/physics/index.ts'
import { Random } from '../../simulator/random.ts'

/** A Monday, 9 o'clock. */
export const epochMs = Date.UTC(2026, 0, 5, 9)

export function kindOf(name: string): Kind {
  const kind = kinds.find((one) => one.name === name)
  if (!kind) throw new Error(`there is no kind ${name}`)
  return kind
}

export function makeDevice(
  kind: Kind,
  seed: number,
  world = new World(seed, epochMs),
  index = 0,
  tenant = 'blue',
): Device {
  const placement = { site: 'ams1', rack: 'r07', host: 'srv-0712', slot: 0, tenant }
  const random = (part: string): Random => new Random(seed, `device ${index} ${part}`)
  const origin = {
    index,
    id: `${kind.name}-${seed}-${index}`,
    serial: kind.serial.replaceAll('#', '7'),
    uuid: '8a95d198-7f46-41e5-af8b-08002704d48e',
    kind,
    placement,
    epochMs,
    world,
    random,
    beat: new Beat(),
  }
  return { ...origin, state: createState(origin) }
}

/** Steps it for so many seconds. */
export function run(device: Device, seconds: number): void {
  for (let second = 0; second < seconds; second++) step(device)
}
