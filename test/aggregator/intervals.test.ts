import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { IntervalSet } from '../../aggregator/intervals.ts'
import { Reader, Writer } from '../../plugins/contract/wire.ts'

const seqs = fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 120 })

const rangesOf = (model: Set<number>): [number, number][] => {
  const ranges: [number, number][] = []
  for (const seq of [...model].sort((a, b) => a - b)) {
    const last = ranges.at(-1)
    if (last && last[1] + 1 === seq) last[1] = seq
    else ranges.push([seq, seq])
  }
  return ranges
}

const setOf = (numbers: Iterable<number>): IntervalSet => {
  const set = new IntervalSet()
  for (const seq of numbers) set.add(seq)
  return set
}

describe('IntervalSet', () => {
  test('answers like a Set, whatever is added and removed', () => {
    const steps = fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 40 })), { maxLength: 200 })
    fc.assert(
      fc.property(steps, (steps) => {
        const set = new IntervalSet()
        const model = new Set<number>()
        for (const [add, seq] of steps) {
          if (add) expect(set.add(seq)).toBe(!model.has(seq))
          else expect(set.remove(seq)).toBe(model.has(seq))
          if (add) model.add(seq)
          else model.delete(seq)
          expect(set.size).toBe(model.size)
          expect(set.ranges()).toEqual(rangesOf(model))
        }
        for (let seq = 0; seq <= 41; seq++) expect(set.has(seq)).toBe(model.has(seq))
        expect(set.last).toBe(Math.max(0, ...model))
      }),
    )
  })

  test('through, missing and rangeOf say what a Set would say', () => {
    fc.assert(
      fc.property(seqs, fc.integer({ min: 0, max: 70 }), (numbers, upTo) => {
        const set = setOf(numbers)
        const model = new Set(numbers)
        const absent = new Set(Array.from({ length: upTo }, (_, i) => i + 1).filter((seq) => !model.has(seq)))
        expect(set.missing(upTo)).toEqual(rangesOf(absent))
        let through = 0
        while (model.has(through + 1)) through++
        expect(set.through).toBe(through)
        for (const seq of [1, 17, upTo]) {
          expect(set.rangeOf(seq)).toEqual(rangesOf(model).find(([from, to]) => seq >= from && seq <= to))
        }
      }),
    )
  })

  test('a merge is the union, in either order', () => {
    fc.assert(
      fc.property(seqs, seqs, (one, other) => {
        const left = setOf(one)
        left.merge(setOf(other))
        const right = setOf(other)
        right.merge(setOf(one))
        expect(left.ranges()).toEqual(rangesOf(new Set([...one, ...other])))
        expect(left.size).toBe(new Set([...one, ...other]).size)
        expect(right.ranges()).toEqual(left.ranges())
      }),
    )
  })

  test('a set made from ranges, and its clone, hold what the set held', () => {
    fc.assert(
      fc.property(seqs, fc.boolean(), (numbers, reverse) => {
        const set = setOf(numbers)
        const ranges = set.ranges()
        const back = IntervalSet.from(reverse ? ranges.reverse() : ranges)
        expect(back.ranges()).toEqual(set.ranges())
        expect(back.size).toBe(set.size)
        const copy = set.clone()
        copy.add(1000)
        expect(set.has(1000)).toBe(false)
        expect(copy.size).toBe(set.size + 1)
      }),
    )
  })

  test('what was encoded is decoded, and truncation is refused', () => {
    fc.assert(
      fc.property(seqs, (numbers) => {
        const set = setOf(numbers)
        const out = new Writer()
        set.encode(out)
        const bytes = out.take()
        const back = IntervalSet.decode(new Reader(bytes))
        expect(back.ranges()).toEqual(set.ranges())
        expect(back.size).toBe(set.size)
        for (let cut = 0; cut < bytes.length; cut++) {
          expect(() => IntervalSet.decode(new Reader(bytes.subarray(0, cut)))).toThrow(/truncated/)
        }
      }),
    )
  })

  test('a stream of ten million in order is one range of a few bytes', () => {
    const set = new IntervalSet()
    for (let seq = 1; seq <= 10_000_000; seq++) set.add(seq)
    const out = new Writer()
    set.encode(out)
    expect(set.ranges()).toEqual([[1, 10_000_000]])
    expect(out.position).toBeLessThan(10)
  })

  test('too many gaps are closed from the oldest on, and counted', () => {
    const set = new IntervalSet(3)
    for (const seq of [1, 5, 10, 20, 30]) set.add(seq)
    expect(set.ranges()).toEqual([
      [1, 10],
      [20, 20],
      [30, 30],
    ])
    expect(set.closed).toBe(7)
    expect(set.size).toBe(5)
    expect(set.has(7)).toBe(true)
    expect(set.add(7)).toBe(false)
  })
})
