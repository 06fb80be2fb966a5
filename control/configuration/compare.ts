// Wish and fact of one collector compared. Pure: the same rows always give the same answer, on every aggregator.
import type { Reported } from '../../plugins/protocols/change.ts'
import type { ChangeState } from '../../plugins/protocols/fleet-changes.ts'
import type { Wish } from './wishes.ts'

export interface Compared {
  state: ChangeState
  detail: string
}

export function compare(wish: Wish | undefined, reported: Reported | undefined, isOnline: boolean): Compared {
  const configuration = compareConfiguration(wish, reported, isOnline)
  const isSettled = configuration.state === 'own' || configuration.state === 'in_force'
  // Labels and verbosity go with the same revision.
  if (isSettled && wish && wish.revision > (reported?.revision ?? 0)) return pending(isOnline)
  return configuration
}

function compareConfiguration(
  wish: Wish | undefined,
  reported: Reported | undefined,
  isOnline: boolean,
): Compared {
  const wished = wish?.configuration
  if (!wished) {
    if (reported?.configuration.origin !== 'applied') return { state: 'own', detail: '' }
    return { state: 'drift', detail: 'a configuration is in force that this aggregator did not apply' }
  }
  const outcome = reported?.outcome
  if (!outcome || outcome.revision < wished.revision) return pending(isOnline)
  if (outcome.revision > wished.revision) {
    return { state: 'drift', detail: 'the device has acted on a wish that this aggregator does not know' }
  }
  if (outcome.state !== 'in_force') return { state: outcome.state, detail: outcome.reason }
  const { hash, origin } = reported.configuration
  if (wished.hash === null) {
    if (origin !== 'applied') return { state: 'own', detail: '' }
    return { state: 'drift', detail: `its own configuration is wished, and ${hash} is in force` }
  }
  if (origin === 'applied' && hash === wished.hash) return { state: 'in_force', detail: '' }
  return { state: 'drift', detail: `${wished.hash} is wished, and ${hash} (${origin}) is in force` }
}

const pending = (isOnline: boolean): Compared => ({
  state: 'pending',
  detail: isOnline ? 'it has not answered yet' : 'it is offline, and hears of it when it is back',
})
