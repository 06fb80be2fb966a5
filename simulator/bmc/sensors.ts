// Sensors as resources: what the device's state says of each, with limits and health; what disturbs a sensor or the whole BMC
// shows here and nowhere else.
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import type { SensorKind } from '../model.ts'
import { readSensor } from '../physics/index.ts'
import type { Bmc } from './bmc.ts'
import { collection } from './query.ts'
import { base, link } from './router.ts'
import { wrongReading } from './wrong.ts'
import type { Routes } from './router.ts'
import type { Flavour } from './flavours.ts'

export type Health = 'OK' | 'Warning' | 'Critical'

export interface SensorReading {
  /** Null where nothing is measured. */
  readonly value: number | null
  readonly state: 'Enabled' | 'Absent' | 'UnavailableOffline'
  readonly health: Health
}

export const sensorKinds = {
  temperature: { type: 'Temperature', unit: 'Cel', min: -128, max: 255 },
  voltage: { type: 'Voltage', unit: 'V', min: 0, max: 60 },
  power: { type: 'Power', unit: 'W', min: 0, max: 1000 },
  current: { type: 'Current', unit: 'A', min: 0, max: 100 },
  fan: { type: 'Rotational', unit: 'RPM', min: 0, max: 30_000 },
} as const

/** Where it sits, in the words of DSP0268. */
const contexts: Readonly<Record<SensorKind['of'], string>> = {
  asic: 'ASIC',
  cpu: 'CPU',
  board: 'SystemBoard',
  inlet: 'Intake',
  memory: 'Memory',
  drive: 'StorageDevice',
  optics: 'Transceiver',
  input: 'PowerSupply',
  rail: 'VoltageRegulator',
  fan: 'Fan',
}

/** As the BMC tells it now. */
export function sensorReading({ device, flavour }: Bmc, sensor: SensorKind): SensorReading {
  const told = device.state.bmc.wrong ? wrongReading(device, sensor) : readSensor(device, sensor)
  if (told === undefined || told === null) {
    // Nvidia's say null and nothing more, of an empty cage too.
    const state = flavour.isNvidia
      ? 'Enabled'
      : device.state.power === 'off'
        ? 'UnavailableOffline'
        : 'Absent'
    return { value: null, state, health: 'OK' }
  }
  return { value: told, state: 'Enabled', health: healthOf(told, sensor) }
}

function healthOf(value: number, { lowCritical, lowWarning, warning, critical }: SensorKind): Health {
  if (value <= (lowCritical ?? -Infinity) || value >= (critical ?? Infinity)) return 'Critical'
  return value <= (lowWarning ?? -Infinity) || value >= (warning ?? Infinity) ? 'Warning' : 'OK'
}

const graveness: readonly Health[] = ['OK', 'Warning', 'Critical']
export const worstOf = (...all: readonly Health[]): Health =>
  graveness.findLast((one) => all.includes(one)) ?? 'OK'

/** Of all sensors of the card. */
export const healthOfSensors = (bmc: Bmc): Health =>
  worstOf(...bmc.device.kind.sensors.map((one) => sensorReading(bmc, one).health))

export const sensorPath = ({ card }: Flavour, { id }: Pick<SensorKind, 'id'>): string =>
  `${base}/Chassis/${card}/Sensors/${encodeURIComponent(id)}`

/** As people read it: `p0_temp` → `p0 temp`. */
export const sensorName = ({ id }: SensorKind): string => id.replaceAll('_', ' ')

function sensorBody(bmc: Bmc, sensor: SensorKind): Json {
  const { type, unit, min, max } = sensorKinds[sensor.kind]
  const { value, state, health } = sensorReading(bmc, sensor)
  const threshold = (name: string, reading: number | undefined) =>
    reading === undefined ? {} : { [name]: { Reading: reading } }
  return {
    '@odata.id': sensorPath(bmc.flavour, sensor),
    '@odata.type': '#Sensor.v1_7_0.Sensor',
    Id: sensor.id,
    Name: sensorName(sensor),
    Reading: value,
    ReadingRangeMax: max,
    ReadingRangeMin: min,
    ReadingType: type,
    ReadingUnits: unit === 'RPM' ? '{rev}/min' : unit,
    PhysicalContext: contexts[sensor.of],
    RelatedItem: [link(`Systems/${bmc.flavour.system}`)],
    Status: { Health: health, State: state },
    Thresholds: {
      ...threshold('LowerCaution', sensor.lowWarning),
      ...threshold('LowerCritical', sensor.lowCritical),
      ...threshold('UpperCaution', sensor.warning),
      ...threshold('UpperCritical', sensor.critical),
    },
  }
}

export const sensorRoutes = ({ card }: Flavour): Routes => ({
  [`Chassis/${card}/Sensors`]: {
    get: (call) =>
      collection(call, {
        type: 'Sensor',
        name: 'Sensors',
        members: call.bmc.device.kind.sensors,
        show: ({ id }) => link(`Chassis/${card}/Sensors/${encodeURIComponent(id)}`),
      }),
  },
  [`Chassis/${card}/Sensors/{}`]: {
    get: ({ bmc, ids: [id] }) => {
      const sensor = bmc.device.kind.sensors.find((one) => one.id === id)
      return sensor && sensorBody(bmc, sensor)
    },
  },
})
