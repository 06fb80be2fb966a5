// The system that the BMC manages: power, boot, what it consists of.
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import { serialOf } from './chassis.ts'
import { makerOf } from './flavours.ts'
import type { Flavour } from './flavours.ts'
import { inventoryRoutes, healthOfMemory } from './inventory.ts'
import { Refusal } from './messages.ts'
import { bootStage } from './power.ts'
import type { BootOverride } from './power.ts'
import { collection } from './query.ts'
import { resetRoutes } from './resets.ts'
import { base, link, noContent } from './router.ts'
import type { Call, Reply, Routes } from './router.ts'
import { healthOfSensors, worstOf } from './sensors.ts'
import { take } from './taking.ts'

const targets = [
  'None',
  'Pxe',
  'Hdd',
  'Cd',
  'Diags',
  'BiosSetup',
  'Usb',
  'UefiHttp',
  'UefiShell',
  'UefiTarget',
] as const
const enabled = ['Once', 'Continuous', 'Disabled'] as const
const modes = ['Legacy', 'UEFI'] as const
const biosAttributes = { NicMode: 'DpuMode', Boot_Timeout: 3, OsArgument: '' }

export function systemRoutes(flavour: Flavour): Routes {
  const at = `Systems/${flavour.system}`
  return {
    Systems: {
      get: (call) =>
        collection(call, {
          type: 'ComputerSystem',
          name: 'Computer System Collection',
          members: [flavour.system],
          show: (id) => link(`Systems/${id}`),
        }),
    },
    [at]: { get: systemBody, patch: changeBoot },
    [`${at}/Settings`]: { get: settingsBody, patch: changeBoot },
    ...resetRoutes(at, 'ComputerSystem', flavour.resetTypes),
    [`${at}/Bios`]: {
      get: ({ path }) => ({
        '@odata.id': path,
        '@odata.type': '#Bios.v1_2_0.Bios',
        Id: 'Bios',
        Name: 'BIOS Configuration',
        Description: 'BIOS Configuration Service',
        Attributes: biosAttributes,
        ResetBiosToDefaultsPending: false,
      }),
    },
    [`${at}/SecureBoot`]: { get: secureBoot, patch: changeSecureBoot },
    [`${at}/BootOptions`]: {
      get: (call) =>
        collection(call, {
          type: 'BootOption',
          name: 'Boot Option Collection',
          members: [],
          show: () => ({}),
        }),
    },
    ...inventoryRoutes(flavour),
    ...(flavour.isNvidia ? nvidiaRoutes(at) : {}),
  }
}

function systemBody(call: Call): Json {
  const { bmc, flavour } = call
  const { device } = bmc
  const { state, kind } = device
  const at = `Systems/${flavour.system}`
  const health = worstOf(healthOfSensors(bmc), healthOfMemory(bmc))
  const { hasInventory } = flavour
  const stage = bootStage(bmc)
  const inventory = {
    Status: { Health: 'OK', HealthRollup: 'OK', State: hasInventory ? 'Enabled' : 'Disabled' },
  }
  return {
    '@odata.id': `${base}/${at}`,
    '@odata.type': '#ComputerSystem.v1_22_0.ComputerSystem',
    '@Redfish.Settings': {
      '@odata.type': '#Settings.v1_3_5.Settings',
      SettingsObject: link(`${at}/Settings`),
    },
    Id: flavour.system,
    Name: flavour.system,
    Description: 'Computer System',
    SystemType: flavour.isNvidia ? 'Physical' : 'DPU',
    Manufacturer: makerOf(device),
    Model: kind.model,
    PartNumber: kind.partNumber,
    SerialNumber: serialOf(bmc),
    UUID: flavour.isNvidia ? '' : device.uuid,
    PowerState: state.power === 'off' ? 'Off' : 'On',
    PowerRestorePolicy: 'AlwaysOn',
    LastResetTime: bmc.timeAt(state.bootedAtMs),
    Status: {
      Health: health,
      HealthRollup: health,
      State: state.power === 'off' ? 'StandbyOffline' : 'Enabled',
    },
    Boot: bootBody(bmc.boot, at),
    BootProgress: {
      LastState: stage.standard,
      LastStateTime: bmc.timeAt(stage.sinceMs),
      ...(flavour.isNvidia && hasInventory ? { OemLastState: stage.nvidia } : {}),
    },
    ProcessorSummary: { Count: hasInventory ? 1 : 0, CoreCount: hasInventory ? kind.cores : 0, ...inventory },
    MemorySummary: { TotalSystemMemoryGiB: hasInventory ? kind.memoryBytes / 1024 ** 3 : 0, ...inventory },
    ...Object.fromEntries(
      ['Bios', 'SecureBoot', 'LogServices', 'Processors', 'Memory', 'Storage'].map((name) => [
        name,
        link(`${at}/${name}`),
      ]),
    ),
    Links: {
      // Early and late, Nvidia's name the chassis of the BMC here, not that of the sensors.
      Chassis: [link(`Chassis/${flavour.parts[0]?.id ?? flavour.card}`)],
      ManagedBy: [link(`Managers/${flavour.manager}`)],
    },
    ...(flavour.isNvidia ? { Oem: { Nvidia: link(`${at}/Oem/Nvidia`) } } : {}),
    Actions: {
      '#ComputerSystem.Reset': {
        '@Redfish.ActionInfo': `${base}/${at}/ResetActionInfo`,
        target: `${base}/${at}/Actions/ComputerSystem.Reset`,
        ...(flavour.isNvidia ? {} : { 'ResetType@Redfish.AllowableValues': flavour.resetTypes }),
      },
    },
  }
}

const bootBody = (boot: BootOverride, at: string): Json => ({
  AutomaticRetryConfig: 'Disabled',
  BootOptions: link(`${at}/BootOptions`),
  BootOrder: [],
  ...overrideOf(boot),
  'BootSourceOverrideEnabled@Redfish.AllowableValues': enabled,
  'BootSourceOverrideMode@Redfish.AllowableValues': modes,
  'BootSourceOverrideTarget@Redfish.AllowableValues': targets,
  TrustedModuleRequiredToBoot: 'Disabled',
})

const overrideOf = ({ enabled: isEnabled, mode, target, uri }: BootOverride): Json => ({
  BootSourceOverrideEnabled: isEnabled,
  BootSourceOverrideMode: mode,
  BootSourceOverrideTarget: isEnabled === 'Disabled' ? 'None' : target,
  HttpBootUri: uri,
})

function settingsBody({ bmc, path }: Call): Json {
  return {
    '@odata.id': path,
    '@odata.type': '#ComputerSystem.v1_22_0.ComputerSystem',
    Id: 'Settings',
    Name: 'Pending Settings',
    Boot: overrideOf(bmc.boot),
  }
}

/** What the next boot takes; both the system and its settings accept it. */
function changeBoot({ bmc, body }: Call): Reply {
  const { Boot: boot } = take(body, { Boot: 'object' })
  if (!boot) return noContent
  const given = take(boot, {
    BootSourceOverrideEnabled: enabled,
    BootSourceOverrideMode: modes,
    BootSourceOverrideTarget: targets,
    HttpBootUri: 'string or null',
  })
  const { HttpBootUri: uri } = given
  if (uri !== undefined && uri !== null && uri !== '' && !URL.canParse(uri))
    throw new Refusal('PropertyValueFormatError', [uri, 'HttpBootUri'])
  const target = given.BootSourceOverrideTarget
  Object.assign(bmc.boot, {
    target: target ?? bmc.boot.target,
    mode: given.BootSourceOverrideMode ?? bmc.boot.mode,
    // A target alone is for the next boot.
    enabled: given.BootSourceOverrideEnabled ?? (target === undefined ? bmc.boot.enabled : 'Once'),
    uri: uri === undefined ? bmc.boot.uri : (uri ?? ''),
  })
  return noContent
}

function secureBoot({ bmc, path }: Call): Json {
  return {
    '@odata.id': path,
    '@odata.type': '#SecureBoot.v1_1_0.SecureBoot',
    Id: 'SecureBoot',
    Name: 'UEFI Secure Boot',
    Description: 'The UEFI Secure Boot associated with this system.',
    SecureBootEnable: bmc.settings.isSecureBoot,
    SecureBootCurrentBoot: bmc.settings.isSecureBoot ? 'Enabled' : 'Disabled',
    SecureBootMode: 'UserMode',
  }
}

function changeSecureBoot({ bmc, body }: Call): Reply {
  const { SecureBootEnable: isEnabled } = take(body, { SecureBootEnable: 'boolean' })
  if (isEnabled !== undefined) bmc.settings.isSecureBoot = isEnabled
  return noContent
}

/** Nvidia's own: no id, no name, as theirs are. */
const nvidiaRoutes = (at: string): Routes => ({
  [`${at}/Oem/Nvidia`]: {
    get: ({ bmc }) => ({
      Mode: bmc.settings.mode,
      Actions: {
        '#Mode.Set': {
          Parameters: [
            { AllowableValues: ['NicMode', 'DpuMode'], DataType: 'String', Name: 'Mode', Required: true },
          ],
          target: `${base}/${at}/Oem/Nvidia/Actions/Mode.Set`,
        },
      },
    }),
  },
  [`${at}/Oem/Nvidia/Actions/Mode.Set`]: {
    post: ({ bmc, body }) => {
      const { Mode: mode } = take(body, { Mode: ['NicMode', 'DpuMode'] })
      if (mode === undefined) throw new Refusal('ActionParameterMissing', ['Mode.Set', 'Mode'])
      bmc.settings.mode = mode
      return noContent
    },
  },
})
