// Readings of `hwmon` on a virtual device: its sensors with their limits and alarms.
import type { Attributes } from '../../plugins/contract/index.ts'
import type { Device, SensorKind } from '../model.ts'
import { readSensor } from '../sensors.ts'
import type { Simulated } from './simulated.ts'

const metrics: Readonly<Record<SensorKind['kind'], { value: string; limit: string; type: string }>> = {
  temperature: { value: 'hw.temperature', limit: 'hw.temperature.limit', type: 'temperature' },
  fan: { value: 'hw.fan.speed', limit: 'hw.fan.speed.limit', type: 'fan' },
  voltage: { value: 'hw.voltage', limit: 'hw.voltage.limit', type: 'voltage' },
  power: { value: 'hw.power', limit: 'dpu.power.limit', type: 'power_supply' },
  current: { value: 'dpu.current', limit: 'dpu.current.limit', type: 'power_supply' },
}
/** Beyond it a driver takes what a chip says for the code of «none». */
const plausible: Readonly<Record<SensorKind['kind'], readonly [number, number]>> = {
  temperature: [-60, 200],
  fan: [0, 65_534],
  voltage: [-1000, 1000],
  power: [0, 20_000],
  current: [-2000, 2000],
}

const order: readonly SensorKind['kind'][] = ['temperature', 'fan', 'voltage', 'power', 'current']
const states = ['ok', 'degraded', 'failed'] as const

interface Sensor {
  readonly kind: SensorKind
  readonly about: Attributes
  readonly warning: Attributes
  readonly critical: Attributes
  readonly states: readonly Attributes[]
}

function sensorsOf({ kind }: Device): Sensor[] {
  const sorted = kind.sensors.toSorted((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind))
  return sorted.map((sensor) => {
    const about = {
      'hw.id': sensor.id,
      'hw.name': sensor.id.split('/').at(-1) ?? sensor.id,
      'hw.type': metrics[sensor.kind].type,
      'hw.sensor_location': sensor.of,
    }
    const limit = (type: string) => ({ ...about, 'hw.limit_type': type })
    // Of a fan what is too little matters.
    const side = sensor.kind === 'fan' ? 'low' : 'high'
    return {
      kind: sensor,
      about,
      warning: limit(`${side}.degraded`),
      critical: limit(`${side}.critical`),
      states: states.map((state) => ({ ...about, 'hw.state': state })),
    }
  })
}

function stateOf({ kind, warning, critical }: SensorKind, value: number): (typeof states)[number] {
  const isBeyond = (limit: number | undefined) =>
    limit !== undefined && (kind === 'fan' ? value <= limit : value >= limit)
  return isBeyond(critical) ? 'failed' : isBeyond(warning) ? 'degraded' : 'ok'
}

export const hwmon: Simulated = {
  name: 'hwmon',
  service: 'dpulse',
  open(device) {
    const sensors = sensorsOf(device)
    return {
      points(readings) {
        const read = sensors.flatMap((sensor) => {
          const value = readSensor(device, sensor.kind)
          const [least, most] = plausible[sensor.kind.kind]
          return value === undefined || value < least || value > most ? [] : [{ sensor, value }]
        })
        for (const { sensor, value } of read) {
          readings.add(metrics[sensor.kind.kind].value, value, sensor.about)
        }
        for (const { sensor } of read) {
          const { warning, critical, kind } = sensor.kind
          if (warning !== undefined) readings.add(metrics[kind].limit, warning, sensor.warning)
          if (critical !== undefined) readings.add(metrics[kind].limit, critical, sensor.critical)
        }
        for (const { sensor, value } of read) {
          if (sensor.kind.warning === undefined && sensor.kind.critical === undefined) continue
          const state = stateOf(sensor.kind, value)
          for (const [index, attributes] of sensor.states.entries()) {
            readings.add('hw.status', states[index] === state ? 1n : 0n, attributes)
          }
        }
      },
    }
  },
}
