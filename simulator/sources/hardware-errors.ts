// Readings of `hardware_errors` on a virtual device: memory, the card's PCI Express link, NVMe drives.
import type { Attributes, Readings } from '../../plugins/contract/index.ts'
import type { Device, DriveState } from '../model.ts'
import { firmwareOf, ofDrives } from './firmware.ts'
import type { Simulated } from './simulated.ts'

const memory = { 'hw.id': 'mc0', 'hw.name': 'mc0', 'hw.type': 'memory' }
const corrected = { ...memory, 'error.type': 'corrected' }
const uncorrected = { ...memory, 'error.type': 'uncorrected' }
const severities = ['correctable', 'nonfatal', 'fatal'] as const
const states = ['ok', 'degraded', 'predicted_failure', 'failed'] as const

interface Drive {
  readonly index: number
  readonly states: readonly Attributes[]
  readonly remaining: Attributes
  readonly smart: (name: string) => Attributes
  readonly media: Attributes
}

function drivesOf({ kind, serial, state }: Device): Drive[] {
  const firmware = firmwareOf(state, ofDrives)
  return kind.storage.flatMap(({ model, pci }, index) => {
    if (pci === '') return [] // no NVMe drive
    const about = {
      'hw.id': `nvme@${pci}`,
      'hw.name': `nvme${index}`,
      'hw.model': model,
      'hw.serial_number': `${serial.slice(-8)}N${index}`,
      ...(firmware !== undefined && { 'hw.firmware_version': firmware }),
    }
    const disk = { ...about, 'hw.type': 'physical_disk' }
    const known = new Map<string, Attributes>()
    const smart = (name: string) => {
      const attributes = known.get(name) ?? { ...disk, 'hw.physical_disk.smart_attribute': name }
      known.set(name, attributes)
      return attributes
    }
    return {
      index,
      states: states.map((one) => ({ ...about, 'hw.type': 'disk_controller', 'hw.state': one })),
      remaining: { ...disk, 'hw.physical_disk.state': 'remaining' },
      smart,
      media: { ...disk, 'error.type': 'media' },
    }
  })
}

/** NVM Express 2.0, figure 207: bits of Critical Warning. */
const warningOf = ({ availableSpare, mediaErrors }: DriveState): number =>
  (availableSpare < 10 ? 1 : 0) | (mediaErrors > 1000 ? 4 : 0)

function addSmart(readings: Readings, drive: Drive, now: DriveState): void {
  const add = (name: string, value: number) =>
    readings.add('hw.physical_disk.smart', BigInt(Math.max(0, Math.floor(value))), drive.smart(name))
  add('critical_warning', warningOf(now))
  add('available_spare', now.availableSpare)
  add('percentage_used', Math.min(255, now.percentUsed))
  add('data_units_read', now.readBytes / 512_000)
  add('data_units_written', now.writtenBytes / 512_000)
}

export const hardwareErrors: Simulated = {
  name: 'hardware_errors',
  service: 'dpulse',
  open(device) {
    const drives = drivesOf(device)
    const { state, kind } = device
    const link = severities.map((severity) => ({
      severity,
      attributes: {
        'hw.id': kind.ports[0]?.pci ?? 'card',
        'hw.type': 'network',
        'error.type': `pcie.${severity}`,
      },
    }))
    return {
      points(readings) {
        readings.add('hw.errors', BigInt(Math.floor(state.memory.eccCorrectable)), corrected)
        readings.add('hw.errors', BigInt(Math.floor(state.memory.eccUncorrectable)), uncorrected)
        for (const { severity, attributes } of link) {
          readings.add('hw.errors', BigInt(Math.floor(state.aer[severity])), attributes)
        }
        const here = drives.flatMap((drive) => {
          const now = state.drives[drive.index]
          return now ? [{ drive, now }] : []
        })
        for (const { drive, now } of here) {
          readings.add('hw.errors', BigInt(Math.floor(now.mediaErrors)), drive.media)
        }
        for (const { drive, now } of here) {
          const left = Math.max(0, 100 - Math.floor(now.percentUsed)) / 100
          readings.add('hw.physical_disk.endurance_utilization', left, drive.remaining)
        }
        for (const { drive, now } of here) addSmart(readings, drive, now)
        for (const { drive, now } of here) {
          const is = warningOf(now) === 0 ? 'ok' : 'predicted_failure'
          for (const [index, attributes] of drive.states.entries()) {
            readings.add('hw.status', states[index] === is ? 1n : 0n, attributes)
          }
        }
      },
    }
  },
}
