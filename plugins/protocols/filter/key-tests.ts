// What all rules of a bank ask of one attribute: its key is told from others, and values that come again are not judged
// again. Bytes are compared four or eight at a time.
import { valueTest } from './conditions.ts'
import type { ValueTest } from './conditions.ts'
import { textOf } from './record.ts'
import type { Match } from './settings.ts'

/** How nearly everyone writes the KeyValue of a key, up to the length of its value. */
class KeyLead {
  readonly #words: Float64Array
  readonly #size: number

  constructor(key: Uint8Array) {
    const lead = Buffer.concat([Buffer.from([0x0a, key.length]), key, Buffer.from([0x12])])
    const isPlain = key.length >= 5 && key.length < 0x80 && key.every((byte) => byte > 0 && byte < 0x80)
    this.#size = lead.length
    this.#words = Float64Array.from({ length: isPlain ? Math.ceil(lead.length / 8) : 0 }, (_, index) =>
      lead.readDoubleLE(Math.min(index * 8, lead.length - 8)),
    )
  }

  /**
   * How long the lead is where [start, end) begins with it; 0 where it does not. As doubles eight bytes are equal where
   * their bits are: those of a key in ASCII are neither 0 nor no number.
   */
  within(view: DataView, start: number, end: number): number {
    const words = this.#words
    const size = this.#size
    const last = words.length - 1
    if (last < 0 || end - start <= size) return 0
    for (let index = 0; index < last; index++) {
      if (view.getFloat64(start + index * 8, true) !== words[index]) return 0
    }
    return view.getFloat64(start + size - 8, true) === words[last] ? size : 0
  }
}

/** Of the key that most rules ask about first. */
export function keyTests(matches: readonly Match[]): KeyTests[] {
  const byKey = new Map<string, { bit: number; test: ValueTest }[]>()
  for (const [index, { attributes }] of matches.entries()) {
    for (const [key, condition] of Object.entries(attributes ?? {})) {
      const tests = byKey.get(key) ?? []
      tests.push({ bit: 1 << index, test: valueTest(condition) })
      byKey.set(key, tests)
    }
  }
  return [...byKey]
    .toSorted(([, one], [, other]) => other.length - one.length)
    .map(([key, tests]) => new KeyTests(Buffer.from(key), tests))
}

const cacheBits = 9
const cacheSlots = 1 << cacheBits
/** A value seen, as it is encoded, in four bytes each: its length + 1, the rules that hold, the last four, the others. */
const slotWords = 12
const longestCached = 40

export class KeyTests {
  readonly key: Buffer
  readonly #keyWords: Int32Array
  readonly lead: KeyLead
  /** Rules that ask of it, and those of them that hold where it is absent. */
  readonly needs: number
  readonly absent: number
  readonly #present: number
  readonly #tests: readonly { bit: number; fits: (text: string) => boolean }[]
  readonly #cache = new Int32Array(cacheSlots * slotWords)
  /** Which of two slots the next value takes. */
  #isOdd = false

  constructor(key: Buffer, tests: readonly { bit: number; test: ValueTest }[]) {
    this.key = key
    const view = new DataView(key.buffer, key.byteOffset, key.length)
    this.#keyWords = Int32Array.from({ length: Math.max(1, Math.ceil(key.length / 4)) }, (_, index) =>
      wordAt(view, 0, key.length, index * 4),
    )
    this.lead = new KeyLead(key)
    this.needs = tests.reduce((bits, { bit }) => bits | bit, 0)
    this.absent = tests.reduce((bits, { bit, test }) => (test.absent ? bits | bit : bits), 0)
    this.#present = tests.reduce((bits, { bit, test }) => (test.fits ? bits : bits | bit), 0)
    this.#tests = tests.flatMap(({ bit, test }) => (test.fits ? [{ bit, fits: test.fits }] : []))
  }

  is(view: DataView, start: number, end: number): boolean {
    if (end - start !== this.key.length) return false
    const words = this.#keyWords
    const size = end - start
    if (size < 4) return words[0] === shortWord(view, start, size)
    let at = start
    for (let index = 0; index < words.length - 1; index++, at += 4) {
      if (view.getInt32(at, true) !== words[index]) return false
    }
    return view.getInt32(end - 4, true) === words[words.length - 1]
  }

  /** The rules of those that hold of a value. */
  judge(bytes: Buffer, view: DataView, start: number, end: number): number {
    if (this.#tests.length === 0) return this.#present
    const size = end - start
    if (size > longestCached) return this.#evaluate(bytes, start, end)
    const last = size < 4 ? shortWord(view, start, size) : view.getInt32(end - 4, true)
    let hash = Math.imul(last ^ size, 0x9e3779b1)
    for (let at = start; at < end - 4; at += 4) {
      hash = Math.imul((hash ^ view.getInt32(at, true)) + (hash >>> 15), 0x9e3779b1)
    }
    const slot = (hash ^ (hash >>> 13)) >>> (32 - cacheBits)
    if (this.#isAt(slot, view, start, end, last)) return this.#cache[slot * slotWords + 1] ?? 0
    // Two values that come by turns must not drive each other out.
    const other = slot ^ 1
    if (this.#isAt(other, view, start, end, last)) return this.#cache[other * slotWords + 1] ?? 0
    const bits = this.#evaluate(bytes, start, end)
    this.#isOdd = !this.#isOdd
    this.#enter(this.#isOdd ? slot : other, view, start, end, last, bits)
    return bits
  }

  #isAt(slot: number, view: DataView, start: number, end: number, last: number): boolean {
    const cache = this.#cache
    let word = slot * slotWords
    if (cache[word] !== end - start + 1 || cache[word + 2] !== last) return false
    word += 3
    for (let at = start; at < end - 4; at += 4, word++) {
      if (cache[word] !== view.getInt32(at, true)) return false
    }
    return true
  }

  #enter(slot: number, view: DataView, start: number, end: number, last: number, bits: number): void {
    const cache = this.#cache
    let word = slot * slotWords
    cache[word] = end - start + 1
    cache[word + 1] = bits
    cache[word + 2] = last
    word += 3
    for (let at = start; at < end - 4; at += 4, word++) cache[word] = view.getInt32(at, true)
  }

  #evaluate(bytes: Buffer, start: number, end: number): number {
    const text = textOf(bytes, start, end)
    let bits = this.#present
    for (const { bit, fits } of this.#tests) if (fits(text)) bits |= bit
    return bits
  }
}

/** Up to three bytes as one number. */
function shortWord(view: DataView, start: number, size: number): number {
  let word = 0
  for (let at = size - 1; at >= 0; at--) word = (word << 8) | view.getUint8(start + at)
  return word
}

/** Four bytes from `at` on; the last four where there are fewer. */
const wordAt = (view: DataView, start: number, size: number, at: number): number =>
  size < 4 ? shortWord(view, start, size) : view.getInt32(start + Math.min(at, size - 4), true)
