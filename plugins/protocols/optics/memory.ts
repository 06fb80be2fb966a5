// Where the memory of a plugged module comes from: asked of the driver by page over netlink, which is how modern modules
// are read, or all at once by ioctl, where the kernel or the driver is older. Both take CAP_NET_ADMIN.
import type { Ethtool } from '../native/index.ts'
import { NetlinkError, attribute, nested, number, text } from '../native/netlink.ts'
import type { Netlink } from '../native/netlink.ts'
import { readCmis } from './cmis.ts'
import { halfBytes, lower } from './module.ts'
import type { Module, Place, ReadHalf } from './module.ts'
import { readQsfp, readSfp } from './sff.ts'

/** SFF-8024, "Identifier values". */
const sfp = [0x03]
const qsfp = [0x0c, 0x0d, 0x11]
const cmis = [0x18, 0x19, 0x1b, 0x1e, 0x1f, 0x20, 0x21]

/** Undefined where there is no module, or one of no kind that is known. */
export async function readModule(read: ReadHalf): Promise<Module | undefined> {
  const first = await read(lower)
  if (first === undefined || first.length < halfBytes) return undefined
  const kind = first[0] ?? 0
  if (sfp.includes(kind)) return readSfp(first, read)
  if (qsfp.includes(kind)) return readQsfp(first, read)
  return cmis.includes(kind) ? readCmis(first, read) : undefined
}

// include/uapi/linux/ethtool_netlink.h
const ETHTOOL_MSG_MODULE_EEPROM_GET = 31
const ETHTOOL_A_HEADER_DEV_NAME = 2
const [header, offset, length, page, bank, address, data] = [1, 2, 3, 4, 5, 6, 7]
const addresses = { A0: 0x50, A2: 0x51 }

/** Of a port, over netlink; the kernel wants what it is asked for to lie within one half. */
export function halvesByPage(netlink: Netlink, family: number, port: string): ReadHalf {
  return async (at: Place) => {
    const attributes = Buffer.concat([
      nested(header, attribute(ETHTOOL_A_HEADER_DEV_NAME, text(port))),
      attribute(offset, number(at.isUpper ? halfBytes : 0)),
      attribute(length, number(halfBytes)),
      attribute(page, Buffer.of(at.page)),
      attribute(bank, Buffer.of(at.bank)),
      attribute(address, Buffer.of(addresses[at.device])),
    ])
    try {
      const question = { family, command: ETHTOOL_MSG_MODULE_EEPROM_GET, version: 1, attributes }
      const [answer] = await netlink.ask(question)
      return answer?.get(data)
    } catch (error) {
      if (error instanceof NetlinkError) return undefined
      throw error
    }
  }
}

/** Of what the driver shows in one piece: the first two halves, and of an SFP its second device behind them. */
export function halvesOf(memory: Buffer): ReadHalf {
  return ({ device, page: wanted, isUpper }) => {
    const start = (device === 'A2' ? 2 * halfBytes : 0) + (isUpper ? halfBytes : 0)
    const half = wanted === 0 ? memory.subarray(start, start + halfBytes) : Buffer.alloc(0)
    return Promise.resolve(half.length === 0 ? undefined : half)
  }
}

/** Of a port, either way. */
export async function moduleOf(
  port: string,
  ethtool: Ethtool,
  netlink: Netlink | undefined,
): Promise<Module | undefined> {
  const family = await netlink?.family('ethtool')
  if (netlink !== undefined && family !== undefined) {
    const module = await readModule(halvesByPage(netlink, family, port))
    if (module !== undefined) return module
  }
  const memory = await ethtool.module(port)
  return memory === undefined ? undefined : readModule(halvesOf(memory))
}
