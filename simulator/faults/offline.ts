// Cut off from the aggregator: the card works on, and what it has to tell waits.
import type { FaultKind } from '../model.ts'

export const offline: FaultKind = {
  name: 'offline',
  summary: 'Cut off from the aggregator for hours; what it has to tell waits in its buffer.',
  seconds: 2 * 3600,
  perDay: 0.1,
  fits: () => true,
  begin: () => ({
    where: 'network',
    step({ state }) {
      state.isOffline = true
    },
    end({ state }) {
      state.isOffline = false
    },
  }),
}
