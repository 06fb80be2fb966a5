// Labels of a machine: what a file may say, and which of three places has the last word.
import { describe, expect, test } from 'vitest'
import { labelsOf, parseLabels } from '../../../collector/change/labels.ts'

describe('a file of labels', () => {
  test('names them with or without dpu., as texts or numbers', () => {
    expect(parseLabels('dpu.rack: r12\nslot: 3\n')).toEqual({ rack: 'r12', slot: '3' })
    expect(parseLabels('')).toEqual({})
  })

  test.each([
    ['rack: [a]', 'rack: expected a text'],
    ['Rack Name: a', 'Rack Name: expected small letters'],
    [`rack: ${'x'.repeat(300)}`, 'rack: expected at most 256'],
    ['a: {', 'no YAML'],
    [Array.from({ length: 70 }, (_, at) => `l${at}: x`).join('\n'), 'at most 64 labels'],
  ])('that says %j is refused, and the label is named', (text, message) => {
    expect(() => parseLabels(text)).toThrow(message)
  })
})

describe('the last word', () => {
  test('is the aggregator’s, then that of the file, then that of the configuration', () => {
    const all = labelsOf({ a: '1', b: '1', c: '1', d: '1' }, { b: '2', c: '2' }, { c: '3', d: null })
    expect(all).toEqual({ a: '1', b: '2', c: '3' })
  })
})
