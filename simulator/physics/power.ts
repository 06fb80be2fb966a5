// Power follows work and temperature (what leaks through warm silicon); the sum of it is the energy used.
import type { Device } from '../model.ts'
import { stepMs } from '../model.ts'

const seconds = stepMs / 1000
/** Of the BMC and the standby rail. */
const standby = 7

export function movePower(device: Device): void {
  const { kind, state } = device
  const { load, inner } = state
  let wanted = standby
  if (state.power !== 'off') {
    let engines = 0
    for (const one of load.accelerators) engines += one / load.accelerators.length
    const work = 0.34 * load.cpu + 0.42 * load.network + 0.1 * load.storage + 0.14 * engines
    const leakage = 0.0035 * kind.power.idle * Math.max(0, state.temperature.asic - 45)
    const effort = state.power === 'on' ? work : 0.25
    wanted = inner.thirst * (kind.power.idle + (kind.power.full - kind.power.idle) * effort) + leakage
  }
  // Capacitors and the averaging of the meter.
  state.watts += (wanted - state.watts) * 0.5
  state.joules += state.watts * seconds
}
