// The air no longer comes through: a blocked filter, a baffle out of place.
import type { FaultKind } from '../model.ts'

export const overheating: FaultKind = {
  name: 'overheating',
  summary: 'Cooling air is blocked: the card grows hot and slows down.',
  seconds: 1800,
  perDay: 0.1,
  fits: () => true,
  begin(_device, random) {
    const blocked = random.between(0.72, 0.84)
    return {
      where: 'inlet',
      step(device, seconds) {
        // It closes over half a minute, as dust does not, but a fallen cable does.
        device.state.strain.airflow = Math.max(
          device.state.strain.airflow,
          blocked * Math.min(1, seconds / 30),
        )
      },
      end() {},
    }
  },
}
