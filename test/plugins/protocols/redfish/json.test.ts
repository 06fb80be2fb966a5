// What Redfish services write, read without believing it.
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  durationOf,
  linkOf,
  numberOf,
  objectsOf,
  pathOf,
  textOf,
  timeOf,
  typeOf,
} from '../../../../plugins/protocols/redfish/json.ts'
import { kinds } from '../../../../plugins/protocols/bmc/kinds.ts'
import { readingOf } from '../../../../plugins/protocols/redfish/sensor-kinds.ts'
import type { KindName } from '../../../../plugins/protocols/bmc/kinds.ts'

const names = Object.keys(kinds) as KindName[]

describe('readings', () => {
  test('are finite, plausible numbers or nothing, whatever a service writes', () =>
    fc.assert(
      fc.property(fc.constantFrom(...names), fc.anything(), (name, given) => {
        const value = readingOf(name, given)
        if (value === undefined) return
        expect(Number.isFinite(value)).toBe(true)
        expect(kinds[name].plausible(value)).toBe(true)
        expect(numberOf(given)).toBeDefined()
      }),
    ))

  test('are the same as a number and as its text', () =>
    fc.assert(
      fc.property(
        fc.constantFrom(...names),
        fc.double({ noNaN: true, min: -300, max: 300 }),
        (name, value) => {
          expect(readingOf(name, String(value))).toBe(readingOf(name, value))
        },
      ),
    ))

  test('keep the value of a plausible temperature', () =>
    fc.assert(
      fc.property(fc.double({ noNaN: true, min: -60, max: 200 }), (value) => {
        expect(readingOf('temperature', value)).toBe(value + 0) // −0 is 0
      }),
    ))

  test.each([null, undefined, 'nan', 'NaN', 'NA', 'N/A', 'null', '', ' ', '0x2c', '44C', '1e999', Infinity])(
    'are none where %j stands',
    (given) => expect(numberOf(given)).toBeUndefined(),
  )

  test('are parts of one where they came in per cent', () => {
    expect(readingOf('fanRatio', 45)).toBe(0.45)
    expect(readingOf('humidity', '55')).toBe(0.55)
    expect(readingOf('humidity', 120)).toBeUndefined()
  })
})

describe('times', () => {
  test('are read whatever offset stands there, to the nanosecond', () => {
    expect(timeOf('1970-01-01T00:00:13+00:00')).toBe(13_000_000_000n)
    expect(timeOf('2016-07-25T11:27:59.795513984+02:00')).toBe(1_469_438_879_795_513_984n)
    expect(timeOf('2023-12-13T20:37:39-0600')).toBe(timeOf('2023-12-14T02:37:39Z'))
    expect(timeOf('2023-12-13T20:37:39')).toBe(timeOf('2023-12-13T20:37:39Z'))
  })

  test('come back as they were', () =>
    fc.assert(
      fc.property(fc.date({ min: new Date(0), max: new Date('2199-01-01'), noInvalidDate: true }), (date) => {
        expect(timeOf(date.toISOString())).toBe(BigInt(date.getTime()) * 1_000_000n)
      }),
    ))

  test.each(['', '00:00:30 2023-12-13', '2023-13-40T00:00:00Z', 'N/A', 5, null, '1960-01-01T00:00:00Z'])(
    'are none where %j stands',
    (given) => expect(timeOf(given)).toBeUndefined(),
  )

  test('of intervals are read', () => {
    expect(durationOf('PT1.000S')).toBe(1000)
    expect(durationOf('PT5M')).toBe(300_000)
    expect(durationOf('P1DT2H')).toBe(93_600_000)
    expect(durationOf('soon')).toBeUndefined()
  })
})

describe('links', () => {
  test.each([
    'http://10.0.0.1/redfish/v1',
    '//evil/redfish',
    '/redfish/../etc',
    '/etc/passwd',
    '/redfish/a b',
    '',
  ])('do not lead to %j', (path) => expect(pathOf(path)).toBeUndefined())

  test('are read as objects and as text, without a trailing slash', () => {
    expect(linkOf({ '@odata.id': '/redfish/v1/Chassis/' })).toBe('/redfish/v1/Chassis')
    expect(linkOf('/redfish/v1/Chassis/1/Thermal#/Fans/0')).toBe('/redfish/v1/Chassis/1/Thermal#/Fans/0')
    expect(linkOf({ '@odata.id': 7 })).toBeUndefined()
  })
})

test('texts that stand for nothing are nothing', () => {
  expect(textOf('MT2313XZ0L2P            ')).toBe('MT2313XZ0L2P')
  for (const text of ['', '   ', 'N/A', 'NA', 'null', 'Unknown', 5, null])
    expect(textOf(text)).toBeUndefined()
  expect(objectsOf(null)).toEqual([])
  expect(typeOf({ '@odata.type': '#Sensor.v1_2_0.Sensor' })).toBe('Sensor')
  expect(typeOf({})).toBe('')
})
