// Sensors that tell nothing, or what cannot be: the -128 of an empty cage, a stuck register, a value of another unit.
import type { FaultKind, SensorKind } from '../model.ts'
import { readSensor } from '../physics/sensors.ts'

const absurd: Readonly<Record<SensorKind['kind'], readonly number[]>> = {
  temperature: [-128, 255, 0, 1270, -273],
  voltage: [0, 65.535, -1],
  power: [0, 65_535, 4_294_967.295],
  current: [0, 655.35],
  fan: [0, 65_535, 480_000],
}

export const badSensors: FaultKind = {
  name: 'bad_sensors',
  summary: 'Some sensors tell nothing, or what cannot be.',
  seconds: 1800,
  perDay: 0.1,
  fits: ({ kind }) => kind.sensors.length > 0,
  begin(device, random) {
    const { kind } = device
    const sensors = kind.sensors.filter((sensor) => readSensor(device, sensor) !== undefined)
    const lies = new Map<string, number | 'absent'>()
    for (let count = 1 + random.below(3); count > 0 && sensors.length > 0; count--) {
      const { id, kind } = random.pick(sensors)
      lies.set(id, random.chance(0.4) ? 'absent' : random.pick(absurd[kind]))
    }
    return {
      where: [...lies.keys()].join(' '),
      step({ state }) {
        for (const [id, lie] of lies) state.sensorLies.set(id, lie)
      },
      end({ state }) {
        for (const id of lies.keys()) state.sensorLies.delete(id)
      },
    }
  },
}
