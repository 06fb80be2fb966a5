// What `dpulse check` finds in a filter: examples of its configuration that come out otherwise than they say, and what
// patterns will cost that are asked of every record.
import process from 'node:process'
import { LogCursor, PointCursor } from '../../contract/cursor.ts'
import type { Records } from '../../contract/batch.ts'
import type { Context, Finding, Passed } from '../../contract/define.ts'
import { LogsEncoder } from '../../contract/encoder.ts'
import { messageOf } from '../../contract/errors.ts'
import { Readings } from '../../contract/readings.ts'
import { classOfLog } from '../../contract/signal.ts'
import type { DropReason } from '../../contract/signal.ts'
import type { AttributeValue, Attributes } from '../../contract/values.ts'
import { encodeResource, encodeScope, writeKeyValue } from '../../contract/values.ts'
import { Writer } from '../../contract/wire.ts'
import { Filter } from './filter.ts'
import { compilePattern } from './pattern.ts'
import { severities } from './settings.ts'
import type { Example, FilterSettings, TrialSettings } from './settings.ts'

/** Whom the examples are about, and when. */
export type TrialContext = Pick<Context, 'device' | 'clock'>

type Expectation = TrialSettings['expect'][number]

export function checkFilter(config: FilterSettings, context: TrialContext): Finding[] {
  const failures = config.tests.flatMap((trial, index) => tryOne(config, trial, index, context))
  return [...failures, ...costs(config)]
}

function tryOne(
  config: FilterSettings,
  trial: TrialSettings,
  index: number,
  context: TrialContext,
): Finding[] {
  const { given, expect } = trial
  const label = trial.name === undefined ? '' : `${trial.name}: `
  const wrong = (path: readonly PropertyKey[], message: string): Finding => ({
    path: ['tests', index, ...path],
    message: `${label}${message}`,
    severity: 'error',
  })
  if (expect.length !== given.length && expect.length !== 1) {
    return [wrong(['expect'], `has ${expect.length} outcomes for ${given.length} records`)]
  }
  let nowMs = 0
  const filter = new Filter(config, () => nowMs)
  const matched = new Set<string>()
  filter.onMatch = ({ name }) => void matched.add(name)
  return given.flatMap((example, at) => {
    nowMs += example.after
    matched.clear()
    const wanted = expect[expect.length === 1 ? 0 : at] as Expectation // as many as are given, or one for all
    const which = given.length === 1 ? '' : `record ${at + 1} `
    try {
      const passed = filter.pass(recordsOf(example, context, at))
      const problems = compare(passed, wanted, matched)
      return problems.map((problem) =>
        wrong(['expect', ...(expect.length === 1 ? [] : [at])], which + problem),
      )
    } catch (error) {
      return [wrong(['given', ...(given.length === 1 ? [] : [at])], messageOf(error))]
    }
  })
}

function compare(passed: Passed, expected: Expectation, matched: ReadonlySet<string>): string[] {
  const wanted = typeof expected === 'string' ? { outcome: expected } : expected
  const [kept] = passed.kept
  const [reason] = Object.keys(passed.dropped) as DropReason[]
  const outcome = passed.taken > 0 ? 'aggregated' : (reason ?? 'keep')
  const by = matched.size > 0 ? ` by ${[...matched].join(', ')}` : ', and no rule matched'
  if (outcome !== wanted.outcome) return [`is ${told(outcome)}${by}; expected ${wanted.outcome}`]
  const problems: string[] = []
  if (typeof expected === 'string') return problems
  if (expected.rule !== undefined && !matched.has(expected.rule)) {
    problems.push(`is not matched by ${expected.rule}${matched.size > 0 ? `, but${by}` : ''}`)
  }
  if (!kept) return problems
  const record = lookInto(kept)
  const check = (what: string, is: unknown, should: unknown) => {
    if (should === undefined || is === should) return
    problems.push(`has ${what} ${JSON.stringify(is) ?? 'not'}; expected ${JSON.stringify(should)}`)
  }
  check('class', kept.class, expected.class)
  check('severity', record.severity, expected.severity && severities[expected.severity])
  check('name', record.name, expected.name)
  check('body', record.body, expected.body)
  for (const [key, value] of Object.entries(expected.attributes ?? {})) {
    check(`attribute ${key}`, record.attributes[key], value)
  }
  for (const key of expected.absent ?? []) check(`attribute ${key}`, record.attributes[key] ?? null, null)
  return problems
}

const told = (outcome: string): string =>
  outcome === 'keep' ? 'kept' : outcome === 'aggregated' ? 'taken into a window' : `dropped as ${outcome}`

interface Shown {
  severity: number
  name: string
  body: AttributeValue | undefined
  attributes: Record<string, AttributeValue>
}

/** The only record. */
function lookInto({ signal, bytes }: Records): Shown {
  if (signal === 'metrics') {
    const point = new PointCursor().reset(bytes)
    point.next()
    return { severity: 0, name: point.text(point.name), body: undefined, attributes: point.pointAttributes() }
  }
  if (signal === 'traces') return { severity: 0, name: '', body: undefined, attributes: {} }
  const log = new LogCursor().reset(bytes)
  log.next()
  const { severityNumber: severity } = log
  return {
    severity,
    name: log.text(log.eventName),
    body: log.bodyValue(),
    attributes: log.recordAttributes(),
  }
}

/** As the source would encode it. */
function recordsOf(example: Example, context: TrialContext, at: number): Records {
  const now = context.clock.nowUnixNano() + BigInt(at)
  const resource = encodeResource({ 'host.id': context.device, ...example.resource })
  const named = (records: Records | undefined): Records => {
    if (!records) throw new Error('makes no record')
    return example.class === undefined ? records : { ...records, class: example.class }
  }
  if (example.signal === 'logs') return named(logOf(example, context.device, resource, now))
  if (example.signal === 'traces') return named(spanOf(example, context.device, resource))
  const { name = 'test.metric', value = 0, attributes } = example
  const readings = new Readings({
    scope: { name: 'dpulse.check' },
    declared: { [name]: { kind: 'gauge', unit: '1' } },
    device: context.device,
    resource,
    timeUnixNano: now,
  })
  readings.add(name, value, attributes)
  return named(readings.finish()[0])
}

function logOf(example: Example, device: string, resource: Uint8Array, now: bigint): Records {
  const severity = example.severity ? severities[example.severity] : 0
  const [seconds, nanos] = [Number(now / 1_000_000_000n), Number(now % 1_000_000_000n)]
  const encoder = new LogsEncoder({ name: 'dpulse.check' })
  encoder.begin(resource)
  encoder.record(seconds, nanos, seconds, nanos, severity)
  encoder.body(example.body ?? '')
  for (const [key, value] of Object.entries(example.attributes)) encoder.attribute(key, value)
  if (example.name !== undefined) encoder.eventName(example.name)
  encoder.end()
  return encoder.finish(device, classOfLog(severity, example.name !== undefined))
}

function spanOf(example: Example, device: string, resource: Uint8Array): Records {
  const out = new Writer(1024)
  const nested = (tag: number, write: () => void) => {
    out.byte(tag)
    const mark = out.open()
    write()
    out.close(mark)
  }
  const span = (attributes: Attributes) => {
    out.byte(0x2a)
    out.string(example.name ?? '')
    for (const [key, value] of Object.entries(attributes)) writeKeyValue(out, 9, key, value)
  }
  nested(0x0a, () => {
    nested(0x0a, () => out.raw(resource))
    nested(0x12, () => {
      nested(0x0a, () => out.raw(encodeScope({ name: 'dpulse.check' })))
      nested(0x12, () => span(example.attributes))
    })
  })
  return { device, signal: 'traces', class: 'log', count: 1, from: 0n, to: 0n, bytes: out.take() }
}

const sampleLine =
  'interface p0 changed state to up, request 4711 took 17 ms, queue depth 12 is within limits of 4096'

/** Patterns that every record of their rule is put to. */
function costs({ rules }: FilterSettings): Finding[] {
  return rules.flatMap(({ match, redact }, index) => {
    const { matches = [], not = [] } = match.body ?? {}
    const onBody = redact?.body === true ? (redact.patterns ?? []) : []
    const found = [
      ...matches.map((source, at) => ({ source, path: ['match', 'body', 'matches', at] })),
      ...not.map((source, at) => ({ source, path: ['match', 'body', 'not', at] })),
      ...onBody.map((source, at) => ({ source, path: ['redact', 'patterns', at] })),
    ]
    return found.flatMap(({ source, path }): Finding[] => {
      const pattern = compilePattern(source)
      if (pattern.literals) return []
      const micros = costOf(() => pattern.test(sampleLine)).toFixed(1)
      const message = `no text must be in what it matches, so it is tried on every record that the rest of the rule fits: about ${micros} µs each here`
      return [{ path: ['rules', index, ...path], message, severity: 'warning' }]
    })
  })
}

/** Microseconds of CPU. */
function costOf(run: () => void): number {
  const times = 500
  for (let warm = 0; warm < times; warm++) run()
  const before = process.cpuUsage()
  for (let turn = 0; turn < times; turn++) run()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / times
}
