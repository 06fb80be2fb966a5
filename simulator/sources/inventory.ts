// Readings of `smbios` and `pci` on a virtual device: what it is made of.
import { cardAddress } from './hardware-errors.ts'
import type { Simulated } from './simulated.ts'

/** Of a module of memory; cards have one or two soldered channels. */
const moduleBytes = 16 * 2 ** 30

export const smbios: Simulated = {
  name: 'smbios',
  service: 'dpulse',
  open({ kind, serial, uuid, state }) {
    const modules = Array.from(
      { length: Math.max(1, Math.round(kind.memoryBytes / moduleBytes)) },
      (_, index) => ({
        'hw.id': `memory${index}`,
        'hw.type': 'memory',
      }),
    )
    const processor = { 'hw.id': 'cpu0', 'hw.type': 'cpu' }
    return {
      points(readings) {
        const component = (id: string, what: string, facts: Record<string, string>, type = 'enclosure') =>
          readings.add('dpu.hardware.component', 1n, {
            'hw.id': id,
            'hw.type': type,
            'dpu.hardware.kind': what,
            ...facts,
          })
        const { bios, uefi = bios } = state.firmware
        component('bios', 'bios', {
          'hw.vendor': kind.vendor,
          ...(uefi !== undefined && { 'hw.firmware_version': uefi }),
        })
        component('system', 'system', {
          'hw.vendor': kind.vendor,
          'hw.model': kind.model,
          'hw.serial_number': serial,
          'dpu.hardware.uuid': uuid,
          'dpu.hardware.sku': kind.partNumber,
        })
        for (const { 'hw.id': id } of modules) {
          component(id, 'memory', { 'hw.memory.type': 'DDR5' }, 'memory')
        }
        component('cpu0', 'cpu', { 'hw.vendor': kind.arch === 'arm64' ? 'ARM' : 'Intel' }, 'cpu')
        for (const module of modules) {
          readings.add('hw.memory.size', BigInt(Math.round(kind.memoryBytes / modules.length)), module)
        }
        readings.add('dpu.cpu.cores', BigInt(kind.cores), processor)
        readings.add('dpu.cpu.threads', BigInt(kind.cores), processor)
      },
    }
  },
}

/** PCI class codes: Ethernet controller, NVM Express. */
const networkClass = '020000'
const driveClass = '010802'

export const pci: Simulated = {
  name: 'pci',
  service: 'dpulse',
  open({ kind }) {
    const [port] = kind.ports
    const parts = [
      ...(port ? [{ address: cardAddress, class: networkClass, driver: port.driver, lanes: 16n }] : []),
      ...kind.storage.map((drive) => ({
        address: drive.pci,
        class: driveClass,
        driver: 'nvme',
        lanes: 4n,
      })),
    ].map((part) => ({ ...part, about: { 'hw.id': part.address } }))
    const add = (name: string, value: bigint) => ({ name, value })
    return {
      points(readings) {
        for (const { about, class: code, driver } of parts) {
          readings.add('dpu.pci.device', 1n, { ...about, 'dpu.pci.class': code, 'dpu.pci.driver': driver })
        }
        for (const { name, value } of [
          add('dpu.pci.link.speed', transfers),
          add('dpu.pci.link.speed.limit', transfers),
          add('dpu.pci.link.degraded', 0n),
        ]) {
          for (const { about } of parts) readings.add(name, value, about)
        }
        for (const name of ['dpu.pci.link.width', 'dpu.pci.link.width.limit']) {
          for (const { about, lanes } of parts) readings.add(name, lanes, about)
        }
      },
    }
  },
}

/** PCI Express 4.0. */
const transfers = 16_000_000_000n
