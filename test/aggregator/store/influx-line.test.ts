// Line protocol byte by byte: numbers of 64 bits without BigInt, and attributes that were kept.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AttributeFields } from '../../../aggregator/store/influx/attribute-fields.ts'
import { integer } from '../../../aggregator/store/influx/line.ts'
import { ServiceTags } from '../../../aggregator/store/influx/log-lines.ts'
import { LogCursor } from '../../../plugins/contract/log-cursor.ts'
import { LogsEncoder } from '../../../plugins/contract/encoder.ts'
import { encodeResource } from '../../../plugins/contract/values.ts'
import { Writer } from '../../../plugins/contract/wire.ts'

const textOf = (value: bigint, signed: boolean): string => {
  const out = new Writer(8)
  const bits = BigInt.asUintN(64, value)
  integer(out, Number(bits & 0xffffffffn) | 0, Number(bits >> 32n) | 0, signed)
  return out.buffer.toString('latin1', 0, out.position)
}

describe('integers of line protocol', () => {
  test('are those that went in, signed and unsigned', () => {
    const near = fc.constantFrom(
      0n,
      999_999_999n,
      10n ** 9n,
      10n ** 18n,
      2n ** 32n,
      2n ** 63n,
      2n ** 64n - 1n,
    )
    const multiples = fc.bigInt({ min: 0n, max: 18_446_744_073n }).map((one) => one * 1_000_000_000n)
    const base = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), near, multiples)
    fc.assert(
      fc.property(base, fc.integer({ min: -3, max: 3 }), (from, step) => {
        const value = BigInt.asUintN(64, from + BigInt(step))
        expect(textOf(value, false)).toBe(String(value))
        expect(textOf(value, true)).toBe(String(BigInt.asIntN(64, value)))
      }),
      { numRuns: 5000 },
    )
  })
})

function attributesOf(pairs: readonly (readonly [string, string])[]): LogCursor {
  const encoder = new LogsEncoder({ name: 'test' })
  encoder.begin(encodeResource({}))
  encoder.record(1_790_000_000, 0, 1_790_000_000, 0, 9)
  for (const [key, value] of pairs) encoder.attribute(key, value)
  encoder.end()
  const cursor = new LogCursor().reset(encoder.finish('d', 'log').bytes)
  cursor.next()
  return cursor
}

describe('attributes of log lines', () => {
  test('read the same whether they were met before or not, whatever came between', () => {
    const pair = fc.tuple(fc.constantFrom('a', 'b', 'syslog.appname', 'syslog.procid'), fc.string())
    const records = fc.array(fc.uniqueArray(pair, { maxLength: 4, selector: ([key]) => key }), {
      minLength: 1,
      maxLength: 30,
    })
    fc.assert(
      fc.property(records, (all) => {
        const kept = new AttributeFields(new ServiceTags(100))
        for (const pairs of [...all, ...all]) {
          const { bytes, attributes } = attributesOf(pairs)
          const fresh = new AttributeFields(new ServiceTags(100))
          fresh.read(bytes, attributes.start, attributes.end)
          kept.read(bytes, attributes.start, attributes.end)
          expect(kept.field.toString()).toBe(fresh.field.toString())
          expect(kept.service.toString()).toBe(fresh.service.toString())
          if (pairs.length === 0) continue
          const text = kept.field.toString().slice(',attributes="'.length, -1)
          const object: unknown = JSON.parse(text.replaceAll(/\\(["\\])/g, '$1'))
          expect(Object.keys(object as object)).toEqual(pairs.map(([key]) => key))
        }
      }),
    )
  })
})
