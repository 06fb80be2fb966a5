import * as fc from 'fast-check'
import kafkajs from 'kafkajs'
import { describe, expect, test } from 'vitest'
import { assign, partitionFor } from '../../../aggregator/journal/kafka-partition.ts'
import type { Member } from '../../../aggregator/journal/kafka-partition.ts'

const ascending = (a: number, b: number): number => a - b

describe('partitionFor', () => {
  test('puts a key where every other Kafka client puts it', () => {
    const theirs = kafkajs.Partitioners.DefaultPartitioner()
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 70 }),
        fc.integer({ min: 1, max: 60 }),
        (key, count) => {
          const partitionMetadata = Array.from({ length: count }, (_, partitionId) => ({
            partitionId,
            leader: 0,
            partitionErrorCode: 0,
            replicas: [],
            isr: [],
          }))
          const message = { key: Buffer.from(key), value: null }
          expect(partitionFor(key, count)).toBe(theirs({ topic: 't', partitionMetadata, message }))
        },
      ),
    )
  })
})

describe('assign', () => {
  const members = fc
    .uniqueArray(fc.string({ minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 9 })
    .chain((ids) =>
      fc.tuple(
        ...ids.map((id) =>
          fc.array(fc.integer({ min: -1, max: 40 })).map((owned): Member => ({ id, owned })),
        ),
      ),
    )
  const partitions = fc.integer({ min: 0, max: 40 })

  test('gives every partition to one member, and nobody two more than another', () => {
    fc.assert(
      fc.property(partitions, members, (count, list) => {
        const shares = [...assign(count, list).values()]
        expect(shares.flat().toSorted(ascending)).toEqual(Array.from({ length: count }, (_, index) => index))
        const sizes = shares.map(({ length }) => length)
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
      }),
    )
  })

  test('does not depend on the order in which members are listed', () => {
    fc.assert(
      fc.property(partitions, members, (count, list) => {
        const one = assign(count, list)
        const other = assign(count, list.toReversed())
        for (const [id, own] of one)
          expect(other.get(id)?.toSorted(ascending)).toEqual(own.toSorted(ascending))
      }),
    )
  })

  test('moves nothing between members that stay as they are, and no more than its share to one that joins', () => {
    fc.assert(
      fc.property(partitions, fc.integer({ min: 1, max: 8 }), (count, size) => {
        const ids = Array.from({ length: size }, (_, index) => `m${index}`)
        const before = assign(
          count,
          ids.map((id) => ({ id, owned: [] })),
        )
        const list = ids.map((id) => ({ id, owned: before.get(id) ?? [] }))
        for (const [id, own] of assign(count, list))
          expect(own.toSorted(ascending)).toEqual(before.get(id)?.toSorted(ascending))
        const after = assign(count, [...list, { id: 'new', owned: [] }])
        for (const id of ids) expect(before.get(id)).toEqual(expect.arrayContaining(after.get(id) ?? []))
      }),
    )
  })
})
