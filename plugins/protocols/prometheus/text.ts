// Prometheus' text format 0.0.4 and OpenMetrics 1.0 text, read in place line by line (prometheus.io, "Exposition
// formats"; the OpenMetrics specification). Names in quotes are those of Prometheus 3.
//
//   "# TYPE" name type | "# UNIT" name unit | "# HELP" name text | "# EOF" | "#" comment
//   name ["{" label "=" DQUOTE value DQUOTE *("," …) [","] "}"] value [timestamp] ["#" exemplar]
//   "{" DQUOTE name DQUOTE *("," label …) "}" value …
import { readDecimal } from '../records/numbers.ts'

export type FamilyType =
  | 'counter'
  | 'gauge'
  | 'histogram'
  | 'gaugehistogram'
  | 'summary'
  | 'info'
  | 'stateset'
  | 'untyped'

const familyTypes: ReadonlyMap<string, FamilyType> = new Map([
  ['counter', 'counter'],
  ['gauge', 'gauge'],
  ['histogram', 'histogram'],
  ['gaugehistogram', 'gaugehistogram'],
  ['summary', 'summary'],
  ['info', 'info'],
  ['stateset', 'stateset'],
  ['untyped', 'untyped'],
  ['unknown', 'untyped'],
])

const newline = 0x0a
const space = 0x20
const tab = 0x09
const quote = 0x22
const hash = 0x23
const comma = 0x2c
const equals = 0x3d
const backslash = 0x5c
const open = 0x7b
const close = 0x7d

const mostLabels = 256
export const longestSample = 64 * 1024

class Malformed extends Error {}

/** Reads one body after another. The bytes are changed: escapes are resolved where they stand. */
export class ExpositionReader {
  bytes: Buffer = Buffer.alloc(0)
  nameStart = 0
  nameEnd = 0
  /** Four offsets for each label: name, value. */
  readonly labels = new Int32Array(mostLabels * 4)
  labelCount = 0
  value = 0
  /** Empty where the sample has no time of its own. */
  timeStart = 0
  timeEnd = 0
  /** The family of the sample, where its name fits the last one that was announced. */
  family = ''
  type: FamilyType = 'untyped'
  unit = ''
  /** Grows with each family. */
  familyIndex = 0
  lineNumber = 0
  reason = ''
  /** Whether `# EOF` was seen: the body of an OpenMetrics exposition is whole. */
  isComplete = false
  #at = 0
  #number = 1

  reset(bytes: Buffer): this {
    this.bytes = bytes
    this.#at = 0
    this.#number = 1
    this.family = this.unit = ''
    this.type = 'untyped'
    this.familyIndex = 0
    this.isComplete = false
    return this
  }

  next(): 'sample' | 'malformed' | 'end' {
    for (;;) {
      const start = this.#skip(this.#at)
      if (start >= this.bytes.length) return 'end'
      const found = this.bytes.indexOf(newline, start)
      const end = found < 0 ? this.bytes.length : found
      this.#at = end + 1
      this.lineNumber = this.#number++
      if (end === start || this.bytes[start] === 0x0d) continue
      if (this.bytes[start] === hash) {
        this.#comment(start + 1, end)
        continue
      }
      try {
        if (end - start > longestSample) throw new Malformed(`longer than ${longestSample} bytes`)
        this.#sample(start, this.bytes[end - 1] === 0x0d ? end - 1 : end)
        return 'sample'
      } catch (error) {
        if (!(error instanceof Malformed)) throw error
        this.reason = error.message
        return 'malformed'
      }
    }
  }

  /** Begins a family that no line has announced. */
  #begin(family: string, type: FamilyType): void {
    this.family = family
    this.type = type
    this.unit = ''
    this.familyIndex++
  }

  #comment(start: number, end: number): void {
    const text = this.bytes.toString('utf8', start, Math.min(end, start + 2000))
    const [, keyword = '', quoted, plain = '', rest = ''] =
      /^[ \t]*(TYPE|UNIT|HELP|EOF)(?:[ \t]+(?:"((?:[^"\\]|\\.)*)"|(\S+))(?:[ \t]+(\S+))?.*)?$/s.exec(text) ??
      []
    if (keyword === 'EOF') this.isComplete = true
    if (keyword === '' || keyword === 'EOF') return
    const name = quoted === undefined ? plain : quoted.replaceAll(/\\(.)/g, '$1')
    if (name !== this.family) this.#begin(name, 'untyped')
    if (keyword === 'TYPE') this.type = familyTypes.get(rest) ?? 'untyped'
    else if (keyword === 'UNIT') this.unit = rest
  }

  #sample(start: number, end: number): void {
    const { bytes } = this
    this.labelCount = 0
    let at = start
    this.nameStart = this.nameEnd = start
    if (bytes[at] !== open) {
      while (at < end && isNameByte(bytes[at] ?? 0)) at++
      this.nameEnd = at
      if (at === start) throw new Malformed('no name')
    }
    at = this.#skip(at)
    if (bytes[at] === open) at = this.#labels(at + 1, end)
    if (this.nameEnd === this.nameStart) throw new Malformed('no name')
    at = this.#skip(at)
    const valueStart = at
    while (at < end && (bytes[at] ?? 0) > space) at++
    this.value = valueOf(bytes, valueStart, at)
    if (Number.isNaN(this.value) && !isWord(bytes, valueStart, at, 'nan'))
      throw new Malformed(
        `value ${bytes.toString('utf8', valueStart, Math.min(at, valueStart + 40))} is no number`,
      )
    at = this.#skip(at)
    this.timeStart = at
    if (bytes[at] !== hash) while (at < end && (bytes[at] ?? 0) > space) at++
    this.timeEnd = at
    at = this.#skip(at)
    // An exemplar is not read.
    if (at < end && bytes[at] !== hash) throw new Malformed('text behind the timestamp')
  }

  #labels(from: number, end: number): number {
    const { bytes } = this
    let at = this.#skip(from)
    while (bytes[at] !== close) {
      const keyStart = bytes[at] === quote ? at + 1 : at
      let keyEnd = at
      if (bytes[at] === quote) {
        keyEnd = this.#quoted(keyStart, end)
        at = this.#skip(this.#behindQuote)
      } else {
        while (at < end && isNameByte(bytes[at] ?? 0)) at++
        keyEnd = at
        at = this.#skip(at)
      }
      if (bytes[at] === equals) {
        if (keyEnd === keyStart) throw new Malformed('a label without a name')
        at = this.#skip(at + 1)
        if (bytes[at] !== quote) throw new Malformed('a label whose value is not in quotes')
        const valueStart = at + 1
        const valueEnd = this.#quoted(valueStart, end)
        at = this.#skip(this.#behindQuote)
        this.#add(keyStart, keyEnd, valueStart, valueEnd)
      } else if (this.nameEnd === this.nameStart && bytes[keyStart - 1] === quote) {
        this.nameStart = keyStart
        this.nameEnd = keyEnd
      } else throw new Malformed('a label without a value')
      if (bytes[at] === comma) at = this.#skip(at + 1)
      else if (bytes[at] !== close || at >= end) throw new Malformed('labels that are not closed')
    }
    return at + 1
  }

  #behindQuote = 0

  /** Text to its closing quote, unescaped in place; where its content ends. */
  #quoted(start: number, end: number): number {
    const { bytes } = this
    let at = start
    let to = start
    for (; at < end && bytes[at] !== quote; at++) {
      let byte = bytes[at] ?? 0
      if (byte === backslash && at + 1 < end) {
        byte = bytes[++at] ?? 0
        if (byte === 0x6e) byte = newline
        else if (byte !== quote && byte !== backslash) bytes[to++] = backslash
      }
      bytes[to++] = byte
    }
    if (at >= end) throw new Malformed('a text without its closing quote')
    this.#behindQuote = at + 1
    return to
  }

  #add(keyStart: number, keyEnd: number, valueStart: number, valueEnd: number): void {
    if (this.labelCount >= mostLabels) throw new Malformed(`more than ${mostLabels} labels`)
    const base = this.labelCount++ * 4
    this.labels[base] = keyStart
    this.labels[base + 1] = keyEnd
    this.labels[base + 2] = valueStart
    this.labels[base + 3] = valueEnd
  }

  #skip(from: number): number {
    let at = from
    while (this.bytes[at] === space || this.bytes[at] === tab) at++
    return at
  }
}

// Letters, digits, underscore, colon; dots and dashes, which some programs write though the format has them in quotes only.
const isNameByte = (byte: number): boolean =>
  (byte >= 0x61 && byte <= 0x7a) ||
  (byte >= 0x41 && byte <= 0x5a) ||
  (byte >= 0x30 && byte <= 0x3a) ||
  byte === 0x5f ||
  byte === 0x2e ||
  byte === 0x2d

const isWord = (bytes: Buffer, start: number, end: number, word: string): boolean =>
  end - start === word.length && bytes.toString('latin1', start, end).toLowerCase() === word

/** NaN for the word and for what is no number. */
export function valueOf(bytes: Buffer, start: number, end: number): number {
  const value = readDecimal(bytes, start, end)
  if (!Number.isNaN(value)) return value
  const text = end - start <= 9 ? bytes.toString('latin1', start, end).toLowerCase() : ''
  if (/^[+]?inf(inity)?$/.test(text)) return Infinity
  return /^-inf(inity)?$/.test(text) ? -Infinity : NaN
}
