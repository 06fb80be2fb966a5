// UpdateService: what is installed, and the ways to bring something newer.
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import { bmcPartOf } from './flavours.ts'
import { Refusal } from './messages.ts'
import { collection } from './query.ts'
import { base, decoded, link } from './router.ts'
import type { Call, Reply, Routes } from './router.ts'
import { required, take } from './taking.ts'
import { accepted } from './tasks.ts'
import { mostImageBytes, readForm, readImage } from './upload.ts'
import type { Image } from './updates.ts'

const inventory = 'UpdateService/FirmwareInventory'
const simpleUpdate = 'UpdateService/Actions/UpdateService.SimpleUpdate'
const protocols = ['HTTP', 'HTTPS', 'SCP', 'TFTP', 'NFS'] as const

export const updateRoutes: Routes = {
  UpdateService: { get: updateService },
  [inventory]: {
    get: (call) =>
      collection(call, {
        type: 'SoftwareInventory',
        name: 'Software Inventory Collection',
        members: Object.keys(call.bmc.device.state.firmware),
        show: (part) => link(`${inventory}/${encodeURIComponent(part)}`),
      }),
  },
  [`${inventory}/{}`]: { get: softwareBody },
  [simpleUpdate]: { post: updateFromElsewhere },
  'UpdateService/update': {
    take: async (call) => begin(call, (await readImage(call.request)).image, []),
  },
  'UpdateService/update-multipart': {
    take: async (call) => {
      const { image, parameters } = await readForm(call.request)
      const given = take(parameters, {
        Targets: 'strings',
        ForceUpdate: 'boolean',
        Stage: 'boolean',
        ExcludeTargets: 'strings',
        Oem: 'object',
      })
      return begin(call, image, given.Targets ?? [])
    },
  },
}

function updateService({ flavour }: Call): Json {
  return {
    '@odata.id': `${base}/UpdateService`,
    '@odata.type': '#UpdateService.v1_11_0.UpdateService',
    Id: 'UpdateService',
    Name: 'Update Service',
    Description: 'Service for Software Update',
    ServiceEnabled: true,
    Status: { Health: 'OK', State: 'Enabled' },
    FirmwareInventory: link(inventory),
    HttpPushUri: `${base}/UpdateService/update`,
    HttpPushUriOptions: { HttpPushUriApplyTime: { ApplyTime: 'OnReset' } },
    MaxImageSizeBytes: mostImageBytes,
    MultipartHttpPushUri: `${base}/UpdateService/update-multipart`,
    Actions: {
      '#UpdateService.SimpleUpdate': {
        // Nvidia's nests them, which clients have to bear.
        'TransferProtocol@Redfish.AllowableValues': flavour.isNvidia ? [protocols] : protocols,
        target: `${base}/${simpleUpdate}`,
      },
    },
  }
}

function softwareBody({ bmc, flavour, ids: [part = ''], path }: Call): Json | undefined {
  const { device } = bmc
  const version = Object.hasOwn(device.state.firmware, part) ? device.state.firmware[part] : undefined
  if (version === undefined) return undefined
  const isBmc = part === bmcPartOf(device)
  return {
    '@odata.id': path,
    '@odata.type': '#SoftwareInventory.v1_10_0.SoftwareInventory',
    Id: part,
    Name: 'Software Inventory',
    Description: isBmc ? 'BMC image' : 'Host image',
    RelatedItem: [link(isBmc ? `Managers/${flavour.manager}` : `Systems/${flavour.system}`)],
    SoftwareId: '',
    Status: { Health: 'OK', State: 'Enabled' },
    Updateable: true,
    Version: version,
  }
}

function updateFromElsewhere(call: Call): Reply {
  const given = take(call.body, {
    ImageURI: 'string',
    TransferProtocol: protocols,
    Targets: 'strings',
    Username: 'string',
    Password: 'string',
    ForceUpdate: 'boolean',
    Stage: 'boolean',
    LocalImage: 'boolean',
  })
  const uri = required(given.ImageURI, 'ImageURI')
  // Whether there is something at that address is nobody's business here: a simulated BMC fetches nothing.
  return begin(call, { name: uri.split('/').at(-1) ?? uri, size: undefined, head: uri }, given.Targets ?? [])
}

function begin(call: Call, image: Image, targets: readonly string[]): Reply {
  const { bmc } = call
  const parts = targets.map((target) => {
    const at = target.indexOf(`/${inventory}/`)
    if (at < 0) throw new Refusal('PropertyValueFormatError', [target, 'Targets'])
    return decoded(target.slice(at + inventory.length + 2)) ?? target
  })
  if (parts.length > 1) throw new Refusal('GeneralError', ['one target at a time'])
  return accepted(call, bmc.tasks.begin(bmc.updates.begin(image, parts)))
}
