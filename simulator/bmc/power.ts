// Resets of the system that the BMC manages: what a request starts, and what it does to the device as simulated time passes.
// Booting itself is physics: this says when it begins and by when it is due.
import { panic, powerOff, reset as resetDevice } from '../physics/index.ts'
import type { Bmc } from './bmc.ts'
import { Refusal } from './messages.ts'
import type { Plan } from './tasks.ts'

export type ResetType =
  | 'On'
  | 'ForceOn'
  | 'ForceOff'
  | 'GracefulShutdown'
  | 'GracefulRestart'
  | 'ForceRestart'
  | 'PowerCycle'
  | 'Nmi'

/** An operating system takes so long to stop. */
const shutdownMs = 12_000
/** Between off and on of a power cycle. */
const coldMs = 5000

/** Sets of the boot that the next one takes. */
export interface BootOverride {
  target: string
  mode: string
  enabled: 'Disabled' | 'Once' | 'Continuous'
  uri: string
}

/** What begins, or undefined where it is done at once. @throws Refusal where the device is not in a state for it. */
export function reset(bmc: Bmc, type: ResetType): Plan | undefined {
  const { state } = bmc.device
  const isOff = state.power === 'off'
  switch (type) {
    case 'On':
    case 'ForceOn':
      return isOff ? restart(bmc, type, 0) : undefined
    case 'ForceOff':
      powerOff(bmc.device)
      return undefined
    case 'GracefulShutdown':
      return isOff ? undefined : shutdown(bmc)
    case 'GracefulRestart':
      if (isOff) throw new Refusal('GeneralError', ['the system is off'])
      return restart(bmc, type, shutdownMs)
    case 'ForceRestart':
      return restart(bmc, type, 0)
    case 'PowerCycle':
      powerOff(bmc.device)
      return restart(bmc, type, coldMs)
    case 'Nmi':
      panic(bmc.device)
      return undefined
    default:
      return type satisfies never
  }
}

/** The boot that begins takes what was set for it, and new firmware. */
function bootNow(bmc: Bmc): void {
  if (bmc.boot.enabled === 'Once') bmc.boot.enabled = 'Disabled'
  resetDevice(bmc.device)
  bmc.updates.systemRestarted()
}

function shutdown(bmc: Bmc): Plan {
  bmc.nextPower(shutdownMs, () => powerOff(bmc.device))
  return planOf(bmc, 'GracefulShutdown', shutdownMs, 'off')
}

/** It boots after a pause, and the task ends when it is up. */
function restart(bmc: Bmc, type: ResetType, pauseMs: number): Plan {
  if (pauseMs === 0) bootNow(bmc)
  else bmc.nextPower(pauseMs, () => bootNow(bmc))
  return planOf(bmc, type, pauseMs + bmc.device.kind.bootSeconds * 850, 'on')
}

function planOf(bmc: Bmc, type: ResetType, milliseconds: number, until: 'on' | 'off'): Plan {
  return {
    name: `${type} of ${bmc.flavour.system}`,
    milliseconds,
    outcome: 'OK',
    messages: [],
    isFinished: () => bmc.device.state.power === until,
    finish: () => undefined,
  }
}

/** How far it has booted: BootProgress.LastState (DSP0268), and what BlueField says beside it. */
export function bootStage({ device: { state } }: Bmc): { standard: string; nvidia: string; sinceMs: number } {
  const { power, bootedAtMs, upAtMs, elapsedMs } = state
  if (power === 'off') return { standard: 'None', nvidia: 'LowPowerStandby', sinceMs: bootedAtMs }
  if (power === 'on') return { standard: 'OSRunning', nvidia: 'OsIsRunning', sinceMs: upAtMs }
  const whole = Math.max(1, upAtMs - bootedAtMs)
  const part = (elapsedMs - bootedAtMs) / whole
  const [from, standard, nvidia] = stages.findLast(([at]) => part >= at) ?? stages[0]
  return { standard, nvidia, sinceMs: bootedAtMs + from * whole }
}

const stages = [
  [0, 'PrimaryProcessorInitializationStarted', 'BootRom'],
  [0.06, 'BusInitializationStarted', 'BL2'],
  [0.14, 'MemoryInitializationStarted', 'BL31'],
  [0.22, 'SystemHardwareInitializationComplete', 'UEFI'],
  [0.55, 'OSBootStarted', 'OsStarting'],
] as const
