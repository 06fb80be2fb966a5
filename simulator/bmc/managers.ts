// The BMC itself as a resource: its version, its reset, its network.
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import { macOf } from './chassis.ts'
import { bmcPartOf, bmcVersionOf } from './flavours.ts'
import type { Flavour } from './flavours.ts'
import { collection } from './query.ts'
import { actionInfo, typeFrom } from './resets.ts'
import { base, link, noContent } from './router.ts'
import type { Call, Routes } from './router.ts'
import { take } from './taking.ts'

const resetTypes = ['GracefulRestart', 'ForceRestart'] as const

export function managerRoutes(flavour: Flavour): Routes {
  const at = `Managers/${flavour.manager}`
  return {
    Managers: {
      get: (call) =>
        collection(call, {
          type: 'Manager',
          name: 'Manager Collection',
          members: [flavour.manager],
          show: (id) => link(`Managers/${id}`),
        }),
    },
    [at]: { get: managerBody },
    ...actionInfo(at, resetTypes),
    [`${at}/Actions/Manager.Reset`]: {
      post: (call) => {
        typeFrom(call, 'Manager.Reset', resetTypes)
        // The answer goes out first.
        setImmediate(() => call.bmc.restart())
        return noContent
      },
      privilege: 'ConfigureManager',
    },
    [`${at}/NetworkProtocol`]: { get: networkProtocol },
    [`${at}/EthernetInterfaces`]: {
      get: (call) =>
        collection(call, {
          type: 'EthernetInterface',
          name: 'Ethernet Network Interface Collection',
          members: ['eth0'],
          show: (id) => link(`${at}/EthernetInterfaces/${id}`),
        }),
    },
    [`${at}/EthernetInterfaces/eth0`]: { get: interfaceBody },
    ...(flavour.isNvidia
      ? {
          [`${at}/Oem/Nvidia`]: {
            get: ({ bmc }: Call) => ({ BmcRShim: { BmcRShimEnabled: bmc.settings.isRshim } }),
            patch: changeRshim,
          },
        }
      : {}),
  }
}

function managerBody({ bmc, flavour }: Call): Json {
  const at = `Managers/${flavour.manager}`
  const { device } = bmc
  const part = bmcPartOf(device)
  return {
    '@odata.id': `${base}/${at}`,
    '@odata.type': '#Manager.v1_19_0.Manager',
    Id: flavour.manager,
    Name: 'OpenBmc Manager',
    Description: 'Baseboard Management Controller',
    ManagerType: 'BMC',
    Model: 'OpenBmc',
    FirmwareVersion: bmcVersionOf(device),
    UUID: device.uuid,
    ServiceEntryPointUUID: device.uuid,
    PowerState: 'On',
    DateTime: bmc.timeAt(bmc.nowMs),
    DateTimeLocalOffset: '+00:00',
    LastResetTime: bmc.timeAt(bmc.startedMs),
    Status: { Health: 'OK', HealthRollup: 'OK', State: 'Enabled' },
    CommandShell: { ConnectTypesSupported: ['SSH'], MaxConcurrentSessions: 1, ServiceEnabled: true },
    EthernetInterfaces: link(`${at}/EthernetInterfaces`),
    LogServices: link(`${at}/LogServices`),
    NetworkProtocol: link(`${at}/NetworkProtocol`),
    Links: {
      ...(part === undefined ? {} : { ActiveSoftwareImage: link(`UpdateService/FirmwareInventory/${part}`) }),
      ManagerForChassis: [link(`Chassis/${flavour.card}`)],
      ManagerForServers: [link(`Systems/${flavour.system}`)],
      ManagerInChassis: link(`Chassis/${flavour.parts[0]?.id ?? flavour.card}`),
    },
    ...(flavour.isNvidia ? { Oem: { Nvidia: link(`${at}/Oem/Nvidia`) } } : {}),
    Actions: {
      '#Manager.Reset': {
        '@Redfish.ActionInfo': `${base}/${at}/ResetActionInfo`,
        'ResetType@Redfish.AllowableValues': resetTypes,
        target: `${base}/${at}/Actions/Manager.Reset`,
      },
    },
  }
}

const hostName = 'dpu-bmc'

function networkProtocol({ path, request }: Call): Json {
  const isTls = 'encrypted' in request.socket
  const port = request.socket.localPort ?? 0
  return {
    '@odata.id': path,
    '@odata.type': '#ManagerNetworkProtocol.v1_9_1.ManagerNetworkProtocol',
    Id: 'NetworkProtocol',
    Name: 'Manager Network Protocol',
    Description: 'Manager Network Service',
    HostName: hostName,
    FQDN: hostName,
    HTTP: { Port: isTls ? 80 : port, ProtocolEnabled: !isTls },
    HTTPS: { Port: isTls ? port : 443, ProtocolEnabled: isTls },
    Status: { Health: 'OK', HealthRollup: 'OK', State: 'Enabled' },
  }
}

function interfaceBody({ bmc, path }: Call): Json {
  return {
    '@odata.id': path,
    '@odata.type': '#EthernetInterface.v1_12_0.EthernetInterface',
    Id: 'eth0',
    Name: 'Manager Ethernet Interface',
    Description: 'Management Network Interface',
    HostName: hostName,
    FQDN: hostName,
    InterfaceEnabled: true,
    LinkStatus: 'LinkUp',
    MACAddress: macOf(bmc, 'bmc'),
    MTUSize: 1500,
    SpeedMbps: 1000,
    Status: { Health: 'OK', HealthRollup: 'OK', State: 'Enabled' },
  }
}

function changeRshim({ bmc, body }: Call) {
  const { BmcRShim: rshim = {} } = take(body, { BmcRShim: 'object' })
  const { BmcRShimEnabled: isEnabled } = take(rshim, { BmcRShimEnabled: 'boolean' })
  if (isEnabled !== undefined) bmc.settings.isRshim = isEnabled
  return noContent
}
