// Numbers for byte strings that come again and again (resources, services, series), found without making a
// JavaScript string: open addressing, equal bytes decide. A salt tells equal bytes of several contexts apart.

const nothing = new Uint8Array(0)

export class ByteInterner {
  /** Of what was looked at last: four bytes in one load, which plain access to the array has not. */
  #seen: Uint8Array = nothing
  #view: DataView = new DataView(nothing.buffer)
  #slots = new Int32Array(1024)
  #hashes = new Uint32Array(512)
  #offsets = new Uint32Array(513)
  #ids = new Uint32Array(512)
  #salts = new Uint32Array(512)
  #slab = new DataView(new ArrayBuffer(64 * 1024))
  #count = 0

  get size(): number {
    return this.#count
  }

  /** Bytes that the keys take. */
  get bytes(): number {
    return this.#offsets[this.#count] ?? 0
  }

  /** The number that was set for these bytes, or -1. */
  find(bytes: Uint8Array, start: number, end: number, salt = 0): number {
    const view = this.#viewOf(bytes)
    const hash = hashOf(view, start, end, salt)
    const mask = this.#slots.length - 1
    const length = end - start
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = (this.#slots[slot] ?? 0) - 1
      if (entry < 0) return -1
      if (this.#hashes[entry] !== hash || this.#salts[entry] !== salt) continue
      const offset = this.#offsets[entry] ?? 0
      if ((this.#offsets[entry + 1] ?? 0) - offset !== length) continue
      if (sameBytes(this.#slab, offset, view, start, length)) return this.#ids[entry] ?? 0
    }
  }

  /** Bytes that `find` does not find yet. */
  set(bytes: Uint8Array, start: number, end: number, id: number, salt = 0): void {
    if (this.#count * 2 >= this.#slots.length) this.#grow()
    const entry = this.#count++
    const offset = this.#offsets[entry] ?? 0
    const length = end - start
    if (offset + length > this.#slab.byteLength) {
      const grown = new Uint8Array(Math.max(this.#slab.byteLength * 2, offset + length))
      grown.set(new Uint8Array(this.#slab.buffer, 0, offset))
      this.#slab = new DataView(grown.buffer)
    }
    new Uint8Array(this.#slab.buffer).set(bytes.subarray(start, end), offset)
    this.#offsets[entry + 1] = offset + length
    this.#ids[entry] = id
    this.#salts[entry] = salt
    this.#hashes[entry] = hashOf(this.#viewOf(bytes), start, end, salt)
    this.#place(entry)
  }

  clear(): void {
    this.#slots.fill(0)
    this.#count = 0
  }

  #viewOf(bytes: Uint8Array): DataView {
    if (bytes !== this.#seen) {
      this.#seen = bytes
      this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    }
    return this.#view
  }

  #place(entry: number): void {
    const mask = this.#slots.length - 1
    let slot = (this.#hashes[entry] ?? 0) & mask
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask
    this.#slots[slot] = entry + 1
  }

  #grow(): void {
    const size = this.#slots.length * 2
    this.#slots = new Int32Array(size)
    this.#hashes = resized(this.#hashes, size / 2)
    this.#offsets = resized(this.#offsets, size / 2 + 1)
    this.#ids = resized(this.#ids, size / 2)
    this.#salts = resized(this.#salts, size / 2)
    for (let entry = 0; entry < this.#count; entry++) this.#place(entry)
  }
}

function resized(array: Uint32Array<ArrayBuffer>, length: number): Uint32Array<ArrayBuffer> {
  const grown = new Uint32Array(length)
  grown.set(array)
  return grown
}

/** Four bytes at a time: each multiplication waits for the one before it. */
function hashOf(bytes: DataView, start: number, end: number, salt: number): number {
  let hash = 0x811c9dc5 ^ salt
  let at = start
  for (; at + 4 <= end; at += 4) {
    hash = Math.imul(hash ^ bytes.getInt32(at, true), 0x9e3779b1)
    hash ^= hash >>> 15
  }
  for (; at < end; at++) hash = Math.imul(hash ^ bytes.getUint8(at), 0x01000193)
  // The low bits are weak for keys that differ in their last byte only; the slots are chosen by them.
  hash ^= hash >>> 15
  return Math.imul(hash, 0x2c1b3c6d) >>> 0
}

function sameBytes(a: DataView, aStart: number, b: DataView, bStart: number, length: number): boolean {
  let index = 0
  for (; index + 4 <= length; index += 4) {
    if (a.getInt32(aStart + index, true) !== b.getInt32(bStart + index, true)) return false
  }
  for (; index < length; index++) if (a.getUint8(aStart + index) !== b.getUint8(bStart + index)) return false
  return true
}
