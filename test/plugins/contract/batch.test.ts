// The header of a batch: written first, read wherever it stands, invisible to everyone else.
import { describe, expect, test } from 'vitest'
import * as fc from 'fast-check'
import {
  encodeHeader,
  findHeader,
  parseStreamKey,
  sealBatch,
  streamKey,
  stripHeader,
} from '../../../plugins/contract/batch.ts'
import type { Header } from '../../../plugins/contract/batch.ts'
import { countRecords } from '../../../plugins/contract/cursor.ts'
import { classes, dropReasons, signals } from '../../../plugins/contract/signal.ts'
import type { Dropped } from '../../../plugins/contract/signal.ts'
import { WireError } from '../../../plugins/contract/wire.ts'
import {
  arbitraryMessage,
  decodeOfficial,
  encodeOfficial,
  officialRequest,
} from '../protocols/otlp/official.ts'

const word = (characters: string, least: number, most: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...characters.split('')), minLength: least, maxLength: most })
const id = word('abcdefghijklmnopqrstuvwxyz0123456789-', 1, 64)
const big = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const dropped: fc.Arbitrary<Dropped> = fc
  .dictionary(fc.constantFrom(...dropReasons), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }))
  .map((totals) => ({ ...totals }))
const headers: fc.Arbitrary<Header> = fc.record({
  collector: id,
  device: id,
  session: word('0123456789ABCDEFGHJKMNPQRSTVWXYZ', 26, 26),
  class: fc.constantFrom(...classes),
  seq: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  count: fc.maxSafeNat(),
  from: big,
  to: big,
  produced: fc.maxSafeNat(),
  dropped,
})

describe('the header of a batch', () => {
  test('comes back as it was, in front of the records and behind them', () => {
    fc.assert(
      fc.property(headers, arbitraryMessage(officialRequest('logs')), (header, value) => {
        const request = encodeOfficial('logs', value)
        const batch = sealBatch(header, 'logs', [request])
        expect([...batch.bytes.subarray(0, 3)]).toEqual([0x82, 0xc2, 0x03])
        expect(findHeader(batch.bytes)).toEqual(header)
        expect(findHeader(Buffer.concat([request, encodeHeader(header)]))).toEqual(header)
        expect(Buffer.compare(stripHeader(batch.bytes), request)).toBe(0)
      }),
    )
  })

  test.each(signals)('is skipped by protobufjs: %s read the same with it and without', (signal) => {
    fc.assert(
      fc.property(headers, arbitraryMessage(officialRequest(signal)), (header, value) => {
        const request = encodeOfficial(signal, value)
        const { bytes } = sealBatch(header, signal, [request])
        expect(decodeOfficial(signal, bytes)).toEqual(decodeOfficial(signal, request))
        expect(countRecords(signal, bytes)).toBe(countRecords(signal, request))
      }),
      { numRuns: 50 },
    )
  })

  test('two of them count as none', () => {
    fc.assert(
      fc.property(headers, headers, (one, other) => {
        const both = Buffer.concat([encodeHeader(one), encodeHeader(other)])
        expect(findHeader(both)).toBeUndefined()
        expect(stripHeader(both).length).toBe(0)
      }),
    )
  })

  test('is refused with an offset where it is cut off or lacks what a stream needs', () => {
    fc.assert(
      fc.property(headers, fc.nat(), (header, at) => {
        const bytes = encodeHeader(header)
        const cut = bytes.subarray(0, 1 + (at % (bytes.length - 1)))
        expect(() => findHeader(cut)).toThrow(WireError)
      }),
    )
    const nameless = { ...fc.sample(headers, 1)[0], collector: 'No Id' } as Header
    expect(() => findHeader(encodeHeader(nameless))).toThrow(/header without a valid collector.* at byte \d+/)
  })

  test('names a stream by a key that leads back to it', () => {
    fc.assert(
      fc.property(headers, ({ collector, device, session, class: name }) => {
        const stream = { collector, device, session, class: name }
        expect(parseStreamKey(streamKey(stream))).toEqual(stream)
      }),
    )
  })
})
