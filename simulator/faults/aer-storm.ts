// A bad lane of the link to the host: the bus corrects errors by the hundred, and now and then one is more than that.
import type { FaultKind } from '../model.ts'

export const aerStorm: FaultKind = {
  name: 'aer_storm',
  summary: 'The PCI Express link of the card corrects errors in masses.',
  seconds: 600,
  perDay: 0.1,
  fits: ({ kind }) => kind.ports.length > 0,
  begin(device, random) {
    const rate = random.between(3, 60)
    const nonfatal = random.chance(0.4) ? random.between(0.002, 0.01) : 0
    return {
      where: device.kind.ports[0]?.pci ?? '',
      step({ state }, seconds) {
        // In gusts of some seconds.
        const gust = 0.5 + 0.5 * Math.sin(seconds / 7)
        state.strain.aerCorrectable += rate * gust * gust
        state.strain.aerNonfatal += nonfatal
      },
      end() {},
    }
  },
}
