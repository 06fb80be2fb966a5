// Generic netlink: questions to parts of the kernel that have no file (devlink, memory of plugged modules by page).
// All numbers are in the order of this machine; every platform that we run on is little-endian.
//
//   nlmsghdr     u32 length, u16 type, u16 flags, u32 sequence, u32 port         include/uapi/linux/netlink.h
//   genlmsghdr   u8 command, u8 version, u16 reserved                            include/uapi/linux/genetlink.h
//   nlattr       u16 length (with these four bytes), u16 type, content           padded to four bytes
import { MSG_DONTWAIT, SOCK_CLOEXEC, loadLibc } from './libc.ts'
import type { Libc } from './libc.ts'

const AF_NETLINK = 16
const SOCK_RAW = 3
const NETLINK_GENERIC = 16
const NLM_F_REQUEST = 0x01
const NLM_F_ACK = 0x04
const NLM_F_DUMP = 0x300
const NLMSG_ERROR = 2
const NLMSG_DONE = 3
const GENL_ID_CTRL = 0x10
const CTRL_CMD_GETFAMILY = 3
const CTRL_ATTR_FAMILY_ID = 1
const CTRL_ATTR_FAMILY_NAME = 2
/** Two upper bits say "nested" and "in network order". */
const typeMask = 0x3fff
const headerBytes = 20
/** The kernel fills at most 32 KiB of what a reader offers. */
const mostAnswer = 64 * 1024
/** Messages of one answer; a DPU with all its functions has some hundred. */
const mostMessages = 16_384

/** By type; where one stands several times the last counts, as in the kernel. */
export type NetlinkAttributes = ReadonlyMap<number, Buffer>

/** What the kernel answered with instead: `errno` of `errno(3)`. */
export class NetlinkError extends Error {
  override readonly name = 'NetlinkError'
  readonly errno: number

  constructor(errno: number) {
    super(`the kernel refused (errno ${errno})`)
    this.errno = errno
  }
}

export interface NetlinkQuestion {
  readonly family: number
  readonly command: number
  readonly version: number
  readonly attributes: Buffer
  /** Ask for all that there are, instead of one. */
  readonly isDump?: boolean
}

export class Netlink implements Disposable {
  readonly #libc: Libc
  readonly #socket: number
  readonly #answer = Buffer.alloc(mostAnswer)
  #sequence = 0

  private constructor(libc: Libc, socket: number) {
    this.#libc = libc
    this.#socket = socket
  }

  /** Undefined where the kernel has none. @throws PermanentError LIBRARY_MISSING where libc cannot be called. */
  static async open(): Promise<Netlink | undefined> {
    const libc = await loadLibc()
    const socket = libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC)
    return socket < 0 ? undefined : new Netlink(libc, socket)
  }

  /** The number of a family of that name; undefined where the kernel has none, or not now. */
  async family(name: string): Promise<number | undefined> {
    const attributes = attribute(CTRL_ATTR_FAMILY_NAME, text(name))
    const question = { family: GENL_ID_CTRL, command: CTRL_CMD_GETFAMILY, version: 1, attributes }
    try {
      const [found] = await this.ask(question)
      return found?.get(CTRL_ATTR_FAMILY_ID)?.readUInt16LE(0)
    } catch (error) {
      if (error instanceof NetlinkError) return undefined
      throw error
    }
  }

  /**
   * The kernel works while it is asked, so that this is done on another thread; by then its answer is there. One
   * question at a time. @throws NetlinkError
   */
  async ask(question: NetlinkQuestion): Promise<NetlinkAttributes[]> {
    const sequence = (this.#sequence = (this.#sequence + 1) >>> 0)
    const message = encodeQuestion(question, sequence)
    if ((await this.#libc.sendLater(this.#socket, message, message.length, 0)) < 0) throw new NetlinkError(0)
    const found: NetlinkAttributes[] = []
    while (found.length < mostMessages) {
      const size = this.#libc.recv(this.#socket, this.#answer, mostAnswer, MSG_DONTWAIT)
      if (size < 0) throw new NetlinkError(this.#libc.errno())
      // What the messages hold is copied: the buffer is used again.
      if (decodeAnswer(Buffer.from(this.#answer.subarray(0, size)), sequence, found)) return found
    }
    return found
  }

  [Symbol.dispose](): void {
    this.#libc.close(this.#socket)
  }
}

function encodeQuestion({ family, command, version, attributes, isDump }: NetlinkQuestion, sequence: number) {
  const header = Buffer.alloc(headerBytes)
  header.writeUInt32LE(headerBytes + attributes.length, 0)
  header.writeUInt16LE(family, 4)
  header.writeUInt16LE(NLM_F_REQUEST | (isDump === true ? NLM_F_DUMP : NLM_F_ACK), 6)
  header.writeUInt32LE(sequence, 8)
  header[16] = command
  header[17] = version
  return Buffer.concat([header, attributes])
}

/**
 * Adds what the messages of one read hold; true at the end of the answer. Messages of earlier questions are passed over.
 * @throws NetlinkError where the kernel says so.
 */
export function decodeAnswer(bytes: Buffer, sequence: number, found: NetlinkAttributes[]): boolean {
  for (let at = 0; at + 16 <= bytes.length;) {
    const length = bytes.readUInt32LE(at)
    if (length < 16 || at + length > bytes.length) return true
    const type = bytes.readUInt16LE(at + 4)
    if (bytes.readUInt32LE(at + 8) === sequence) {
      if (type === NLMSG_ERROR || type === NLMSG_DONE) {
        const error = length >= 20 ? bytes.readInt32LE(at + 16) : 0
        if (error !== 0) throw new NetlinkError(-error)
        return true
      }
      if (length >= headerBytes) found.push(attributesIn(bytes.subarray(at + headerBytes, at + length)))
    }
    at += (length + 3) & ~3
  }
  return false
}

/** What stands in a message, or in an attribute that nests. */
export function attributesIn(bytes: Buffer): NetlinkAttributes {
  const found = new Map<number, Buffer>()
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = bytes.readUInt16LE(at)
    if (length < 4 || at + length > bytes.length) break
    found.set(bytes.readUInt16LE(at + 2) & typeMask, bytes.subarray(at + 4, at + length))
    at += (length + 3) & ~3
  }
  return found
}

/** An attribute, padded. */
export function attribute(type: number, content: Buffer): Buffer {
  const out = Buffer.alloc(4 + ((content.length + 3) & ~3))
  out.writeUInt16LE(4 + content.length, 0)
  out.writeUInt16LE(type, 2)
  content.copy(out, 4)
  return out
}

/** One that holds others. */
export const nested = (type: number, ...content: Buffer[]): Buffer =>
  attribute(type | 0x8000, Buffer.concat(content))

export const text = (value: string): Buffer => Buffer.from(`${value}\0`)

export function textOf(content: Buffer | undefined): string {
  return content?.toString('utf8').replace(/\0.*$/s, '') ?? ''
}

export function number(value: number): Buffer {
  const out = Buffer.alloc(4)
  out.writeUInt32LE(value, 0)
  return out
}

/** Of one to eight bytes: counters grew with the kernel. */
export function numberOf(content: Buffer | undefined): bigint | undefined {
  if (content === undefined || content.length === 0 || content.length > 8) return undefined
  const wide = Buffer.alloc(8)
  content.copy(wide)
  return wide.readBigUInt64LE(0)
}
