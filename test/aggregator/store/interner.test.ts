// Numbers for byte strings: what a Map of texts would answer, for every length, place in memory and context.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ByteInterner } from '../../../aggregator/store/interner.ts'

/** Few letters, so that many are alike but for a byte. */
const text = fc.uint8Array({ maxLength: 40, max: 2 })
const key = fc.record({ text, before: fc.nat(5), after: fc.nat(5), salt: fc.nat(2) })

test('it finds what was set for equal bytes and an equal salt, wherever they lie, and nothing else', () => {
  fc.assert(
    fc.property(fc.array(key, { maxLength: 300 }), (keys) => {
      const interner = new ByteInterner()
      const expected = new Map<string, number>()
      for (const { text: bytes, before, after, salt } of keys) {
        const place = new Uint8Array(before + bytes.length + after).fill(255)
        place.set(bytes, before)
        const [start, end] = [before, before + bytes.length]
        const name = `${salt}/${bytes.join()}`
        const known = expected.get(name) ?? -1
        expect(interner.find(place, start, end, salt)).toBe(known)
        if (known >= 0) continue
        interner.set(place, start, end, expected.size, salt)
        expected.set(name, expected.size)
      }
      expect(interner.size).toBe(expected.size)
    }),
  )
})

test('thousands of keys that differ in one byte are told apart, and long ones too', () => {
  const interner = new ByteInterner()
  const bytes = Buffer.alloc(5000, 'x')
  for (let id = 0; id < 3000; id++) {
    bytes.writeUInt16LE(id, 2 * (id % 2000))
    interner.set(bytes, 0, 100 + id, id)
  }
  bytes.fill('x')
  for (let id = 0; id < 3000; id++) {
    bytes.writeUInt16LE(id, 2 * (id % 2000))
    expect(interner.find(bytes, 0, 100 + id)).toBe(id)
    expect(interner.find(bytes, 1, 101 + id)).toBe(-1)
  }
})
