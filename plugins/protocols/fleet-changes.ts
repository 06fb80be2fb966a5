// What may be asked of whoever keeps the wishes for a fleet: `control/configuration` answers, the HTTP API asks. Shapes
// are JSON-ready, as the API passes them on.
import type { Outcome, Reported, ReportedProblem, SeverityName } from './change.ts'

/**
 * Wish and fact of one collector compared. `own`: it goes by its own file or what it found, as wished or because nobody
 * wished for anything; `pending`: it has not answered yet, offline perhaps; `drift`: what is in force is not what was
 * wished, and it has not said why.
 */
export type ChangeState = 'own' | 'pending' | 'drift' | Outcome
export const changeStates = [
  'own',
  'in_force',
  'trial',
  'pending',
  'refused',
  'rolled_back',
  'drift',
] as const satisfies readonly ChangeState[]

export interface WishSummary {
  revision: number
  /** Of the configuration; null is the device's own. Absent where nobody wished for any. */
  configuration?: { revision: number; hash: string | null; by: string; time: string; rollout?: string }
  verbosity: { id: string; source: string; severity: SeverityName; by: string; time: string; until: string }[]
  labels: Record<string, string | null>
}

export interface DeviceChange {
  device: string
  online: boolean
  state: ChangeState
  /** One sentence; empty where there is nothing to say. */
  detail: string
  desired: WishSummary | null
  reported: Reported | null
}

export interface DeviceChangeText extends DeviceChange {
  /** YAML of what is wished; null where that is the device's own. */
  text: string | null
}

export interface ApplyWish {
  text: string
  devices: readonly string[]
  by: string
  /** Percentages that grow up to 100; all at once where absent. */
  stages?: readonly number[]
  /** How long a stage is watched once it is in force. */
  soakMs: number
}

export type ApplyAnswer =
  | { refused: ReportedProblem[] }
  | { hash: string; warnings: ReportedProblem[]; devices: string[]; rollout?: string }

export const rolloutStates = ['running', 'done', 'stopped'] as const
export interface Rollout {
  id: string
  hash: string
  by: string
  time: string
  state: (typeof rolloutStates)[number]
  /** Why it stopped; else what it waits for. */
  detail: string
  /** Percent, and which of them is under way, from 0. */
  stages: number[]
  stage: number
  /** How many devices all of it and the stages so far have. */
  devices: number
  reached: number
  /** Of those reached, by state. */
  states: Partial<Record<ChangeState, number>>
}

export interface VerbosityWish {
  devices: readonly string[]
  source: string
  severity: SeverityName
  forMs: number
  by: string
}

/** @throws PermanentError INPUT_TOO_LARGE where a limit is met. */
export interface FleetChanges {
  /** All that a collector of their own runs on; of these devices where given. */
  list(devices?: readonly string[]): Promise<DeviceChange[]>
  get(device: string): Promise<DeviceChangeText | undefined>
  apply(wish: ApplyWish): Promise<ApplyAnswer>
  /** Back to the devices' own configurations. */
  release(devices: readonly string[], by: string): Promise<void>
  setVerbosity(wish: VerbosityWish): Promise<void>
  /** Of that source, or of all. */
  endVerbosity(devices: readonly string[], source: string | undefined): Promise<void>
  /** By device and label; null takes one away, also what the device itself says. */
  setLabels(labels: ReadonlyMap<string, Readonly<Record<string, string | null>>>): Promise<void>
  /** Nothing is wished of it any more, and what it reported is forgotten. */
  forget(device: string): Promise<void>
  rollouts(): Promise<Rollout[]>
  /** Goes no further; what is in force stays. False where there is none that runs. */
  stopRollout(id: string, by: string): Promise<boolean>
}
