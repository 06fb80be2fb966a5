// InfluxDB line protocol (docs.influxdata.com, "Line protocol"), read in place line by line. A line that is malformed is
// told with its reason and skipped; the next one is read as if it had not been there.
//
//   line   = measurement *("," key "=" value) SP field *("," field) [SP timestamp] (LF | end)
//   field  = key "=" (float | int "i" | uint "u" | boolean | DQUOTE text DQUOTE)
//   "\" before "," "=" SP in names and tag values, before DQUOTE and "\" in text, takes away its meaning; before
//   anything else it stands for itself. "#" at the beginning of a line makes a comment.

/** Types of field values. */
export const floatField = 0
export const integerField = 1
export const unsignedField = 2
export const booleanField = 3
export const textField = 4

const newline = 0x0a
const carriageReturn = 0x0d
const space = 0x20
const quote = 0x22
const hash = 0x23
const comma = 0x2c
const equals = 0x3d
const backslash = 0x5c

export const longestLine = 64 * 1024
/** Tags and fields of one line. */
const mostPairs = 1000

const isEscapable = (byte: number | undefined): boolean => byte === quote || byte === backslash

class Malformed extends Error {}

/** Key and value of tags or fields: four offsets each. */
class Pairs {
  readonly at = new Int32Array(mostPairs * 4)
  readonly type = new Uint8Array(mostPairs)
  count = 0

  add(keyStart: number, keyEnd: number, valueStart: number, valueEnd: number, type: number): void {
    const base = this.count * 4
    if (this.count >= mostPairs) throw new Malformed(`more than ${mostPairs} tags or fields`)
    this.at[base] = keyStart
    this.at[base + 1] = keyEnd
    this.at[base + 2] = valueStart
    this.at[base + 3] = valueEnd
    this.type[this.count++] = type
  }

  keyStart = (index: number): number => this.at[index * 4] ?? 0
  keyEnd = (index: number): number => this.at[index * 4 + 1] ?? 0
  valueStart = (index: number): number => this.at[index * 4 + 2] ?? 0
  valueEnd = (index: number): number => this.at[index * 4 + 3] ?? 0
}

/** Reads one body after another. The bytes are changed: escapes are resolved where they stand. */
export class LineReader {
  bytes: Buffer = Buffer.alloc(0)
  measurementStart = 0
  measurementEnd = 0
  readonly tags = new Pairs()
  readonly fields = new Pairs()
  /** Empty where the line has no time. */
  timeStart = 0
  timeEnd = 0
  /** Of the line in the body, from 1; a text with newlines counts them. */
  lineNumber = 0
  /** Why the line is refused, and how it begins. */
  reason = ''
  excerpt = ''
  #at = 0
  #number = 1
  #valueEnd = 0

  reset(bytes: Buffer): this {
    this.bytes = bytes
    this.#at = 0
    this.#number = 1
    return this
  }

  /** Moves to the next line: `line` where it is whole, `malformed` with `reason` where not. */
  next(): 'line' | 'malformed' | 'end' {
    const { bytes } = this
    for (; this.#at < bytes.length; this.#at++) {
      const byte = bytes[this.#at] ?? 0
      if (byte === newline) this.#number++
      else if (byte === hash) this.#at = this.#endOfLine(this.#at) - 1
      else if (byte !== space && byte !== carriageReturn && byte !== 0x09) break
    }
    if (this.#at >= bytes.length) return 'end'
    const start = this.#at
    this.lineNumber = this.#number
    try {
      this.#line(start)
      if (this.#at - start > longestLine) throw new Malformed(`longer than ${longestLine} bytes`)
      return 'line'
    } catch (error) {
      if (!(error instanceof Malformed)) throw error
      const end = this.#endOfLine(start)
      this.#number = this.lineNumber
      this.reason = error.message
      this.excerpt = bytes.toString('utf8', start, Math.min(end, start + 100))
      this.#at = end
      return 'malformed'
    }
  }

  #endOfLine(from: number): number {
    const end = this.bytes.indexOf(newline, from)
    return end < 0 ? this.bytes.length : end
  }

  #line(start: number): void {
    const { bytes, tags, fields } = this
    tags.count = fields.count = 0
    let at = this.#name(start, false)
    this.measurementStart = start
    this.measurementEnd = this.#valueEnd
    if (this.measurementEnd === start) throw new Malformed('no measurement')
    while (bytes[at] === comma) at = this.#tag(at + 1)
    if (bytes[at] !== space) throw new Malformed('no fields')
    at = this.#field(this.#spaces(at))
    while (bytes[at] === comma) at = this.#field(at + 1)
    at = this.#spaces(at)
    this.timeStart = at
    while (at < bytes.length && (bytes[at] ?? 0) > space) at++
    this.timeEnd = at
    at = this.#spaces(at)
    if (bytes[at] === carriageReturn) at++
    if (at < bytes.length && bytes[at] !== newline) throw new Malformed('text behind the timestamp')
    this.#at = at
  }

  #spaces(from: number): number {
    let at = from
    while (this.bytes[at] === space) at++
    return at
  }

  #tag(start: number): number {
    const { bytes, tags } = this
    const behindKey = this.#name(start, true)
    const keyEnd = this.#valueEnd
    if (bytes[behindKey] !== equals) throw new Malformed('a tag without =')
    if (keyEnd === start) throw new Malformed('a tag without a name')
    const at = this.#name(behindKey + 1, true)
    if (this.#valueEnd === behindKey + 1) throw new Malformed(`tag ${this.#text(start, keyEnd)} is empty`)
    if (bytes[at] === equals)
      throw new Malformed(`tag ${this.#text(start, keyEnd)} has an = that is not escaped`)
    tags.add(start, keyEnd, behindKey + 1, this.#valueEnd, textField)
    return at
  }

  #field(start: number): number {
    const { bytes, fields } = this
    const behindKey = this.#name(start, true)
    const keyEnd = this.#valueEnd
    if (behindKey === start || keyEnd === start) throw new Malformed('no fields')
    if (bytes[behindKey] !== equals) throw new Malformed(`field ${this.#text(start, keyEnd)} has no value`)
    const valueStart = behindKey + 1
    if (bytes[valueStart] === quote) return this.#textField(start, keyEnd, valueStart + 1)
    let end = valueStart
    while (end < bytes.length && bytes[end] !== comma && (bytes[end] ?? 0) > space) end++
    if (end === valueStart) throw new Malformed(`field ${this.#text(start, keyEnd)} has no value`)
    fields.add(start, keyEnd, valueStart, end, this.#typeOf(valueStart, end))
    return end
  }

  /** By the first and last byte; the value itself is judged by whoever reads it. */
  #typeOf(start: number, end: number): number {
    const last = this.bytes[end - 1] ?? 0
    const first = this.bytes[start] ?? 0
    const isLetter = (first | 0x20) === 0x74 || (first | 0x20) === 0x66
    if (isLetter) return booleanField
    if (last === 0x69) return integerField
    return last === 0x75 ? unsignedField : floatField
  }

  /** Text to its closing quote, newlines and all. */
  #textField(keyStart: number, keyEnd: number, start: number): number {
    const { bytes } = this
    const last = Math.min(bytes.length, start + longestLine)
    let end = start
    let escapes = 0
    let newlines = 0
    for (; end < last && bytes[end] !== quote; end++) {
      const byte = bytes[end]
      if (byte === newline) newlines++
      else if (byte === backslash && isEscapable(bytes[end + 1])) {
        escapes++
        end++
      }
    }
    if (end >= last)
      throw new Malformed(
        `field ${this.#text(keyStart, keyEnd)} has no closing quote within ${longestLine} bytes`,
      )
    const behind = bytes[end + 1]
    if (behind !== undefined && behind !== comma && behind > space)
      throw new Malformed(`field ${this.#text(keyStart, keyEnd)} has more behind its closing quote`)
    // Only now, since a text that does not end may have taken in the lines behind it.
    this.#number += newlines
    const valueEnd = escapes === 0 ? end : this.#unescape(start, end)
    this.fields.add(keyStart, keyEnd, start, valueEnd, textField)
    return end + 1
  }

  #unescape(start: number, end: number): number {
    const { bytes } = this
    let to = start
    for (let at = start; at < end; at++) {
      if (bytes[at] === backslash && isEscapable(bytes[at + 1])) at++
      bytes[to++] = bytes[at] ?? 0
    }
    return to
  }

  /** A measurement, key or tag value: to the first separator. Where its content ends is in `#valueEnd`. */
  #name(start: number, endsAtEquals: boolean): number {
    const { bytes } = this
    let to = start
    let at = start
    for (; at < bytes.length; at++) {
      let byte = bytes[at] ?? 0
      if (byte === comma || byte <= space || (endsAtEquals && byte === equals)) {
        if (byte >= space || byte === newline || byte === carriageReturn) break
        throw new Malformed('a control character')
      }
      if (byte === backslash) {
        const escaped = bytes[at + 1] ?? 0
        if (escaped === comma || escaped === space || escaped === equals) {
          byte = escaped
          at++
        }
      }
      bytes[to++] = byte
    }
    this.#valueEnd = to
    return at
  }

  #text(start: number, end: number): string {
    return this.bytes.toString('utf8', start, Math.min(end, start + 60))
  }
}
