// Labels from a CSV file: what a row says, and which line is wrong.
import { describe, expect, test } from 'vitest'
import { labelsOfCsv } from '../../commands/label.ts'

describe('a CSV of labels', () => {
  test('sets, leaves alone and takes away, with quoted cells, CRLF and a byte order mark', () => {
    const text = '\uFEFFdevice,dpu.rack,dpu.tenant\r\nDPU-1,r1,"a, ""b"""\r\n\r\ndpu-2,,-\r\n"dpu-3",r3,\r\n'
    expect(labelsOfCsv(text, 'labels.csv')).toEqual([
      ['dpu-1', { 'dpu.rack': 'r1', 'dpu.tenant': 'a, "b"' }],
      ['dpu-2', { 'dpu.tenant': null }],
      ['dpu-3', { 'dpu.rack': 'r3' }],
    ])
  })

  test.each([
    ['name,rack\na,b\n', 'labels.csv:1: expected columns'],
    ['device,rack\ndpu-1,a,b\n', 'labels.csv:2: 3 cells, expected 2'],
    ['device,rack\n\ndpu 1,a\n', 'labels.csv:3: "dpu 1" is no name'],
    ['device,rack\ndpu-1,a\ndpu-1,b\n', 'labels.csv:3: dpu-1 is in line 2 too'],
    ['device,rack\ndpu-1,"a\n', 'labels.csv:2: a quote that does not end'],
  ])('that reads %j is refused by its line', (text, message) => {
    expect(() => labelsOfCsv(text, 'labels.csv')).toThrow(message)
  })
})
