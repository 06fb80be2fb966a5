// The clock of a device beside the simulated time: it drifts by its quartz, is disciplined by NTP where that works, and
// steps where it was far off, after a boot above all.
import type { Device } from '../model.ts'
import { stepMs } from '../model.ts'
import { log } from './lines.ts'

const seconds = stepMs / 1000
/** Where NTP works it is asked so often; where it hardly does, so seldom. */
const oftenMs = 64_000
const seldomMs = 6 * 3_600_000
/** What is further off is not slewed but stepped. */
const stepsBeyondMs = 128
const chronyPid = 702

export function moveClock(device: Device): void {
  const { state } = device
  const { clock, inner } = state
  clock.offsetMs += (clock.driftPpm * seconds) / 1000
  if (state.power !== 'on' || state.elapsedMs < inner.syncAtMs) return
  const isFar = Math.abs(clock.offsetMs) > stepsBeyondMs
  if (isFar) {
    const wrong = (-clock.offsetMs / 1000).toFixed(6)
    log(device, 'chronyd', 4, `System clock wrong by ${wrong} seconds`, chronyPid)
    clock.offsetMs = (inner.life.float() - 0.5) * 4
    log(device, 'chronyd', 4, `System clock was stepped by ${wrong} seconds`, chronyPid)
  } else {
    clock.offsetMs = clock.offsetMs * 0.25 + (inner.life.float() - 0.5) * 0.6
  }
  inner.syncAtMs = state.elapsedMs + (inner.isWellTimed ? oftenMs : seldomMs * (0.5 + inner.life.float()))
}

/** At a boot the time is what the battery kept: a little off, or, without one, the beginning of 1970. */
export function loseTime(device: Device): void {
  const { state } = device
  const { clock, inner } = state
  const { life } = inner
  const isReset = life.chance(0.12)
  clock.offsetMs = isReset ? -(device.epochMs + state.elapsedMs) : (life.float() - 0.5) * 3000
  inner.syncAtMs = state.upAtMs + 6000 + life.below(30) * 1000
}
