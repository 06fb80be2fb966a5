// What is kept of a request is kept to the byte, whatever is dropped around it.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { splitRecords } from '../../collector/cut.ts'
import { Rewriter, cursorFor } from '../../plugins/contract/rewrite.ts'
import type { RecordCursor } from '../../plugins/contract/rewrite.ts'
import { CursorView } from '../../collector/view.ts'
import {
  LogCursor,
  LogsEncoder,
  PointCursor,
  Readings,
  encodeResource,
} from '../../plugins/contract/index.ts'
import type { AttributeValue, Attributes, Records } from '../../plugins/contract/index.ts'

const value: fc.Arbitrary<AttributeValue> = fc.oneof(
  fc.string(),
  fc.integer(),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.boolean(),
  fc.double({ noNaN: true }),
)
const attributes: fc.Arbitrary<Attributes> = fc.dictionary(
  fc.constantFrom('a', 'b', 'host', 'long.key'),
  value,
)
const bodies = fc.array(fc.record({ body: fc.string(), attributes }), { minLength: 1, maxLength: 20 })

/** Several Resources: requests concatenate. */
function logs(requests: readonly { body: string; attributes: Attributes }[][]): Records {
  const encoder = new LogsEncoder({ name: 'test', version: '1' })
  const all = requests.map((list, at) => {
    encoder.begin(encodeResource({ 'host.id': `dpu-${at}` }))
    for (const { body, attributes } of list) {
      encoder.record(1000, 5, 1001, 6, 9)
      encoder.body(body)
      for (const [key, item] of Object.entries(attributes)) encoder.attribute(key, item)
      encoder.end()
    }
    return encoder.finish('dpu-0', 'log')
  })
  const [first] = all
  if (!first) throw new Error('nothing')
  return {
    ...first,
    count: all.reduce((sum, { count }) => sum + count, 0),
    bytes: Buffer.concat(all.map(({ bytes }) => bytes)),
  }
}

const declared = {
  'x.gauge': { kind: 'gauge', unit: '1' },
  'x.count': { kind: 'counter', unit: '{n}', class: 'resource' },
} as const

function metrics(
  points: readonly { name: keyof typeof declared; value: number; attributes: Attributes }[],
): Records {
  const readings = new Readings({
    scope: { name: 'test' },
    declared,
    device: 'dpu-0',
    resource: encodeResource({ 'host.id': 'dpu-0' }),
    timeUnixNano: 1_790_000_000_123_456_789n,
    startUnixNano: 1_780_000_000_000_000_000n,
  })
  for (const point of points) readings.add(point.name, point.value, point.attributes)
  const [records] = readings.finish()
  if (!records) throw new Error('nothing')
  return records
}

/** All that a reader sees of each record. */
function readAll(cursor: RecordCursor, bytes: Uint8Array): unknown[] {
  const found: unknown[] = []
  cursor.reset(bytes)
  while (cursor.next()) {
    const where = [cursor.resourceAttributes(), cursor.scopeName()]
    if (cursor instanceof LogCursor) {
      found.push([
        where,
        cursor.bodyValue(),
        cursor.recordAttributes(),
        cursor.timeLow,
        cursor.timeHigh,
        cursor.severityNumber,
      ])
    } else if (cursor instanceof PointCursor) {
      const { type, monotonic, temporality, timeLow, timeHigh, startLow, double } = cursor
      const metric = [cursor.text(cursor.name), cursor.text(cursor.unit), type, monotonic, temporality]
      found.push([where, metric, cursor.pointAttributes(), timeLow, timeHigh, startLow, double])
    }
  }
  return found
}

function keepSome(records: Records, kept: (at: number) => boolean): Uint8Array {
  const rewriter = new Rewriter()
  const cursor = cursorFor(records.signal).reset(records.bytes)
  rewriter.begin(records.bytes)
  for (let at = 0; cursor.next(); at++) if (kept(at)) rewriter.keep(cursor)
  return rewriter.finish()
}

const points = fc.array(
  fc.record({
    name: fc.constantFrom('x.gauge' as const, 'x.count' as const),
    value: fc.double({ noNaN: true }),
    attributes,
  }),
  { minLength: 1, maxLength: 20 },
)

describe('rewriting', () => {
  test('leaves of logs what was kept, as it was', () => {
    fc.assert(
      fc.property(
        fc.array(bodies, { minLength: 1, maxLength: 3 }),
        fc.infiniteStream(fc.boolean()),
        (requests, choices) => {
          const records = logs(requests)
          const kept = [...choices.take(records.count)]
          const all = readAll(new LogCursor(), records.bytes)
          const some = keepSome(records, (at) => kept[at] === true)
          expect(readAll(new LogCursor(), some)).toEqual(all.filter((_, at) => kept[at]))
        },
      ),
    )
  })

  test('leaves of data points what was kept, with what their metrics say', () => {
    fc.assert(
      fc.property(points, fc.infiniteStream(fc.boolean()), (list, choices) => {
        const records = metrics(list)
        const kept = [...choices.take(records.count)]
        const all = readAll(new PointCursor(), records.bytes)
        const some = keepSome(records, (at) => kept[at] === true)
        expect(readAll(new PointCursor(), some)).toEqual(all.filter((_, at) => kept[at]))
      }),
    )
  })

  test('replaces attributes and keeps the others', () => {
    fc.assert(
      fc.property(bodies, attributes, (list, set) => {
        const records = logs([list])
        const rewriter = new Rewriter()
        const cursor = cursorFor('logs').reset(records.bytes)
        rewriter.begin(records.bytes)
        while (cursor.next()) rewriter.keep(cursor, set)
        const changed = new LogCursor().reset(rewriter.finish())
        for (const { attributes, body } of list) {
          expect(changed.next()).toBe(true)
          expect(changed.bodyValue()).toEqual(body)
          expect(changed.recordAttributes()).toEqual(decoded({ ...attributes, ...set }))
        }
      }),
    )
  })

  test('cuts into parts that hold every record once, each part within the limit', () => {
    fc.assert(
      fc.property(
        fc.array(bodies, { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 5000, max: 9000 }),
        (requests, limit) => {
          const records = logs(requests)
          const { parts, tooLarge } = splitRecords(records, limit)
          expect(tooLarge).toBe(0)
          for (const part of parts) expect(part.bytes.length).toBeLessThanOrEqual(limit)
          const found = parts.flatMap(({ bytes }) => readAll(new LogCursor(), bytes))
          expect(found).toEqual(readAll(new LogCursor(), records.bytes))
        },
      ),
    )
  })

  test('never throws on bytes that make no sense', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(50), (noise, cut) => {
        const whole = logs([[{ body: 'x', attributes: {} }]])
        const bytes = Buffer.concat([
          whole.bytes.subarray(0, whole.bytes.length - (cut % whole.bytes.length)),
          noise,
        ])
        const { parts, tooLarge } = splitRecords({ ...whole, bytes, count: 5 }, 100_000)
        const kept = parts.reduce((sum, { count }) => sum + count, 0)
        expect(kept + tooLarge).toBeGreaterThanOrEqual(5)
      }),
    )
  })
})

/** As a reader sees what was written: integers within 2^53 are numbers. */
const decoded = (given: Attributes): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(given).map(([key, item]) => [
      key,
      typeof item === 'bigint' && Number.isSafeInteger(Number(item)) ? Number(item) : item,
    ]),
  )

describe('the view of a record', () => {
  test('finds attributes of record and Resource, the body, and the value of a point', () => {
    const records = logs([[{ body: 'hello', attributes: { a: 1, b: 'two' } }]])
    const cursor = cursorFor('logs').reset(records.bytes)
    const view = new CursorView().over(records, cursor)
    cursor.next()
    expect([view.body(), view.attribute('b'), view.attribute('c'), view.resource('host.id')]).toEqual([
      'hello',
      'two',
      undefined,
      'dpu-0',
    ])
    view.overlay = { b: 'three' }
    expect(view.attribute('b')).toBe('three')
    const reading = metrics([{ name: 'x.count', value: 5, attributes: { a: true } }])
    const point = cursorFor('metrics').reset(reading.bytes)
    const pointView = new CursorView().over(reading, point)
    point.next()
    expect([pointView.name, pointView.value(), pointView.attribute('a')]).toEqual(['x.count', 5, true])
  })
})
