// Engines for crypto, compression and the like: work that comes with the traffic, in pieces.
import type { Device } from '../model.ts'
import { stepMs } from '../model.ts'
import { counted, wholes } from './counters.ts'

const seconds = stepMs / 1000
/** Of an engine at full load, bytes a second. */
const fullSpeed = 6_000_000_000
const pieceBytes = 9000

export function moveAccelerators(device: Device): void {
  const { state } = device
  const { inner, load } = state
  for (let index = 0; index < state.accelerators.length; index++) {
    const engine = state.accelerators[index]
    if (!engine) continue
    const share = inner.tenant.acceleration * (1 - 0.25 * index)
    const now = load.network * Math.max(0.1, share) * (0.9 + 0.2 * inner.work.float())
    load.accelerators[index] = Math.min(1, now)
    const bytes = now * fullSpeed * seconds
    engine.bytes = counted(engine.bytes, bytes, 64)
    engine.operations = counted(engine.operations, bytes / pieceBytes, 64)
    engine.errors += wholes(2e-6, inner.errors.float())
  }
}
