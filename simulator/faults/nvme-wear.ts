// Something writes without end: the life of a drive runs out, and its medium begins to fail. What is worn stays worn.
import type { FaultKind } from '../model.ts'
import { driveName } from '../physics/storage.ts'

export const nvmeWear: FaultKind = {
  name: 'nvme_wear',
  summary: 'A drive wears out fast, and reads of it begin to fail.',
  seconds: 4 * 3600,
  perDay: 0.03,
  fits: ({ kind }) => kind.storage.some(({ pci }) => pci !== ''),
  begin(device, random, lasts) {
    const drives = device.kind.storage.map((_, index) => index)
    const index = random.pick(drives.filter((one) => device.kind.storage[one]?.pci !== ''))
    const before = device.state.drives[index]?.percentUsed ?? 0
    const rate = Math.max(20, 104 - before) / (lasts * random.between(0.4, 0.8))
    const errors = random.between(15, 80) / lasts
    return {
      where: driveName(device, index),
      step({ state }) {
        const used = state.drives[index]?.percentUsed ?? 0
        state.strain.storage += 0.35
        if (used < 130) state.strain.wear[index] = (state.strain.wear[index] ?? 0) + rate
        const worn = Math.max(0.1, Math.min(2, (used - 60) / 25))
        state.strain.mediaErrors[index] = (state.strain.mediaErrors[index] ?? 0) + errors * worn
      },
      end() {},
    }
  },
}
