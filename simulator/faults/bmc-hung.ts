// The BMC is out of memory or has locked up: slow first and with errors, then it does not answer at all.
import type { FaultKind } from '../model.ts'

export const bmcHung: FaultKind = {
  name: 'bmc_hung',
  summary: 'The BMC answers slowly and with errors, then not at all.',
  seconds: 1200,
  perDay: 0.1,
  fits: () => true,
  begin(_device, random) {
    const slowFor = random.between(30, 180)
    const delayMs = random.between(2000, 9000)
    const errorRate = random.between(0.1, 0.5)
    const isWrong = random.chance(0.3)
    return {
      where: 'bmc',
      step({ state: { bmc } }, seconds) {
        bmc.hung = seconds > slowFor
        bmc.delayMs = Math.round(delayMs * Math.min(1, seconds / slowFor))
        bmc.errorRate = errorRate
        bmc.wrong = isWrong
      },
      end({ state: { bmc } }) {
        bmc.hung = false
        bmc.delayMs = 0
        bmc.errorRate = 0
        bmc.wrong = false
      },
    }
  },
}
