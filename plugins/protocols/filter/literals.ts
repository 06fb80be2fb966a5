// Looks for many literals at once in bytes (Wu and Manber, 1994): a table says for each pair of bytes how far on the
// next literal may end at the earliest, so that most bytes are never looked at. Case of ASCII letters does not count.

const tableBits = 12
const slots = 1 << tableBits
/** No skip is longer; of a longer literal only so much at its beginning is used to skip. */
const longestStride = 32

const fold = Uint8Array.from({ length: 256 }, (_, byte) => (byte >= 0x41 && byte <= 0x5a ? byte + 32 : byte))
const slot = (one: number, other: number): number => ((one << 4) ^ (other * 5)) & (slots - 1)

export class LiteralSearch {
  /** Folded. */
  readonly #literals: readonly Buffer[]
  /** How far on the end of a pair of bytes may move without passing over a literal. */
  readonly #shift = new Uint8Array(slots)
  /** The first literal whose stride ends with a pair of bytes, + 1; the next one with the same. */
  readonly #first = new Uint16Array(slots)
  readonly #next: Uint16Array
  /** Bytes of each literal that take part. */
  readonly #stride: number
  /** Of each literal, in which search it was last found. */
  readonly #found: Uint32Array
  #search = 0

  /** Each has at least two bytes. */
  constructor(literals: readonly string[]) {
    this.#literals = literals.map((text) => Buffer.from(text).map((byte) => fold[byte] ?? 0) as Buffer)
    this.#stride = Math.min(longestStride, ...this.#literals.map(({ length }) => length))
    this.#next = new Uint16Array(literals.length)
    this.#found = new Uint32Array(literals.length)
    this.#shift.fill(Math.max(1, this.#stride - 1))
    for (const [index, literal] of this.#literals.entries()) this.#enter(literal, index)
  }

  #enter(literal: Buffer, index: number): void {
    const stride = this.#stride
    for (let at = 1; at < stride; at++) {
      const way = stride - 1 - at
      for (const pair of pairs(literal[at - 1] ?? 0, literal[at] ?? 0)) {
        this.#shift[pair] = Math.min(this.#shift[pair] ?? 0, way)
      }
    }
    // One list for all forms of the pair: that of the folded one.
    const last = slot(literal[stride - 2] ?? 0, literal[stride - 1] ?? 0)
    this.#next[index] = this.#first[last] ?? 0
    this.#first[last] = index + 1
  }

  get isEmpty(): boolean {
    return this.#literals.length === 0
  }

  /** Finds which are in the bytes; false where none is. */
  run(bytes: Uint8Array, start: number, end: number): boolean {
    const shift = this.#shift
    const stride = this.#stride
    this.#search = (this.#search + 1) >>> 0
    let isAny = false
    if (this.#literals.length === 0) return false
    for (let at = start + stride - 1; at < end;) {
      const one = bytes[at - 1] ?? 0
      const other = bytes[at] ?? 0
      const way = shift[((one << 4) ^ (other * 5)) & (slots - 1)] ?? 1
      if (way > 0) {
        at += way
        continue
      }
      if (this.#verify(bytes, at - stride + 1, end, fold[one] ?? 0, fold[other] ?? 0)) isAny = true
      at++
    }
    return isAny
  }

  /** Whether the last run found it. */
  has(index: number): boolean {
    return this.#found[index] === this.#search
  }

  #verify(bytes: Uint8Array, start: number, end: number, one: number, other: number): boolean {
    let isAny = false
    for (let index = this.#first[slot(one, other)] ?? 0; index > 0; index = this.#next[index - 1] ?? 0) {
      const literal = this.#literals[index - 1] as Buffer // entered
      if (start + literal.length > end) continue
      let at = 0
      while (at < literal.length && fold[bytes[start + at] ?? 0] === literal[at]) at++
      if (at < literal.length) continue
      this.#found[index - 1] = this.#search
      isAny = true
    }
    return isAny
  }
}

/** The slots of a pair in all forms of its letters. */
function pairs(one: number, other: number): number[] {
  return forms(one).flatMap((first) => forms(other).map((second) => slot(first, second)))
}

const forms = (byte: number): number[] => (byte >= 0x61 && byte <= 0x7a ? [byte, byte - 32] : [byte])
