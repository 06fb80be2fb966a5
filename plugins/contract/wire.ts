// Protobuf wire format (protobuf.dev, "Encoding"): a growing writer and a reader over one array, without
// objects per field. Everything that dpulse encodes or decodes stands on these two classes.

/** Wire types of a field key. Groups (3, 4) are skipped when they are unknown fields. */
export const varintType = 0
export const fixed64Type = 1
export const bytesType = 2
export const fixed32Type = 5

/** Malformed protobuf. `offset` is the byte of the input at which reading failed. */
export class WireError extends Error {
  readonly offset: number
  constructor(what: string, offset: number) {
    super(`${what} at byte ${offset}`)
    this.name = 'WireError'
    this.offset = offset
  }
}

const two32 = 4_294_967_296

/** Appends fields to one buffer that grows. Lengths of nested messages are patched in as padded varints. */
export class Writer {
  buffer: Buffer
  position = 0

  constructor(capacity = 4096) {
    this.buffer = Buffer.allocUnsafeSlow(capacity)
  }

  /** Makes room for `size` more bytes. */
  ensure(size: number): void {
    const needed = this.position + size
    if (needed <= this.buffer.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.buffer.length * 2))
    this.buffer.copy(grown, 0, 0, this.position)
    this.buffer = grown
  }

  byte(value: number): void {
    this.ensure(1)
    this.buffer[this.position++] = value
  }

  /** An unsigned varint, exact up to 2^53. */
  varint(value: number): void {
    this.ensure(10)
    const { buffer } = this
    let rest = value
    while (rest > 0x7fffffff) {
      buffer[this.position++] = (rest % 128) | 0x80
      rest = Math.floor(rest / 128)
    }
    while (rest > 0x7f) {
      buffer[this.position++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    buffer[this.position++] = rest
  }

  /** A 64-bit varint; a negative one takes ten bytes, as int64 does. */
  varint64(value: bigint): void {
    this.ensure(10)
    let rest = BigInt.asUintN(64, value)
    while (rest > 0x7fn) {
      this.buffer[this.position++] = Number(rest & 0x7fn) | 0x80
      rest >>= 7n
    }
    this.buffer[this.position++] = Number(rest)
  }

  tag(field: number, type: number): void {
    this.varint(field * 8 + type)
  }

  fixed32(value: number): void {
    this.ensure(4)
    this.position = this.buffer.writeUInt32LE(value >>> 0, this.position)
  }

  fixed64(low: number, high: number): void {
    this.ensure(8)
    this.position = this.buffer.writeUInt32LE(low >>> 0, this.position)
    this.position = this.buffer.writeUInt32LE(high >>> 0, this.position)
  }

  fixed64Big(value: bigint): void {
    this.ensure(8)
    this.position = this.buffer.writeBigUInt64LE(BigInt.asUintN(64, value), this.position)
  }

  /** Unix nanoseconds from seconds and nanoseconds, without a BigInt. */
  fixed64Time(seconds: number, nanos: number): void {
    // seconds * 1e9 in two halves that both stay below 2^53.
    const upper = Math.floor(seconds / 65_536) * 1e9
    let high = Math.floor(upper / 65_536)
    const low = (upper % 65_536) * 65_536 + (seconds % 65_536) * 1e9 + nanos
    high += Math.floor(low / two32)
    this.fixed64(low % two32, high)
  }

  double(value: number): void {
    this.ensure(8)
    this.position = this.buffer.writeDoubleLE(value, this.position)
  }

  /** Bytes as they are, without a length. */
  raw(source: Uint8Array, start = 0, end = source.length): void {
    const size = end - start
    this.ensure(size)
    if (size < 24) {
      const { buffer } = this
      let at = this.position
      for (let index = start; index < end; index++) buffer[at++] = source[index] ?? 0
      this.position = at
      return
    }
    this.buffer.set(
      start === 0 && end === source.length ? source : source.subarray(start, end),
      this.position,
    )
    this.position += size
  }

  /** Length and bytes. */
  bytes(source: Uint8Array, start = 0, end = source.length): void {
    this.varint(end - start)
    this.raw(source, start, end)
  }

  /** Length and UTF-8 bytes. Lone surrogates become U+FFFD, as Buffer does it. */
  string(value: string): void {
    const { length } = value
    if (length < 42) {
      // At most 126 bytes: one length byte, written afterwards.
      this.ensure(1 + length * 3)
      const size = this.buffer.write(value, this.position + 1, 'utf8')
      this.buffer[this.position] = size
      this.position += 1 + size
      return
    }
    const size = Buffer.byteLength(value)
    this.varint(size)
    this.ensure(size)
    this.position += this.buffer.write(value, this.position, 'utf8')
  }

  /** Reserves the length of a nested message (at most 256 MiB); give the result to `close`. */
  open(): number {
    this.ensure(4)
    this.position += 4
    return this.position
  }

  /** Writes the length of what was written since `open`, as a varint padded to four bytes. */
  close(mark: number): void {
    const size = this.position - mark
    const { buffer } = this
    buffer[mark - 4] = (size & 0x7f) | 0x80
    buffer[mark - 3] = ((size >>> 7) & 0x7f) | 0x80
    buffer[mark - 2] = ((size >>> 14) & 0x7f) | 0x80
    buffer[mark - 1] = (size >>> 21) & 0x7f
  }

  /** Like `open` for messages below 2 MiB: one byte less. */
  openSmall(): number {
    this.ensure(3)
    this.position += 3
    return this.position
  }

  closeSmall(mark: number): void {
    const size = this.position - mark
    if (size > 0x1fffff) throw new RangeError(`a nested message of ${size} bytes is too large`)
    const { buffer } = this
    buffer[mark - 3] = (size & 0x7f) | 0x80
    buffer[mark - 2] = ((size >>> 7) & 0x7f) | 0x80
    buffer[mark - 1] = size >>> 14
  }

  /** A copy of what was written; the writer can be used again after `reset`. */
  take(): Buffer {
    const copy = Buffer.allocUnsafeSlow(this.position)
    this.buffer.copy(copy, 0, 0, this.position)
    return copy
  }

  /** What was written, without a copy where it fills most of the buffer. The writer must not be used again. */
  release(): Buffer {
    return this.position * 2 < this.buffer.length ? this.take() : this.buffer.subarray(0, this.position)
  }

  reset(): void {
    this.position = 0
  }
}

/** Reads fields of one array in place. `position` moves on; `end` bounds the message that is being read. */
export class Reader {
  buffer: Buffer
  position: number
  end: number
  /** Set by `fixed64`. */
  low = 0
  high = 0

  constructor(bytes: Uint8Array = new Uint8Array(0)) {
    this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.position = 0
    this.end = bytes.length
  }

  reset(bytes: Uint8Array): void {
    this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.position = 0
    this.end = bytes.length
  }

  get done(): boolean {
    return this.position >= this.end
  }

  /** An unsigned varint as a number: exact to 2^53, rounded above. */
  varint(): number {
    const { buffer } = this
    const began = this.position
    if (began < this.end) {
      const first = buffer[began] ?? 0
      if (first < 0x80) {
        this.position = began + 1
        return first
      }
    }
    // Lengths as our writer leaves room for them.
    if (began + 2 < this.end) {
      const second = buffer[began + 1] ?? 0
      const third = buffer[began + 2] ?? 0
      if (second >= 0x80 && third < 0x80) {
        this.position = began + 3
        return ((buffer[began] ?? 0) & 0x7f) | ((second & 0x7f) << 7) | (third << 14)
      }
    }
    let shift = 1
    let value = 0
    for (let count = 0; count < 10; count++) {
      if (this.position >= this.end) throw new WireError('truncated varint', began)
      const byte = buffer[this.position++] ?? 0
      value += (byte & 0x7f) * shift
      if (byte < 0x80) return value
      shift *= 128
    }
    throw new WireError('varint of more than ten bytes', began)
  }

  varint64(): bigint {
    const began = this.position
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (this.position >= this.end) throw new WireError('truncated varint', began)
      const byte = this.buffer[this.position++] ?? 0
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asUintN(64, value)
    }
    throw new WireError('varint of more than ten bytes', began)
  }

  /** A key: field number * 8 + wire type. */
  key(): number {
    const began = this.position
    const key = this.varint()
    if (key < 8 || key > 0xffffffff) throw new WireError('invalid field number', began)
    return key
  }

  /** The length of what follows, checked against the end of the enclosing message. */
  length(): number {
    const began = this.position
    const size = this.varint()
    if (size > this.end - this.position) {
      throw new WireError(`field of ${size} bytes in a message with ${this.end - this.position} left`, began)
    }
    return size
  }

  fixed64(): void {
    if (this.end - this.position < 8) throw new WireError('truncated 64-bit field', this.position)
    this.low = this.buffer.readUInt32LE(this.position)
    this.high = this.buffer.readUInt32LE(this.position + 4)
    this.position += 8
  }

  fixed64Big(): bigint {
    if (this.end - this.position < 8) throw new WireError('truncated 64-bit field', this.position)
    this.position += 8
    return this.buffer.readBigUInt64LE(this.position - 8)
  }

  double(): number {
    if (this.end - this.position < 8) throw new WireError('truncated 64-bit field', this.position)
    this.position += 8
    return this.buffer.readDoubleLE(this.position - 8)
  }

  fixed32(): number {
    if (this.end - this.position < 4) throw new WireError('truncated 32-bit field', this.position)
    this.position += 4
    return this.buffer.readUInt32LE(this.position - 4)
  }

  string(): string {
    const size = this.length()
    this.position += size
    return this.buffer.toString('utf8', this.position - size, this.position)
  }

  bytes(): Buffer {
    const size = this.length()
    this.position += size
    return this.buffer.subarray(this.position - size, this.position)
  }

  skipVarint(): void {
    const began = this.position
    const last = Math.min(this.end, began + 10)
    while (this.position < last) if ((this.buffer[this.position++] ?? 0) < 0x80) return
    throw new WireError(last < this.end ? 'varint of more than ten bytes' : 'truncated varint', began)
  }

  /** Skips the value of a field whose key was just read. */
  skip(key: number, depth = 0): void {
    const began = this.position
    switch (key & 7) {
      case varintType:
        this.skipVarint()
        return
      case fixed64Type:
        this.position += 8
        break
      case bytesType: {
        const size = this.length()
        this.position += size
        return
      }
      case fixed32Type:
        this.position += 4
        break
      case 3: {
        if (depth > 32) throw new WireError('groups nested too deeply', began)
        for (;;) {
          const inner = this.key()
          if ((inner & 7) === 4) {
            if (inner >>> 3 !== key >>> 3) throw new WireError('mismatched end of group', began)
            return
          }
          this.skip(inner, depth + 1)
        }
      }
      default:
        throw new WireError(`invalid wire type ${key & 7}`, began)
    }
    if (this.position > this.end) throw new WireError('truncated field', began)
  }
}
