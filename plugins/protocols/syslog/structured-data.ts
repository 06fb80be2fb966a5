// STRUCTURED-DATA of RFC 5424 §6.3: found and checked in one pass, written as attributes `syslog.sd.<id>.<name>` in
// another, so that a message that turns out malformed has written nothing.
//
//   SD-ELEMENT = "[" SD-ID *(SP PARAM-NAME "=" %d34 PARAM-VALUE %d34) "]"      in values: \" \\ \]
import { encodeKey } from '../../contract/values.ts'
import type { LogsEncoder } from '../../contract/encoder.ts'

const prefix = 'syslog.sd.'
const mostParams = 512
const longestKey = 512
/** No record may outgrow a batch: keys repeat the id, so many tiny parameters become much larger than they were. */
const mostEncoded = 256 * 1024
const mostKeys = 1024

/** One attribute key, met before. `stamp` and `count` belong to the message that is being written. */
interface Key {
  readonly encoded: Uint8Array
  readonly name: string
  /** Bytes of `<id>.<name>`, the end of `encoded`. */
  readonly length: number
  stamp: number
  count: number
}

const perParam = 7

/** Keeps what `scan` found until `write`. */
export class StructuredData {
  // Per parameter: id, name and value as [start, end), and whether the value holds an escape.
  readonly #spans = new Int32Array(mostParams * perParam)
  readonly #keys: Key[] = []
  #count = 0
  #encodedSize = 0
  #table = new Map<number, Key[]>()
  #known = 0
  #stamp = 0
  #scratch = Buffer.allocUnsafeSlow(4096)

  /** The position behind all elements, or -1 where they are malformed or more than a record can hold. */
  scan(bytes: Uint8Array, start: number, end: number): number {
    this.#count = 0
    this.#encodedSize = 0
    let at = start
    while (at < end && bytes[at] === 0x5b) {
      at = this.#element(bytes, at + 1, end)
      if (at < 0) return -1
    }
    return at
  }

  /** Forgets what was found; for a message without structured data. */
  clear(): void {
    this.#count = 0
  }

  #element(bytes: Uint8Array, start: number, end: number): number {
    const idEnd = nameEnd(bytes, start, end)
    if (idEnd === start || idEnd >= end || bytes[idEnd] === 0x3d) return -1
    let at = idEnd
    if (bytes[at] === 0x5d) {
      // An element without parameters still says something: it becomes an empty attribute under its id.
      return this.#add(start, idEnd, idEnd, idEnd, idEnd, idEnd, 0) ? at + 1 : -1
    }
    for (;;) {
      const before = at
      while (at < end && bytes[at] === 0x20) at++
      if (at >= end) return -1
      if (bytes[at] === 0x5d) return at + 1
      if (at === before) return -1
      const nameStart = at
      at = nameEnd(bytes, at, end)
      if (at === nameStart || bytes[at] !== 0x3d || bytes[at + 1] !== 0x22 || at + 1 >= end) return -1
      const valueStart = at + 2
      let escapes = 0
      let valueEnd = valueStart
      while (valueEnd < end && bytes[valueEnd] !== 0x22) {
        if (bytes[valueEnd] === 0x5c) {
          escapes = 1
          valueEnd++
        }
        valueEnd++
      }
      if (valueEnd >= end || !this.#add(start, idEnd, nameStart, at, valueStart, valueEnd, escapes)) return -1
      at = valueEnd + 1
    }
  }

  #add(
    idStart: number,
    idEnd: number,
    nameStart: number,
    nameEnd: number,
    valueStart: number,
    valueEnd: number,
    escapes: number,
  ): boolean {
    const keyLength = idEnd - idStart + (nameEnd - nameStart)
    this.#encodedSize += keyLength + (valueEnd - valueStart) + 32
    if (this.#count >= mostParams || keyLength > longestKey || this.#encodedSize > mostEncoded) return false
    const spans = this.#spans
    const base = this.#count++ * perParam
    spans[base] = idStart
    spans[base + 1] = idEnd
    spans[base + 2] = nameStart
    spans[base + 3] = nameEnd
    spans[base + 4] = valueStart
    spans[base + 5] = valueEnd
    spans[base + 6] = escapes
    return true
  }

  /** Writes what the last `scan` found. */
  write(bytes: Uint8Array, encoder: LogsEncoder): void {
    const count = this.#count
    if (count === 0) return
    if (this.#known + count > mostKeys) this.#forget()
    this.#stamp++
    let repeated = false
    for (let index = 0; index < count; index++) {
      // Lines of one program carry the same names in the same order.
      const key = this.#guess(bytes, index) ?? this.#keyOf(bytes, index * perParam)
      if (key.stamp === this.#stamp) {
        key.count++
        repeated = true
      } else {
        key.stamp = this.#stamp
        key.count = 1
      }
      this.#keys[index] = key
    }
    for (let index = 0; index < count; index++) {
      const key = this.#keys[index]
      if (key === undefined || key.count === 0) continue
      if (repeated && key.count > 1) {
        encoder.attribute(key.name, this.#valuesOf(bytes, key, count))
        key.count = 0
      } else this.#writeValue(bytes, index * perParam, key, encoder)
    }
  }

  #writeValue(bytes: Uint8Array, base: number, key: Key, encoder: LogsEncoder): void {
    const spans = this.#spans
    const start = spans[base + 4] ?? 0
    const end = spans[base + 5] ?? 0
    if (spans[base + 6] === 0) encoder.attributeBytes(key.encoded, bytes, start, end)
    else encoder.attributeBytes(key.encoded, this.#scratch, 0, this.#unescape(bytes, start, end))
  }

  #valuesOf(bytes: Uint8Array, key: Key, count: number): string[] {
    const values: string[] = []
    for (let index = 0; index < count; index++) {
      if (this.#keys[index] !== key) continue
      const base = index * perParam
      const size = this.#unescape(bytes, this.#spans[base + 4] ?? 0, this.#spans[base + 5] ?? 0)
      values.push(this.#scratch.toString('utf8', 0, size))
    }
    return values
  }

  /** Only `"`, `\` and `]` are escaped; a backslash before anything else is itself (§6.3.3). */
  #unescape(bytes: Uint8Array, start: number, end: number): number {
    if (this.#scratch.length < end - start) this.#scratch = Buffer.allocUnsafeSlow((end - start) * 2)
    const out = this.#scratch
    let size = 0
    for (let at = start; at < end; at++) {
      const byte = bytes[at] ?? 0
      const next = at + 1 < end ? bytes[at + 1] : 0
      if (byte === 0x5c && (next === 0x22 || next === 0x5c || next === 0x5d)) {
        out[size++] = next
        at++
      } else out[size++] = byte
    }
    return size
  }

  #guess(bytes: Uint8Array, index: number): Key | undefined {
    const key = this.#keys[index]
    if (key === undefined) return undefined
    const spans = this.#spans
    const base = index * perParam
    return isKey(
      key,
      bytes,
      spans[base] ?? 0,
      spans[base + 1] ?? 0,
      spans[base + 2] ?? 0,
      spans[base + 3] ?? 0,
    )
      ? key
      : undefined
  }

  #keyOf(bytes: Uint8Array, base: number): Key {
    const spans = this.#spans
    const idStart = spans[base] ?? 0
    const idEnd = spans[base + 1] ?? 0
    const nameStart = spans[base + 2] ?? 0
    const nameEnd = spans[base + 3] ?? 0
    let hash = 7
    for (let at = idStart; at < idEnd; at++) hash = (Math.imul(hash, 31) + (bytes[at] ?? 0)) | 0
    if (nameEnd > nameStart) hash = (Math.imul(hash, 31) + 0x2e) | 0
    for (let at = nameStart; at < nameEnd; at++) hash = (Math.imul(hash, 31) + (bytes[at] ?? 0)) | 0
    const bucket = this.#table.get(hash)
    if (bucket !== undefined) {
      for (const key of bucket) if (isKey(key, bytes, idStart, idEnd, nameStart, nameEnd)) return key
    }
    const id = Buffer.from(bytes.subarray(idStart, idEnd)).toString('utf8')
    const name = Buffer.from(bytes.subarray(nameStart, nameEnd)).toString('utf8')
    const length = idEnd - idStart + (name === '' ? 0 : 1 + nameEnd - nameStart)
    return this.#learn(hash, name === '' ? prefix + id : `${prefix}${id}.${name}`, length)
  }

  #learn(hash: number, name: string, length: number): Key {
    const key: Key = { encoded: encodeKey(name), name, length, stamp: 0, count: 0 }
    const bucket = this.#table.get(hash)
    if (bucket === undefined) this.#table.set(hash, [key])
    else bucket.push(key)
    this.#known++
    return key
  }

  // Names come from outside: a sender that invents them must not fill the memory.
  #forget(): void {
    this.#table = new Map()
    this.#keys.length = 0
    this.#known = 0
  }
}

/** End of an SD-ID or PARAM-NAME: what follows is `=`, space, `]`, `"` or the end. */
function nameEnd(bytes: Uint8Array, start: number, end: number): number {
  let at = start
  for (; at < end; at++) {
    const byte = bytes[at] ?? 0
    if (byte === 0x3d || byte <= 0x20 || byte === 0x5d || byte === 0x22) break
  }
  return at
}

// Compared by the whole name: `a.b` with `c` and `a` with `b.c` are one attribute.
function isKey(
  key: Key,
  bytes: Uint8Array,
  idStart: number,
  idEnd: number,
  nameStart: number,
  nameEnd: number,
): boolean {
  const idLength = idEnd - idStart
  const nameLength = nameEnd - nameStart
  if (key.length !== (nameLength > 0 ? idLength + 1 + nameLength : idLength)) return false
  const { encoded } = key
  const from = encoded.length - key.length
  if (!equal(encoded, from, bytes, idStart, idEnd)) return false
  if (nameLength === 0) return true
  return encoded[from + idLength] === 0x2e && equal(encoded, from + idLength + 1, bytes, nameStart, nameEnd)
}

function equal(known: Uint8Array, from: number, bytes: Uint8Array, start: number, end: number): boolean {
  for (let at = start, index = from; at < end; at++, index++) if (known[index] !== bytes[at]) return false
  return true
}
