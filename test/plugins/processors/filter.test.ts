// The filter processor: what every processor owes, what its rules do to whole Records, what it remembers, and what it
// says of a wrong configuration.
import { describe, expect, test } from 'vitest'
import { Readings, encodeResource } from '../../../plugins/contract/index.ts'
import type { Made, Records } from '../../../plugins/contract/index.ts'
import filter from '../../../plugins/processors/filter.ts'
import { checkConfig } from '../../../collector/check.ts'
import { definitions } from '../../../collector/main.ts'
import { conformsToProcessor } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { collectLogs, collectPoints, sampleLogs } from '../../support/records.ts'

const example = {
  rules: [
    { name: 'noise', match: { severity: { below: 'info' }, attributes: { app: 'cron*' } }, drop: true },
    { match: { name: 'test.level' }, aggregate: { interval: '10s', to: ['min', 'max', 'mean', 'last'] } },
    { match: { body: { matches: '[0-9]{3}' } }, sample: { ratio: 0.5 } },
    { redact: { patterns: 'line', body: true } },
  ],
}

const made = (rules: unknown[]) => {
  const context = testContext()
  const config = filter.config.parse({ rules })
  return { processor: filter.create(config, context), clock: context.clock }
}

/** Readings of one gauge and one counter, a second apart, from some second on. */
function readings(of: Record<string, (number | bigint)[]>, attributes = {}, from = 0): Records[] {
  const declared = {
    'test.level': { kind: 'gauge', unit: 'Cel' },
    'test.total': { kind: 'counter', unit: 'By' },
  } as const
  const most = Math.max(...Object.values(of).map(({ length }) => length))
  return Array.from({ length: most }, (_, at) => {
    const list = new Readings({
      scope: { name: 'test' },
      declared,
      device: 'dpu-1',
      resource: encodeResource({ 'host.id': 'dpu-1' }),
      timeUnixNano: 1_790_000_000_000_000_000n + BigInt(from + at) * 1_000_000_000n,
      startUnixNano: 1n,
    })
    for (const [name, values] of Object.entries(of)) {
      const value = values[at]
      if (value !== undefined) list.add(name, value, attributes)
    }
    return list.finish()
  }).flat()
}

const pointsOf = (made: Made | undefined) =>
  made ? collectPoints(made.records).map(({ name, type, value }) => ({ name, type, value })) : []

describe('filter', () => {
  conformsToProcessor(filter, example)

  test('keeps the same part of the keys everywhere, and about as much as it should', () => {
    const rules = [{ sample: { ratio: 0.25, by: ['attributes.request'] } }]
    const logs = sampleLogs(
      Array.from({ length: 2000 }, (_, index) => ({ attributes: { request: `r${index >> 1}` } })),
    )
    const [one, other] = [made(rules), made(rules)].map(({ processor }) => processor.pass(logs))
    expect(one).toEqual(other)
    const keys = collectLogs(one?.kept[0] ?? logs).map(({ attributes }) => attributes.request)
    expect(keys.length).toBe(new Set(keys).size * 2)
    expect(keys.length / 2000).toBeCloseTo(0.25, 1)
    expect(one?.dropped).toEqual({ sample: 2000 - keys.length })
  })

  test('thins out events and usage only by a rule that names their class', () => {
    const events = { ...sampleLogs([{}, {}]), class: 'event' as const }
    const usage = { ...sampleLogs([{}, {}]), class: 'usage' as const }
    const { processor } = made([{ sample: { ratio: 0 } }])
    expect(processor.pass(events).kept).toEqual([events])
    expect(processor.pass(usage).kept).toEqual([usage])
    const named = made([{ match: { class: ['event', 'log'] }, rate: { per_second: 1 } }]).processor
    expect(named.pass(events).dropped).toEqual({ rate: 1 })
    expect(named.pass(usage).kept).toEqual([usage])
  })

  test('limits the rate of each key, with its burst, by the clock of its context', async () => {
    const { processor, clock } = made([{ rate: { per_second: 2, burst: 3, by: ['attributes.app'] } }])
    const of = (app: string, count: number) =>
      processor.pass(sampleLogs(Array.from({ length: count }, () => ({ attributes: { app } }))))
    expect(of('a', 5).dropped).toEqual({ rate: 2 })
    expect(of('b', 3).dropped).toEqual({})
    await clock.advance(1000)
    expect(of('a', 3).dropped).toEqual({ rate: 1 })
  })

  test('makes of a window what its rule asks for, counters that begin anew included', async () => {
    const rules = [
      {
        match: { name: 'test.level' },
        aggregate: { interval: '10s', to: ['min', 'max', 'mean', 'last', 'count'] },
      },
      { match: { name: 'test.total' }, aggregate: { interval: '10s', to: ['increase'] } },
    ]
    const { processor, clock } = made(rules)
    const big = 9_007_199_254_740_993n
    for (const one of readings({ 'test.level': [4, 2.5, 10], 'test.total': [big, big + 7n, 3n] })) {
      expect(processor.pass(one)).toMatchObject({ kept: [], dropped: {}, taken: one.count })
    }
    expect(processor.flush?.(0n, false)).toBeUndefined()
    await clock.advance(10_000)
    const first = processor.flush?.(0n, false)
    expect(pointsOf(first)).toEqual([
      { name: 'test.level.min', type: 'gauge', value: 2.5 },
      { name: 'test.level.max', type: 'gauge', value: 10 },
      { name: 'test.level.mean', type: 'gauge', value: 5.5 },
      { name: 'test.level.last', type: 'gauge', value: 10 },
      { name: 'test.level.count', type: 'gauge', value: 3n },
    ])
    expect(first?.taken).toBe(3)
    expect(pointsOf(processor.flush?.(0n, false))).toEqual([
      { name: 'test.total.increase', type: 'sum', value: 10n },
    ])
    // What came between two windows belongs to the second.
    for (const one of readings({ 'test.total': [9n] }, {}, 10)) processor.pass(one)
    expect(pointsOf(processor.flush?.(0n, true))).toEqual([
      { name: 'test.total.increase', type: 'sum', value: 6n },
    ])
  })

  test('counts a reading that comes late to the window that it comes in, not as its last, nor as a new beginning', async () => {
    const { processor, clock } = made([
      { match: { name: 'test.level' }, aggregate: { interval: '10s', to: ['max', 'count', 'last'] } },
      { match: { name: 'test.total' }, aggregate: { interval: '10s', to: ['increase'] } },
    ])
    const [first, late, second, third] = readings({
      'test.level': [1, 9, 2, 3],
      'test.total': [100, 110, 120, 130],
    })
    if (!first || !late || !second || !third) throw new Error('there are four')
    const window = async (...of: readonly Records[]) => {
      for (const one of of) expect(processor.pass(one)).toMatchObject({ kept: [], taken: one.count })
      await clock.advance(10_000)
      const points = [processor.flush?.(0n, false), processor.flush?.(0n, false)].flatMap((one) =>
        one ? collectPoints(one.records) : [],
      )
      const seconds = (time: bigint) => Number(time / 1_000_000_000n) - 1_790_000_000
      return points.map(({ name, value, time }) => [name, Number(value), seconds(time)])
    }
    expect(await window(first, second)).toEqual([
      ['test.level.max', 2, 2],
      ['test.level.count', 2, 2],
      ['test.level.last', 2, 2],
      ['test.total.increase', 20, 2],
    ])
    // The time of a point is that of its newest reading, so that it takes no other's place in the store.
    expect(await window(late)).toEqual([
      ['test.level.max', 9, 1],
      ['test.level.count', 1, 1],
      ['test.level.last', 9, 1],
      ['test.total.increase', 0, 1],
    ])
    expect(await window(third, late)).toEqual([
      ['test.level.max', 9, 3],
      ['test.level.count', 2, 3],
      ['test.level.last', 3, 3],
      ['test.total.increase', 10, 3],
    ])
    // A clock that was set back by hours: no reading is late for so long.
    const [set, next] = readings({ 'test.total': [140, 145] }, {}, -7200)
    if (!set || !next) throw new Error('there are two')
    expect(await window(set, next)).toEqual([['test.total.increase', 5, -7199]])
  })

  test('keeps the name, type and exact value where a window becomes its last reading', async () => {
    const { processor } = made([{ aggregate: { interval: '1m', to: ['last'] } }])
    const big = 9_007_199_254_740_993n
    for (const one of readings({ 'test.level': [1, 2], 'test.total': [1n, big] })) processor.pass(one)
    const found = [processor.flush?.(0n, true), processor.flush?.(0n, true)].flatMap(pointsOf)
    expect(found).toEqual([
      { name: 'test.level', type: 'gauge', value: 2 },
      { name: 'test.total', type: 'sum', value: big },
    ])
  })

  test('goes on from rows of state, also where its rule is no longer there', () => {
    const rules = [
      { name: 'w', match: { name: 'test.*' }, aggregate: { interval: '10s', to: ['count', 'increase'] } },
    ]
    const rows = new Map<string, Uint8Array>()
    const keep = (of: ReturnType<typeof made>['processor']) => {
      for (const { key, value } of of.state?.changes() ?? []) {
        if (value) rows.set(key, value)
        else rows.delete(key)
      }
    }
    const first = made(rules).processor
    for (const one of readings({ 'test.total': [5n, 9n] })) first.pass(one)
    keep(first)
    const second = made(rules).processor
    second.state?.restore(new Map(rows))
    for (const one of readings({ 'test.total': [12n] }, {}, 2)) second.pass(one)
    keep(second)
    expect(rows.size).toBe(1)
    const other = [
      { name: 'other', match: { name: 'nothing' }, aggregate: { interval: '10s', to: ['count'] } },
    ]
    for (const last of [second, made(other).processor]) {
      if (last !== second) last.state?.restore(new Map(rows))
      const done = last.flush?.(0n, last === second)
      expect(pointsOf(done)).toEqual([
        { name: 'test.total.count', type: 'gauge', value: 3n },
        { name: 'test.total.increase', type: 'sum', value: 7n },
      ])
      expect(done?.taken).toBe(3)
      expect(done?.rows).toEqual([...rows.keys()])
    }
  })

  test('lets readings pass that find no room in a window', () => {
    const { processor } = made([{ aggregate: { interval: '10s', to: ['last'], max_series: 1 } }])
    const [one] = readings({ 'test.level': [1] }, { a: 1 })
    const [other] = readings({ 'test.level': [1] }, { a: 2 })
    expect(one && processor.pass(one).taken).toBe(1)
    expect(other && processor.pass(other).kept).toEqual([other])
  })

  test('answers at once where an expression would keep one that backtracks busy for ever', () => {
    const { processor } = made([{ match: { body: { matches: '(x+x+)+y' } }, drop: true }])
    const text = 'x'.repeat(2000)
    const left = (body: string) =>
      processor.pass(sampleLogs([{ body }])).kept.reduce((sum, { count }) => sum + count, 0)
    // It holds the literal, so that it is the expression that has to find out.
    expect(left(`y${text}`)).toBe(1)
    expect(left(`${text}y`)).toBe(0)
  })

  test('counts for each rule what it matched and dropped', () => {
    const { processor } = made(example.rules)
    processor.pass(sampleLogs([{ severity: 5, attributes: { app: 'cron1' } }, { severity: 5 }]))
    expect(processor.counts()[0]).toEqual({ rule: 'noise', matched: 1, dropped: { filter: 1 } })
  })
})

const yaml = (settings: string) => `
sources: { in: { type: otlp } }
processors:
  quiet:
    type: filter
${settings.replaceAll(/^/gm, '    ')}
exporters: { out: { type: stdout } }
pipelines: { p: { sources: [in], processors: [quiet], exporters: [out] } }
`
const problemsOf = async (settings: string) =>
  (await checkConfig(yaml(settings), '/c.yaml', definitions)).map(({ path, line, severity, message }) => ({
    at: `${path.replace('processors.quiet.', '')}:${line}`,
    severity,
    message: message.replace(/about \d+\.\d µs/, 'about N µs'),
  }))

describe('a wrong filter', () => {
  test('is told with the path and the line of each problem', async () => {
    const found = await problemsOf(`rules:
  - match: { clas: log }
    drop: true
  - match: { class: logg, severity: { below: notice } }
    drop: true
  - match: { body: { matches: '(unclosed' } }
    drop: true
  - match: { attributes: { app: 'x\\' } }
    drop: true
  - match: { attributes: { app: { like: x } } }
    drop: true
  - { name: same, drop: true, sample: { ratio: 2 } }
  - { name: same, keep: true }
  - { match: { class: log } }
  - { match: { severity: { below: info } }, deadband: { by: 1 } }
  - { deadband: {} }
  - { aggregate: { interval: 10, to: [median] } }
  - { redact: { patterns: ['a', '(?=b)'] } }
  - { rate: { per_second: 5, by: [host] } }
  - { rename: { attributes: { a: c, b: c } } }
  - { sample: { ratio: 0.5 }, drop: true }
tests: [{ given: { severity: loud }, expect: gone }]`)
    await expect(JSON.stringify(found, undefined, 2)).toMatchFileSnapshot('../../golden/filter-problems.json')
  })

  test('may not have two rules of one name', async () => {
    expect(await problemsOf('rules: [{ name: same, drop: true }, { name: same, keep: true }]')).toMatchObject(
      [{ at: 'rules.1.name:6', message: 'two rules are named same' }],
    )
  })

  test('is told which of its examples come out otherwise, and which patterns cost', async () => {
    const found = await problemsOf(`rules:
  - { name: noise, match: { severity: { below: info }, attributes: { app: cron } }, drop: true }
  - { name: secrets, redact: { patterns: 'password=\\S+', body: true } }
  - { name: numbers, match: { body: { matches: '[0-9]+' } }, set: { attributes: { n: true } }, class: event }
  - { name: hot, match: { name: hw.temperature }, deadband: { by: 1, resend: 1m } }
tests:
  - name: cron is quiet
    given: { severity: debug, attributes: { app: cron } }
    expect: filter
  - name: secrets go
    given: { body: password=x for root }
    expect: { body: '[redacted] for root', class: log, absent: [n], rule: secrets }
  - name: temperatures
    given:
      - { signal: metrics, name: hw.temperature, value: 40 }
      - { signal: metrics, name: hw.temperature, value: 40.5, after: 10s }
      - { signal: metrics, name: hw.temperature, value: 40.5, after: 1m }
    expect: [keep, unchanged, keep]
  - { name: wrong outcome, given: { severity: info, attributes: { app: cron } }, expect: filter }
  - { name: wrong parts, given: { body: a1 }, expect: { class: log, attributes: { n: false }, rule: noise } }
  - { given: [{ body: a }, { body: b }], expect: [keep, sample] }
  - { given: [{ body: a }, { body: b }], expect: [keep, keep, keep] }`)
    await expect(JSON.stringify(found, undefined, 2)).toMatchFileSnapshot('../../golden/filter-examples.json')
  })
})
