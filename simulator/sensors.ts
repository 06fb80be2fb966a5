// What the sensors of a virtual device tell: the truth of its state as a chip would round it, or what a broken one says.
import type { Device, SensorKind } from './model.ts'

/** Undefined where the sensor does not answer. In Cel, V, W, A or rpm. */
export function readSensor(device: Device, sensor: SensorKind): number | undefined {
  const { state } = device
  const lie = state.sensorLies.get(sensor.id)
  if (lie === 'absent') return undefined
  const value = lie ?? trueValue(device, sensor)
  return value === undefined ? undefined : rounded(sensor, value)
}

function trueValue({ state, kind }: Device, sensor: SensorKind): number | undefined {
  const index = sensor.index ?? 0
  switch (sensor.kind) {
    case 'temperature':
      return temperatureOf(state.temperature, sensor.of, index)
    case 'fan':
      return state.fans[index]?.rpm
    case 'power':
      return state.watts
    case 'current':
      return state.watts / supplyVolts
    case 'voltage': {
      const nominal = sensor.nominal ?? supplyVolts
      // A rail gives way a little under load.
      const load = (state.watts - kind.power.idle) / Math.max(1, kind.power.full - kind.power.idle)
      return nominal * (1.004 - 0.012 * load)
    }
    default:
      return sensor.kind satisfies never
  }
}

/** What a PCIe slot supplies. */
const supplyVolts = 12

function temperatureOf(
  temperature: Device['state']['temperature'],
  of: SensorKind['of'],
  index: number,
): number | undefined {
  switch (of) {
    case 'asic':
    case 'cpu':
    case 'board':
    case 'inlet':
    case 'memory':
      return temperature[of]
    case 'drive':
      return temperature.drives[index]
    case 'optics':
      return temperature.optics[index]
    case 'input':
    case 'rail':
    case 'fan':
      return temperature.board
    default:
      return of satisfies never
  }
}

const steps: Readonly<Record<SensorKind['kind'], number>> = {
  temperature: 1,
  fan: 1 / 15,
  power: 10,
  current: 100,
  voltage: 1000,
}

const rounded = ({ kind }: SensorKind, value: number): number => Math.round(value * steps[kind]) / steps[kind]
