// The air no longer comes through (a blocked filter, a baffle out of place), and what comes is the warm air of the exhaust.
import type { FaultKind } from '../model.ts'

export const overheating: FaultKind = {
  name: 'overheating',
  summary: 'Cooling air is blocked: the card grows hot and slows down.',
  seconds: 1800,
  perDay: 0.1,
  fits: () => true,
  begin(_device, random) {
    const blocked = random.between(0.76, 0.84)
    const warmer = random.between(22, 30)
    return {
      where: 'inlet',
      step({ state: { strain } }, seconds) {
        const part = Math.min(1, seconds / 60)
        strain.airflow = Math.max(strain.airflow, blocked * part)
        strain.inlet += warmer * part
      },
      end() {},
    }
  },
}
