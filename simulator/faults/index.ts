// All that can go wrong with a device; one file each.
import type { FaultKind } from '../model.ts'
import { aerStorm } from './aer-storm.ts'
import { ageingOptics } from './ageing-optics.ts'
import { badSensors } from './bad-sensors.ts'
import { bmcHung } from './bmc-hung.ts'
import { crashLoop } from './crash-loop.ts'
import { ecc } from './ecc.ts'
import { fanFailure } from './fan-failure.ts'
import { kernelPanic } from './kernel-panic.ts'
import { linkFlaps } from './link-flaps.ts'
import { logStorm } from './log-storm.ts'
import { memoryLeak } from './memory-leak.ts'
import { noisyNeighbour } from './noisy-neighbour.ts'
import { nvmeWear } from './nvme-wear.ts'
import { offline } from './offline.ts'
import { overheating } from './overheating.ts'

export const faultKinds: readonly FaultKind[] = [
  overheating,
  fanFailure,
  linkFlaps,
  ageingOptics,
  ecc,
  aerStorm,
  nvmeWear,
  crashLoop,
  memoryLeak,
  kernelPanic,
  bmcHung,
  badSensors,
  offline,
  logStorm,
  noisyNeighbour,
]
