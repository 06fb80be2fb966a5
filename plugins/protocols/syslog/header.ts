// The header of RFC 3164 lines and of what devices send instead: without a host, without a time, with a sequence
// number in front (IOS), with an ISO timestamp (rsyslog). Finds offsets only; nothing is copied.
//
//   [SEQUENCE ": "] [HOST ": "] [TIMESTAMP] [HOST] TAG ["[" PID "]"] ":" CONTENT
import type { TimeReader } from './time.ts'

const longestTag = 128
const longestHost = 255

/** Offsets of the fields found last; -1 where a field is absent. */
export class Header3164 {
  readonly #time: TimeReader
  hostStart = -1
  hostEnd = 0
  appStart = -1
  appEnd = 0
  procStart = -1
  procEnd = 0
  bodyStart = 0
  /** The number that IOS puts in front of each line, or -1. */
  sequence = -1

  constructor(time: TimeReader) {
    this.#time = time
  }

  #clear(): void {
    this.hostStart = this.appStart = this.procStart = this.sequence = -1
  }

  /**
   * Reads what stands behind the PRI. False where nothing says that this is syslog: neither a PRI nor a time.
   * The time stays as it was where the line has none.
   */
  read(
    bytes: Buffer,
    start: number,
    end: number,
    now: number,
    local: boolean,
    hasPriority: boolean,
  ): boolean {
    this.#clear()
    let behind = this.#timestamp(bytes, start, end, now)
    if (behind < 0 && hasPriority) behind = this.#afterPrefix(bytes, start, end, now)
    if (behind >= 0) {
      this.#rest(bytes, behind, end, local)
      return true
    }
    this.#clear()
    if (!hasPriority) return false
    this.bodyStart = start
    this.#tag(bytes, start, end)
    return true
  }

  /** Reads host, tag and content behind a time that was read already. */
  readRest(bytes: Buffer, start: number, end: number, local: boolean): void {
    this.#clear()
    this.#rest(bytes, start, end, local)
  }

  #timestamp(bytes: Buffer, start: number, end: number, now: number): number {
    const first = bytes[start] ?? 0
    const { seconds, nanos } = this.#time
    let behind = -1
    if (first > 0x39 || first === 0x2a || first === 0x2e) behind = this.#time.bsd(bytes, start, end, now)
    else if (isDigit(first)) {
      behind =
        bytes[start + 4] === 0x2d
          ? this.#time.iso(bytes, start, end, now, true)
          : this.#time.bsd(bytes, start, end, now)
      if (behind >= 0 && bytes[behind] === 0x3a) behind++
    }
    if (behind >= 0 && (behind === end || bytes[behind] === 0x20)) return behind
    this.#time.seconds = seconds
    this.#time.nanos = nanos
    return -1
  }

  // `123: `, `host: ` or both before a timestamp.
  #afterPrefix(bytes: Buffer, start: number, end: number, now: number): number {
    let at = start
    let digits = at
    while (digits < end && digits - at < 15 && isDigit(bytes[digits])) digits++
    if (digits > at && bytes[digits] === 0x3a && bytes[digits + 1] === 0x20 && digits + 1 < end) {
      const behind = this.#timestamp(bytes, digits + 2, end, now)
      if (behind < 0) at = digits + 2
      this.sequence = Number(bytes.toString('latin1', start, digits))
      if (behind >= 0) return behind
      if (bytes[at] === 0x25) return at - 1
    }
    const hostEnd = hostAt(bytes, at, end)
    if (hostEnd === at || bytes[hostEnd] !== 0x3a || bytes[hostEnd + 1] !== 0x20) return -1
    const behind = this.#timestamp(bytes, hostEnd + 2, end, now)
    if (behind >= 0) {
      this.hostStart = at
      this.hostEnd = hostEnd
    }
    return behind
  }

  #rest(bytes: Buffer, start: number, end: number, local: boolean): void {
    let at = start
    if (bytes[at] === 0x20 && at < end) at++
    this.bodyStart = Math.min(at, end)
    if (this.#tag(bytes, at, end) || local || this.hostStart >= 0) return
    const hostEnd = hostAt(bytes, at, end)
    if (hostEnd === at || (hostEnd < end && bytes[hostEnd] !== 0x20)) return
    this.hostStart = at
    this.hostEnd = hostEnd
    at = Math.min(hostEnd + 1, end)
    // `host : %ASA-4-106023: …`
    if (bytes[at] === 0x3a && bytes[at + 1] === 0x20 && bytes[at + 2] === 0x25 && at + 2 < end) at += 2
    this.bodyStart = at
    this.#tag(bytes, at, end)
  }

  /** `tag:`, `tag[pid]:` or `tag[pid] `; moves the body behind it. */
  #tag(bytes: Buffer, start: number, end: number): boolean {
    const limit = Math.min(end, start + longestTag)
    let at = start
    while (at < limit && isDigit(bytes[at])) at++
    const digitsEnd = at
    while (at < limit && isTagByte(bytes[at])) at++
    // A number is the beginning of a sentence, such as a sequence or a port, and names no program.
    if (at === digitsEnd || at >= end) return false
    const appEnd = at
    let procStart = -1
    let procEnd = 0
    if (bytes[at] === 0x5b) {
      procStart = at + 1
      procEnd = procStart
      const stop = Math.min(end, procStart + longestTag)
      while (procEnd < stop && bytes[procEnd] !== 0x5d && (bytes[procEnd] ?? 0) > 0x20) procEnd++
      if (procEnd >= stop || bytes[procEnd] !== 0x5d) return false
      at = procEnd + 1
      if (at < end && bytes[at] !== 0x3a && bytes[at] !== 0x20) return false
    } else if (bytes[at] !== 0x3a) return false
    if (bytes[at] === 0x3a && at < end) {
      at++
      // `10:30`, `http://x` and `fe80::1` are no tags; only a mnemonic may do without the space.
      if (at < end && bytes[at] !== 0x20 && bytes[start] !== 0x25 && procStart < 0) return false
    }
    if (bytes[at] === 0x20 && at < end) at++
    this.appStart = start
    this.appEnd = appEnd
    this.procStart = procEnd > procStart ? procStart : -1
    this.procEnd = procEnd
    this.bodyStart = at
    return true
  }
}

export function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39
}

// Printable, no space, and none of `:` `[` that end a tag.
function isTagByte(byte: number | undefined): boolean {
  return byte !== undefined && byte > 0x20 && byte !== 0x7f && byte !== 0x3a && byte !== 0x5b && byte !== 0x22
}

/** End of a host name or IP address, or `start`. An IPv6 address holds two colons at least. */
function hostAt(bytes: Buffer, start: number, end: number): number {
  const limit = Math.min(end, start + longestHost)
  let at = start
  let colons = 0
  for (; at < limit; at++) {
    const byte = bytes[at] ?? 0
    if (byte === 0x3a) {
      // The colon that ends `host: ` is none of the name.
      if (bytes[at + 1] === 0x20 && bytes[at - 1] !== 0x3a) break
      colons++
    } else if (!isHostByte(byte)) break
  }
  return colons === 1 ? start : at
}

function isHostByte(byte: number): boolean {
  if (byte >= 0x61 && byte <= 0x7a) return true
  if (byte >= 0x2d && byte <= 0x39) return true
  return (byte >= 0x41 && byte <= 0x5a) || byte === 0x5f || byte === 0x25 || byte >= 0x80
}
