// What the sensors of a device tell: the truth with the grain and noise of their kind, or what they tell in its place.
// Sources on the card and its BMC read the same ones; the BMC logs when a reading crosses a limit.
import type { Device, SensorKind } from '../model.ts'
import { bmcLog } from './lines.ts'

/** The BMC looks at each so often, not at all at once. */
const roundMs = 5000

/** What the sensor tells now; undefined where it tells nothing: absent, or of a part that has no power or module. */
export function readSensor(device: Device, sensor: SensorKind): number | undefined {
  const lie = device.state.sensorLies.get(sensor.id)
  if (lie !== undefined) return lie === 'absent' ? undefined : lie
  const value = truthOf(device, sensor)
  if (value === undefined) return undefined
  const noise = noiseOf(device.state.elapsedMs, sensor.id)
  switch (sensor.kind) {
    case 'temperature':
      return Math.round(value + 0.6 * noise)
    case 'voltage':
      return Math.round(value * (1 + 0.002 * noise) * 10_000) / 10_000
    case 'fan':
      return Math.max(0, Math.round((value * (1 + 0.008 * noise)) / 60) * 60) // as tachometers count
    default:
      return Math.max(0, Math.round(value * (1 + 0.01 * noise) * 10) / 10)
  }
}

function truthOf({ state, kind }: Device, sensor: SensorKind): number | undefined {
  const { temperature } = state
  const index = sensor.index ?? 0
  const isOff = state.power === 'off'
  switch (sensor.of) {
    case 'inlet':
      return temperature.inlet
    case 'board':
      return temperature.board
    case 'asic':
      return isOff ? undefined : temperature.asic
    case 'cpu':
      return isOff ? undefined : temperature.cpu
    case 'memory':
      return isOff ? undefined : temperature.memory
    case 'drive':
      return isOff ? undefined : temperature.drives[index]
    case 'optics':
      return isOff || ((state.inner.empty >> index) & 1) === 1 ? undefined : temperature.optics[index]
    case 'fan':
      return state.fans[index]?.rpm
    case 'rail': {
      const effort = (state.watts - kind.power.idle) / (kind.power.full - kind.power.idle)
      return (sensor.nominal ?? 0) * (1.004 - 0.008 * Math.max(0, effort))
    }
    case 'input':
      if (sensor.kind === 'voltage') return sensor.nominal
      return sensor.kind === 'current' ? state.watts / 12 : state.watts
    default:
      return sensor.of satisfies never
  }
}

/** -1 to 1, the same for the same moment: reading a sensor twice changes nothing. */
function noiseOf(atMs: number, id: string): number {
  let hash = Math.floor(atMs / 1000) | 0
  for (let index = 0; index < id.length; index++) hash = Math.imul(hash ^ id.charCodeAt(index), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b)
  return ((hash ^ (hash >>> 13)) >>> 0) / 2 ** 31 - 1
}

const levels = [
  { side: 'High', level: 'Warning', of: (sensor: SensorKind) => sensor.warning },
  { side: 'High', level: 'Critical', of: (sensor: SensorKind) => sensor.critical },
  { side: 'Low', level: 'Warning', of: (sensor: SensorKind) => sensor.lowWarning },
  { side: 'Low', level: 'Critical', of: (sensor: SensorKind) => sensor.lowCritical },
] as const

/** The BMC compares the sensors whose turn it is with their limits. */
export function watchSensors(device: Device): void {
  const { kind, state } = device
  if (state.bmc.hung) return
  const turn = Math.floor(state.elapsedMs / 1000) % Math.floor(roundMs / 1000)
  for (let index = turn; index < kind.sensors.length; index += roundMs / 1000) {
    const sensor = kind.sensors[index]
    if (!sensor) continue
    const reading = readSensor(device, sensor)
    if (reading === undefined) continue
    for (let bit = 0; bit < levels.length; bit++) watchLevel(device, index, bit, sensor, reading)
  }
}

function watchLevel(device: Device, index: number, bit: number, sensor: SensorKind, reading: number): void {
  const { crossed } = device.state.inner
  const rule = levels[bit]
  const limit = rule?.of(sensor)
  if (rule === undefined || limit === undefined) return
  const before = crossed[index] ?? 0
  const was = ((before >> bit) & 1) === 1
  const isHigh = rule.side === 'High'
  // Once crossed, it has to come back by some more, or it would be logged at every flicker.
  const slack = was ? 0.02 * Math.abs(limit) : 0
  const is = isHigh ? reading >= limit - slack : reading <= limit + slack
  if (is === was) return
  crossed[index] = is ? before | (1 << bit) : before & ~(1 << bit)
  const going = is === isHigh ? 'High' : 'Low'
  const { flavour } = device.kind.bmc
  const severity = !is || flavour === 'bluefield' ? 'OK' : rule.level // BlueField's says OK to all of them
  bmcLog(
    device,
    severity,
    `OpenBMC.0.1.SensorThreshold${rule.level}${rule.side}Going${going}`,
    `${sensor.id} sensor crossed a ${rule.level.toLowerCase()} ${rule.side.toLowerCase()} threshold going ` +
      `${going.toLowerCase()}. Reading=${reading.toFixed(6)} Threshold=${limit.toFixed(6)}.`,
  )
}
