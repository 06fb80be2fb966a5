// Frames of a stream: the two kinds told apart one by one, in any chunks, within bounds.
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Records } from '../../../../plugins/contract/index.ts'
import { Framer, SyslogParser } from '../../../../plugins/protocols/syslog/index.ts'
import { collectLogs } from '../../../support/records.ts'
import type { PlainLog } from '../../../support/records.ts'
import { arrival } from './support.ts'

function framesOf(chunks: readonly Uint8Array[], longest = 1000): { text: string; truncated: boolean }[] {
  const found: { text: string; truncated: boolean }[] = []
  const framer = new Framer(longest, (bytes, start, end, _valid, truncated) => {
    const text = bytes.toString('latin1', start, end)
    found.push({ text, truncated })
  })
  for (const chunk of chunks) framer.push(Buffer.from(chunk))
  framer.end()
  return found
}
/** As a connection turns chunks into records. */
function recordsOf(chunks: readonly Buffer[], maxLength: number): PlainLog[] {
  const found: Records[] = []
  const parser = new SyslogParser(
    { device: 'd', resource: new Uint8Array(0), maxLength, timezone: 'UTC' },
    (records) => void found.push(records),
  )
  parser.observedAt(arrival)
  const framer = new Framer(maxLength, (bytes, start, end, valid, truncated) =>
    parser.parse(bytes, start, end, { local: false }, valid, truncated),
  )
  for (const chunk of chunks) framer.push(chunk)
  framer.end()
  parser.flush()
  return collectLogs(found)
}
const texts = (input: string, longest?: number) =>
  framesOf([Buffer.from(input)], longest).map(({ text }) => text)

describe('frames', () => {
  test.each<[string, string, string[]]>([
    ['are counted', '8 <13>abcd9 <13>\nefgh', ['<13>abcd', '<13>\nefgh']],
    ['end at a newline', '<13>a\n<14>b\n', ['<13>a', '<14>b']],
    ['end at a NUL', '<13>a\0<14>b\0', ['<13>a', '<14>b']],
    ['are of both kinds in one stream', '<13>a\n5 <13>b<13>c\n5 <13>d', ['<13>a', '<13>b', '<13>c', '<13>d']],
    ['may have a newline behind a counted one', '5 <13>a\n5 <13>b\r\n', ['<13>a', '<13>b']],
    [
      'that begin with a number are lines unless `<` follows',
      '12 monkeys\n3 <\n7seas\n',
      ['12 monkeys', '<\n7', 'seas'],
    ],
    ['have no leading zero in their count', '05 <13>a\n', ['05 <13>a']],
    ['have a count of at most nine digits', '1234567890 <13>a\n', ['1234567890 <13>a']],
    ['do without the last newline', '<13>a\n<14>b', ['<13>a', '<14>b']],
    ['are none where a line is empty', '\n\n\0\r\n<13>a\n\n', ['<13>a']],
  ])('%s', (_, input, expected) => expect(texts(input)).toEqual(expected))

  test('are the same in whatever chunks they arrive', () => {
    const piece = fc.oneof(
      fc.string({ maxLength: 30 }).map((text) => `<13>${text.replaceAll(/[\n\0]/g, '')}\n`),
      fc
        .string({ unit: 'grapheme', maxLength: 30 })
        .map((text) => `${Buffer.byteLength(`<13>${text}`)} <13>${text}`),
      fc.constantFrom('\n', '\0', '\r\n', '12 ', '9 <', '99999 <13>', 'é', '1', ' ', '<'),
      fc.string({ unit: 'binary', maxLength: 60 }),
    )
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
        fc.constantFrom(10, 16, 1000),
        (pieces, sizes, longest) => {
          const whole = Buffer.from(pieces.join(''))
          const chunks: Buffer[] = []
          for (let at = 0, index = 0; at < whole.length; index++) {
            const size = sizes[index % sizes.length] ?? 1
            chunks.push(whole.subarray(at, at + size))
            at += size
          }
          expect(framesOf(chunks, longest)).toEqual(framesOf([whole], longest))
          expect(recordsOf(chunks, longest)).toEqual(recordsOf([whole], longest))
        },
      ),
      { numRuns: 500 },
    )
  })

  test('longer than the longest are cut, their rest is skipped, and the next one is whole', () => {
    const counted = `50 <13>${'x'.repeat(46)}`
    const line = `<13>${'y'.repeat(46)}\n`
    const expected = [
      { text: '<13>xxxxxx', truncated: true },
      { text: '<13>yyyyyy', truncated: true },
      { text: '<13>z', truncated: false },
    ]
    const input = Buffer.from(`${counted}${line}<13>z\n`)
    expect(framesOf([input], 10)).toEqual(expected)
    expect(
      framesOf(
        [...input].map((byte) => Uint8Array.of(byte)),
        10,
      ),
    ).toEqual(expected)
  })

  test('that the end of the stream cut short are marked where their count says so', () => {
    expect(framesOf([Buffer.from('50 <13>abc')])).toEqual([{ text: '<13>abc', truncated: true }])
    expect(framesOf([Buffer.from('12 ')])).toEqual([{ text: '12 ', truncated: false }])
  })

  test('without an end keep no more than the longest message', () => {
    let most = 0
    const framer = new Framer(1000, (_bytes, start, end) => void (most = Math.max(most, end - start)))
    for (let index = 0; index < 1000; index++) framer.push(Buffer.alloc(1000, 0x61))
    framer.end()
    expect(most).toBe(1000)
  })
})
