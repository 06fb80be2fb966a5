// A service loses track of memory until the kernel kills it, and begins again, until it is patched.
import type { FaultKind } from '../model.ts'
import { restartService } from '../physics/services.ts'

export const memoryLeak: FaultKind = {
  name: 'memory_leak',
  summary: 'A service takes ever more memory, until the kernel kills it.',
  seconds: 3600,
  perDay: 0.08,
  fits: ({ kind }) => kind.services.length > 0,
  begin(device, random, lasts) {
    const index = random.below(device.state.services.length)
    const { memory } = device.state
    const free = device.kind.memoryBytes - memory.usedBytes
    const rate = Math.max(free, device.kind.memoryBytes / 4) / (lasts * random.between(0.35, 0.6))
    return {
      where: device.state.services[index]?.name ?? '',
      step({ state }) {
        state.strain.leak[index] = (state.strain.leak[index] ?? 0) + rate
      },
      end(device) {
        restartService(device, index)
      },
    }
  },
}
