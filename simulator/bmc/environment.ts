// How warm a chassis is and what it draws: ThermalSubsystem, PowerSubsystem and EnvironmentMetrics, and the Thermal and Power of
// older services. All of them are copies of sensors.
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import type { SensorKind } from '../model.ts'
import type { Bmc } from './bmc.ts'
import type { Flavour } from './flavours.ts'
import { collection } from './query.ts'
import { base, link } from './router.ts'
import type { Call, Routes } from './router.ts'
import { sensorName, sensorPath, sensorReading } from './sensors.ts'

const sensorsOf = ({ device }: Bmc, kind: SensorKind['kind']): readonly SensorKind[] =>
  device.kind.sensors.filter((one) => one.kind === kind)

/** Nvidia's tells numbers as texts there, and `nan` for none. */
const excerpted = (bmc: Bmc, sensor: SensorKind): Json => {
  const { value } = sensorReading(bmc, sensor)
  return {
    ...(bmc.flavour.isNvidia ? { '@odata.id': sensorPath(bmc.flavour, sensor) } : {}),
    DataSourceUri: sensorPath(bmc.flavour, sensor),
    DeviceName: sensor.id,
    Reading: bmc.flavour.isNvidia ? (value?.toFixed(6) ?? 'nan') : value,
  }
}

/** @param hasSensors Whether it is the card; its parts have the same resources, with nothing in them. */
export function environmentRoutes({ hasLegacy }: Flavour, chassis: string, hasSensors: boolean): Routes {
  const at = `Chassis/${chassis}`
  const own = (bmc: Bmc, kind: SensorKind['kind']) => (hasSensors ? sensorsOf(bmc, kind) : [])
  return {
    [`${at}/ThermalSubsystem`]: {
      get: () => ({
        '@odata.id': `${base}/${at}/ThermalSubsystem`,
        '@odata.type': '#ThermalSubsystem.v1_0_0.ThermalSubsystem',
        Id: 'ThermalSubsystem',
        Name: 'Thermal Subsystem',
        Status: { Health: 'OK', State: 'Enabled' },
        ThermalMetrics: link(`${at}/ThermalSubsystem/ThermalMetrics`),
        Fans: link(`${at}/ThermalSubsystem/Fans`),
      }),
    },
    [`${at}/ThermalSubsystem/ThermalMetrics`]: {
      get: ({ bmc }) => ({
        '@odata.id': `${base}/${at}/ThermalSubsystem/ThermalMetrics`,
        '@odata.type': '#ThermalMetrics.v1_0_0.ThermalMetrics',
        Id: 'ThermalMetrics',
        Name: 'Chassis Thermal Metrics',
        TemperatureReadingsCelsius: own(bmc, 'temperature').map((one) => excerpted(bmc, one)),
      }),
    },
    [`${at}/ThermalSubsystem/Fans`]: {
      get: (call) =>
        collection(call, {
          type: 'Fan',
          name: 'Fan Collection',
          members: hasSensors ? call.bmc.device.state.fans.map((_, index) => index) : [],
          show: (index) => link(`${at}/ThermalSubsystem/Fans/fan${index}`),
        }),
    },
    [`${at}/ThermalSubsystem/Fans/{}`]: {
      get: ({ bmc, ids: [id = ''], path }) => (hasSensors ? fanBody(bmc, path, id) : undefined),
    },
    [`${at}/PowerSubsystem`]: {
      get: () => ({
        '@odata.id': `${base}/${at}/PowerSubsystem`,
        '@odata.type': '#PowerSubsystem.v1_1_0.PowerSubsystem',
        Id: 'PowerSubsystem',
        Name: 'Power Subsystem',
        Status: { Health: 'OK', State: 'Enabled' },
        PowerSupplies: link(`${at}/PowerSubsystem/PowerSupplies`),
      }),
    },
    [`${at}/PowerSubsystem/PowerSupplies`]: {
      // A card is fed by its host.
      get: (call) =>
        collection(call, {
          type: 'PowerSupply',
          name: 'Power Supply Collection',
          members: [],
          show: () => ({}),
        }),
    },
    [`${at}/EnvironmentMetrics`]: {
      get: ({ bmc }) => ({
        '@odata.id': `${base}/${at}/EnvironmentMetrics`,
        '@odata.type': '#EnvironmentMetrics.v1_3_0.EnvironmentMetrics',
        Id: 'EnvironmentMetrics',
        Name: 'Chassis Environment Metrics',
        ...(hasSensors ? metricsOf(bmc) : {}),
      }),
    },
    ...(hasLegacy
      ? {
          [`${at}/Thermal`]: {
            get: ({ bmc }: Call) => thermal(bmc, at, own(bmc, 'temperature'), own(bmc, 'fan')),
          },
          [`${at}/Power`]: { get: ({ bmc }: Call) => power(bmc, at, own(bmc, 'voltage')) },
        }
      : {}),
  }
}

function metricsOf(bmc: Bmc): Json {
  const excerpt = (sensor: SensorKind | undefined): Json | undefined =>
    sensor && { DataSourceUri: sensorPath(bmc.flavour, sensor), Reading: sensorReading(bmc, sensor).value }
  const watts = excerpt(sensorsOf(bmc, 'power').find(({ of }) => of === 'input'))
  const inlet = excerpt(sensorsOf(bmc, 'temperature').find(({ of }) => of === 'inlet'))
  return { ...(watts ? { PowerWatts: watts } : {}), ...(inlet ? { TemperatureCelsius: inlet } : {}) }
}

function fanBody(bmc: Bmc, path: string, id: string): Json | undefined {
  const { state } = bmc.device
  const index = /^fan\d{1,3}$/.test(id) ? Number(id.slice(3)) : -1
  const fan = state.fans[index]
  if (!fan) return undefined
  const sensor = sensorsOf(bmc, 'fan').find((one) => (one.index ?? 0) === index)
  const told = sensor && sensorReading(bmc, sensor)
  const isOff = state.power === 'off'
  const rpm = told ? told.value : isOff ? null : Math.round(fan.rpm)
  return {
    '@odata.id': path,
    '@odata.type': '#Fan.v1_4_0.Fan',
    Id: id,
    Name: id,
    PhysicalContext: 'Fan',
    SpeedPercent: {
      ...(sensor ? { DataSourceUri: sensorPath(bmc.flavour, sensor) } : {}),
      Reading: rpm === null ? null : Math.round(100 * state.fanDuty * Math.min(1, fan.health)),
      SpeedRPM: rpm,
    },
    Status: {
      Health: told?.health ?? 'OK',
      State: told?.state ?? (isOff ? 'UnavailableOffline' : 'Enabled'),
    },
  }
}

function thermal(
  bmc: Bmc,
  at: string,
  temperatures: readonly SensorKind[],
  fans: readonly SensorKind[],
): Json {
  const path = `${base}/${at}/Thermal`
  return {
    '@odata.id': path,
    '@odata.type': '#Thermal.v1_7_1.Thermal',
    Id: 'Thermal',
    Name: 'Thermal',
    Temperatures: temperatures.map((sensor, index) => ({
      ...entry(bmc, `${path}#/Temperatures/${index}`, sensor),
      ReadingCelsius: sensorReading(bmc, sensor).value,
    })),
    Fans: fans.map((sensor, index) => ({
      ...entry(bmc, `${path}#/Fans/${index}`, sensor),
      Reading: sensorReading(bmc, sensor).value,
      ReadingUnits: 'RPM',
    })),
    Redundancy: [],
  }
}

function power(bmc: Bmc, at: string, voltages: readonly SensorKind[]): Json {
  const path = `${base}/${at}/Power`
  const input = voltages.length > 0 ? sensorsOf(bmc, 'power').find(({ of }) => of === 'input') : undefined
  return {
    '@odata.id': path,
    '@odata.type': '#Power.v1_5_2.Power',
    Id: 'Power',
    Name: 'Power',
    PowerControl: [
      {
        '@odata.id': `${path}#/PowerControl/0`,
        MemberId: '0',
        Name: 'Chassis Power Control',
        PowerConsumedWatts: input ? sensorReading(bmc, input).value : null,
        PowerLimit: { LimitException: 'NoAction', LimitInWatts: null },
      },
    ],
    Voltages: voltages.map((sensor, index) => ({
      ...entry(bmc, `${path}#/Voltages/${index}`, sensor),
      ReadingVolts: sensorReading(bmc, sensor).value,
    })),
    Redundancy: [],
  }
}

function entry(bmc: Bmc, id: string, sensor: SensorKind): Json {
  const { state, health } = sensorReading(bmc, sensor)
  const limit = (name: string, value: number | undefined) => (value === undefined ? {} : { [name]: value })
  return {
    '@odata.id': id,
    MemberId: sensor.id,
    Name: sensorName(sensor),
    Status: { Health: health, State: state },
    ...limit('LowerThresholdCritical', sensor.lowCritical),
    ...limit('LowerThresholdNonCritical', sensor.lowWarning),
    ...limit('UpperThresholdNonCritical', sensor.warning),
    ...limit('UpperThresholdCritical', sensor.critical),
  }
}
