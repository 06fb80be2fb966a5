// Timestamps: years that are missing, zones that are not said, hours that exist twice or never.
import { describe, expect, test } from 'vitest'
import { SyslogParser, zoneOf } from '../../../../plugins/protocols/syslog/index.ts'
import { arrival, parse, parseAll, timeOf } from './support.ts'
import { collectLogs } from '../../../support/records.ts'

const at = (text: string) => BigInt(Date.parse(text)) * 1_000_000n
const read = (timestamp: string, now: string, timezone = 'UTC') =>
  timeOf(parse(`<13>${timestamp} host app: x`, { at: at(now), timezone })).slice(0, 19)

describe('a year that is missing', () => {
  test.each([
    ['Dec 31 23:59:59', '2027-01-01T00:00:05Z', '2026-12-31T23:59:59'],
    ['Jan  1 00:00:03', '2026-12-31T23:59:58Z', '2027-01-01T00:00:03'],
    ['Nov 21 10:00:00', '2026-11-21T10:00:01Z', '2026-11-21T10:00:00'],
    ['Feb 29 12:00:00', '2028-03-01T00:00:00Z', '2028-02-29T12:00:00'],
    ['Feb 29 12:00:00', '2026-04-01T00:00:00Z', '2028-02-29T12:00:00'],
  ])('of %s at %s gives %s', (timestamp, now, expected) => expect(read(timestamp, now)).toBe(expected))

  test('is resolved again when the year has changed under the same text', () => {
    const found = ['2026-12-31T23:59:58Z', '2027-06-01T00:00:00Z', '2026-06-30T00:00:00Z'].map((now) =>
      read('Jan  1 00:00:03', now),
    )
    expect(found).toEqual(['2027-01-01T00:00:03', '2027-01-01T00:00:03', '2026-01-01T00:00:03'])
  })
})

describe('a zone that is not said', () => {
  test.each([
    ['Jul 14 12:00:00', '2026-07-14T10:00:00Z', 'Europe/Berlin', '2026-07-14T10:00:00'],
    ['Jan 14 12:00:00', '2026-01-14T10:00:00Z', 'Europe/Berlin', '2026-01-14T11:00:00'],
    ['Jul 14 12:00:00', '2026-07-14T10:00:00Z', '+05:30', '2026-07-14T06:30:00'],
    ['Jul 14 12:00:00', '2026-07-14T10:00:00Z', '-0800', '2026-07-14T20:00:00'],
    // Twice: the one that is nearer.
    ['Oct 25 02:30:00', '2026-10-25T00:31:00Z', 'Europe/Berlin', '2026-10-25T00:30:00'],
    ['Oct 25 02:30:00', '2026-10-25T01:31:00Z', 'Europe/Berlin', '2026-10-25T01:30:00'],
    // Never: as the clock ran before.
    ['Mar 29 02:30:00', '2026-03-29T01:30:00Z', 'Europe/Berlin', '2026-03-29T01:30:00'],
    ['Apr  5 01:45:00', '2026-04-04T15:00:00Z', 'Australia/Lord_Howe', '2026-04-04T14:45:00'],
  ])('for %s at %s in %s gives %s', (timestamp, now, timezone, expected) =>
    expect(read(timestamp, now, timezone)).toBe(expected),
  )

  test('concerns ISO timestamps too, and none that say theirs', () => {
    const given = { timezone: 'Europe/Berlin' }
    expect(timeOf(parse('<13>2026-10-11T22:14:15 h a: x', given))).toBe('2026-10-11T20:14:15.000000000')
    expect(timeOf(parse('<13>2026-10-11T22:14:15Z h a: x', given))).toBe('2026-10-11T22:14:15.000000000')
    expect(timeOf(parse('<13>Oct 11 22:14:15 UTC: %A-5-B: x', given))).toBe('2026-10-11T22:14:15.000000000')
  })

  test('is refused where it does not exist', () => {
    expect(zoneOf('Mars/Olympus')).toBeUndefined()
    expect(zoneOf('+25:00')).toBeUndefined()
    expect(zoneOf('local')).toBeTypeOf('function')
    const options = { device: 'd', resource: new Uint8Array(0), maxLength: 1000, timezone: 'Nowhere' }
    expect(() => new SyslogParser(options, () => undefined)).toThrow('there is no time zone Nowhere')
  })
})

describe('a time of RFC 5424', () => {
  test.each([
    ['2026-10-11T22:14:15.123456789Z', '2026-10-11T22:14:15.123456789'],
    ['2026-10-11T22:14:15.1234567899Z', '2026-10-11T22:14:15.123456789'],
    ['2026-10-11T22:14:15.5+02:00', '2026-10-11T20:14:15.500000000'],
    ['2016-12-31T23:59:60Z', '2017-01-01T00:00:00.000000000'],
    ['1970-01-01T00:00:00Z', '1970-01-01T00:00:00.000000000'],
    ['2024-02-29T00:00:00-12:00', '2024-02-29T12:00:00.000000000'],
  ])('%s is %s', (text, expected) => expect(timeOf(parse(`<13>1 ${text} - - - - - x`))).toBe(expected))

  test.each([
    '2026-02-29T00:00:00Z',
    '2026-10-11T24:00:00Z',
    '2026-10-11T22:14:15',
    '2026-10-11T22:14:15.Z',
    '1969-12-31T23:59:59Z',
    '1970-01-01T00:00:00+01:00',
    '20261011T221415Z',
  ])('%s is none, and the message stays whole', (text) => {
    const record = parse(`<13>1 ${text} - - - - - x`)
    expect(record.time).toBe(arrival)
    expect(record.body).toBe(`<13>1 ${text} - - - - - x`)
    expect(record.attributes).toEqual({ 'syslog.facility': 1, 'dpulse.malformed': true })
  })

  test('that repeats the second of the one before keeps its own fraction and offset', () => {
    const lines = ['.1Z', '.2+01:00', 'Z', '.4-01:00'].map(
      (tail) => `<13>1 2026-10-11T22:14:15${tail} - - - - - x`,
    )
    expect(collectLogs(parseAll(lines)).map((record) => timeOf(record).slice(11, 21))).toEqual([
      '22:14:15.1',
      '21:14:15.2',
      '22:14:15.0',
      '23:14:15.4',
    ])
  })
})
