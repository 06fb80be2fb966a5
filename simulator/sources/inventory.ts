// Readings of `smbios` and `pci` on a virtual device: what it is made of.
import { firmwareOf, ofBoot } from './firmware.ts'
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
        const boot = firmwareOf(state, ofBoot)
        component('bios', 'bios', {
          'hw.vendor': kind.vendor,
          ...(boot !== undefined && { 'hw.firmware_version': boot }),
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

/** A platform device has a name in its place. */
const pciAddress = /^[0-9a-f]{4}:/
/** PCI class codes: Ethernet controller, NVM Express. */
const networkClass = '020000'
const driveClass = '010802'

export const pci: Simulated = {
  name: 'pci',
  service: 'dpulse',
  open({ kind }) {
    const parts = [
      ...kind.ports
        .filter(({ pci }) => pciAddress.test(pci))
        .map(({ pci, driver }) => ({
          address: pci,
          class: networkClass,
          id: kind.pciId,
          driver,
          lanes: 16n,
        })),
      ...kind.storage
        .filter((drive) => drive.pci !== '')
        .map((drive) => ({ address: drive.pci, class: driveClass, id: '', driver: 'nvme', lanes: 4n })),
    ].map((part) => ({ ...part, about: { 'hw.id': part.address } }))
    const add = (name: string, value: bigint) => ({ name, value })
    return {
      points(readings) {
        for (const { about, class: code, id, driver } of parts) {
          const facts = {
            'dpu.pci.class': code,
            ...(id !== '' && { 'dpu.pci.id': id }),
            'dpu.pci.driver': driver,
          }
          readings.add('dpu.pci.device', 1n, { ...about, ...facts })
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
