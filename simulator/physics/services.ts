// Services under systemd: they use time and memory by the work there is, die seldom or often, and are started again.
import type { Device } from '../model.ts'
import { stepMs } from '../model.ts'
import { log, printk, systemPid } from './lines.ts'

const seconds = stepMs / 1000
/** Of one service that nothing is wrong with: it dies in so many seconds. */
const life = 400 * 86_400
/** RestartSec of their units. */
const pauseMs = 3000

export function moveServices(device: Device): void {
  const { kind, state } = device
  const { strain, inner, load } = state
  const share = (load.cpu * kind.cores * seconds * 0.8) / Math.max(1, state.services.length)
  for (let index = 0; index < state.services.length; index++) {
    const service = state.services[index]
    const mine = inner.services[index]
    if (!service || !mine) continue
    if (!service.isActive) {
      if (state.elapsedMs >= mine.startsAtMs) startService(device, index)
      continue
    }
    const isCrashing = ((strain.crashing >> index) & 1) === 1
    if (isCrashing && mine.diesAtMs > state.elapsedMs + 60_000)
      mine.diesAtMs = state.elapsedMs + 2000 + inner.life.below(10) * 1000
    if (state.elapsedMs >= mine.diesAtMs) {
      crash(device, index)
      continue
    }
    mine.leakedBytes += (strain.leak[index] ?? 0) * seconds
    service.cpuSeconds += share
    service.memoryBytes = Math.round(mine.restBytes * (1 + 0.25 * load.network) + mine.leakedBytes)
  }
}

export function startService(device: Device, index: number): void {
  const { state } = device
  const service = state.services[index]
  const mine = state.inner.services[index]
  if (!service || !mine) return
  service.isActive = true
  service.startedAtMs = state.elapsedMs
  service.memoryBytes = mine.restBytes
  mine.leakedBytes = 0
  mine.pid = 900 + state.inner.life.below(60_000)
  mine.diesAtMs = state.elapsedMs + state.inner.life.until(life) * 1000
  log(device, 'systemd', 6, `Started ${service.name}.service.`, systemPid)
}

/** As `systemctl restart` does. */
export function restartService(device: Device, index: number): void {
  const service = device.state.services[index]
  if (!service || !service.isActive) return
  log(device, 'systemd', 6, `Stopping ${service.name}.service...`, systemPid)
  log(device, 'systemd', 6, `${service.name}.service: Deactivated successfully.`, systemPid)
  service.restarts++
  startService(device, index)
}

function crash(device: Device, index: number): void {
  const { state } = device
  const service = state.services[index]
  const mine = state.inner.services[index]
  if (!service || !mine) return
  const base = (0xffff8000 + state.inner.life.below(0x7fff)).toString(16)
  printk(
    device,
    6,
    `${service.name.slice(0, 15)}[${mine.pid}]: unhandled exception: DABT (lower EL), ESR 0x0000000092000006, ` +
      `level 2 translation fault in libc.so.6[${base}0000+188000]`,
  )
  stopService(device, index, 'code=killed, status=11/SEGV', 'signal')
}

/** It is gone, by a signal; systemd tells, and starts it again after a pause. */
export function stopService(device: Device, index: number, how: string, result: string): void {
  const { state } = device
  const service = state.services[index]
  const mine = state.inner.services[index]
  if (!service || !mine) return
  const unit = `${service.name}.service`
  log(device, 'systemd', 5, `${unit}: Main process exited, ${how}`, systemPid)
  log(device, 'systemd', 4, `${unit}: Failed with result '${result}'.`, systemPid)
  service.isActive = false
  service.memoryBytes = 0
  service.restarts++
  mine.startsAtMs = state.elapsedMs + pauseMs
  log(
    device,
    'systemd',
    6,
    `${unit}: Scheduled restart job, restart counter is at ${service.restarts}.`,
    systemPid,
  )
}
