// A service dies soon after each start, and systemd starts it again.
import type { FaultKind } from '../model.ts'

export const crashLoop: FaultKind = {
  name: 'crash_loop',
  summary: 'A service dies seconds after each start.',
  seconds: 900,
  perDay: 0.1,
  fits: ({ kind }) => kind.services.length > 0,
  begin(device, random) {
    const index = random.below(device.state.services.length)
    return {
      where: device.state.services[index]?.name ?? '',
      step({ state }) {
        state.strain.crashing |= 1 << index
      },
      end() {},
    }
  },
}
