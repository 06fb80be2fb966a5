// A fan stands still, or turns slowly on a worn bearing, until it is replaced.
import type { FaultKind } from '../model.ts'

export const fanFailure: FaultKind = {
  name: 'fan_failure',
  summary: 'A fan stands still or turns slowly; the others speed up.',
  seconds: 3600,
  perDay: 0.05,
  fits: ({ kind }) => kind.fans > 0,
  begin(device, random) {
    const index = random.below(device.state.fans.length)
    const fan = device.state.fans[index]
    const health = random.chance(0.7) ? 0 : random.between(0.15, 0.4)
    return {
      where: `fan${index + 1}`,
      step() {
        if (fan) fan.health = health
      },
      end() {
        if (fan) fan.health = 1
      },
    }
  },
}
