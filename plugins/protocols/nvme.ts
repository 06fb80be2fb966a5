// What an NVMe controller says of its health (NVM Express Base Specification 2.0, §5.16.1.3, log page 02h), and how it is
// asked: NVME_IOCTL_ADMIN_CMD (include/uapi/linux/nvme_ioctl.h), for which the kernel wants root.
//
//   0 critical warning   1 composite temperature (u16, K)   3 available spare, %   4 its threshold, %   5 used, %
//   32 data units read (of 512,000 bytes)   48 written   96 minutes busy   112 power cycles   128 hours on
//   144 unsafe shutdowns   160 media errors   176 entries of the error log          each a u128
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import type { Libc } from './native/index.ts'

export interface NvmeHealth {
  /** Bits: spare, temperature, reliability, read-only, volatile memory, persistent memory region. */
  criticalWarning: number
  availableSpare: number
  /** Of the endurance, in percent; may exceed 100. */
  used: number
  /** By names of SMART attributes, as far as the page reaches. */
  counts: ReadonlyMap<string, bigint>
  mediaErrors: bigint | undefined
}

const pageBytes = 512
const counters = [
  [32, 'data_units_read'],
  [48, 'data_units_written'],
  [64, 'host_read_commands'],
  [80, 'host_write_commands'],
  [96, 'controller_busy_time'],
  [112, 'power_cycles'],
  [128, 'power_on_hours'],
  [144, 'unsafe_shutdowns'],
  [176, 'error_log_entries'],
] as const
/** What an OTLP integer holds. */
const most = 2n ** 63n - 1n

/** Undefined where the page is empty: some controllers answer with zeros only. */
export function decodeHealth(page: Buffer): NvmeHealth | undefined {
  const [criticalWarning = 0, , , availableSpare = 0, , used = 0] = page
  if (page.length < 6 || page.every((byte) => byte === 0)) return undefined
  const counts = new Map<string, bigint>()
  for (const [at, name] of counters) {
    const count = wideAt(page, at)
    if (count !== undefined) counts.set(name, count)
  }
  return { criticalWarning, availableSpare, used, counts, mediaErrors: wideAt(page, 160) }
}

function wideAt(page: Buffer, at: number): bigint | undefined {
  if (at + 16 > page.length) return undefined
  const value = page.readBigUInt64LE(at)
  return page.readBigUInt64LE(at + 8) > 0n || value > most ? undefined : value
}

const NVME_IOCTL_ADMIN_CMD = 0xc0484e41
const getLogPage = 0x02
const healthPage = 0x02
const timeoutMs = 2000

/** @throws what opening the device throws: EACCES without the right to. */
export async function readHealth(libc: Libc, device: string): Promise<NvmeHealth | undefined> {
  const handle = await open(device, constants.O_RDONLY)
  try {
    const page = Buffer.alloc(pageBytes)
    const command = Buffer.alloc(72)
    command[0] = getLogPage
    command.writeUInt32LE(0xffffffff, 4) // of the controller, not of a namespace
    command.writeBigUInt64LE(libc.address(page), 24)
    command.writeUInt32LE(pageBytes, 36)
    command.writeUInt32LE(healthPage | ((pageBytes / 4 - 1) << 16), 40)
    command.writeUInt32LE(timeoutMs, 64)
    const status = await libc.ioctlLater(handle.fd, NVME_IOCTL_ADMIN_CMD, command)
    return status === 0 ? decodeHealth(page) : undefined
  } finally {
    await handle.close()
  }
}
