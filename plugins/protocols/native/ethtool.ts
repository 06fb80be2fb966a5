// What drivers know of their ports, by ioctl (include/uapi/linux/ethtool.h). Statistics need no right beyond a socket; the
// memory of plugged modules needs CAP_NET_ADMIN.
//
//   struct ifreq { char name[16]; void *data }
//   ethtool_drvinfo   cmd, driver[32], version[32], fw_version[32], bus_info[32], …        196 bytes
//   ethtool_sset_info cmd, reserved, u64 mask, u32 count                                   20 bytes
//   ethtool_gstrings  cmd, set, count, count × char[32]
//   ethtool_stats     cmd, count, count × u64
//   ethtool_modinfo   cmd, type, length, …                                                  44 bytes
//   ethtool_eeprom    cmd, magic, offset, length, data
import { AF_INET, SOCK_CLOEXEC, SOCK_DGRAM, loadLibc } from './libc.ts'
import type { Libc } from './libc.ts'

const SIOCETHTOOL = 0x8946
const ETHTOOL_GDRVINFO = 0x03
const ETHTOOL_GSTRINGS = 0x1b
const ETHTOOL_GSTATS = 0x1d
const ETHTOOL_GSSET_INFO = 0x37
const ETHTOOL_GMODULEINFO = 0x42
const ETHTOOL_GMODULEEEPROM = 0x43
const ETH_SS_STATS = 1
/** Both pages of an SFP; of a QSFP all that is told of it. */
const mostMemory = 512
const nameLength = 32
/** Drivers of many queues have some thousand. */
const mostStatistics = 16_384

export interface DriverInfo {
  driver: string
  firmware: string
  bus: string
}

export class Ethtool implements Disposable {
  readonly #libc: Libc
  readonly #socket: number
  /** Names of what an interface counts, which change with its number of queues. */
  readonly #names = new Map<string, string[]>()

  private constructor(libc: Libc, socket: number) {
    this.#libc = libc
    this.#socket = socket
  }

  /** @throws PermanentError LIBRARY_MISSING where libc cannot be called. */
  static async open(): Promise<Ethtool | undefined> {
    const libc = await loadLibc()
    const socket = libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    return socket < 0 ? undefined : new Ethtool(libc, socket)
  }

  driver(name: string): DriverInfo | undefined {
    const data = Buffer.alloc(196)
    if (!this.#ask(name, ETHTOOL_GDRVINFO, data)) return undefined
    const text = (at: number) => textAt(data, at)
    return { driver: text(4), firmware: text(68), bus: text(100) }
  }

  /** What the driver counts, by its own names; undefined where it counts nothing. */
  statistics(name: string): Map<string, bigint> | undefined {
    const info = Buffer.alloc(20)
    info.writeBigUInt64LE(1n << BigInt(ETH_SS_STATS), 8)
    if (!this.#ask(name, ETHTOOL_GSSET_INFO, info)) return undefined
    const count = info.readUInt32LE(16)
    if (info.readBigUInt64LE(8) === 0n || count === 0 || count > mostStatistics) return undefined
    const names = this.#namesOf(name, count)
    if (!names) return undefined
    // One more than asked for, should the driver have got a queue meanwhile.
    const data = Buffer.alloc(8 + count * 16)
    data.writeUInt32LE(count, 4)
    if (!this.#ask(name, ETHTOOL_GSTATS, data) || data.readUInt32LE(4) !== count) return undefined
    const found = new Map<string, bigint>()
    for (const [index, one] of names.entries()) {
      if (one !== '' && !found.has(one)) found.set(one, data.readBigUInt64LE(8 + index * 8))
    }
    return found
  }

  #namesOf(name: string, count: number): string[] | undefined {
    const known = this.#names.get(name)
    if (known?.length === count) return known
    const data = Buffer.alloc(12 + count * nameLength * 2)
    data.writeUInt32LE(ETH_SS_STATS, 4)
    data.writeUInt32LE(count, 8)
    if (!this.#ask(name, ETHTOOL_GSTRINGS, data)) return undefined
    const names = Array.from({ length: count }, (_, index) => textAt(data, 12 + index * nameLength))
    this.#names.set(name, names)
    return names
  }

  /** The memory of the plugged module, read over a slow bus; undefined where there is none, or the right is missing. */
  async module(name: string): Promise<Buffer | undefined> {
    const info = Buffer.alloc(44)
    if (!(await this.#askLater(name, ETHTOOL_GMODULEINFO, info))) return undefined
    const length = Math.min(info.readUInt32LE(8), mostMemory)
    if (length === 0) return undefined
    const data = Buffer.alloc(16 + length)
    data.writeUInt32LE(length, 12)
    if (!(await this.#askLater(name, ETHTOOL_GMODULEEEPROM, data))) return undefined
    return data.subarray(16, 16 + Math.min(length, data.readUInt32LE(12)))
  }

  #ask(name: string, command: number, data: Buffer): boolean {
    const request = this.#request(name, command, data)
    return request !== undefined && this.#libc.ioctl(this.#socket, SIOCETHTOOL, request) === 0
  }

  async #askLater(name: string, command: number, data: Buffer): Promise<boolean> {
    const request = this.#request(name, command, data)
    return request !== undefined && (await this.#libc.ioctlLater(this.#socket, SIOCETHTOOL, request)) === 0
  }

  #request(name: string, command: number, data: Buffer): Buffer | undefined {
    if (Buffer.byteLength(name) > 15) return undefined
    data.writeUInt32LE(command, 0)
    const request = Buffer.alloc(40)
    request.write(name, 0, 'latin1')
    request.writeBigUInt64LE(this.#libc.address(data), 16)
    return request
  }

  [Symbol.dispose](): void {
    this.#libc.close(this.#socket)
  }
}

function textAt(data: Buffer, at: number): string {
  const field = data.subarray(at, at + nameLength)
  const end = field.indexOf(0)
  return field.toString('latin1', 0, end < 0 ? nameLength : end).trim()
}
