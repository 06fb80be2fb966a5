// Readings of `hwmon` on a virtual device: its sensors with their limits and alarms.
import type { Attributes } from '../../plugins/contract/index.ts'
import type { SensorKind } from '../model.ts'
import { readSensor } from '../physics/index.ts'
import { ofKind } from './simulated.ts'
import type { Simulated } from './simulated.ts'

const metrics: Readonly<Record<SensorKind['kind'], { value: string; limit: string; type: string }>> = {
  temperature: { value: 'hw.temperature', limit: 'hw.temperature.limit', type: 'temperature' },
  fan: { value: 'hw.fan.speed', limit: 'hw.fan.speed.limit', type: 'fan' },
  voltage: { value: 'hw.voltage', limit: 'hw.voltage.limit', type: 'voltage' },
  power: { value: 'hw.power', limit: 'dpu.power.limit', type: 'enclosure' },
  current: { value: 'dpu.current', limit: 'dpu.current.limit', type: 'enclosure' },
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

/** Limits of a sensor, and the state beyond each. */
const sides = [
  { type: 'low.critical', of: (one: SensorKind) => one.lowCritical, state: 'failed', isLow: true },
  { type: 'low.degraded', of: (one: SensorKind) => one.lowWarning, state: 'degraded', isLow: true },
  { type: 'high.degraded', of: (one: SensorKind) => one.warning, state: 'degraded', isLow: false },
  { type: 'high.critical', of: (one: SensorKind) => one.critical, state: 'failed', isLow: false },
] as const

interface Limit {
  readonly value: number
  readonly isLow: boolean
  readonly state: (typeof states)[number]
  readonly attributes: Attributes
}

interface Sensor {
  readonly kind: SensorKind
  readonly about: Attributes
  readonly limits: readonly Limit[]
  readonly states: readonly Attributes[]
}

/** Regulators have no registers for them. */
const hasLimits = ({ kind }: SensorKind): boolean => kind !== 'voltage'

const sensorsOf = ofKind((kind): readonly Sensor[] => {
  const sorted = kind.sensors.toSorted((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind))
  return sorted.map((sensor) => {
    const about = {
      'hw.id': sensor.id,
      'hw.name': sensor.id,
      'hw.type': metrics[sensor.kind].type,
      'hw.sensor_location': sensor.of,
    }
    const limits = (hasLimits(sensor) ? sides : []).flatMap(({ type, of, state, isLow }): Limit[] => {
      const value = of(sensor)
      return value === undefined
        ? []
        : [{ value, isLow, state, attributes: { ...about, 'hw.limit_type': type } }]
    })
    return { kind: sensor, about, limits, states: states.map((state) => ({ ...about, 'hw.state': state })) }
  })
})

function stateOf(limits: readonly Limit[], value: number): (typeof states)[number] {
  const beyond = limits.filter(({ isLow, value: limit }) => (isLow ? value <= limit : value >= limit))
  return beyond.some(({ state }) => state === 'failed') ? 'failed' : beyond.length > 0 ? 'degraded' : 'ok'
}

export const hwmon: Simulated = {
  name: 'hwmon',
  service: 'dpulse',
  open(device) {
    const sensors = sensorsOf(device.kind)
    const meter = sensors.find(({ kind }) => kind.kind === 'power')
    return {
      points(readings) {
        const read = sensors.flatMap((sensor) => {
          const value = readSensor(device, sensor.kind)
          const [least, most] = plausible[sensor.kind.kind]
          return value === undefined || value < least || value > most ? [] : [{ ...sensor, value }]
        })
        for (const { kind, about, value } of read) readings.add(metrics[kind.kind].value, value, about)
        for (const { kind, limits } of read) {
          for (const { value, attributes } of limits)
            readings.add(metrics[kind.kind].limit, value, attributes)
        }
        if (meter) readings.add('hw.energy', Math.round(device.state.joules), meter.about)
        for (const { limits, value, states: each } of read) {
          if (limits.length === 0) continue
          const now = stateOf(limits, value)
          for (const [index, attributes] of each.entries()) {
            readings.add('hw.status', states[index] === now ? 1n : 0n, attributes)
          }
        }
      },
    }
  },
}
