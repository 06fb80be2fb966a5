// The entry of the service and what describes it: versions, ServiceRoot, OData, registries.
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import type { Bmc } from './bmc.ts'
import { makerOf } from './flavours.ts'
import { baseRegistry, registryBody } from './messages.ts'
import { collection, mostLevels } from './query.ts'
import { base, link } from './router.ts'
import type { Call, Routes } from './router.ts'

/** Registries whose messages are used; all but the first are where DMTF and OpenBMC publish them. */
const registries: Readonly<Record<string, string>> = {
  Base: `${base}/Registries/Base/${baseRegistry}.json`,
  ResourceEvent: 'https://redfish.dmtf.org/registries/ResourceEvent.1.3.0.json',
  TaskEvent: 'https://redfish.dmtf.org/registries/TaskEvent.1.0.3.json',
  Update: 'https://redfish.dmtf.org/registries/Update.1.0.1.json',
}

/** Schemas that `$metadata` refers to. */
const schemas = [
  'AccountService',
  'Chassis',
  'ComputerSystem',
  'Drive',
  'EnvironmentMetrics',
  'EventDestination',
  'EventService',
  'Fan',
  'LogEntry',
  'LogService',
  'Manager',
  'ManagerAccount',
  'Memory',
  'MessageRegistryFile',
  'NetworkAdapter',
  'Port',
  'Power',
  'Processor',
  'Sensor',
  'ServiceRoot',
  'Session',
  'SessionService',
  'SoftwareInventory',
  'Storage',
  'Task',
  'TaskService',
  'Thermal',
  'ThermalSubsystem',
  'UpdateService',
]

const services = [
  'AccountService',
  'Chassis',
  'EventService',
  'Managers',
  'SessionService',
  'Systems',
  'UpdateService',
]

export const rootRoutes: Routes = {
  '': { get: serviceRoot, isOpen: true },
  odata: {
    isOpen: true,
    get: () => ({
      '@odata.context': `${base}/$metadata`,
      value: [
        { kind: 'Singleton', name: 'Service', url: `${base}/` },
        ...services.map((name) => ({ kind: 'Singleton', name, url: `${base}/${name}` })),
      ],
    }),
  },
  $metadata: { isOpen: true, text: () => ({ type: 'application/xml', body: metadata }) },
  Registries: {
    get: (call) =>
      collection(call, {
        type: 'MessageRegistryFile',
        name: 'Message Registry File Collection',
        members: Object.keys(registries),
        show: (name) => link(`Registries/${name}`),
      }),
  },
  'Registries/{}': { get: registryFile },
  [`Registries/Base/${baseRegistry}.json`]: { get: registryBody },
}

/** `/redfish`, below which the versions are. */
export const versions: Json = { v1: `${base}/` }

function serviceRoot({ bmc, flavour }: Call): Json {
  return {
    '@odata.id': `${base}/`,
    '@odata.type': '#ServiceRoot.v1_15_0.ServiceRoot',
    Id: 'RootService',
    Name: 'Root Service',
    RedfishVersion: flavour.redfishVersion,
    UUID: bmc.device.uuid,
    Vendor: makerOf(bmc.device),
    Product: productOf(bmc),
    ProtocolFeaturesSupported: {
      DeepOperations: { DeepPATCH: false, DeepPOST: false },
      ExcerptQuery: false,
      ExpandQuery: { ExpandAll: true, Levels: true, Links: true, MaxLevels: mostLevels, NoLinks: true },
      FilterQuery: false,
      OnlyMemberQuery: true,
      SelectQuery: true,
      TopSkipQuery: true,
    },
    ...Object.fromEntries([...services, 'Registries'].map((name) => [name, link(name)])),
    Tasks: link('TaskService'),
    Links: {
      ManagerProvidingService: link(`Managers/${flavour.manager}`),
      Sessions: link('SessionService/Sessions'),
    },
  }
}

function productOf({ device: { kind }, flavour }: Bmc): string {
  if (!flavour.isNvidia) return kind.model
  return flavour.hasInventory ? `BlueField-${/\d/.exec(kind.model)?.[0] ?? '3'} DPU` : 'Nvidia-BMCMezz'
}

function registryFile({ ids: [name = ''], path }: Call): Json | undefined {
  const uri = Object.hasOwn(registries, name) ? registries[name] : undefined
  if (uri === undefined) return undefined
  const isOurs = uri.startsWith('/')
  return {
    '@odata.id': path,
    '@odata.type': '#MessageRegistryFile.v1_1_0.MessageRegistryFile',
    Id: name,
    Name: `${name} Message Registry File`,
    Languages: ['en'],
    Registry: isOurs
      ? baseRegistry.split('.').slice(0, 3).join('.')
      : `${name}.${/\.(\d+\.\d+)\./.exec(uri)?.[1] ?? '1.0'}`,
    Location: [{ Language: 'en', ...(isOurs ? { Uri: uri } : { PublicationUri: uri }) }],
  }
}

const metadata = `<?xml version="1.0" encoding="UTF-8"?>
<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0">
${schemas
  .map(
    (name) => `  <edmx:Reference Uri="http://redfish.dmtf.org/schemas/v1/${name}_v1.xml">
    <edmx:Include Namespace="${name}"/>
  </edmx:Reference>
`,
  )
  .join('')}  <edmx:DataServices>
    <Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="Service">
      <EntityContainer Name="Service" Extends="ServiceRoot.v1_15_0.ServiceContainer"/>
    </Schema>
  </edmx:DataServices>
</edmx:Edmx>
`
