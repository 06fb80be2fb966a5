// Writes a record again as a rule changes it: fields are copied but those that change. Only for records that do.
import { readAnyValue } from '../../contract/any-value.ts'
import type { AttributeValue } from '../../contract/values.ts'
import { writeAnyValue, writeKeyValue } from '../../contract/values.ts'
import { Reader, Writer } from '../../contract/wire.ts'
import { globList } from './globs.ts'
import { compilePattern } from './pattern.ts'
import type { Pattern } from './pattern.ts'
import { AttributeWalk, textStart } from './record.ts'
import type { RecordFacts } from './record.ts'
import { severities } from './settings.ts'
import type { RuleSettings } from './settings.ts'

export interface Redaction {
  readonly patterns: readonly Pattern[] | undefined
  readonly body: boolean
  readonly attributes: ((key: string) => boolean) | undefined
  readonly with: string
}

/** Changes of one rule, made ready. */
export interface Edit {
  readonly set: ReadonlyMap<string, AttributeValue>
  readonly severity: number | undefined
  readonly severityText: string | undefined
  readonly body: string | undefined
  readonly rename: ReadonlyMap<string, string>
  readonly renamedTo: ReadonlySet<string>
  /** Of all attributes that are set, renamed, or in the way of one that is renamed. */
  readonly keys: readonly Buffer[]
  readonly name: string | undefined
  readonly redact: Redaction | undefined
  /** Where attributes are set and nothing else is: these, by the number of their field, as they are encoded. */
  readonly appended: Map<number, Buffer> | undefined
}

export function editOf({ set, rename, redact }: RuleSettings): Edit | undefined {
  if (!set && !rename && !redact) return undefined
  const renamed = Object.entries(rename?.attributes ?? {})
  const keys = new Set([...Object.keys(set?.attributes ?? {}), ...renamed.flat()])
  const isSetOnly = set?.severity === undefined && set?.body === undefined && !rename && !redact
  return {
    appended: isSetOnly ? new Map() : undefined,
    keys: [...keys].map((key) => Buffer.from(key)),
    renamedTo: new Set(renamed.map(([, to]) => to)),
    set: new Map(Object.entries(set?.attributes ?? {})),
    severity: set?.severity && severities[set.severity],
    severityText: set?.severity,
    body: set?.body,
    rename: new Map(renamed),
    name: rename?.name,
    redact: redact && {
      patterns: redact.patterns?.map(compilePattern),
      body: redact.body,
      attributes: redact.attributes && globList(redact.attributes),
      with: redact.with,
    },
  }
}

/** First renamed, then set, then redacted. */
export class Editor {
  // What a rule changed may be changed again by the next one: it is read from one and written to the other.
  #out = new Writer(4096)
  #other = new Writer(4096)
  readonly #walk = new AttributeWalk()
  readonly #reader = new Reader()
  #replacesBody = false

  /** Writes the record anew and reads it again; false, and nothing happened, where nothing would differ. */
  apply(edit: Edit, record: RecordFacts): boolean {
    ;[this.#out, this.#other] = [this.#other, this.#out]
    const out = this.#out
    out.reset()
    if (edit.appended && !this.#hasOne(edit, record)) return this.#append(edit, edit.appended, record)
    let isChanged = this.#attributes(edit, record)
    if (record.signal === 'logs') isChanged = this.#logFields(edit, record) || isChanged
    const renames = edit.name !== undefined && edit.name !== record.name
    if (renames && record.signal === 'metrics') {
      record.metricName = edit.name
      record.isRenamed = record.isEdited = true
    } else if (renames) isChanged = this.#field(record.layout.name, edit.name)
    if (!isChanged) return renames
    this.#copyRest(record, edit, renames)
    record.read(out.buffer, 0, out.position)
    record.isEdited = true
    return true
  }

  /** Whether the record has an attribute of which the edit speaks. */
  #hasOne(edit: Edit, { bytes, attributesStart, attributesEnd, layout }: RecordFacts): boolean {
    const walk = this.#walk.over(bytes, attributesStart, attributesEnd, layout.attributes)
    while (walk.next()) if (speaksOf(edit, walk)) return true
    return false
  }

  /** The whole record, and attributes that it does not have. */
  #append(edit: Edit, appended: Map<number, Buffer>, record: RecordFacts): boolean {
    const out = this.#out
    const field = record.layout.attributes >>> 3
    let encoded = appended.get(field)
    if (!encoded) {
      for (const [key, value] of edit.set) writeKeyValue(out, field, key, value)
      appended.set(field, (encoded = out.take()))
      out.reset()
    }
    out.raw(record.bytes, record.start, record.end)
    out.raw(encoded)
    record.read(out.buffer, 0, out.position)
    record.isEdited = true
    return true
  }

  #field(tag: number, text: string): true {
    this.#out.byte(tag)
    this.#out.string(text)
    return true
  }

  /** All attributes, as they are to be; those that no rule speaks of are copied together. */
  #attributes(edit: Edit, record: RecordFacts): boolean {
    const { layout, bytes } = record
    const field = layout.attributes >>> 3
    const walk = this.#walk.over(bytes, record.attributesStart, record.attributesEnd, layout.attributes)
    let isChanged = false
    let from = record.attributesStart
    let end = from
    const moved: [string, AttributeValue][] = []
    while (walk.next()) {
      // What stands between attributes is copied with the rest of the record.
      if (walk.fieldStart !== end) {
        this.#out.raw(bytes, from, end)
        from = walk.fieldStart
      }
      end = walk.fieldEnd
      if (!speaksOf(edit, walk)) continue
      this.#out.raw(bytes, from, walk.fieldStart)
      from = walk.fieldEnd
      const key = walk.keyText()
      const to = edit.rename.get(key)
      if (to !== undefined) moved.push([to, this.#value(walk.valueStart, walk.valueEnd, bytes)])
      const goes = to !== undefined || edit.set.has(key)
      if (goes) isChanged = true
      else if (edit.renamedTo.has(key) && this.#hasAny(edit.rename, key, record)) isChanged = true
      else if (this.#redactAttribute(edit.redact, key, walk, field)) isChanged = true
      else this.#out.raw(bytes, walk.fieldStart, walk.fieldEnd)
    }
    this.#out.raw(bytes, from, record.attributesEnd)
    for (const [key, value] of moved) if (!edit.set.has(key)) this.#write(edit.redact, field, key, value)
    for (const [key, value] of edit.set) {
      this.#write(edit.redact, field, key, value)
      isChanged = true
    }
    return isChanged
  }

  /** Whether the record has an attribute that becomes `to`. */
  #hasAny(rename: ReadonlyMap<string, string>, to: string, record: RecordFacts): boolean {
    const walk = new AttributeWalk()
    walk.over(record.bytes, record.attributesStart, record.attributesEnd, record.layout.attributes)
    while (walk.next()) if (rename.get(walk.keyText()) === to) return true
    return false
  }

  #write(redact: Redaction | undefined, field: number, key: string, value: AttributeValue): void {
    const should = redact?.attributes?.(key) === true ? redacted(value, redact) : undefined
    writeKeyValue(this.#out, field, key, should ?? value)
  }

  #redactAttribute(redact: Redaction | undefined, key: string, walk: AttributeWalk, field: number): boolean {
    if (redact?.attributes?.(key) !== true) return false
    const should = redacted(this.#value(walk.valueStart, walk.valueEnd, walk.bytes), redact)
    if (should === undefined) return false
    writeKeyValue(this.#out, field, key, should)
    return true
  }

  #value(start: number, end: number, bytes: Buffer): AttributeValue {
    const text = textStart(bytes, start, end)
    if (text >= 0) return bytes.toString('utf8', text, end)
    const reader = this.#reader
    reader.buffer = bytes
    reader.position = start
    reader.end = end
    return readAnyValue(reader) ?? ''
  }

  #logFields(edit: Edit, record: RecordFacts): boolean {
    const out = this.#out
    if (edit.severity !== undefined && edit.severityText !== undefined) {
      out.byte(0x10)
      out.byte(edit.severity)
      this.#field(0x1a, edit.severityText)
    }
    const { body } = edit
    const redact = edit.redact?.body === true ? edit.redact : undefined
    const isThere = record.bodyEnd > record.bodyStart
    const present =
      body ?? (redact && isThere ? this.#value(record.bodyStart, record.bodyEnd, record.bytes) : undefined)
    const should = (redact && present !== undefined ? redacted(present, redact) : undefined) ?? body
    this.#replacesBody = should !== undefined
    if (should !== undefined) {
      out.byte(0x2a)
      const mark = out.openSmall()
      writeAnyValue(out, should)
      out.closeSmall(mark)
    }
    return edit.severity !== undefined || should !== undefined
  }

  #copyRest(record: RecordFacts, edit: Edit, renames: boolean): void {
    const { layout, bytes, start, end } = record
    const reader = this.#reader
    reader.buffer = bytes
    reader.position = start
    reader.end = end
    const isLog = record.signal === 'logs'
    const severity = isLog && edit.severity !== undefined
    const body = isLog && this.#replacesBody
    const name = renames && record.signal !== 'metrics'
    let from = start
    while (reader.position < end) {
      const began = reader.position
      const key = reader.key()
      reader.skip(key)
      const goes =
        key === layout.attributes ||
        (severity && (key === 0x10 || key === 0x1a)) ||
        (body && key === 0x2a) ||
        (name && key === layout.name)
      if (!goes) continue
      if (began > from) this.#out.raw(bytes, from, began)
      from = reader.position
    }
    if (end > from) this.#out.raw(bytes, from, end)
  }
}

/** Whether the attribute at which the walk stands may be another afterwards. */
function speaksOf(edit: Edit, { bytes, keyStart, keyEnd }: AttributeWalk): boolean {
  if (edit.redact?.attributes) return true
  for (const key of edit.keys) {
    if (key.length !== keyEnd - keyStart) continue
    let same = 0
    while (same < key.length && key[same] === bytes[keyStart + same]) same++
    if (same === key.length) return true
  }
  return false
}

/** The value as it is to be; undefined where it stays. */
function redacted(value: AttributeValue, redact: Redaction): AttributeValue | undefined {
  if (!redact.patterns) return value === redact.with ? undefined : redact.with
  return replaceIn(value, redact.patterns, redact.with)
}

/** Texts within lists and maps too. */
function replaceIn(
  value: AttributeValue,
  patterns: readonly Pattern[],
  by: string,
): AttributeValue | undefined {
  if (typeof value === 'string') {
    let text = value
    for (const pattern of patterns) if (pattern.test(text)) text = pattern.replace(text, by)
    return text === value ? undefined : text
  }
  if (typeof value !== 'object' || value instanceof Uint8Array) return undefined
  const pairs = Object.entries(value as Readonly<Record<string, AttributeValue>>)
  const replaced = pairs.map(([key, inner]) => [key, replaceIn(inner, patterns, by)] as const)
  if (replaced.every(([, inner]) => inner === undefined)) return undefined
  if (Array.isArray(value)) {
    return (value as readonly AttributeValue[]).map((inner, at) => replaced[at]?.[1] ?? inner)
  }
  return Object.fromEntries(pairs.map(([key, inner], at) => [key, replaced[at]?.[1] ?? inner]))
}
