// What a filter means, written down naively: objects for each record, one rule after the other. Shares nothing with the
// engine but the schema of its configuration.
import { RE2JS } from 're2js'
import type { AttributeValue, Class, Records } from '../../../../plugins/contract/index.ts'
import type { FilterSettings } from '../../../../plugins/protocols/filter/index.ts'
import { collect } from '../../../support/records.ts'
import type { PlainPoint, PlainRecord } from '../../../support/records.ts'

type RuleSettings = FilterSettings['rules'][number]
type Condition = NonNullable<RuleSettings['match']['attributes']>[string]

const lowest = { trace: 1, debug: 5, info: 9, warn: 13, error: 17, fatal: 21 } as const

export interface Outcome {
  fate: string
  class: Class
  record: PlainRecord
}

const text = (value: AttributeValue): string =>
  typeof value === 'object'
    ? JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? one.toString() : one))
    : String(value)

const escaped = (part: string): string => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')
function glob(pattern: string): RegExp {
  const parts = pattern.match(/\\.|[\s\S]/gu) ?? []
  const source = parts.map((part) =>
    part === '*' ? '[^]*' : part === '?' ? '[^]' : escaped(part.startsWith('\\') ? part.slice(1) : part),
  )
  return new RegExp(`^${source.join('')}$`, 'u')
}
const isAny = (wanted: readonly (string | number | boolean)[], value: string): boolean =>
  wanted.some((one) => (typeof one === 'string' ? glob(one).test(value) : String(one) === value))

const isNamed = (globs: readonly string[], name: string): boolean => {
  const within = globs.filter((one) => !one.startsWith('!'))
  const without = globs.filter((one) => one.startsWith('!')).map((one) => one.slice(1))
  return (within.length === 0 || isAny(within, name)) && !isAny(without, name)
}

function fits(condition: Condition, value: AttributeValue | undefined): boolean {
  const shown = value === undefined ? undefined : text(value)
  if (Array.isArray(condition)) return shown !== undefined && isAny(condition, shown)
  const { matches, not, exists, at_least: least, below } = condition
  if (exists === false) return shown === undefined
  if (shown === undefined) {
    return exists === undefined && matches === undefined && least === undefined && below === undefined
  }
  return (
    (!matches || matches.some((one) => RE2JS.compile(one).matcher(shown).find())) &&
    (!not || !isAny(not, shown)) &&
    (least === undefined || (shown !== '' && Number(shown) >= least)) &&
    (below === undefined || (shown !== '' && Number(shown) < below))
  )
}

const bodyOf = (record: PlainRecord): string =>
  record.signal === 'logs' && record.body !== undefined ? text(record.body) : ''
const nameOf = (record: PlainRecord): string => (record.signal === 'logs' ? record.eventName : record.name)

export function matches({ match }: RuleSettings, record: PlainRecord, name: Class): boolean {
  if (match.signal && !match.signal.includes(record.signal)) return false
  if (match.class && !match.class.includes(name)) return false
  if (match.severity) {
    const severity = record.signal === 'logs' ? record.severityNumber : 0
    const { at_least: least, below } = match.severity
    if (severity === 0 || (least && severity < lowest[least])) return false
    if (below && severity >= lowest[below]) return false
  }
  if (match.name && !isNamed(match.name, nameOf(record))) return false
  for (const [key, condition] of Object.entries(match.attributes ?? {})) {
    if (!fits(condition, record.attributes[key])) return false
  }
  for (const [key, condition] of Object.entries(match.resource ?? {})) {
    if (!fits(condition, record.resource[key])) return false
  }
  if (!match.body) return true
  if (record.signal !== 'logs') return false
  const body = bodyOf(record)
  const has = (pattern: string) => RE2JS.compile(pattern).matcher(body).find()
  if (match.body.contains && !match.body.contains.some((one) => body.includes(one))) return false
  if (match.body.matches && !match.body.matches.some(has)) return false
  return !(match.body.not?.some(has) ?? false)
}

function redactText(value: string, patterns: readonly string[] | undefined, by: string): string {
  if (!patterns) return by
  return patterns.reduce(
    (now, one) =>
      RE2JS.compile(one)
        .matcher(now)
        .replaceAll(() => by),
    value,
  )
}
function redacted(
  value: AttributeValue,
  patterns: readonly string[] | undefined,
  by: string,
): AttributeValue {
  if (!patterns) return by
  if (typeof value === 'string') return redactText(value, patterns, by)
  if (typeof value !== 'object' || value instanceof Uint8Array) return value
  if (Array.isArray(value)) return value.map((one: AttributeValue) => redacted(one, patterns, by))
  return Object.fromEntries(
    Object.entries(value as Record<string, AttributeValue>).map(([key, one]) => [
      key,
      redacted(one, patterns, by),
    ]),
  )
}

function change({ set, rename, redact }: RuleSettings, record: PlainRecord): PlainRecord {
  const to = rename?.attributes ?? {}
  const taken = new Set(
    Object.keys(record.attributes).flatMap((key) => (Object.hasOwn(to, key) ? [to[key]] : [])),
  )
  const attributes: Record<string, AttributeValue> = {}
  for (const [key, value] of Object.entries(record.attributes)) {
    const next = Object.hasOwn(to, key) ? to[key] : undefined
    if (next !== undefined) attributes[next] = value
    else if (!taken.has(key)) attributes[key] = value
  }
  Object.assign(attributes, set?.attributes)
  for (const [key, value] of Object.entries(attributes)) {
    if (redact?.attributes && isNamed(redact.attributes, key)) {
      attributes[key] = redacted(value, redact.patterns, redact.with)
    }
  }
  if (record.signal === 'metrics') return { ...record, attributes, name: rename?.name ?? record.name }
  let { body, severityNumber, severityText } = record
  if (set?.severity) [severityNumber, severityText] = [lowest[set.severity], set.severity]
  body = set?.body ?? body
  if (redact?.body && body !== undefined) body = redacted(body, redact.patterns, redact.with)
  return {
    ...record,
    attributes,
    body,
    severityNumber,
    severityText,
    eventName: rename?.name ?? record.eventName,
  }
}

/** A model of one filter; what it remembers of readings is by their series, without any limit. */
export class Model {
  readonly #rules: readonly RuleSettings[]
  readonly #nowMs: () => number
  readonly #kept = new Map<string, { value: number | bigint; atMs: number }>()
  readonly #buckets = new Map<string, { tokens: number; atMs: number }>()
  readonly matched: number[]
  /** Values taken in, by rule and series. */
  readonly windows = new Map<string, { point: PlainPoint; values: (number | bigint)[] }>()

  constructor({ rules }: Pick<FilterSettings, 'rules'>, nowMs: () => number) {
    this.#rules = rules
    this.#nowMs = nowMs
    this.matched = rules.map(() => 0)
  }

  pass(records: Records): Outcome[] {
    return collect(records).map((record) => this.#judge(record, records.class))
  }

  #judge(given: PlainRecord, name: Class): Outcome {
    let record = given
    let own = name
    for (const [index, rule] of this.#rules.entries()) {
      if (!matches(rule, record, own)) continue
      const before = record
      own = rule.class ?? own
      record = change(rule, record)
      // A rule that only redacts the body counts what it changed.
      const only =
        rule.redact?.body &&
        rule.redact.patterns &&
        !rule.redact.attributes &&
        Object.keys(rule).length === 2 + (rule.name === undefined ? 0 : 1)
      if (only && bodyOf(before) === bodyOf(record)) continue
      this.matched[index] = (this.matched[index] ?? 0) + 1
      const fate = this.#end(rule, index, record, own)
      if (fate !== undefined) return { fate, class: own, record }
    }
    return { fate: 'keep', class: own, record }
  }

  #end(rule: RuleSettings, index: number, record: PlainRecord, name: Class): string | undefined {
    if (rule.keep) return 'keep'
    if (rule.drop) return 'filter'
    const mayThin = (name !== 'event' && name !== 'usage') || rule.match.class?.includes(name) === true
    if (rule.rate && mayThin) {
      const { per_second: perSecond, burst = Math.max(1, perSecond), by } = rule.rate
      const parts = by.map((field) => text(record.attributes[field.slice('attributes.'.length)] ?? ''))
      const key = JSON.stringify([index, parts])
      const nowMs = this.#nowMs()
      const bucket = this.#buckets.get(key) ?? { tokens: burst, atMs: nowMs }
      const tokens = Math.min(burst, bucket.tokens + ((nowMs - bucket.atMs) * perSecond) / 1000)
      this.#buckets.set(key, { tokens: tokens < 1 ? tokens : tokens - 1, atMs: nowMs })
      return tokens < 1 ? 'rate' : undefined
    }
    if (record.signal !== 'metrics' || record.value === undefined) return undefined
    const series = JSON.stringify(
      [index, record.resource, record.name, Object.entries(record.attributes)],
      (_, one: unknown) => (typeof one === 'bigint' ? `${one}n` : one),
    )
    if (rule.aggregate) {
      const known = this.windows.get(series) ?? { point: record, values: [] }
      known.values.push(record.value)
      this.windows.set(series, known)
      return 'taken'
    }
    const gate = rule.deadband ?? rule.on_change
    if (!gate || record.type !== 'gauge') return undefined
    const last = this.#kept.get(series)
    const [value, nowMs] = [record.value, this.#nowMs()]
    if (last && (gate.resend === undefined || nowMs - last.atMs < gate.resend)) {
      const step = Math.max(
        rule.deadband?.by ?? 0,
        (Math.abs(Number(last.value)) * (rule.deadband?.percent ?? 0)) / 100,
      )
      if (Object.is(last.value, value) || Math.abs(Number(value) - Number(last.value)) < step)
        return 'unchanged'
    }
    this.#kept.set(series, { value, atMs: nowMs })
    return undefined
  }
}
