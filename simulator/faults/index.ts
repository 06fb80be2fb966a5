// All that can go wrong with a device; one file each.
import type { FaultKind } from '../model.ts'
import { overheating } from './overheating.ts'

export const faultKinds: readonly FaultKind[] = [overheating]
