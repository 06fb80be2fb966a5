// Drives: work by tenant and hour, life that is used up by writing, errors of the medium.
import type { Device } from '../model.ts'
import { stepMs } from '../model.ts'
import { counted, wholes } from './counters.ts'
import { printk } from './lines.ts'

const seconds = stepMs / 1000
/** Of a drive at full load, bytes a second. */
const fullSpeed = 1_800_000_000
const requestBytes = 24_000
/** How often its whole size can be written. */
const endurance = 1200

export function moveStorage(device: Device): void {
  const { kind, state } = device
  const { inner, load, strain } = state
  const { work, noise, tenant } = inner
  noise.storage += -noise.storage * 0.03 + (work.float() - 0.5) * 0.16
  const own =
    0.015 + 0.5 * tenant.storage * inner.weight * tenant.level(state.elapsedMs) * (1 + noise.storage)
  load.storage = Math.min(1, Math.max(0.002, own + strain.storage))
  for (let index = 0; index < state.drives.length; index++) {
    const drive = state.drives[index]
    const ofKind = kind.storage[index]
    if (!drive || !ofKind) continue
    const speed = fullSpeed * Math.min(1, ofKind.bytes / 4e11) // small ones are eMMC
    const bytes = load.storage * speed * 0.25 * seconds
    const read = bytes * (0.62 + 0.2 * (work.float() - 0.5))
    const written = bytes - read
    drive.readBytes = counted(drive.readBytes, read, 64)
    drive.writtenBytes = counted(drive.writtenBytes, written, 64)
    drive.reads = counted(drive.reads, read / requestBytes, 64)
    drive.writes = counted(drive.writes, written / requestBytes, 64)
    const wear = (100 * written) / (ofKind.bytes * endurance) + (strain.wear[index] ?? 0) * seconds
    drive.percentUsed = Math.min(255, drive.percentUsed + wear) // as NVMe counts: beyond 100, up to 255
    const errors = wholes((strain.mediaErrors[index] ?? 0) * seconds, inner.errors.float())
    if (errors > 0) fail(device, index, errors)
  }
}

function fail(device: Device, index: number, errors: number): void {
  const drive = device.state.drives[index]
  const ofKind = device.kind.storage[index]
  if (!drive || !ofKind) return
  drive.mediaErrors += errors
  drive.availableSpare = Math.max(0, drive.availableSpare - errors)
  const { errors: random } = device.state.inner
  const sector = random.below(Math.floor(ofKind.bytes / 512))
  const name = driveName(device, index)
  if (name.startsWith('nvme')) {
    printk(
      device,
      4,
      `${name}: I/O Cmd(0x2) @ LBA ${sector}, ${1 << random.below(6)} blocks, I/O Error (sct 0x0 / sc 0x6) `,
    )
  }
  printk(
    device,
    3,
    `I/O error, dev ${name}, sector ${sector} op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2`,
  )
}

/** As Linux calls it: NVMe drives have an address on the bus, eMMC has none. */
export function driveName(device: Device, index: number): string {
  const drives = device.kind.storage
  const isNvme = drives[index]?.pci !== ''
  const before = drives.slice(0, index).filter((one) => (one.pci !== '') === isNvme).length
  return isNvme ? `nvme${before}n1` : `mmcblk${before}`
}
