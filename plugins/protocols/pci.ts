// Devices of the PCI bus as /sys shows them (Documentation/PCI, ABI/testing/sysfs-bus-pci).
//
//   <sys>/bus/pci/devices/0000:03:00.0 → <sys>/devices/pci0000:00/0000:00:00.0/0000:03:00.0
//     {class, vendor, device, subsystem_vendor, subsystem_device, revision, driver → , numa_node,
//      current_link_speed, current_link_width, max_link_speed, max_link_width, sriov_numvfs, sriov_totalvfs, physfn → ,
//      aer_dev_correctable, aer_dev_nonfatal, aer_dev_fatal}
import { realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { linkName, listFolder, readText, readWhole } from './sysfs.ts'

export interface PciDevice {
  /** `0000:03:00.0`. */
  address: string
  folder: string
  /** Of its place in the tree, where its upstream port is the folder around it. */
  path: string
  /** Six hexadecimal digits: class, subclass, interface. */
  class: string
}

const address = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/

/** All devices, by address; `most` at most. */
export function findPciDevices(sys: string, most: number): PciDevice[] {
  const folder = join(sys, 'bus/pci/devices')
  const names = listFolder(folder).filter((name) => address.test(name))
  return names.slice(0, most).flatMap((name): PciDevice[] => {
    const at = join(folder, name)
    const code = /^0x([0-9a-f]{6})$/i.exec(readText(join(at, 'class')) ?? '')?.[1]
    if (code === undefined) return []
    try {
      return [{ address: name, folder: at, path: realpathSync.native(at), class: code.toLowerCase() }]
    } catch {
      return [] // it has gone meanwhile
    }
  })
}

export const isBridge = (device: PciDevice): boolean => device.class.startsWith('06')

/** OTel's `hw.type` of a class of devices. */
export function hwTypeOf({ class: code }: Pick<PciDevice, 'class'>): string {
  if (code.startsWith('01')) return 'disk_controller'
  if (code.startsWith('02') || code.startsWith('0280') || code.startsWith('0c06')) return 'network'
  if (code.startsWith('03') || code.startsWith('12')) return 'gpu'
  if (code.startsWith('05')) return 'memory'
  if (code.startsWith('0b')) return 'cpu'
  return 'enclosure'
}

export interface PciLink {
  /** Transfers a second and lane. */
  speed: bigint
  width: bigint
}

/** Of the lane rates of PCI Express: `8.0 GT/s PCIe`, `2.5 GT/s`; undefined for `Unknown`. */
export function parseLinkSpeed(text: string | undefined): bigint | undefined {
  const match = /^(\d{1,3})(?:\.(\d))? GT\/s/.exec(text ?? '')
  return match ? BigInt(match[1] ?? '0') * 1_000_000_000n + BigInt(match[2] ?? '0') * 100_000_000n : undefined
}

/** Where the kernel knows no width it says 0 or 255. */
function linkIn(folder: string, which: 'current' | 'max'): PciLink | undefined {
  const speed = parseLinkSpeed(readText(join(folder, `${which}_link_speed`)))
  const width = readWhole(join(folder, `${which}_link_width`))
  return speed === undefined || width === undefined || width < 1n || width > 32n
    ? undefined
    : { speed, width }
}

export interface PciState {
  device: PciDevice
  link: PciLink | undefined
  /** The best that both ends of the link can. */
  limit: PciLink | undefined
  vfs: bigint | undefined
  vfsLimit: bigint | undefined
}

const lesser = (a: bigint, b: bigint): bigint => (a < b ? a : b)

/** The link of a device, but for bridges and virtual functions: theirs is told by what is behind or before them. */
export function readPci(device: PciDevice): PciState {
  const { folder, path } = device
  const isFunction = linkName(join(folder, 'physfn')) !== undefined
  const [link, own, port] =
    isBridge(device) || isFunction
      ? []
      : [linkIn(folder, 'current'), linkIn(folder, 'max'), linkIn(dirname(path), 'max')]
  const limit = own && {
    speed: port ? lesser(own.speed, port.speed) : own.speed,
    width: port ? lesser(own.width, port.width) : own.width,
  }
  const vfsLimit = readWhole(join(folder, 'sriov_totalvfs'))
  const vfs = vfsLimit ? readWhole(join(folder, 'sriov_numvfs')) : undefined
  return { device, link, limit, vfs, vfsLimit: vfs === undefined ? undefined : vfsLimit }
}

/** What a device is; what it does not say is absent. */
export function describePci({ address: id, folder, class: code }: PciDevice): Record<string, string> {
  const hex = (file: string) => readText(join(folder, file))?.replace(/^0x/, '').toLowerCase()
  const [vendor, device, subVendor, subDevice, revision, driver, numa] = [
    hex('vendor'),
    hex('device'),
    hex('subsystem_vendor'),
    hex('subsystem_device'),
    hex('revision'),
    linkName(join(folder, 'driver')),
    readWhole(join(folder, 'numa_node')),
  ]
  const facts: Record<string, string | undefined> = {
    'hw.id': id,
    'dpu.pci.class': code,
    'dpu.pci.id': vendor && device && `${vendor}:${device}`,
    'dpu.pci.subsystem': subVendor && subDevice && `${subVendor}:${subDevice}`,
    'dpu.pci.revision': revision,
    'dpu.pci.driver': driver,
    // −1 says that it is near none.
    'dpu.pci.numa_node': numa === undefined || numa < 0n ? undefined : String(numa),
  }
  return Object.fromEntries(
    Object.entries(facts).filter((one): one is [string, string] => one[1] !== undefined),
  )
}

export interface AerCounts {
  severity: 'correctable' | 'nonfatal' | 'fatal'
  total: bigint
  /** By the kernel's names, those that happened. */
  kinds: [kind: string, count: bigint][]
}

/** Advanced error reporting of a device; empty where its kernel or its port has none. */
export function readAer({ folder }: PciDevice): AerCounts[] {
  const found: AerCounts[] = []
  for (const severity of ['correctable', 'nonfatal', 'fatal'] as const) {
    const counts = parseAer(readText(join(folder, `aer_dev_${severity}`)))
    if (counts) found.push({ severity, ...counts })
  }
  return found
}

/** Lines of a name and a number; the last is the total. */
export function parseAer(text: string | undefined): Pick<AerCounts, 'total' | 'kinds'> | undefined {
  if (text === undefined) return undefined
  let total: bigint | undefined
  const kinds: [string, bigint][] = []
  for (const line of text.split('\n')) {
    const match = /^([A-Za-z_]\w*) (\d{1,20})$/.exec(line.trim())
    if (!match) continue
    const [, kind = '', count = '0'] = match
    if (kind.startsWith('TOTAL_ERR')) total = BigInt(count)
    else if (BigInt(count) > 0n) kinds.push([kind, BigInt(count)])
  }
  return total === undefined ? undefined : { total, kinds }
}
