// Writing MessagePack, as far as the forward protocol needs it: acknowledgements, the handshake, and records.
import { Writer } from '../../contract/wire.ts'
import type { AttributeValue } from '../../contract/values.ts'

const scratch = Buffer.alloc(8)

/** Appends MessagePack values to one buffer. */
export class PackWriter {
  readonly out: Writer

  constructor(capacity = 256) {
    this.out = new Writer(capacity)
  }

  array(length: number): this {
    return this.#sized(length, 0x90, 16, 0xdc)
  }

  map(length: number): this {
    return this.#sized(length, 0x80, 16, 0xde)
  }

  nil(): this {
    this.out.byte(0xc0)
    return this
  }

  text(value: string): this {
    const bytes = Buffer.from(value)
    if (bytes.length < 32) this.out.byte(0xa0 | bytes.length)
    else this.#length(bytes.length, 0xd9)
    this.out.raw(bytes)
    return this
  }

  binary(bytes: Uint8Array): this {
    this.#length(bytes.length, 0xc4)
    this.out.raw(bytes)
    return this
  }

  /** EventTime: seconds and nanoseconds. */
  time(seconds: number, nanos: number): this {
    this.out.byte(0xd7)
    this.out.byte(0)
    scratch.writeUInt32BE(seconds % 4_294_967_296, 0)
    scratch.writeUInt32BE(nanos, 4)
    this.out.raw(scratch)
    return this
  }

  value(value: AttributeValue): this {
    switch (typeof value) {
      case 'string':
        return this.text(value)
      case 'boolean':
        this.out.byte(value ? 0xc3 : 0xc2)
        return this
      case 'bigint':
        return this.#integer(value)
      case 'number':
        if (Number.isSafeInteger(value) && !Object.is(value, -0)) return this.#integer(BigInt(value))
        this.out.byte(0xcb)
        scratch.writeDoubleBE(value, 0)
        this.out.raw(scratch)
        return this
      default:
        return this.#composite(value)
    }
  }

  #composite(value: Exclude<AttributeValue, string | number | bigint | boolean>): this {
    if (value instanceof Uint8Array) return this.binary(value)
    if (Array.isArray(value)) {
      const items = value as readonly AttributeValue[]
      this.array(items.length)
      for (const item of items) this.value(item)
      return this
    }
    const entries = Object.entries(value)
    this.map(entries.length)
    for (const [key, item] of entries) this.text(key).value(item)
    return this
  }

  #integer(value: bigint): this {
    if (value >= 0n && value < 128n) this.out.byte(Number(value))
    else if (value >= 0n) {
      this.out.byte(0xcf)
      scratch.writeBigUInt64BE(BigInt.asUintN(64, value), 0)
      this.out.raw(scratch)
    } else {
      this.out.byte(0xd3)
      scratch.writeBigInt64BE(BigInt.asIntN(64, value), 0)
      this.out.raw(scratch)
    }
    return this
  }

  #sized(length: number, small: number, below: number, type: number): this {
    if (length < below) this.out.byte(small | length)
    else if (length < 65_536) this.#number(type, length, 2)
    else this.#number(type + 1, length, 4)
    return this
  }

  #length(length: number, type: number): void {
    if (length < 256) this.#number(type, length, 1)
    else if (length < 65_536) this.#number(type + 1, length, 2)
    else this.#number(type + 2, length, 4)
  }

  #number(type: number, value: number, bytes: number): void {
    this.out.byte(type)
    scratch.writeUIntBE(value, 0, bytes)
    this.out.raw(scratch, 0, bytes)
  }

  take(): Buffer {
    const bytes = this.out.take()
    this.out.reset()
    return bytes
  }
}
