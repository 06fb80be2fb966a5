// JSON text written from OTLP bytes against the decoder that builds objects.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ByteInterner } from '../../../aggregator/store/interner.ts'
import { JsonText, jsonObject } from '../../../aggregator/store/json-text.ts'
import { attributesOf } from '../../../plugins/contract/any-value.ts'
import { encodeResource } from '../../../plugins/contract/values.ts'
import type { AttributeValue } from '../../../plugins/contract/values.ts'
import { Writer } from '../../../plugins/contract/wire.ts'

const scalar: fc.Arbitrary<AttributeValue> = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.string(),
  fc.boolean(),
  fc.double(),
  fc.integer(),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.uint8Array({ maxLength: 20 }),
)
const key = fc.string({ unit: 'grapheme' }).filter((name) => name !== '__proto__')
const value = fc.letrec<{ any: AttributeValue }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 3 },
    scalar,
    fc.array(tie('any'), { maxLength: 4 }),
    fc.dictionary(key, tie('any'), { maxKeys: 4 }),
  ),
})).any

describe('JSON text', () => {
  test('parses to what the decoder of objects gives', () => {
    fc.assert(
      fc.property(fc.dictionary(key, value, { maxKeys: 6 }), (attributes) => {
        const bytes = Buffer.from(encodeResource(attributes))
        const out = new Writer(16)
        new JsonText().attributes(out, bytes, 0, bytes.length, 1)
        const text = out.buffer.toString('utf8', 0, out.position)
        const expected = JSON.stringify(jsonObject(attributesOf(bytes, 0, bytes.length, 1)))
        expect(JSON.parse(text)).toEqual(JSON.parse(expected))
      }),
    )
  })

  test('adds what is given unless the record has it already', () => {
    const text = (attributes: Record<string, AttributeValue>): string => {
      const bytes = Buffer.from(encodeResource(attributes))
      const out = new Writer(16)
      new JsonText().attributes(out, bytes, 0, bytes.length, 1, Buffer.from('"dpu.clock.suspect":true'))
      return out.buffer.toString('utf8', 0, out.position)
    }
    expect(text({})).toBe('{"dpu.clock.suspect":true}')
    expect(text({ a: 1 })).toBe('{"a":1,"dpu.clock.suspect":true}')
    expect(text({ 'dpu.clock.suspect': true })).toBe('{"dpu.clock.suspect":true}')
  })
})

describe('the interner', () => {
  test('finds what a map finds', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 3 }), { maxLength: 3000, minLength: 500 }), (keys) => {
        const interner = new ByteInterner()
        const map = new Map<string, number>()
        for (const [index, bytes] of keys.entries()) {
          const name = Buffer.from(bytes).toString('hex')
          expect(interner.find(bytes, 0, bytes.length)).toBe(map.get(name) ?? -1)
          if (map.has(name)) continue
          map.set(name, index)
          interner.set(bytes, 0, bytes.length, index)
        }
        expect(interner.size).toBe(map.size)
      }),
      { numRuns: 20 },
    )
  })
})
