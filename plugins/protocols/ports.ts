// Network ports and RDMA devices as /sys shows them (ABI/testing/sysfs-class-net, ABI/stable/sysfs-class-infiniband).
//
//   <sys>/class/net/p0/{operstate, carrier, carrier_changes, speed (Mbit/s, −1 for unknown), duplex, mtu, address,
//                       phys_port_name, phys_switch_id, device → }
//   <sys>/class/infiniband/mlx5_0/{fw_ver, board_id, hca_type, device → }/ports/N/{state, rate, link_layer,
//                       counters/port_rcv_data (words of 4 bytes) …, hw_counters/out_of_sequence …}
import { join } from 'node:path'
import { linkName, listFolder, readText, readWhole } from './sysfs.ts'

export interface NetworkPort {
  name: string
  /** Of the bus, such as `0000:03:00.0`; undefined for what is made of software. */
  bus: string | undefined
  isUp: boolean
  /** Bytes a second, where the link has a speed. */
  bandwidth: bigint | undefined
  carrierChanges: bigint | undefined
  facts: Readonly<Record<string, string>>
}

/** `p0`, `pf0hpf`, `pf0vf3`, `pf0sf88`: how switchdev names the ports of a card, and what stands for a function of it. */
function kindOf(portName: string | undefined, isFunction: boolean, bus: string | undefined): string {
  if (portName !== undefined && /^(c\d+)?pf\d+(hpf|vf\d+|sf\d+)?$/.test(portName)) return 'representor'
  if (isFunction) return 'virtual_function'
  return bus === undefined ? 'virtual' : 'physical'
}

export function readPort(sys: string, name: string): NetworkPort | undefined {
  const folder = join(sys, 'class/net', name)
  const text = (file: string) => readText(join(folder, file), 256)
  const state = text('operstate')
  if (state === undefined) return undefined
  const [carrier, speed, carrierChanges, duplex, mtu, address, portName, switchId, bus, physical] = [
    readWhole(join(folder, 'carrier')),
    readWhole(join(folder, 'speed')),
    readWhole(join(folder, 'carrier_changes')),
    text('duplex'),
    text('mtu'),
    text('address'),
    text('phys_port_name'),
    text('phys_switch_id'),
    linkName(join(folder, 'device')),
    linkName(join(folder, 'device/physfn')),
  ]
  const facts: Record<string, string | undefined> = {
    'hw.network.physical_address': address,
    'dpu.network.port.kind': kindOf(portName, physical !== undefined, bus),
    'dpu.network.port.name': portName,
    'dpu.network.switch': switchId,
    'dpu.network.duplex': duplex === 'unknown' ? undefined : duplex,
    'dpu.network.mtu': mtu,
  }
  return {
    name,
    bus,
    isUp: state === 'up' || (state === 'unknown' && carrier === 1n),
    // Old kernels write −1 as 65535 or 4294967295.
    bandwidth:
      speed !== undefined && speed > 0n && speed !== 65_535n && speed < 4_294_967_295n
        ? speed * 125_000n
        : undefined,
    carrierChanges,
    facts: defined(facts),
  }
}

const defined = (facts: Record<string, string | undefined>): Record<string, string> =>
  Object.fromEntries(Object.entries(facts).filter((one): one is [string, string] => one[1] !== undefined))

export interface RdmaPort {
  device: string
  port: string
  bus: string | undefined
  isUp: boolean
  bandwidth: bigint | undefined
  facts: Readonly<Record<string, string>>
  /** By the kernel's names; `N/A` is absent. */
  counters: ReadonlyMap<string, bigint>
}

const mostPorts = 256

export function readRdma(sys: string): RdmaPort[] {
  const root = join(sys, 'class/infiniband')
  const found: RdmaPort[] = []
  for (const device of listFolder(root).slice(0, mostPorts)) {
    const folder = join(root, device)
    const facts = defined({
      'hw.firmware_version': readText(join(folder, 'fw_ver'), 64),
      'hw.model': readText(join(folder, 'hca_type'), 64),
      'dpu.rdma.board': readText(join(folder, 'board_id'), 64),
    })
    const bus = linkName(join(folder, 'device'))
    for (const port of listFolder(join(folder, 'ports')).slice(0, 16)) {
      const at = join(folder, 'ports', port)
      const [state = '', rate = '', layer] = [
        readText(join(at, 'state'), 64),
        readText(join(at, 'rate'), 64),
        readText(join(at, 'link_layer'), 64),
      ]
      const gigabits = /^(\d{1,5})(?:\.(\d))? Gb\/sec/.exec(rate)
      const counters = new Map([...countersIn(join(at, 'counters')), ...countersIn(join(at, 'hw_counters'))])
      found.push({
        device,
        port,
        bus,
        isUp: /\bACTIVE\b/.test(state),
        bandwidth: gigabits
          ? BigInt(gigabits[1] ?? 0) * 125_000_000n + BigInt(gigabits[2] ?? 0) * 12_500_000n
          : undefined,
        facts: { ...facts, ...defined({ 'dpu.rdma.link_layer': layer }) },
        counters,
      })
    }
  }
  return found
}

function countersIn(folder: string): [string, bigint][] {
  const names = listFolder(folder).filter((name) => name !== 'lifespan')
  const values = names.map((name) => readWhole(join(folder, name)))
  return names.flatMap((name, index): [string, bigint][] => {
    const value = values[index]
    return value === undefined || value < 0n ? [] : [[name, value]]
  })
}
