// Looks at the fixed header of each MQTT packet (MQTT 3.1.1 §2.2), so that a connection can be ended before an oversized
// one is in memory; for the embedded broker, and for clients of a broker that lets others say what it likes.
//
//   byte 1  type and flags       bytes 2–5  remaining length: 7 bits each, least significant first, top bit = more

export const connectType = 1
export const connackType = 2

export interface FrameLimits {
  /** Type of the packet that must come first, and its largest length. */
  first: number
  firstBytes: number
  /** The largest length of those that follow. */
  bytes: number
}

/** Finds where packets begin and end, across chunks, without keeping a byte. */
export class PacketFrames {
  readonly #limits: FrameLimits
  #state: 'type' | 'length' | 'body' = 'type'
  #shift = 0
  #length = 0
  #left = 0
  #first = true
  /** Bytes of the packet that is under way; 0 between packets. */
  begun = 0

  constructor(limits: FrameLimits) {
    this.#limits = limits
  }

  /** Why the connection must end; undefined when all is well. */
  take(chunk: Uint8Array): string | undefined {
    let at = 0
    while (at < chunk.length) {
      if (this.#state === 'body') {
        const step = Math.min(this.#left, chunk.length - at)
        at += step
        this.begun += step
        this.#left -= step
        if (this.#left === 0) this.#next()
        continue
      }
      const byte = chunk[at++] ?? 0
      this.begun++
      if (this.#state === 'type') {
        const { first } = this.#limits
        if (this.#first && byte >>> 4 !== first)
          return `the first packet is no ${first === connectType ? 'CONNECT' : 'CONNACK'}`
        this.#state = 'length'
        this.#shift = 0
        this.#length = 0
        continue
      }
      this.#length += (byte & 0x7f) * 2 ** this.#shift
      this.#shift += 7
      if (byte >= 0x80) {
        if (this.#shift >= 28) return 'the length of a packet is malformed'
        continue
      }
      const limit = this.#first ? this.#limits.firstBytes : this.#limits.bytes
      if (this.#length > limit) return `a packet of ${this.#length} bytes, at most ${limit} are allowed`
      this.#left = this.#length
      this.#state = 'body'
      if (this.#left === 0) this.#next()
    }
    return undefined
  }

  #next(): void {
    this.#state = 'type'
    this.#first = false
    this.begun = 0
  }
}
