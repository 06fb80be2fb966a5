// Line protocol: the examples of its documentation, random lines read back equal, and random bytes that harm nobody.
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeResource } from '../../../../plugins/contract/values.ts'
import { LineReader, LineRecords } from '../../../../plugins/protocols/line-protocol/index.ts'
import { IntegerReader, readDecimal } from '../../../../plugins/protocols/records/numbers.ts'
import { expectWellFormed } from '../../../support/conformance-definition.ts'
import { collectPoints } from '../../../support/records.ts'

const records = (): LineRecords =>
  new LineRecords({
    scope: 'test',
    device: 'dpu-1',
    resource: () => encodeResource({}),
    deviceTag: undefined,
  })
const now = 1_790_000_000_000_000_000n
const take = (text: string | Buffer, perSecond = 1e9) => records().take(Buffer.from(text), perSecond, now)
const reasonOf = (text: string): string | undefined => take(text).first?.reason

interface Line {
  measurement: string
  tags: [string, string][]
  fields: [string, string][]
  time: string
}

/** Every line as plain texts; refusals as their reason. */
function read(text: string): (Line | string)[] {
  const reader = new LineReader().reset(Buffer.from(text))
  const found: (Line | string)[] = []
  for (let step = reader.next(); step !== 'end'; step = reader.next()) {
    if (step === 'malformed') {
      found.push(reader.reason)
      continue
    }
    const { bytes, tags, fields } = reader
    const of = (start: number, end: number): string => bytes.toString('utf8', start, end)
    const pairs = (from: typeof tags): [string, string][] =>
      Array.from({ length: from.count }, (_, index) => [
        of(from.keyStart(index), from.keyEnd(index)),
        of(from.valueStart(index), from.valueEnd(index)),
      ])
    found.push({
      measurement: of(reader.measurementStart, reader.measurementEnd),
      tags: pairs(tags),
      fields: pairs(fields),
      time: of(reader.timeStart, reader.timeEnd),
    })
  }
  return found
}

describe('lines', () => {
  test.each([
    ['my Measurement', 'myMeasurement,tag1=value1,tag2=value2 fieldKey="fieldValue" 1556813561098000000', 1],
    ['escaped spaces', String.raw`my\ Measurement fieldKey="string value"`, 1],
    ['double quotes in text', String.raw`myMeasurement fieldKey="\"string\" within a string"`, 1],
    ['escaped names', String.raw`myMeasurement,tag\ Key1=tag\ Value1,tag\ Key2=tag\ Value2 fieldKey=100`, 1],
    ['an emoji', 'myMeasurement,tagKey=🍭 fieldKey="Launch 🚀" 1556813561098000000', 1],
    ['a newline in text', 'm f="one\ntwo" 1\nn f=1', 2],
    ['comments and empty lines', '# comment\n\n  \r\nm f=1\r\n# end', 1],
  ])('of the documentation are read: %s', (_, text, count) => {
    const found = read(text)
    expect(found).toHaveLength(count)
    expect(found.every((one) => typeof one !== 'string')).toBe(true)
  })

  test.each([
    ['m', 'no fields'],
    ['m ', 'no fields'],
    [',t=1 f=1', 'no measurement'],
    ['m,t f=1', 'a tag without ='],
    ['m,t= f=1', 'tag t is empty'],
    ['m,=v f=1', 'a tag without a name'],
    ['m f', 'field f has no value'],
    ['m f=', 'field f has no value'],
    ['m f="a', 'field f has no closing quote'],
    ['m f="a"b', 'field f has more behind its closing quote'],
    ['m f=1 1 1', 'text behind the timestamp'],
    ['m f=NaN', 'field f has no value that can be stored: NaN'],
    ['m f=1e999', 'field f has no value that can be stored'],
    ['m f=9223372036854775808i', 'field f has no value that can be stored: 9223372036854775808i'],
    ['m f=-1u', 'field f has no value that can be stored: -1u'],
    ['m f=truth', 'field f has no value that can be stored: truth'],
    ['m f=1 yesterday', 'timestamp yesterday is no time'],
    ['m f=1 -5', 'timestamp -5 is no time'],
  ])('that are malformed say why: %s', (text, reason) => {
    expect(reasonOf(text)).toContain(reason)
  })

  test('a malformed line takes nothing of its neighbours along, and is named by its number', () => {
    const taken = take('a v=1\nb v="\\"open\nc v=2\n\nd,x v=3\ne v=4')
    expect(collectPoints(taken.records).map(({ name }) => name)).toEqual(['a_v', 'c_v', 'e_v'])
    expect(taken).toMatchObject({ lines: 5, refused: 2, first: { line: 2, excerpt: 'b v="\\"open' } })
  })

  const name = fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
    .filter((text) => !/[\p{Cc}\\]/u.test(text))
  const escaped = (text: string): string => text.replaceAll(/[,= ]/g, String.raw`\$&`)
  const line = fc.record({
    measurement: name.filter((text) => !text.startsWith('#')),
    tags: fc.array(fc.tuple(name, name), { maxLength: 4 }),
    fields: fc.array(fc.tuple(name, fc.string({ unit: 'grapheme', maxLength: 30 })), {
      minLength: 1,
      maxLength: 5,
    }),
    time: fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }).map(String),
  })
  const written = ({ measurement, tags, fields, time }: Line): string =>
    `${escaped(measurement)}${tags.map(([key, value]) => `,${escaped(key)}=${escaped(value)}`).join('')} ${fields
      .map(([key, value]) => `${escaped(key)}="${value.replaceAll(/["\\]/g, String.raw`\$&`)}"`)
      .join(',')} ${time}`

  test('that were written are read back equal', () => {
    fc.assert(
      fc.property(fc.array(line, { minLength: 1, maxLength: 5 }), (lines) => {
        expect(read(lines.map(written).join('\n'))).toEqual(lines)
      }),
    )
  })

  test('of random bytes crash nothing, and each is taken or refused', () => {
    const piece = fc.constantFrom(
      'm',
      ',',
      '=',
      ' ',
      '"',
      '\\',
      '\n',
      '1',
      'i',
      't',
      '#',
      '\u0000',
      '\xff',
      'x=1 ',
    )
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((one) => Buffer.from(one)),
      fc.array(piece, { maxLength: 80 }).map((pieces) => Buffer.from(pieces.join(''), 'latin1')),
    )
    fc.assert(
      fc.property(bytes, (body) => {
        const taken = take(body)
        expect(taken.refused).toBeLessThanOrEqual(taken.lines)
        for (const one of taken.records) expectWellFormed(one)
      }),
    )
  })

  test('limits are kept: a line of a thousand fields is taken, a longer one and an endless text are refused', () => {
    const fields = (count: number): string =>
      Array.from({ length: count }, (_, index) => `f${index}=1`).join(',')
    expect(take(`m ${fields(1000)}`).refused).toBe(0)
    expect(reasonOf(`m ${fields(1001)}`)).toContain('more than 1000')
    expect(reasonOf(`m f="${'x'.repeat(70_000)}"\nn v=1`)).toContain('no closing quote')
    expect(reasonOf(`m,t=${'x'.repeat(70_000)} v=1`)).toContain('longer than')
  })
})

describe('metrics', () => {
  test('keep whole numbers whole, beyond 2^53 too, and share the time of their line', () => {
    const { records: found } = take(
      'm,a=b big=9007199254740993i,neg=-9223372036854775808i,f=1,yes=t,u=5u 1700000000123456789',
    )
    expect(
      collectPoints(found).map(({ name, value, time, attributes }) => [name, value, time, attributes.a]),
    ).toEqual(
      [
        ['m_big', 9007199254740993n],
        ['m_neg', -9223372036854775808n],
        ['m_f', 1],
        ['m_yes', 1n],
        ['m_u', 5n],
      ].map(([key, value]) => [key, value, 1700000000123456789n, 'b']),
    )
  })

  test('named gauge, counter and value take the name of the measurement', () => {
    const { records: found } = take('a counter=5\nb gauge=6\nc value=7')
    expect(collectPoints(found)).toMatchObject([
      { name: 'a', type: 'sum', monotonic: true, temporality: 2, value: 5 },
      { name: 'b', type: 'gauge', value: 6 },
      { name: 'c', type: 'gauge', value: 7 },
    ])
  })

  test('fill batches of at most 500 points, all of one metric together', () => {
    const text = Array.from({ length: 700 }, (_, index) => `m a=${index},b=${index} ${index + 1}`).join('\n')
    const { records: found } = take(text)
    expect(found.map(({ count }) => count)).toEqual([500, 500, 400])
    for (const one of found) expectWellFormed(one)
    expect(collectPoints(found).filter(({ name }) => name === 'm_a')).toHaveLength(700)
  })

  test.each([
    [1e6, 1_700_000_000_123_456n],
    [1e3, 1_700_000_000_123n],
    [1, 1_700_000_000n],
    [1 / 60, 28_333_333n],
    [1 / 3600, 472_222n],
  ])('times in units of %d a second are exact', (perSecond, time) => {
    const nanos = perSecond >= 1 ? BigInt(1e9 / perSecond) : BigInt(Math.round(1e9 / perSecond))
    expect(collectPoints(take(`m v=1 ${time}`, perSecond).records)[0]?.time).toBe(time * nanos)
  })
})

describe('numbers', () => {
  test('decimals are read as JavaScript reads them, and nothing else is one', () => {
    const text = fc.oneof(
      fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
      fc.integer().map(String),
      fc.stringMatching(/^[+-]?\d{0,20}\.?\d{0,20}([eE][+-]?\d{0,3})?$/),
      fc.string({ maxLength: 8 }),
    )
    const form = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/
    fc.assert(
      fc.property(text, (one) => {
        const bytes = Buffer.from(one)
        expect(readDecimal(bytes, 0, bytes.length)).toBe(form.test(one) ? Number(one) : NaN)
      }),
      { numRuns: 2000 },
    )
  })

  test('integers are exact over all of 64 bits', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 65n), max: 2n ** 65n }), fc.boolean(), (value, signed) => {
        const bytes = Buffer.from(String(value))
        const reader = new IntegerReader()
        const fits = value < 2n ** 63n && value >= (signed ? -(2n ** 63n) : 0n)
        expect(reader.read(bytes, 0, bytes.length, signed)).toBe(fits)
        if (fits) expect(BigInt.asIntN(64, (BigInt(reader.high) << 32n) | BigInt(reader.low))).toBe(value)
      }),
      { numRuns: 2000 },
    )
  })
})
