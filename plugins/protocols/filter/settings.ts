// The configuration of a filter: rules, and the examples that `dpulse check` holds against them. Pure: what is refused
// here is refused before anything runs.
import * as z from 'zod'
import { duration } from '../../contract/settings.ts'
import { classes, dropReasons, signals } from '../../contract/signal.ts'
import { globProblem } from './globs.ts'
import { patternProblem } from './pattern.ts'

/** Lowest severityNumber of each range of the OTel log data model. */
export const severities = { trace: 1, debug: 5, info: 9, warn: 13, error: 17, fatal: 21 } as const
export type SeverityName = keyof typeof severities
const severityNames = Object.keys(severities) as SeverityName[]
const severity = z.enum(severityNames)

/** So many bits has a word with which rules are matched together; ten words are enough for anyone. */
export const mostRules = 310
const mostSeries = 1_000_000

const glob = z
  .string()
  .max(256)
  .superRefine((text, context) => told(globProblem(text), text, context))
const pattern = z
  .string()
  .max(1000)
  .superRefine((text, context) => told(patternProblem(text), text, context))

function told(problem: string | undefined, input: string, context: z.core.ParsePayload<string>): void {
  if (problem !== undefined) context.issues.push({ code: 'custom', input, message: problem })
}

const listOf = <T extends z.ZodType>(one: T) =>
  z
    .union([one, z.array(one).min(1).max(1000)], { error: listProblem(one) })
    .transform((value) => (Array.isArray(value) ? value : [value]) as z.output<T>[])

/** A union says only that nothing fits; what the nearest choice says is what a person needs. */
function listProblem(one: z.ZodType) {
  return ({ input }: { input?: unknown }): string | undefined => {
    for (const each of Array.isArray(input) ? (input as unknown[]) : [input]) {
      const { error } = one.safeParse(each)
      if (error) return error.issues[0]?.message.replace(/^Invalid input: /, '')
    }
    return 'expected one, or a list of some'
  }
}

const plain = z.union([glob, z.number(), z.boolean()], {
  error: ({ input }) =>
    (typeof input === 'string' ? glob.safeParse(input).error?.issues[0]?.message : undefined) ??
    'expected a text with * and ?, a number, true or false',
})

const condition = z
  .union(
    [
      listOf(plain),
      z.strictObject({
        matches: listOf(pattern).optional().describe('Regular expressions (RE2), of which one matches.'),
        not: listOf(plain).optional().describe('Texts that it is none of; an absent one is none of them.'),
        exists: z.boolean().optional().describe('Whether it is there at all.'),
        at_least: z.number().optional().describe('The least number.'),
        below: z.number().optional().describe('Less than this number.'),
      }),
    ],
    {
      error: ({ input }) =>
        typeof input === 'object' && input !== null && !Array.isArray(input)
          ? conditionProblem(input)
          : (listProblem(plain)({ input }) ?? 'expected a text, a number, true or false, or a list of them'),
    },
  )
  .meta({ title: 'texts with * and ?, or { matches, not, exists, at_least, below }' })
export type Condition = z.output<typeof condition>

function conditionProblem(input: object): string {
  const { matches } = input as { matches?: unknown }
  const found = matches === undefined ? undefined : listOf(pattern).safeParse(matches).error
  return found?.issues[0]?.message ?? 'expected some of matches, not, exists, at_least, below'
}

const key = z.string().min(1).max(256)
const conditions = z.record(key, condition).optional()

const match = z.strictObject({
  signal: listOf(z.enum(signals)).optional().describe('Of these signals.'),
  class: listOf(z.enum(classes)).optional().describe('Of these classes.'),
  severity: z
    .strictObject({
      at_least: severity.optional().describe('The least severe.'),
      below: severity.optional().describe('Less severe than this.'),
    })
    .optional()
    .describe('Log records that name a severity in this range.'),
  name: listOf(glob)
    .optional()
    .describe('Names of metrics, events or spans, with * and ?; one that begins with ! takes out.'),
  attributes: conditions.describe('Attributes of the record, all of them.'),
  resource: conditions.describe('Attributes of the Resource, all of them.'),
  body: z
    .strictObject({
      contains: listOf(z.string().min(1).max(1000)).optional().describe('Texts, of which one is in it.'),
      matches: listOf(pattern).optional().describe('Regular expressions (RE2), of which one matches.'),
      not: listOf(pattern).optional().describe('Regular expressions (RE2), of which none matches.'),
    })
    .optional()
    .describe('Log records with such a body.'),
})
export type Match = z.output<typeof match>

const fieldName = /^(?:(?:attributes|resource)\..+|name|body|device|class|severity|trace_id)$/
const by = z
  .array(
    z
      .string()
      .max(256)
      .regex(
        fieldName,
        'expected name, body, device, class, severity, trace_id, attributes.KEY or resource.KEY',
      ),
  )
  .max(16)

const resend = duration
  .optional()
  .describe('One that stays as it is is kept all the same after so long; never where absent.')
const series = z
  .int()
  .min(1)
  .max(mostSeries)
  .default(10_000)
  .describe('Most series that are remembered; those not heard of for longest are forgotten.')

export const functions = ['min', 'max', 'mean', 'last', 'increase', 'count'] as const
export type Function = (typeof functions)[number]

const value = z.union([z.string().max(4096), z.number(), z.boolean()])

const actions = {
  keep: z.literal(true).optional().describe('Kept; no later rule is asked.'),
  drop: z.literal(true).optional().describe('Dropped, counted as filter.'),
  sample: z
    .strictObject({
      ratio: z.number().min(0).max(1).describe('Which part is kept, such as 0.1.'),
      by: by.min(1).optional().describe('Records of one key stay together; the whole record where absent.'),
    })
    .optional()
    .describe('Keeps a part; the others are dropped as sample. The same key is kept by every collector.'),
  rate: z
    .strictObject({
      per_second: z.number().positive().max(1e9).describe('Records that pass in the long run.'),
      burst: z.number().min(1).max(1e9).optional().describe('Records at once; those of a second if absent.'),
      by: by.default([]).describe('Each key has a limit of its own.'),
      max_keys: z
        .int()
        .min(1)
        .max(mostSeries)
        .default(10_000)
        .describe('Most keys that are remembered; the one not heard of for longest begins anew.'),
    })
    .optional()
    .describe('Drops as rate what comes faster.'),
  deadband: z
    .strictObject({
      by: z.number().min(0).optional().describe('The least change, in the unit of the metric.'),
      percent: z.number().min(0).max(100).optional().describe('The least change, of the value kept last.'),
      resend,
      max_series: series,
    })
    .refine(({ by: step, percent }) => step !== undefined || percent !== undefined, {
      message: 'expected by or percent',
    })
    .optional()
    .describe('Drops as unchanged readings of gauges that are near the one kept last.'),
  on_change: z
    .strictObject({ resend, max_series: series })
    .optional()
    .describe('Drops as unchanged readings of gauges that are equal to the one kept last.'),
  aggregate: z
    .strictObject({
      interval: duration
        .refine((ms) => ms >= 1000 && ms <= 86_400_000, 'expected 1s to 1d')
        .describe(
          'How long a window lasts. On a device a reading counts to the window in which it comes, in an aggregator to ' +
            'that of its time; one that comes later makes another point, and none is dropped for it.',
        ),
      to: z
        .array(z.enum(functions))
        .min(1)
        .max(functions.length)
        .describe(
          'What becomes of its readings. One of last, min, max and mean keeps the name of the metric; with ' +
            'several, and for increase and count, the name gets the function at its end.',
        ),
      max_series: series.describe('Most series in windows; readings of others pass as they are.'),
    })
    .optional()
    .describe('Joins readings of gauges and sums; those that became one less are dropped as aggregated.'),
  set: z
    .strictObject({
      attributes: z.record(key, value).optional().describe('Attributes of the record, and their values.'),
      severity: severity.optional().describe('Severity of a log record; its class stays.'),
      body: z.string().max(65_536).optional().describe('Body of a log record.'),
    })
    .optional()
    .describe('Sets parts of the record.'),
  rename: z
    .strictObject({
      name: z.string().min(1).max(256).optional().describe('Another name of the metric or event.'),
      attributes: z.record(key, key).optional().describe('Other keys of attributes, by the present one.'),
    })
    .optional()
    .describe('Renames the metric or event, or attributes.'),
  redact: z
    .strictObject({
      patterns: listOf(pattern)
        .optional()
        .describe('Regular expressions (RE2) of what is replaced; the whole value where absent.'),
      body: z.boolean().default(false).describe('In the body.'),
      attributes: listOf(glob).optional().describe('In attributes with such keys, with * and ?.'),
      with: z.string().max(256).default('[redacted]').describe('What stands there then.'),
    })
    .refine(({ body, attributes }) => body || attributes !== undefined, {
      message: 'expected body: true, attributes, or both',
    })
    .optional()
    .describe('Replaces what nobody should read.'),
  class: z
    .enum(classes)
    .optional()
    .describe('Gives records another class: the stream in which they travel and are kept.'),
}
const ends = ['keep', 'drop', 'sample', 'rate', 'deadband', 'on_change', 'aggregate'] as const
const changes = ['set', 'rename', 'redact', 'class'] as const

const rule = z
  .strictObject({
    name: z
      .string()
      .regex(/^[A-Za-z0-9_.-]{1,64}$/, 'expected 1 to 64 letters, digits, _, . and -')
      .optional()
      .describe('Under which it is counted; rule_N where absent.'),
    match: match.prefault({}).describe('Which records: those that all of it fits; every one where absent.'),
    ...actions,
  })
  .superRefine((one, context) => {
    const wrong = (path: string[], message: string) =>
      void context.issues.push({ code: 'custom', input: one, path, message })
    const chosen = ends.filter((action) => one[action] !== undefined)
    if (chosen.length > 1) wrong([chosen[1] ?? ''], `a rule has only one of ${ends.join(', ')}`)
    if (chosen.length === 0 && changes.every((action) => one[action] === undefined)) {
      wrong([], `what it does is missing: one of ${[...ends, ...changes].join(', ')}`)
    }
    const targets = Object.values(one.rename?.attributes ?? {})
    const twice = targets.find((target, index) => targets.indexOf(target) !== index)
    if (twice !== undefined) wrong(['rename', 'attributes'], `two attributes become ${twice}`)
    const { match } = one
    const onlyLogs = match.signal?.every((signal) => signal === 'logs') === true
    for (const action of ['deadband', 'on_change', 'aggregate'] as const) {
      if (one[action] === undefined) continue
      if (onlyLogs || match.severity || match.body)
        wrong([action], `${action} is for metrics, and the rule is not`)
    }
  })
export type RuleSettings = z.output<typeof rule>

const example = z.strictObject({
  signal: z.enum(signals).default('logs').describe('Which signal.'),
  class: z.enum(classes).optional().describe('Its class; as its severity or name give it where absent.'),
  severity: severity.optional().describe('Severity of a log record.'),
  name: z.string().optional().describe('Name of the metric or event.'),
  value: z.number().optional().describe('Value of a gauge.'),
  body: z.string().optional().describe('Body of a log record.'),
  attributes: z.record(key, value).default({}).describe('Its attributes.'),
  resource: z.record(key, value).default({}).describe('Attributes of its Resource.'),
  after: duration.prefault(0).describe('How long after the one before it.'),
})
export type Example = z.output<typeof example>

const outcome = z.enum(['keep', ...dropReasons.slice(0, 5)] as ['keep', ...string[]])
const trial = z.strictObject({
  name: z.string().max(200).optional().describe('What it shows.'),
  given: listOf(example).describe('One record, or several in their order.'),
  expect: listOf(
    z.union(
      [
        outcome,
        z.strictObject({
          outcome: outcome.default('keep').describe('keep, or the reason for which it is dropped.'),
          class: z.enum(classes).optional().describe('Its class then.'),
          severity: severity.optional().describe('Its severity then.'),
          name: z.string().optional().describe('Its name then.'),
          body: z.string().optional().describe('Its body then.'),
          attributes: z.record(key, value).optional().describe('Attributes that it has then.'),
          absent: z.array(key).optional().describe('Attributes that it has not then.'),
          rule: z.string().optional().describe('A rule that matched it.'),
        }),
      ],
      { error: 'expected keep, filter, sample, rate, unchanged, aggregated, or { outcome, class, body, … }' },
    ),
  ).describe('What becomes of each: keep, filter, sample, rate, unchanged, aggregated, or more of it.'),
})
export type TrialSettings = z.output<typeof trial>

export const filterSettings = z.strictObject({
  rules: z
    .array(rule)
    .min(1)
    .max(mostRules)
    .describe('Asked in their order, until one of them drops or keeps the record.')
    .superRefine((rules, context) => {
      const seen = new Set<string>()
      for (const [index, { name = `rule_${index + 1}` }] of rules.entries()) {
        if (seen.has(name)) {
          const message = `two rules are named ${name}`
          context.issues.push({ code: 'custom', input: rules, path: [index, 'name'], message })
        }
        seen.add(name)
      }
    }),
  tests: z.array(trial).max(1000).default([]).describe('Examples that dpulse check holds against the rules.'),
})
export type FilterSettings = z.output<typeof filterSettings>

/** The same without the rules that drop by severity; undefined where none is left. */
export function withoutFloors(settings: FilterSettings): FilterSettings | undefined {
  const isFloor = ({ drop, match }: RuleSettings) => drop === true && match.severity !== undefined
  if (!settings.rules.some(isFloor)) return settings
  // Under the name that it has among all.
  const named = settings.rules.map((one, index) => ({ ...one, name: one.name ?? `rule_${index + 1}` }))
  const rules = named.filter((one) => !isFloor(one))
  return rules.length === 0 ? undefined : { ...settings, rules }
}
