// Chassis: the card with its sensors and ports, and the parts that it contains.
import { createHash } from 'node:crypto'
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import type { PortKind } from '../model.ts'
import type { Bmc } from './bmc.ts'
import { environmentRoutes } from './environment.ts'
import { makerOf } from './flavours.ts'
import type { Flavour } from './flavours.ts'
import { collection } from './query.ts'
import { base, link } from './router.ts'
import type { Call, Routes } from './router.ts'
import { healthOfSensors, sensorRoutes } from './sensors.ts'
import { resetRoutes } from './resets.ts'

export function chassisRoutes(flavour: Flavour): Routes {
  const { card, parts } = flavour
  const ids = [card, ...parts.map(({ id }) => id)]
  return {
    Chassis: {
      get: (call) =>
        collection(call, {
          type: 'Chassis',
          name: 'Chassis Collection',
          members: ids.toSorted(),
          show: (id) => link(`Chassis/${id}`),
        }),
    },
    [`Chassis/${card}`]: { get: (call) => cardBody(call) },
    ...sensorRoutes(flavour),
    ...environmentRoutes(flavour, card, true),
    ...networkRoutes(flavour),
    ...resetRoutes(`Chassis/${card}`, 'Chassis', flavour.resetTypes),
    [`Chassis/${card}/PCIeDevices`]: {
      get: (call) =>
        collection(call, {
          type: 'PCIeDevice',
          name: 'PCIe Device Collection',
          members: flavour.hasInventory ? ['card'] : [],
          show: (id) => link(`Chassis/${card}/PCIeDevices/${id}`),
        }),
    },
    ...(flavour.hasInventory ? { [`Chassis/${card}/PCIeDevices/card`]: { get: pcieBody } } : {}),
    ...Object.fromEntries(
      parts.map(({ id, model }) => [`Chassis/${id}`, { get: (call: Call) => partBody(call, id, model) }]),
    ),
    ...Object.assign({}, ...parts.map(({ id }) => environmentRoutes(flavour, id, false))),
  }
}

/** Padded as Nvidia's are; `NA` where the BMC is out of its mind. */
export function serialOf({ device, flavour }: Bmc): string {
  if (device.state.bmc.wrong) return 'NA'
  return flavour.isNvidia ? device.serial.padEnd(24) : device.serial
}

const environmentOf = (at: string, { hasLegacy }: Flavour): Json => ({
  EnvironmentMetrics: link(`${at}/EnvironmentMetrics`),
  PowerSubsystem: link(`${at}/PowerSubsystem`),
  ThermalSubsystem: link(`${at}/ThermalSubsystem`),
  ...(hasLegacy ? { Power: link(`${at}/Power`), Thermal: link(`${at}/Thermal`) } : {}),
})

function cardBody({ bmc, flavour }: Call): Json {
  const { device } = bmc
  const at = `Chassis/${flavour.card}`
  const health = healthOfSensors(bmc)
  return {
    '@odata.id': `${base}/${at}`,
    '@odata.type': '#Chassis.v1_21_0.Chassis',
    Id: flavour.card,
    Name: flavour.card,
    ChassisType: 'Card',
    Manufacturer: makerOf(device),
    Model: device.kind.model,
    PartNumber: device.kind.partNumber,
    SerialNumber: serialOf(bmc),
    UUID: device.uuid,
    PowerState: device.state.power === 'off' ? 'Off' : 'On',
    Status: { Health: health, HealthRollup: health, State: 'Enabled' },
    ...environmentOf(at, flavour),
    Sensors: link(`${at}/Sensors`),
    NetworkAdapters: link(`${at}/NetworkAdapters`),
    PCIeDevices: link(`${at}/PCIeDevices`),
    Links: {
      ComputerSystems: [link(`Systems/${flavour.system}`)],
      ManagedBy: [link(`Managers/${flavour.manager}`)],
      ...(flavour.parts.length > 0 ? { Contains: flavour.parts.map(({ id }) => link(`Chassis/${id}`)) } : {}),
    },
    Actions: {
      '#Chassis.Reset': {
        '@Redfish.ActionInfo': `${base}/${at}/ResetActionInfo`,
        target: `${base}/${at}/Actions/Chassis.Reset`,
      },
    },
  }
}

function partBody({ bmc, flavour }: Call, id: string, model: string): Json {
  return {
    '@odata.id': `${base}/Chassis/${id}`,
    '@odata.type': '#Chassis.v1_21_0.Chassis',
    Id: id,
    Name: id,
    ChassisType: 'Component',
    Manufacturer: makerOf(bmc.device),
    Model: model,
    SerialNumber: serialOf(bmc),
    PowerState: 'On',
    Status: { Health: 'OK', HealthRollup: 'OK', State: 'Enabled' },
    ...environmentOf(`Chassis/${id}`, flavour),
    Links: {
      ComputerSystems: [link(`Systems/${flavour.system}`)],
      ContainedBy: link(`Chassis/${flavour.card}`),
      ManagedBy: [link(`Managers/${flavour.manager}`)],
    },
    Location: { PartLocation: { LocationType: 'Embedded' } },
  }
}

function networkRoutes({ card, adapter }: Flavour): Routes {
  const at = `Chassis/${card}/NetworkAdapters/${adapter}`
  const portNames = ({ bmc }: Call) => bmc.device.kind.ports.map(({ name }) => name)
  const list = (call: Call, type: string, name: string, members: readonly string[], below: string) =>
    collection(call, { type, name, members, show: (id) => link(`${below}/${id}`) })
  return {
    [`Chassis/${card}/NetworkAdapters`]: {
      get: (call) =>
        list(
          call,
          'NetworkAdapter',
          'Network Adapter Collection',
          [adapter],
          `Chassis/${card}/NetworkAdapters`,
        ),
    },
    [at]: { get: ({ bmc }) => adapterBody(bmc, at) },
    [`${at}/Ports`]: {
      get: (call) => list(call, 'Port', 'Port Collection', portNames(call), `${at}/Ports`),
    },
    [`${at}/Ports/{}`]: { get: (call) => portBody(call) },
    [`${at}/Ports/{}/Metrics`]: { get: (call) => portMetrics(call) },
    [`${at}/NetworkDeviceFunctions`]: {
      get: (call) =>
        list(
          call,
          'NetworkDeviceFunction',
          'Network Device Function Collection',
          portNames(call).map((name) => `${name}f0`),
          `${at}/NetworkDeviceFunctions`,
        ),
    },
    [`${at}/NetworkDeviceFunctions/{}`]: { get: (call) => functionBody(call, at) },
  }
}

function adapterBody({ device, flavour }: Bmc, at: string): Json {
  return {
    '@odata.id': `${base}/${at}`,
    '@odata.type': '#NetworkAdapter.v1_9_0.NetworkAdapter',
    Id: flavour.adapter,
    Name: flavour.adapter,
    Manufacturer: makerOf(device),
    Model: device.kind.model,
    PartNumber: device.kind.partNumber,
    SerialNumber: device.serial,
    Status: { Health: 'OK', State: 'Enabled' },
    Ports: link(`${at}/Ports`),
    NetworkDeviceFunctions: link(`${at}/NetworkDeviceFunctions`),
  }
}

/** The port that a path names, and how it is. */
function portOf({ bmc: { device } }: Call, name: string | undefined) {
  const index = device.kind.ports.findIndex((one) => one.name === name)
  const [kind, state] = [device.kind.ports[index], device.state.ports[index]]
  return kind && state ? { kind, state } : undefined
}

function portBody(call: Call): Json | undefined {
  const { ids, path, bmc } = call
  const found = portOf(call, ids[0])
  if (!found) return undefined
  const { kind, state } = found
  const isUp = state.isUp && bmc.device.state.power !== 'off'
  return {
    '@odata.id': path,
    '@odata.type': '#Port.v1_9_0.Port',
    Id: kind.name,
    Name: 'Port',
    LinkNetworkTechnology: 'Ethernet',
    LinkStatus: isUp ? 'LinkUp' : 'LinkDown',
    CurrentSpeedGbps: isUp ? kind.bitsPerSecond / 1e9 : 0,
    MaxSpeedGbps: kind.bitsPerSecond / 1e9,
    Metrics: { '@odata.id': `${path}/Metrics` },
  }
}

function portMetrics(call: Call): Json | undefined {
  const { ids, path } = call
  const found = portOf(call, ids[0])
  if (!found) return undefined
  const { kind, state } = found
  const milliwatts = (dBm: number): number => Math.round(10 ** (dBm / 10) * 1e4) / 1e4
  return {
    '@odata.id': path,
    '@odata.type': '#PortMetrics.v1_3_0.PortMetrics',
    Id: 'Metrics',
    Name: 'Port Metrics',
    RXBytes: Math.floor(state.rxBytes),
    TXBytes: Math.floor(state.txBytes),
    RXErrors: Math.floor(state.rxErrors),
    Networking: { RXDiscards: Math.floor(state.rxDropped), RXPFCFrames: Math.floor(state.pausedFrames) },
    ...(kind.isOptical
      ? {
          Transceivers: [
            {
              RXInputPowerMilliWatts: milliwatts(state.rxPower),
              TXOutputPowerMilliWatts: milliwatts(state.txPower),
              TXBiasCurrentMilliAmps: Math.round(state.biasMilliamps * 100) / 100,
            },
          ],
        }
      : {}),
  }
}

function functionBody(call: Call, at: string): Json | undefined {
  const name = call.ids[0]?.replace(/f0$/, '')
  const found = call.ids[0]?.endsWith('f0') ? portOf(call, name) : undefined
  if (!found) return undefined
  const mac = macOf(call.bmc, found.kind.name)
  return {
    '@odata.id': call.path,
    '@odata.type': '#NetworkDeviceFunction.v1_9_0.NetworkDeviceFunction',
    Id: `${name}f0`,
    Name: 'NetworkDeviceFunction',
    Ethernet: { MACAddress: mac, MTUSize: 1500 },
    NetDevFuncCapabilities: ['Ethernet'],
    NetDevFuncType: 'Ethernet',
    Links: {
      OffloadSystem: link(`Systems/${call.flavour.system}`),
      PhysicalPortAssignment: link(`${at}/Ports/${found.kind.name}`),
    },
  }
}

/** Of the device and the port, locally administered. */
export function macOf({ device }: Bmc, port: PortKind['name']): string {
  const digest = createHash('sha1').update(`${device.serial} ${port}`).digest('hex')
  return `02:${digest.slice(0, 10).match(/../g)?.join(':')}`
}

function pcieBody({ bmc, path }: Call): Json {
  const { kind, serial } = bmc.device
  return {
    '@odata.id': path,
    '@odata.type': '#PCIeDevice.v1_11_0.PCIeDevice',
    Id: 'card',
    Name: kind.model,
    DeviceType: 'MultiFunction',
    Manufacturer: makerOf(bmc.device),
    Model: kind.model,
    PartNumber: kind.partNumber,
    SerialNumber: serial,
    Status: { Health: 'OK', State: 'Enabled' },
  }
}
