// Up to 31 rules, matched together: one bit each. Class, severity, name and Resource are looked up in tables; the
// attributes are walked over once, whatever the number of rules, and values that come again are not judged again.
import { classes, rank } from '../../contract/signal.ts'
import type { AttributeValue } from '../../contract/values.ts'
import { nameTest, valueTest } from './conditions.ts'
import type { ValueTest } from './conditions.ts'
import { AttributeWalk, mostPlaces, textOf } from './record.ts'
import type { RecordFacts } from './record.ts'
import { severities } from './settings.ts'
import type { Match } from './settings.ts'

export const bankSize = 31
const highestSeverity = 24
const mostNames = 4096

export class Bank {
  /** Bits of rules by class, and by severity. */
  readonly #byClass: Int32Array
  readonly #bySeverity: Int32Array
  readonly #bySignal: Readonly<Record<RecordFacts['signal'], number>>
  readonly #named: readonly { bit: number; fits: (text: string) => boolean }[]
  readonly #names = new Map<string, number>()
  readonly #noName: number
  readonly #resource: readonly { bit: number; key: string; test: ValueTest }[]
  #ofResource = -1
  readonly #keys: readonly KeyTests[]
  /** First of the keys with such a hash, + 1. */
  readonly #slots = new Uint8Array(256)
  readonly #next: Uint8Array
  /** In which turn a key was last seen. */
  readonly #seen: Int32Array
  #turn = 0
  /** Rules that ask of an attribute. */
  readonly #attributeRules: number
  readonly #walk = new AttributeWalk()

  constructor(matches: readonly Match[]) {
    const bitsOf = (holds: (match: Match) => boolean): number =>
      matches.reduce((bits, match, index) => (holds(match) ? bits | (1 << index) : bits), 0)
    this.#byClass = Int32Array.from(classes, (name) => bitsOf((match) => match.class?.includes(name) ?? true))
    this.#bySeverity = Int32Array.from({ length: highestSeverity + 1 }, (_, severity) =>
      bitsOf((match) => fitsSeverity(match, severity)),
    )
    const ofSignal = (signal: RecordFacts['signal']) =>
      bitsOf((match) => (match.signal?.includes(signal) ?? true) && (signal === 'logs' || !match.body))
    this.#bySignal = { logs: ofSignal('logs'), metrics: ofSignal('metrics'), traces: ofSignal('traces') }
    this.#named = matches.flatMap(({ name }, index) =>
      name ? [{ bit: 1 << index, fits: nameTest(name) }] : [],
    )
    this.#noName = this.#judgeName('')
    this.#resource = matches.flatMap(({ resource }, index) =>
      Object.entries(resource ?? {}).map(([key, condition]) => ({
        bit: 1 << index,
        key,
        test: valueTest(condition),
      })),
    )
    this.#keys = keyTests(matches)
    this.#next = new Uint8Array(this.#keys.length)
    this.#seen = new Int32Array(this.#keys.length)
    this.#attributeRules = this.#keys.reduce((bits, { needs }) => bits | needs, 0)
    for (const [index, { key }] of this.#keys.entries()) {
      const slot = slotOf(key, 0, key.length)
      this.#next[index] = this.#slots[slot] ?? 0
      this.#slots[slot] = index + 1
    }
  }

  get asksResource(): boolean {
    return this.#resource.length > 0
  }

  /** Another Resource holds from here on. */
  resource(attributes: Readonly<Record<string, AttributeValue>>): void {
    let alive = -1
    for (const { bit, key, test } of this.#resource) {
      const value = Object.hasOwn(attributes, key) ? attributes[key] : undefined
      const holds = value === undefined ? test.absent : (test.fits?.(plainText(value)) ?? true)
      if (!holds) alive &= ~bit
    }
    this.#ofResource = alive
  }

  /** The rules whose conditions hold, one bit each; those on the body are not asked yet. */
  match(record: RecordFacts): number {
    let alive =
      this.#ofResource &
      this.#bySignal[record.signal] &
      (this.#byClass[rank[record.class]] ?? 0) &
      (this.#bySeverity[record.severity] ?? this.#bySeverity[0] ?? 0)
    if (alive === 0) return 0
    if (this.#named.length > 0) alive &= this.#ofName(record)
    return (alive & this.#attributeRules) === 0 ? alive : this.#ofAttributes(record, alive)
  }

  #ofName(record: RecordFacts): number {
    if (record.signal !== 'metrics' && record.nameEnd === record.nameStart) return this.#noName
    const { name } = record
    let bits = this.#names.get(name)
    if (bits === undefined) {
      if (this.#names.size >= mostNames) this.#names.clear()
      this.#names.set(name, (bits = this.#judgeName(name)))
    }
    return bits
  }

  #judgeName(name: string): number {
    let bits = -1
    for (const { bit, fits } of this.#named) if (!fits(name)) bits &= ~bit
    return bits
  }

  #ofAttributes(record: RecordFacts, given: number): number {
    const turn = (this.#turn = (this.#turn + 1) | 0)
    if (record.attributeCount > mostPlaces) return this.#ofMany(record, given, turn)
    const { bytes, attributeStarts: starts, attributeEnds: ends } = record
    const asking = this.#attributeRules
    let alive = given
    for (let at = 0; at < record.attributeCount; at++) {
      const start = starts[at] ?? 0
      const end = ends[at] ?? 0
      const keyEnd = start + 2 + (bytes[start + 1] ?? 0)
      // Key, then value, both with a length of one byte or three, as nearly everyone writes them.
      let value = keyEnd + 2
      let size = bytes[keyEnd + 1] ?? 0
      if (size >= 0x80) {
        size = (size & 0x7f) | (((bytes[keyEnd + 2] ?? 0) & 0x7f) << 7) | ((bytes[keyEnd + 3] ?? 0x80) << 14)
        value += 2
      }
      if (bytes[start] === 0x0a && keyEnd < start + 130 && bytes[keyEnd] === 0x12 && value + size === end) {
        alive = this.#ofOne(record, start + 2, keyEnd, value, end, alive, turn)
      } else {
        const walk = this.#walk
        walk.read(bytes, start, end)
        alive = this.#ofOne(record, walk.keyStart, walk.keyEnd, walk.valueStart, walk.valueEnd, alive, turn)
      }
      if ((alive & asking) === 0) return alive
    }
    return this.#ofAbsent(alive, turn)
  }

  #ofMany(record: RecordFacts, given: number, turn: number): number {
    const { bytes, attributesStart, attributesEnd, layout } = record
    const walk = this.#walk.over(bytes, attributesStart, attributesEnd, layout.attributes)
    let alive = given
    while (walk.next()) {
      alive = this.#ofOne(record, walk.keyStart, walk.keyEnd, walk.valueStart, walk.valueEnd, alive, turn)
    }
    return this.#ofAbsent(alive, turn)
  }

  #ofOne(
    record: RecordFacts,
    keyStart: number,
    keyEnd: number,
    start: number,
    end: number,
    alive: number,
    turn: number,
  ): number {
    const { bytes, view } = record
    for (let at = this.#slots[slotOf(bytes, keyStart, keyEnd)] ?? 0; at > 0; at = this.#next[at - 1] ?? 0) {
      const key = this.#keys[at - 1] as KeyTests // entered
      if (!key.is(view, keyStart, keyEnd)) continue
      // Of a key that stands there twice, the first counts.
      if (this.#seen[at - 1] === turn) return alive
      this.#seen[at - 1] = turn
      if ((alive & key.needs) === 0) return alive
      return alive & (~key.needs | key.judge(bytes, view, start, end))
    }
    return alive
  }

  #ofAbsent(given: number, turn: number): number {
    let alive = given
    for (let index = 0; index < this.#keys.length; index++) {
      if (this.#seen[index] === turn) continue
      const { needs, absent } = this.#keys[index] as KeyTests // below the length
      alive &= ~needs | absent
    }
    return alive
  }
}

const slotOf = (bytes: Uint8Array, start: number, end: number): number =>
  (end - start + (bytes[(start + end) >> 1] ?? 0) * 3 + (bytes[end - 1] ?? 0) * 7) & 255

function fitsSeverity({ severity }: Match, number: number): boolean {
  if (!severity) return true
  // 0 is a severity that nobody gave.
  if (number === 0) return false
  const { at_least: least, below } = severity
  return (!least || number >= severities[least]) && (!below || number < severities[below])
}

const plainText = (value: AttributeValue): string =>
  typeof value === 'object'
    ? JSON.stringify(value, (_, inner: unknown) => (typeof inner === 'bigint' ? inner.toString() : inner))
    : String(value)

function keyTests(matches: readonly Match[]): KeyTests[] {
  const byKey = new Map<string, { bit: number; test: ValueTest }[]>()
  for (const [index, { attributes }] of matches.entries()) {
    for (const [key, condition] of Object.entries(attributes ?? {})) {
      const tests = byKey.get(key) ?? []
      tests.push({ bit: 1 << index, test: valueTest(condition) })
      byKey.set(key, tests)
    }
  }
  return [...byKey].map(([key, tests]) => new KeyTests(Buffer.from(key), tests))
}

const cacheBits = 9
const cacheSlots = 1 << cacheBits
/** Four bytes each: eight, and the last four, which may overlap. */
const wordsCached = 9
const longestCached = 36

/** What all rules of a bank ask of one attribute. Bytes are compared four at a time. */
class KeyTests {
  readonly key: Buffer
  readonly #keyWords: Int32Array
  /** Rules that ask of it, and those of them that hold where it is absent. */
  readonly needs: number
  readonly absent: number
  readonly #present: number
  readonly #tests: readonly { bit: number; fits: (text: string) => boolean }[]
  // Values seen, as they are encoded: length + 1, the bytes, the rules that hold.
  readonly #lengths = new Uint8Array(cacheSlots)
  readonly #values = new Int32Array(cacheSlots * wordsCached)
  readonly #bits = new Int32Array(cacheSlots)

  constructor(key: Buffer, tests: readonly { bit: number; test: ValueTest }[]) {
    this.key = key
    const view = new DataView(key.buffer, key.byteOffset, key.length)
    this.#keyWords = Int32Array.from({ length: Math.max(1, Math.ceil(key.length / 4)) }, (_, index) =>
      wordAt(view, 0, key.length, index * 4),
    )
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
    const values = this.#values
    const base = slot * wordsCached
    if (this.#lengths[slot] === size + 1 && values[base] === last) {
      let word = base + 1
      let at = start
      while (at < end - 4 && values[word] === view.getInt32(at, true)) {
        at += 4
        word++
      }
      if (at >= end - 4) return this.#bits[slot] ?? 0
    }
    const bits = this.#evaluate(bytes, start, end)
    this.#lengths[slot] = size + 1
    this.#bits[slot] = bits
    values[base] = last
    for (let at = start, word = base + 1; at < end - 4; at += 4, word++)
      values[word] = view.getInt32(at, true)
    return bits
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
