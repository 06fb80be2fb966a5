// The wire format: what the writer wrote the reader reads, protobufjs agrees, and damage has an offset.
import { describe, expect, test } from 'vitest'
import * as fc from 'fast-check'
import protobuf from 'protobufjs'
import { Reader, WireError, Writer } from '../../../plugins/contract/wire.ts'

/** protobufjs gives 64-bit integers as Long or number. */
const text = (value: unknown): string => (value as number).toString()
const two64 = 2n ** 64n

function readerOf(write: (out: Writer) => void): { reader: Reader; theirs: protobuf.Reader } {
  const out = new Writer(1)
  write(out)
  const bytes = out.take()
  return { reader: new Reader(bytes), theirs: protobuf.Reader.create(bytes) }
}

function offsetOf(run: () => unknown): number | undefined {
  try {
    run()
  } catch (error) {
    if (error instanceof WireError) return error.offset
    throw error
  }
  return undefined
}

describe('the wire format', () => {
  test('numbers to 2^53 are the same varints for us and for protobufjs', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        const { reader, theirs } = readerOf((out) => out.varint(value))
        expect(reader.varint()).toBe(value)
        expect(text(theirs.uint64())).toBe(String(value))
        expect(reader.done).toBe(true)
      }),
    )
  })

  test('64-bit integers are exact, signed ones included', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: two64 - 1n }), (value) => {
        const { reader, theirs } = readerOf((out) => {
          out.varint64(value)
          out.fixed64Big(value)
        })
        expect(reader.varint64()).toBe(BigInt.asUintN(64, value))
        expect(reader.fixed64Big()).toBe(BigInt.asUintN(64, value))
        expect(text(theirs.int64())).toBe(String(BigInt.asIntN(64, value)))
        expect(text(theirs.fixed64())).toBe(String(BigInt.asUintN(64, value)))
      }),
    )
  })

  test('a time of seconds and nanoseconds is the fixed64 of their sum', () => {
    fc.assert(
      fc.property(fc.nat({ max: 18_446_744_072 }), fc.nat({ max: 999_999_999 }), (seconds, nanos) => {
        const { reader } = readerOf((out) => out.fixed64Time(seconds, nanos))
        expect(reader.fixed64Big()).toBe(BigInt(seconds) * 1_000_000_000n + BigInt(nanos))
      }),
    )
  })

  test('text, doubles and 32-bit integers come back', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', maxLength: 400 }),
        fc.double(),
        fc.nat({ max: 2 ** 32 - 1 }),
        (string, double, small) => {
          const { reader, theirs } = readerOf((out) => {
            out.string(string)
            out.double(double)
            out.fixed32(small)
          })
          expect([reader.string(), reader.double(), reader.fixed32()]).toEqual([string, double, small])
          expect([theirs.string(), theirs.double(), theirs.fixed32()]).toEqual([string, double, small])
        },
      ),
    )
  })

  test('nested messages of any size get their length', () => {
    for (const size of [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 3_000_000]) {
      const { reader, theirs } = readerOf((out) => {
        const outer = out.open()
        out.raw(Buffer.alloc(size, 1))
        out.close(outer)
      })
      expect(reader.bytes().length).toBe(size)
      expect(theirs.bytes().length).toBe(size)
    }
    const out = new Writer()
    const mark = out.openSmall()
    out.raw(Buffer.alloc(2_097_152))
    expect(() => out.closeSmall(mark)).toThrow('2097152 bytes is too large')
  })

  test('unknown fields of every wire type are skipped, groups included', () => {
    const field = fc.constantFrom(
      [0x08, 0xff, 0x01],
      [0x09, 1, 2, 3, 4, 5, 6, 7, 8],
      [0x0a, 2, 0, 0],
      [0x0d, 1, 2, 3, 4],
      [0x0b, 0x0c],
      [0x0b, 0x10, 1, 0x13, 0x14, 0x0c],
    )
    fc.assert(
      fc.property(fc.array(field), (fields) => {
        const reader = new Reader(Buffer.from(fields.flat()))
        let count = 0
        for (; !reader.done; count++) reader.skip(reader.key())
        expect(count).toBe(fields.length)
      }),
    )
  })

  test.each([
    ['a varint without end', [0x08, 0xff], 1],
    ['a varint of eleven bytes', [0x08, ...Array.from({ length: 11 }, () => 0xff)], 1],
    ['a length beyond the message', [0x0a, 5, 1], 1],
    ['a 64-bit field of seven bytes', [0x09, 1, 2, 3, 4, 5, 6, 7], 1],
    ['a 32-bit field of three bytes', [0x0d, 1, 2, 3], 1],
    ['field number 0', [0x00, 1], 0],
    ['wire type 6', [0x0e, 1], 1],
    ['a group that another one ends', [0x0b, 0x14], 1],
    ['a group without end', [0x0b, 0x10, 1], 3],
  ])('%s is refused with the offset', (_what, bytes, offset) => {
    const reader = new Reader(Buffer.from(bytes))
    const read = (): void => {
      const key = reader.key()
      if ((key & 7) === 0) reader.varint64()
      else reader.skip(key)
    }
    expect(offsetOf(read)).toBe(offset)
  })

  test('whatever the bytes are, reading ends with a WireError or at their end', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const reader = new Reader(bytes)
        const offset = offsetOf(() => {
          while (!reader.done) reader.skip(reader.key())
        })
        if (offset === undefined) expect(reader.position).toBe(bytes.length)
        else expect(offset).toBeLessThanOrEqual(bytes.length)
      }),
    )
  })
})
