// Times and durations as people write them, over random values.
import { assert, bigInt, property, string } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseDuration, parseTime } from '../../../plugins/protocols/log-question.ts'
import { toTime } from '../../support/sample-queries.ts'

describe('parseTime', () => {
  test('reads back every nanosecond that RFC 3339 with nine decimals can say', () => {
    assert(
      property(bigInt({ min: 0n, max: 4_102_444_800_000_000_000n }), (unixNano) => {
        expect(parseTime(toTime(unixNano), 0n)).toBe(unixNano)
      }),
    )
  })

  test('counts durations back from now, and zones against UTC', () => {
    const now = 1_800_000_000_000_000_000n
    expect(parseTime('now', now)).toBe(now)
    expect(parseTime('1h30m', now)).toBe(now - 5_400_000_000_000n)
    expect(parseTime('2026-11-21', now)).toBe(parseTime('2026-11-21T00:00:00Z', now))
    expect(parseTime('2026-11-21T02:00:00+02:00', now)).toBe(parseTime('2026-11-21T00:00:00Z', now))
  })

  test('never throws, whatever the text', () => {
    assert(property(string(), (text) => void [parseTime(text, 1n), parseDuration(text)]))
    expect(['', '15', 'm', '-1h', '1.5h', '2026-02-30T25:00:00Z'].map((text) => parseTime(text, 1n))).toEqual(
      Array(6).fill(undefined),
    )
  })
})

describe('parseDuration', () => {
  test('adds up its parts', () => {
    expect(parseDuration('1d2h3m4s5ms')).toBe(93_784_005_000_000n)
  })
})
