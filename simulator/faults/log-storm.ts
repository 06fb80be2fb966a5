// A service writes the same complaint as fast as it can.
import type { FaultKind } from '../model.ts'

export const logStorm: FaultKind = {
  name: 'log_storm',
  summary: 'A service writes hundreds of lines a second.',
  seconds: 300,
  perDay: 0.2,
  fits: ({ kind }) => kind.services.length > 0,
  begin(device, random) {
    const index = random.below(device.state.services.length)
    const rate = random.between(60, 500)
    return {
      where: device.state.services[index]?.name ?? '',
      step({ state }) {
        state.strain.lines[index] = (state.strain.lines[index] ?? 0) + rate
      },
      end() {},
    }
  },
}
