// What the sensors of a BMC measure: metric, unit and what such a sensor can mean.
import { isPlausible } from '../hwmon.ts'
import type { SensorKind } from '../hwmon.ts'
import type { SensorMetric } from './metrics.ts'

export interface Kind {
  readonly metric: SensorMetric
  readonly limit?: SensorMetric
  /** From their unit to ours. */
  readonly factor: number
  readonly plausible: (value: number) => boolean
  /** OTel's `hw.type`; undefined where the physical context decides. */
  readonly type?: string
}

const as = (kind: SensorKind) => (value: number) => isPlausible(kind, value)
const within = (least: number, most: number) => (value: number) => value >= least && value <= most
const energy = (factor: number): Kind => ({ metric: 'hw.energy', factor, plausible: as('energy') })

export const kinds = {
  temperature: {
    metric: 'hw.temperature',
    limit: 'hw.temperature.limit',
    factor: 1,
    plausible: as('temperature'),
    type: 'temperature',
  },
  voltage: {
    metric: 'hw.voltage',
    limit: 'hw.voltage.limit',
    factor: 1,
    plausible: as('voltage'),
    type: 'voltage',
  },
  current: { metric: 'dpu.current', limit: 'dpu.current.limit', factor: 1, plausible: as('current') },
  power: { metric: 'hw.power', limit: 'dpu.power.limit', factor: 1, plausible: as('power') },
  fan: { metric: 'hw.fan.speed', limit: 'hw.fan.speed.limit', factor: 1, plausible: as('fan'), type: 'fan' },
  fanRatio: { metric: 'hw.fan.speed_ratio', factor: 0.01, plausible: within(0, 2), type: 'fan' },
  ratio: { metric: 'dpu.sensor.ratio', factor: 0.01, plausible: within(-10, 100) },
  joules: energy(1),
  wattHours: energy(3600),
  kilowattHours: energy(3_600_000),
  frequency: { metric: 'dpu.frequency', factor: 1, plausible: within(0, 1e12) },
  humidity: { metric: 'dpu.humidity', factor: 0.01, plausible: within(0, 1) },
  pressure: { metric: 'dpu.pressure', factor: 1, plausible: within(0, 1e9) },
  kilopascal: { metric: 'dpu.pressure', factor: 1000, plausible: within(0, 1e9) },
} as const satisfies Record<string, Kind>
export type KindName = keyof typeof kinds

/** In our unit; undefined where such a sensor cannot mean it: that is a placeholder. */
export function measured(name: KindName, told: number): number | undefined {
  const { factor, plausible } = kinds[name]
  // 45 % is 0.45, not 0.45000000000000001.
  const value = factor === 0.01 ? told / 100 : told * factor
  return plausible(value) ? value + 0 : undefined // −0 is 0
}
