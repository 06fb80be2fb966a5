// Values of a stream of MessagePack, one by one as they are whole: of the forward protocol either side sends such a stream.
import { MalformedPack, PackScanner } from './msgpack.ts'

/** Collects what comes and hands out whole values; never holds more than one value of `maxBytes` and a chunk. */
export class PackStream {
  readonly #maxBytes: number
  readonly #scanner = new PackScanner()
  #buffer = Buffer.alloc(0)
  #from = 0
  #to = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  push(chunk: Buffer): void {
    this.#compact()
    const needed = this.#to + chunk.length
    if (needed > this.#buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(needed, Math.min(this.#buffer.length * 2, this.#maxBytes)))
      this.#buffer.copy(grown, 0, 0, this.#to)
      this.#buffer = grown
    }
    chunk.copy(this.#buffer, this.#to)
    this.#to = needed
  }

  /**
   * The next whole value, a copy; undefined where more is needed.
   * @throws MalformedPack where it is none, or larger than allowed.
   */
  next(): Buffer | undefined {
    if (this.isEmpty) return undefined
    const end = this.#scanner.scan(this.#buffer, this.#to)
    if ((end < 0 ? this.#to : end) - this.#from > this.#maxBytes)
      throw new MalformedPack(`a message of more than ${this.#maxBytes} bytes`)
    if (end < 0) return undefined
    const value = Buffer.from(this.#buffer.subarray(this.#from, end))
    this.#from = end
    this.#scanner.reset(end)
    return value
  }

  get isEmpty(): boolean {
    return this.#from === this.#to
  }

  /** Once a chunk, so that many small messages are not moved again and again. */
  #compact(): void {
    const from = this.#from
    if (from === 0) return
    this.#buffer.copyWithin(0, from, this.#to)
    this.#to -= from
    this.#from = 0
    this.#scanner.moved(from)
    // What one large message took is given back.
    if (this.#to === 0 && this.#buffer.length > 1024 * 1024) this.#buffer = Buffer.alloc(0)
  }
}
