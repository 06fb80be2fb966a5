// Temperatures: what each part tends to is a matter of power, air and inlet; all follow with a lag of the first order.
// The fans (or, of a card without any, those of its server) are turned up and down for them; too warm slows the card
// down, far too warm ends its work.
import type { Device } from '../model.ts'
import { stepMs } from '../model.ts'
import { powerOff, powerOn } from './boot.ts'
import { bmcLog, log, printk } from './lines.ts'

const seconds = stepMs / 1000
/** The duty at which a kind's figures hold, and what air still moves with all fans standing. */
const usualDuty = 0.5
const draught = 0.25
const fullRpm = 14_000
/** Degrees below the limit at which a card runs freely again. */
const relief = 6
/** And at which one that went off comes back. */
const cooled = 30

export function moveHeat(device: Device): void {
  const { kind, state } = device
  const { inner, temperature, strain } = state
  const isOn = state.power !== 'off'
  const effort = isOn ? (state.watts - kind.power.idle) / (kind.power.full - kind.power.idle) : 0
  const neighbours = inner.rack.share(state.elapsedMs, Math.max(0, Math.min(1, effort)))
  const wanted = inner.site.inlet(state.elapsedMs) + inner.rack.offset + 4 * neighbours + strain.inlet
  temperature.inlet = toward(temperature.inlet, wanted, 120)

  const air = moveFans(device) * (1 - strain.airflow)
  const usual = draught + (1 - draught) * usualDuty
  const resistance = inner.resistance * (usual / Math.max(0.04, air)) ** 0.55
  const { idle, full } = kind.thermal
  const rise = isOn ? (idle + (full - idle) * Math.max(0, effort)) * resistance : 2
  const { inlet } = temperature
  temperature.asic = toward(temperature.asic, Math.min(160, inlet + rise), kind.thermal.seconds)
  const cpu = temperature.asic + (isOn ? 1 + 7 * state.load.cpu : 0)
  temperature.cpu = toward(temperature.cpu, cpu, 12)
  const board = inlet + 0.42 * (temperature.asic - inlet)
  temperature.board = toward(temperature.board, board, kind.thermal.seconds * 4)
  const memory = temperature.board + (isOn ? 6 + 10 * state.load.cpu : 0)
  temperature.memory = toward(temperature.memory, memory, 90)
  for (let index = 0; index < temperature.drives.length; index++) {
    const drive = temperature.board + (isOn ? 3 + 16 * state.load.storage : 0)
    temperature.drives[index] = toward(temperature.drives[index] ?? inlet, drive, 150)
  }
  for (let index = 0; index < temperature.optics.length; index++) {
    const port = state.ports[index]
    const isLit = isOn && port?.isUp === true
    const optics = temperature.board + (isLit ? 7 + 5 * state.load.network + 6 * port.ageing : 0)
    temperature.optics[index] = toward(temperature.optics[index] ?? inlet, optics, 100)
  }
  if (isOn) guard(device)
  else if (inner.isTooHot && temperature.asic < kind.thermal.throttle - cooled) powerOn(device)
}

const toward = (value: number, target: number, lag: number): number =>
  value + (target - value) * (seconds / (lag + seconds))

/** Turns the fans for the temperature; the part of the air that they move, of all that they could. */
function moveFans(device: Device): number {
  const { kind, state } = device
  const { idle, throttle } = kind.thermal
  const comfort = 22 + idle
  const needed = 0.32 + (0.68 * (state.temperature.asic - comfort)) / (throttle - 4 - comfort)
  const duty = state.power === 'off' ? 0.2 : Math.min(1, Math.max(0.3, needed))
  state.fanDuty = toward(state.fanDuty, duty, 15)
  let health = 1
  if (state.fans.length > 0) {
    health = 0
    for (const fan of state.fans) {
      health += fan.health / state.fans.length
      fan.rpm = toward(fan.rpm, fullRpm * state.fanDuty * fan.health, fan.health === 0 ? 2 : 6)
    }
  }
  return draught + (1 - draught) * state.fanDuty * health
}

/** Slows down what is too warm, and stops what is far too warm. */
function guard(device: Device): void {
  const { kind, state } = device
  const { asic } = state.temperature
  const { throttle, shutdown } = kind.thermal
  if (!state.isThrottled && asic >= throttle) {
    state.isThrottled = true
    if (state.power === 'on') tell(device, true)
  } else if (state.isThrottled && asic < throttle - relief) {
    state.isThrottled = false
    if (state.power === 'on') tell(device, false)
  }
  if (asic < shutdown) return
  if (state.power === 'on') {
    printk(device, 0, 'thermal thermal_zone0: critical temperature reached, shutting down')
    log(device, 'systemd-logind', 0, 'Powering Off...', 611)
  }
  bmcLog(
    device,
    'Critical',
    'ResourceEvent.1.0.ResourceStatusChangedCritical',
    'The health of resource `System` has changed to Critical.',
  )
  state.inner.isTooHot = true
  powerOff(device)
}

/** As its driver says it; that of ConnectX has no word for the end of it. */
function tell(device: Device, isHot: boolean): void {
  const { inner } = device.state
  const first = device.kind.ports[0]
  if (isHot) inner.throttles++
  if (first?.driver === 'mlx5_core') {
    const sensors = 'High temperature on sensors with bit set 0x0 0x1'
    if (isHot) printk(device, 4, `mlx5_core ${first.pci}: temp_warn:202:(pid 0): ${sensors}`)
  } else if (isHot) {
    const count = `(total events = ${inner.throttles})`
    printk(device, 4, `CPU0: Package temperature above threshold, cpu clock throttled ${count}`)
  } else printk(device, 6, 'CPU0: Package temperature/speed normal')
}
