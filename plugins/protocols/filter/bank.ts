// Up to 31 rules, matched together: one bit each. Class, severity, name and Resource are looked up in tables; the
// attributes are walked over once, whatever the number of rules, and values that come again are not judged again.
import { classes, rank } from '../../contract/signal.ts'
import type { AttributeValue } from '../../contract/values.ts'
import { nameTest, valueTest } from './conditions.ts'
import type { ValueTest } from './conditions.ts'
import { keyTests } from './key-tests.ts'
import type { KeyTests } from './key-tests.ts'
import { AttributeWalk, mostPlaces } from './record.ts'
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
  readonly #slots = new Uint16Array(256)
  readonly #next: Uint16Array
  /** In which turn a key was last seen, and where its value stood. */
  readonly #seen: Int32Array
  readonly #valueStarts: Int32Array
  readonly #valueEnds: Int32Array
  /** At which place of a record each was found last. */
  readonly #places: Uint8Array
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
    this.#next = new Uint16Array(this.#keys.length)
    this.#seen = new Int32Array(this.#keys.length)
    this.#places = new Uint8Array(this.#keys.length)
    this.#valueStarts = new Int32Array(this.#keys.length)
    this.#valueEnds = new Int32Array(this.#keys.length)
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

  /**
   * Asks of the attribute first that most rules speak of: what no rule asks of any more is not looked for. Each is looked
   * for where it stood last; where one is not there, all are found anew.
   */
  #ofAttributes(record: RecordFacts, given: number): number {
    const turn = (this.#turn = (this.#turn + 1) | 0)
    const { bytes, view } = record
    const keys = this.#keys
    const asking = this.#attributeRules
    let areFound = false
    let alive = given
    for (let index = 0; index < keys.length; index++) {
      const key = keys[index] as KeyTests // below the length
      if ((alive & key.needs) === 0) continue
      if (!areFound && !this.#isInPlace(index, key, record, turn)) {
        this.#find(record, turn)
        areFound = true
      }
      const fits =
        this.#seen[index] === turn
          ? key.judge(bytes, view, this.#valueStarts[index] ?? 0, this.#valueEnds[index] ?? 0)
          : key.absent
      alive &= ~key.needs | fits
      if ((alive & asking) === 0) return alive
    }
    return alive
  }

  /** Records of one source have their attributes in one order. */
  #isInPlace(index: number, { lead }: KeyTests, record: RecordFacts, turn: number): boolean {
    const { bytes, view, attributeStarts: starts, attributeEnds: ends, attributeCount: count } = record
    const place = this.#places[index] ?? 0
    if (place >= count || count > mostPlaces) return false
    const start = starts[place] ?? 0
    const end = ends[place] ?? 0
    const size = lead.within(view, start, end)
    if (size === 0) return false
    const value = valueStart(bytes, start + size, end)
    if (value === 0) return false
    // Of a key that stands there twice, the first counts: none before it may be like it.
    const length = size - 3
    const tail = view.getInt32(start + length - 2, true)
    for (let at = 0; at < place; at++) {
      const before = starts[at] ?? 0
      if (bytes[before] !== 0x0a) return false
      if (bytes[before + 1] === length && view.getInt32(before + length - 2, true) === tail) return false
    }
    this.#noteValue(index, value, end, turn, place)
    return true
  }

  #find(record: RecordFacts, turn: number): void {
    if (record.attributeCount > mostPlaces) return this.#findMany(record, turn)
    const { bytes, attributeStarts: starts, attributeEnds: ends, attributeCount: count } = record
    for (let at = 0; at < count; at++) {
      const start = starts[at] ?? 0
      const end = ends[at] ?? 0
      const keyEnd = start + 2 + (bytes[start + 1] ?? 0)
      const isUsual = bytes[start] === 0x0a && keyEnd < start + 130 && bytes[keyEnd] === 0x12
      const value = isUsual ? valueStart(bytes, keyEnd + 1, end) : 0
      if (value > 0) this.#note(record, start + 2, keyEnd, value, end, turn, at)
      else {
        const walk = this.#walk
        walk.read(bytes, start, end)
        this.#note(record, walk.keyStart, walk.keyEnd, walk.valueStart, walk.valueEnd, turn, at)
      }
    }
  }

  #findMany(record: RecordFacts, turn: number): void {
    const { bytes, attributesStart, attributesEnd, layout } = record
    const walk = this.#walk.over(bytes, attributesStart, attributesEnd, layout.attributes)
    while (walk.next())
      this.#note(record, walk.keyStart, walk.keyEnd, walk.valueStart, walk.valueEnd, turn, 0)
  }

  /** Remembers where the value of an attribute stands that is asked about. */
  #note(
    { bytes, view }: RecordFacts,
    keyStart: number,
    keyEnd: number,
    start: number,
    end: number,
    turn: number,
    place: number,
  ): void {
    for (let at = this.#slots[slotOf(bytes, keyStart, keyEnd)] ?? 0; at > 0; at = this.#next[at - 1] ?? 0) {
      if (!(this.#keys[at - 1] as KeyTests).is(view, keyStart, keyEnd)) continue
      if (this.#seen[at - 1] !== turn) this.#noteValue(at - 1, start, end, turn, place)
      return
    }
  }

  #noteValue(key: number, start: number, end: number, turn: number, place: number): void {
    this.#seen[key] = turn
    this.#valueStarts[key] = start
    this.#valueEnds[key] = end
    this.#places[key] = place
  }
}

/** Where a value begins whose length, of one byte or three, stands at `at`; 0 where it does not end with its attribute. */
function valueStart(bytes: Uint8Array, at: number, end: number): number {
  const size = bytes[at] ?? 0
  if (size < 0x80) return at + 1 + size === end ? at + 1 : 0
  const long = (size & 0x7f) | (((bytes[at + 1] ?? 0) & 0x7f) << 7) | ((bytes[at + 2] ?? 0x80) << 14)
  return at + 3 + long === end ? at + 3 : 0
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
