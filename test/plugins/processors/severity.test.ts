// The severity processor.
import { describe, expect, test } from 'vitest'
import severity from '../../../plugins/processors/severity.ts'
import { conformsToProcessor } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { sampleLogs, samplePoints, viewsOf } from '../../support/records.ts'

const passes = (config: unknown) => {
  const processor = severity.create(severity.config.parse(config), testContext())
  return (record: Parameters<typeof processor.decide>[0] | undefined) =>
    record !== undefined && processor.decide(record) === 'keep'
}
const log = (severityNumber: number, eventName?: string) =>
  viewsOf(
    sampleLogs([
      eventName === undefined ? { severity: severityNumber } : { severity: severityNumber, eventName },
    ]),
  )[0]

describe('severity', () => {
  conformsToProcessor(severity, { minimum: 'warn' })

  test.each([
    ['trace', 1],
    ['debug', 5],
    ['info', 9],
    ['warn', 13],
    ['error', 17],
    ['fatal', 21],
  ] as const)('with minimum %s lets through severity numbers from %d', (minimum, least) => {
    const pass = passes({ minimum })
    const through = Array.from({ length: 24 }, (_, index) => index + 1).filter((number) => pass(log(number)))
    expect(through).toEqual(Array.from({ length: 25 - least }, (_, index) => least + index))
  })

  test('drops for the reason filter, from info on when it is told nothing', () => {
    const processor = severity.create(severity.config.parse({}), testContext())
    const [debug] = viewsOf(sampleLogs([{ severity: 8 }]))
    expect(debug && processor.decide(debug)).toBe('filter')
  })

  test('lets through events, records without a severity, and data points', () => {
    const pass = passes({ minimum: 'fatal' })
    expect(pass(log(5, 'dpu.link.changed'))).toBe(true)
    expect(pass(log(0))).toBe(true)
    expect(viewsOf(samplePoints(4)).every(pass)).toBe(true)
  })

  test('refuses a severity that there is not, naming those that there are', () => {
    expect(severity.config.safeParse({ minimum: 'notice' }).error?.message).toContain('fatal')
  })
})
