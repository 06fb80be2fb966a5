// Whatever rules and records: the engine over bytes and a naive model over objects come to the same.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LogsEncoder, classes, encodeResource, Readings } from '../../../../plugins/contract/index.ts'
import type { AttributeValue, Records } from '../../../../plugins/contract/index.ts'
import { Filter, filterSettings } from '../../../../plugins/protocols/filter/index.ts'
import { collect, sampleLogs } from '../../../support/records.ts'
import { Model } from './model.ts'

const key = fc.constantFrom('a', 'app', 'host.name', 'port', 'a.long.key.of.more.than.thirty.six.bytes', 'ß')
const word = fc.constantFrom(
  'sshd',
  'cron',
  'cron2',
  'kernel',
  '',
  '4',
  '22',
  'true',
  'password=x1',
  'ünï',
  'KERNEL',
  // KELVIN SIGN and LATIN SMALL LETTER LONG S fold to k and s.
  '\u212aernel',
  'pa\u017fsword=x1',
)
const attributeValue: fc.Arbitrary<AttributeValue> = fc.oneof(
  word,
  fc.integer({ min: -3, max: 30 }),
  fc.constantFrom(0.5, true, false, 2n ** 60n, 'x'.repeat(50)),
  fc.array(word, { maxLength: 2 }),
)
const attributes = fc.dictionary(key, attributeValue, { maxKeys: 4 })

const oneGlob = fc.constantFrom('sshd', 'cron*', '*n', '?ron', 'c*n', '*', '4', 'true', 'ünï', '\\*', 'x*x')
const plain = fc.oneof(oneGlob, fc.constantFrom(4, 22, true, false, 0.5))
const pattern = fc.constantFrom(
  'cron[0-9]',
  '(?i)kernel',
  '(?i)pass(word)?=\\S+',
  'pass(word)?=\\S+',
  '^a',
  '(up|down) x',
  '[0-9]+',
  'ö|ß',
)
const condition = fc.oneof(
  fc.array(plain, { minLength: 1, maxLength: 3 }),
  plain,
  fc.record({ matches: pattern, not: plain }, { requiredKeys: [] }),
  fc.record({ exists: fc.boolean() }),
  fc.record({ at_least: fc.constant(2), below: fc.constant(23) }, { requiredKeys: [] }),
)
const conditions = fc.dictionary(key, condition, { maxKeys: 2 })
const severity = fc.constantFrom('trace', 'debug', 'info', 'warn', 'error', 'fatal')
const names = fc.array(fc.constantFrom('hw.*', '!hw.power', 'test.level', '*', 'dpu.link', '!*.total'), {
  minLength: 1,
  maxLength: 2,
})
const body = fc.record(
  {
    contains: fc.constantFrom('cron', 'link up', 'ß', 'x', ['down', 'Kernel']),
    matches: fc.oneof(pattern, fc.array(pattern, { minLength: 1, maxLength: 2 })),
    not: pattern,
  },
  { requiredKeys: [] },
)
const match = fc.record(
  {
    signal: fc.constantFrom('logs', 'metrics', ['logs', 'metrics']),
    class: fc.oneof(fc.constantFrom(...classes), fc.subarray([...classes], { minLength: 1 })),
    severity: fc.record({ at_least: severity, below: severity }, { requiredKeys: [] }),
    name: names,
    attributes: conditions,
    resource: fc.dictionary(fc.constantFrom('service.name', 'host.id', 'none'), condition, { maxKeys: 1 }),
    body,
  },
  { requiredKeys: [] },
)
const action = fc.oneof(
  fc.constant({ keep: true }),
  fc.constant({ drop: true }),
  fc.record({
    rate: fc.record({
      per_second: fc.constantFrom(1, 5),
      burst: fc.constantFrom(1, 3),
      by: fc.constantFrom([], ['attributes.app']),
    }),
  }),
  fc.record({
    deadband: fc.record({ by: fc.constantFrom(0, 0.5, 1, 1.5, 5), percent: fc.constantFrom(0, 10, 50, 100) }),
  }),
  fc.constant({ on_change: {} }),
  fc.constant({ on_change: { resend: '3s' } }),
  fc.constant({ aggregate: { interval: '10s', to: ['last'] } }),
)
const changes = fc.record(
  {
    set: fc.record(
      {
        attributes: fc.dictionary(key, fc.oneof(word, fc.integer({ min: 0, max: 9 })), { maxKeys: 2 }),
        severity,
        body: word,
      },
      { requiredKeys: [] },
    ),
    rename: fc.record(
      {
        name: fc.constantFrom('test.other', 'hw.power'),
        attributes: fc.constantFrom({ a: 'app' }, { app: 'a', a: 'app' }, { port: 'q' }),
      },
      { requiredKeys: [] },
    ),
    redact: fc.record(
      {
        patterns: pattern,
        body: fc.boolean(),
        attributes: fc.constantFrom('a*', ['*', '!app']),
        with: fc.constantFrom('***', '[r]'),
      },
      { requiredKeys: ['attributes'] },
    ),
    class: fc.constantFrom(...classes),
  },
  { requiredKeys: [] },
)
const onlyRedacts = fc.record({ redact: fc.record({ patterns: pattern, body: fc.constant(true) }) })
const rule = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(match, action).map(([match, end]) => ({ match, ...end })) },
  { weight: 2, arbitrary: fc.tuple(match, changes).map(([match, some]) => ({ match, ...some })) },
  {
    weight: 1,
    arbitrary: fc.tuple(match, changes, action).map(([match, some, end]) => ({ match, ...some, ...end })),
  },
  { weight: 1, arbitrary: fc.tuple(match, onlyRedacts).map(([match, some]) => ({ match, ...some })) },
)
/** More than one bank of them at times; what the schema refuses is tried elsewhere. */
const settings = fc
  .oneof(fc.array(rule, { minLength: 1, maxLength: 6 }), fc.array(rule, { minLength: 30, maxLength: 40 }))
  .map((rules) => rules.filter((one) => filterSettings.safeParse({ rules: [one] }).success))
  .filter((rules) => rules.length > 0)
  .map((rules) => filterSettings.parse({ rules }))

const text = fc.constantFrom(
  'link up x',
  'link DOWN x now',
  'cron3 ran',
  'kernel: ok',
  'KERNEL panic',
  '\u212aERNEL oops',
  'a pa\u017fSword=hunter2',
  'a password=hunter2 b password=z',
  '',
  'ß and ö',
  'x'.repeat(300),
)
const logs: fc.Arbitrary<Records> = fc
  .tuple(
    fc.array(
      fc.record({
        body: fc.oneof(text, fc.constantFrom<AttributeValue>({ a: 'cron1', b: ['password=q'] }, 17)),
        severity: fc.integer({ min: 0, max: 24 }),
        attributes,
      }),
      { minLength: 1, maxLength: 12 },
    ),
    fc.constantFrom('log' as const, 'log_error' as const),
  )
  .map(([of, name]) => ({ ...sampleLogs(of), class: name }))
const events = fc
  .array(fc.record({ body: text, attributes, eventName: fc.constantFrom('dpu.link', 'hw.alarm') }), {
    minLength: 1,
    maxLength: 6,
  })
  .map((of) => ({ ...sampleLogs(of), class: 'event' as const }))

const declared = {
  'hw.power': { kind: 'gauge', unit: 'W' },
  'test.level': { kind: 'gauge', unit: '1' },
  'test.total': { kind: 'counter', unit: '{item}' },
} as const
const points: fc.Arbitrary<Records> = fc
  .array(
    fc.record({
      name: fc.constantFrom('hw.power', 'test.level', 'test.total'),
      value: fc.oneof(
        fc.constantFrom(1, 2.5, 9, 10, 0, 1e300, -0, -1, 0.5, 1.5, 9.5, 10.5, 11, -10),
        fc.constantFrom(5n, 9_007_199_254_740_993n, 9_007_199_254_740_992n),
      ),
      attributes: fc.dictionary(key, fc.oneof(word, fc.integer({ min: 0, max: 5 })), { maxKeys: 2 }),
    }),
    { minLength: 1, maxLength: 12 },
  )
  .map((of) => {
    const readings = new Readings({
      scope: { name: 'test' },
      declared: Object.fromEntries(
        Object.entries(declared).map(([name, one]) => [name, { ...one, class: 'resource' as const }]),
      ),
      device: 'dpu-1',
      resource: encodeResource({ 'host.id': 'dpu-1', 'service.name': 'test' }),
      timeUnixNano: 1_790_000_000_000_000_000n,
      startUnixNano: 1_780_000_000_000_000_000n,
    })
    for (const { name, value, attributes } of of) readings.add(name, value, attributes)
    return readings.finish()[0] as Records // at least one
  })

const steps = fc.array(fc.tuple(fc.oneof(logs, events, points), fc.constantFrom(0, 400, 5000)), {
  minLength: 1,
  maxLength: 6,
})

/** Log records with attributes as they are given, the same key several times. */
function withAttributes(of: readonly (readonly [string, AttributeValue][])[]): Records {
  const encoder = new LogsEncoder({ name: 'test' })
  encoder.begin(encodeResource({ 'host.id': 'dpu-1' }))
  for (const entries of of) {
    encoder.record(1_790_000_000, 0, 1_790_000_000, 0, 9)
    for (const [key, value] of entries) encoder.attribute(key, value)
    encoder.end()
  }
  return encoder.finish('dpu-1', 'log')
}

const shown = (value: unknown): string =>
  JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? `${one}n` : one))
/** The order of attributes means nothing. */
const sorted = <T extends { attributes: Record<string, AttributeValue> }>(record: T): T => ({
  ...record,
  attributes: Object.fromEntries(
    Object.entries(record.attributes).toSorted(([one], [other]) => (one < other ? -1 : 1)),
  ),
})

describe('a filter', () => {
  test('does what a naive model does, record by record', () => {
    fc.assert(
      fc.property(settings, steps, (config, given) => {
        let nowMs = 0
        const filter = new Filter(config, () => nowMs)
        const model = new Model(config, () => nowMs)
        for (const [records, pauseMs] of given) {
          nowMs += pauseMs
          const expected = model.pass(records)
          const { kept, dropped, taken } = filter.pass(records)
          for (const name of new Set([
            ...expected.map((one) => one.class),
            ...kept.map((one) => one.class),
          ])) {
            const should = expected.filter((one) => one.fate === 'keep' && one.class === name)
            const are = kept.filter((one) => one.class === name)
            expect(shown(are.flatMap((one) => collect(one)).map(sorted))).toBe(
              shown(should.map(({ record }) => sorted(record))),
            )
            expect(are.reduce((sum, { count }) => sum + count, 0)).toBe(should.length)
          }
          const fates = expected
            .filter(({ fate }) => fate !== 'keep' && fate !== 'taken')
            .map(({ fate }) => fate)
          const counted = Object.fromEntries(
            [...new Set(fates)].map((fate) => [fate, fates.filter((one) => one === fate).length]),
          )
          expect(dropped).toEqual(counted)
          expect(taken).toBe(expected.filter(({ fate }) => fate === 'taken').length)
        }
        expect(filter.counts().map(({ matched }) => matched)).toEqual(model.matched)
      }),
      { numRuns: 1500 },
    )
  }, 120_000)

  // A map cannot hold them, so the model cannot: of a key that stands there twice, the first counts.
  const doubled = fc.array(fc.array(fc.tuple(key, word), { minLength: 1, maxLength: 8 }), {
    minLength: 1,
    maxLength: 8,
  })

  test('goes by the first of the attributes of one key', () => {
    fc.assert(
      fc.property(doubled, key, condition, (of, asked, wanted) => {
        const parsed = filterSettings.safeParse({
          rules: [{ match: { attributes: { [asked]: wanted } }, drop: true }],
        })
        fc.pre(parsed.success)
        const filter = new Filter(parsed.data ?? { rules: [] }, () => 0)
        const first = of.map((entries) => Object.fromEntries(entries.toReversed()))
        const alone = new Model(parsed.data ?? { rules: [] }, () => 0).pass(
          sampleLogs(first.map((attributes) => ({ attributes }))),
        )
        const { kept } = filter.pass(withAttributes(of))
        expect(kept.reduce((sum, { count }) => sum + count, 0)).toBe(
          alone.filter(({ fate }) => fate === 'keep').length,
        )
      }),
      { numRuns: 500 },
    )
  })

  test('redacts each of the attributes of one key', () => {
    fc.assert(
      fc.property(doubled, (of) => {
        const rules = [{ redact: { patterns: 'password=\\S+', attributes: '*' } }]
        const { kept } = new Filter(filterSettings.parse({ rules }), () => 0).pass(withAttributes(of))
        for (const { bytes } of kept) expect(Buffer.from(bytes).includes('password=')).toBe(false)
      }),
      { numRuns: 300 },
    )
  })

  test('hands back the very Records of which it kept all as they were', () => {
    const filter = new Filter(
      filterSettings.parse({ rules: [{ match: { class: 'usage' }, drop: true }] }),
      () => 0,
    )
    const records = sampleLogs([{}, {}, {}])
    expect(filter.pass(records).kept[0]).toBe(records)
  })
})
