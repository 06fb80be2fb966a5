// The sizing model: its tables stand in the README as it prints them, and more load never needs less.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { needOf, sizingTable, typical } from '../../deploy/sizing.ts'
import type { Fleet } from '../../deploy/sizing.ts'
import { root } from '../support/command-line.ts'

/** Tables are aligned by a formatter that has its own mind about widths. */
const cellsOf = (table: string): string[][] =>
  table
    .split('\n')
    .filter((line) => line.startsWith('|') && !line.startsWith('| -'))
    .map((line) => line.split('|').map((cell) => cell.trim()))

describe('the sizing model', () => {
  test.each([50, 50_000])('stands in the README worked for %s DPUs', (devices) => {
    const readme = readFileSync(join(root, 'deploy/README.md'), 'utf8')
    expect(readme).toMatch(/^# From one machine to fifty thousand DPUs\n/)
    const written = cellsOf(readme).map((row) => row.join('|'))
    for (const row of cellsOf(sizingTable({ devices, ...typical }))) expect(written).toContain(row.join('|'))
  })

  test('a larger fleet, or one that says more, never needs less of anything', () => {
    const fleet = fc.record({
      devices: fc.integer({ min: 1, max: 100_000 }),
      lines: fc.double({ min: 0.01, max: 1000, noNaN: true }),
      burst: fc.integer({ min: 1, max: 500 }),
      points: fc.integer({ min: 1, max: 10_000 }),
      classes: fc.integer({ min: 1, max: 6 }),
      interval: fc.integer({ min: 1, max: 300 }),
      days: fc.integer({ min: 1, max: 400 }),
    })
    const numbers = (one: Fleet): number[] => {
      const { single, fleet: many, ...rest } = needOf(one)
      return [...Object.values(rest), single.cores, single.store, ...Object.values(many)]
    }
    const more = fc.constantFrom<keyof Fleet>('devices', 'lines', 'points', 'classes', 'days')
    fc.assert(
      fc.property(fleet, more, fc.double({ min: 1, max: 10, noNaN: true }), (one, key, factor) => {
        const before = numbers(one)
        for (const [index, after] of numbers({ ...one, [key]: one[key] * factor }).entries()) {
          expect(after).toBeGreaterThanOrEqual((before[index] ?? 0) * (1 - 1e-9))
        }
      }),
    )
  })
})
