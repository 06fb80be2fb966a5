// A cell of the memory goes: errors that are corrected, more of them, then some that are not.
import type { FaultKind } from '../model.ts'

/** Part of its time in which all are corrected still. */
const harmless = 0.6

export const ecc: FaultKind = {
  name: 'ecc',
  summary: 'Memory errors: corrected ones, ever more, then uncorrected ones.',
  seconds: 3 * 3600,
  perDay: 0.05,
  fits: () => true,
  begin(_device, random, lasts) {
    // So many over the whole time, whether it is short or long.
    const rate = random.between(40, 200) / lasts
    const grows = random.between(8, 25)
    const uncorrectable = random.between(5, 12) / (lasts * (1 - harmless))
    const worseAfter = lasts * harmless
    return {
      where: 'mc0',
      step({ state }, seconds) {
        state.strain.eccCorrectable += rate * (1 + (grows * seconds) / lasts)
        if (seconds > worseAfter) state.strain.eccUncorrectable += uncorrectable
      },
      end() {},
    }
  },
}
