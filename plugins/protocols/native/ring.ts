// Datagrams on their way from the receiving thread to the main one: one writer, one reader, one shared array of bytes,
// no lock. The reader looks at datagrams in place; a bell is rung only when it sleeps.
//
//   entry   u32 size of the datagram | u32 flags: socket, truncated, ASCII | u32 family | 16 bytes of address | datagram,
//           padded to 4 bytes. An entry never wraps: `wrap` in place of a size sends the reader to the beginning.
export const headerBytes = 28
const wrap = 0xffff_ffff

const headAt = 0
const tailAt = 1
const sleepingAt = 2
const stopAt = 3
/** Where the counters of kernel drops begin, one for each socket. */
const dropsAt = 4
const mostSockets = 60
/** Of 65,536 datagrams, how many the kernel is to throw away. */
const shedAt = dropsAt + mostSockets
/** Whether it does. */
const filteringAt = shedAt + 1

export const truncatedFlag = 0x100
export const asciiFlag = 0x200

export interface SharedRing {
  readonly control: SharedArrayBuffer
  readonly data: SharedArrayBuffer
}

export function createRing(bytes: number): SharedRing {
  return {
    control: new SharedArrayBuffer((filteringAt + 1) * 4),
    data: new SharedArrayBuffer(Math.ceil(bytes / 4) * 4),
  }
}

class RingSide {
  protected readonly control: Int32Array
  protected readonly bytes: Buffer
  protected readonly words: Uint32Array

  constructor(ring: SharedRing) {
    this.control = new Int32Array(ring.control)
    this.bytes = Buffer.from(ring.data)
    this.words = new Uint32Array(ring.data)
  }
}

export class RingWriter extends RingSide {
  /**
   * Copies one datagram in; false where there is no room yet. `source` must begin at a multiple of 4 and may be read up
   * to the next one behind its end.
   */
  write(
    source: Uint32Array,
    from: number,
    size: number,
    flags: number,
    address: Uint32Array,
    at: number,
  ): boolean {
    const need = (headerBytes >> 2) + ((size + 3) >> 2)
    const { words, control } = this
    const head = Atomics.load(control, headAt)
    const tail = Atomics.load(control, tailAt)
    let start = head
    // One word stays free, so that equal positions always mean empty.
    if (head >= tail) {
      if (words.length - head <= need) {
        if (tail <= need) return false
        words[head] = wrap
        start = 0
      }
    } else if (tail - head <= need) return false
    let high = 0
    const body = start + (headerBytes >> 2)
    const count = (size + 3) >> 2
    const whole = size >> 2
    for (let index = 0; index < whole; index++) {
      const word = source[from + index] ?? 0
      high |= word
      words[body + index] = word
    }
    if (whole < count) {
      const word = (source[from + whole] ?? 0) & (0xffff_ffff >>> (32 - (size & 3) * 8))
      high |= word
      words[body + whole] = word
    }
    words[start] = size
    words[start + 1] = flags | ((high & 0x8080_8080) === 0 ? asciiFlag : 0)
    // The family is the low half of the first word of a sockaddr; the address follows at 4 (IPv4) or 8 (IPv6).
    const family = (address[at] ?? 0) & 0xffff
    words[start + 2] = family
    const first = family === 2 ? at + 1 : at + 2
    for (let index = 0; index < 4; index++) words[start + 3 + index] = address[first + index] ?? 0
    Atomics.store(control, headAt, body + count)
    return true
  }

  /** Whether the reader sleeps; it will not be asked again until it does so once more. */
  takeBell(): boolean {
    return Atomics.exchange(this.control, sleepingAt, 0) === 1
  }

  /** Waits until the reader has made room, or the time is over. */
  waitForRoom(timeoutMs: number): void {
    Atomics.wait(this.control, tailAt, Atomics.load(this.control, tailAt), timeoutMs)
  }

  /** Waits, though not into a stop. */
  waitForStop(timeoutMs: number): void {
    Atomics.wait(this.control, stopAt, 0, timeoutMs)
  }

  get stopping(): boolean {
    return Atomics.load(this.control, stopAt) === 1
  }

  /** Of 65,536, as the reader asks. */
  get shed(): number {
    return Atomics.load(this.control, shedAt)
  }

  setFiltering(isFiltering: boolean): void {
    Atomics.store(this.control, filteringAt, isFiltering ? 1 : 0)
  }

  /** Whether the number is a new one. */
  setDrops(socket: number, total: number): boolean {
    return Atomics.exchange(this.control, dropsAt + socket, total | 0) !== (total | 0)
  }
}

/** What `RingReader.read` tells of a datagram; its bytes may be read only until the next call. */
export interface RingEntry {
  start: number
  end: number
  socket: number
  truncated: boolean
  ascii: boolean
  /** AF_INET, AF_INET6, or something else where the sender has no address. */
  family: number
  /** First word of the address; all of an IPv4 address. */
  address: number
  /** Where the bytes of the address begin in `bytes`. */
  addressAt: number
}

export class RingReader extends RingSide {
  readonly entry: RingEntry = {
    start: 0,
    end: 0,
    socket: 0,
    truncated: false,
    ascii: false,
    family: 0,
    address: 0,
    addressAt: 0,
  }
  #next = 0

  get buffer(): Buffer {
    return this.bytes
  }

  /** Moves to the next datagram; false where there is none. What was read stays until `release`. */
  read(): boolean {
    const { control, words, entry } = this
    let tail = this.#next
    if (Atomics.load(control, headAt) === tail) return false
    let size = words[tail] ?? 0
    if (size === wrap) {
      tail = 0
      size = words[0] ?? 0
      this.#next = 0
    }
    const flags = words[tail + 1] ?? 0
    entry.socket = flags & 0xff
    entry.truncated = (flags & truncatedFlag) !== 0
    entry.ascii = (flags & asciiFlag) !== 0
    entry.family = words[tail + 2] ?? 0
    entry.address = words[tail + 3] ?? 0
    entry.addressAt = (tail + 3) * 4
    entry.start = tail * 4 + headerBytes
    entry.end = entry.start + size
    this.#next = tail + (headerBytes >> 2) + ((size + 3) >> 2)
    return true
  }

  /** Gives back the room of all that was read. */
  release(): void {
    if (Atomics.load(this.control, tailAt) === this.#next) return
    Atomics.store(this.control, tailAt, this.#next)
    Atomics.notify(this.control, tailAt)
  }

  /** Says that the reader sleeps; false where something came meanwhile, so that it must read on. */
  sleep(): boolean {
    Atomics.store(this.control, sleepingAt, 1)
    if (Atomics.load(this.control, headAt) === this.#next) return true
    // The bell may be under way already; reading once too often harms nothing.
    Atomics.store(this.control, sleepingAt, 0)
    return false
  }

  stop(): void {
    Atomics.store(this.control, stopAt, 1)
    Atomics.notify(this.control, tailAt)
  }

  /** The part, 0 to 1, of what may be shed that the writer lets the kernel throw away. */
  shed(part: number): void {
    Atomics.store(this.control, shedAt, Math.round(Math.max(0, Math.min(1, part)) * 65_536))
  }

  /** Whether the kernel sheds what it is asked to; where it does not, it is for the reader to do. */
  get isFiltering(): boolean {
    return Atomics.load(this.control, filteringAt) === 1
  }

  /** What the kernel has dropped at a socket since it was made, modulo 2^32. */
  drops(socket: number): number {
    return Atomics.load(this.control, dropsAt + socket) >>> 0
  }
}
