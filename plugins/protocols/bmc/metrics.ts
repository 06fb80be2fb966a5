// The metrics of BMCs, whichever protocol they speak: names and units of OTel's hw.*, `dpu.*` where those lack one.
import type { MetricDeclaration } from '../../contract/readings.ts'
import { gauge, level, own } from '../declared.ts'

export const states = (description: string): MetricDeclaration => level('1', description)

export const sensorMetrics = {
  'hw.temperature': gauge('Cel', 'Temperature.'),
  'hw.temperature.limit': gauge('Cel', 'Limits of a temperature.'),
  'hw.fan.speed': gauge('rpm', 'Speed of a fan.'),
  'hw.fan.speed.limit': gauge('rpm', 'Limits of the speed of a fan.'),
  'hw.fan.speed_ratio': gauge('1', 'Speed of a fan as a part of its greatest.'),
  'hw.voltage': gauge('V', 'Voltage.'),
  'hw.voltage.limit': gauge('V', 'Limits of a voltage.'),
  'hw.power': gauge('W', 'Power that a component takes.'),
  'dpu.power.limit': own('W', 'Limits of the power that a component takes.'),
  'hw.energy': { kind: 'counter', unit: 'J', description: 'Energy that a component took.' },
  'dpu.current': own('A', 'Electric current.'),
  'dpu.current.limit': own('A', 'Limits of an electric current.'),
  'dpu.frequency': own('Hz', 'Frequency, such as that of the mains.'),
  'dpu.humidity': own('1', 'Relative humidity.'),
  'dpu.pressure': own('Pa', 'Pressure.'),
  'dpu.sensor.ratio': own('1', 'What else a sensor tells in per cent.'),
  'hw.status': states('State of a component: 1 for the one that it is in.'),
  'dpu.power.state': { ...states('Power state: 1 for the one that it is in.'), class: 'environment' },
} as const satisfies Record<string, MetricDeclaration>
export type SensorMetric = keyof typeof sensorMetrics
