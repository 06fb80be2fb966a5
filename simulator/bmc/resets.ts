// Actions that reset something: their targets, what they allow, and what they begin.
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import { Refusal } from './messages.ts'
import { reset } from './power.ts'
import type { ResetType } from './power.ts'
import { base, noContent } from './router.ts'
import type { Call, Reply, Routes } from './router.ts'
import { take } from './taking.ts'
import { accepted } from './tasks.ts'

/** `Systems/x/Actions/ComputerSystem.Reset` and the like, with what says which types there are. */
export function resetRoutes(at: string, type: string, resetTypes: readonly string[]): Routes {
  const action = `${type}.Reset`
  return {
    ...actionInfo(at, resetTypes),
    [`${at}/Actions/${action}`]: {
      post: (call) => resetSystem(call, typeFrom(call, action, resetTypes)),
    },
  }
}

export const actionInfo = (at: string, resetTypes: readonly string[]): Routes => ({
  [`${at}/ResetActionInfo`]: {
    get: (): Json => ({
      '@odata.id': `${base}/${at}/ResetActionInfo`,
      '@odata.type': '#ActionInfo.v1_1_2.ActionInfo',
      Id: 'ResetActionInfo',
      Name: 'Reset Action Info',
      Parameters: [{ AllowableValues: resetTypes, DataType: 'String', Name: 'ResetType', Required: true }],
    }),
  },
})

/** @throws Refusal where none, or one that is not offered, was given. */
export function typeFrom({ body }: Call, action: string, resetTypes: readonly string[]): string {
  const { ResetType: type } = take(body, { ResetType: resetTypes })
  if (type === undefined) throw new Refusal('ActionParameterMissing', [action, 'ResetType'])
  return type
}

/** 204 where it is done at once, else a task that takes the time that a real one takes. */
function resetSystem(call: Call, type: string): Reply {
  const { bmc } = call
  bmc.forgetNextPower()
  bmc.journal(`phosphor-state-manager: ${type} was asked for`)
  const plan = reset(bmc, type as ResetType) // types are of the flavour's list
  return plan ? accepted(call, bmc.tasks.begin(plan)) : noContent
}
