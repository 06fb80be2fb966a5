// Parameters of the HTTP API, named as the command's options (DESIGN §9): text in, values out, once, at the border.
// Every message says what the parameter takes, because it is shown to the person who typed it.
import { z } from '@hono/zod-openapi'
import { aggregates } from '../query.ts'
import type { LogFilter, Match } from '../query.ts'
import { parseDuration, parseSeverity, parseTime, takes } from '../../plugins/protocols/log-question.ts'

const single = z.string({ error: 'takes one value; give it once' })

// One value or a repeated parameter: always a list from here on.
const repeated = (most: number) =>
  z
    .union([z.string(), z.array(z.string())])
    .transform((value) => (Array.isArray(value) ? value : [value]))
    .refine((list) => list.length <= most, `may be given at most ${most} times`)

const time = single.transform((text, context) => {
  const parsed = parseTime(text, BigInt(Date.now()) * 1_000_000n)
  if (parsed !== undefined && parsed < 2n ** 63n) return parsed
  return refuse(context, takes.time)
})

const duration = single.transform((text, context) => {
  const parsed = parseDuration(text)
  if (parsed !== undefined && parsed > 0n && parsed < 2n ** 62n) return parsed
  return refuse(context, 'takes a duration such as 30s, 1m or 1h')
})

const severity = single.transform((text, context) => parseSeverity(text) ?? refuse(context, takes.severity))

const count = (most: number) =>
  single.transform((text, context) => {
    const parsed = /^\d{1,12}$/.test(text) ? Number(text) : 0
    if (parsed >= 1 && parsed <= most) return parsed
    return refuse(context, `takes a whole number from 1 to ${most}`)
  })

const device = repeated(200).transform((list, context) => {
  const names = list.flatMap((text) => text.toLowerCase().split(','))
  if (names.every((name) => /^[a-z0-9-]{1,64}$/.test(name))) return names
  return refuse(context, 'takes the name of a device: 1 to 64 of a-z, 0-9 and -')
})

const pairs = (what: string, separator: string | undefined) =>
  repeated(16).transform((list, context) => {
    const texts = separator === undefined ? list : list.flatMap((text) => text.split(separator))
    const matches: Match[] = []
    for (const text of texts) {
      const at = text.indexOf('=')
      if (at < 1 || text.length > 4096) return refuse(context, `takes ${what}`)
      matches.push({ key: text.slice(0, at), value: text.slice(at + 1) })
    }
    return matches
  })

const names = repeated(16).transform((list, context) => {
  const keys = list.flatMap((text) => text.split(','))
  if (keys.every((key) => key.length > 0 && key.length <= 200)) return keys
  return refuse(context, 'takes names of attributes, divided by commas')
})

function refuse(context: z.RefinementCtx, message: string): never {
  context.addIssue({ code: 'custom', message })
  return z.NEVER
}

const described = <T extends z.ZodType>(schema: T, description: string, example: string) =>
  schema.optional().openapi({ type: 'string', param: { description, example } })

const counted = <T extends z.ZodType>(schema: T, maximum: number, description: string) =>
  schema.optional().openapi({ type: 'integer', minimum: 1, maximum, param: { description } })

const listed = <T extends z.ZodType>(schema: T, description: string, example: string) =>
  schema
    .optional()
    .openapi({ type: 'array', items: { type: 'string' }, param: { description, example: [example] } })

const choice = {
  device: listed(device, 'Only these devices.', 'mt2150x00001'),
  selector: listed(
    pairs('label=value, divided by commas', ','),
    'Only devices with these labels.',
    'site=lab',
  ),
}

const filter = {
  ...choice,
  text: described(
    single.max(1000, 'takes at most 1000 characters'),
    'Case-insensitive part of the body.',
    'link down',
  ),
  severity: described(severity, 'Lowest severity, by name or OpenTelemetry number.', 'warn'),
  where: listed(
    pairs('key=value', undefined),
    'Attribute of the record or its resource.',
    'syslog.appname=sshd',
  ),
}

const range = {
  since: described(time, 'From here on: a duration back from now, RFC 3339, or now.', '15m'),
  until: described(time, 'Up to here, exclusive.', 'now'),
}

/** Most records on one page of logs, and most points in one answer. */
export const mostRecords = 10_000
export const mostPoints = 1_000_000

export const DeviceParameters = z.strictObject(choice)

const by = described(single.max(256), 'Who wishes it, where nobody logs in.', 'ada@jumphost')
const target = {
  ...choice,
  all: z
    .enum(['true'], { error: 'takes true' })
    .optional()
    .openapi({ param: { description: 'The whole fleet, where neither device nor selector is given.' } }),
  by,
}
/** Which devices a change is for. */
export const TargetParameters = z.strictObject(target)
export const VerbosityTarget = z.strictObject({
  ...target,
  source: described(single.max(64), 'Of this source; of all where absent.', 'syslog'),
})
export const ByParameter = z.strictObject({ by })
export const RolloutPath = z.object({
  id: z
    .string()
    .regex(/^[0-9A-Z]{26}$/, 'takes the id of a rollout')
    .openapi({ param: { description: 'The rollout.', example: '01K00000000000000000000000' } }),
})
export const LiveParameters = z.strictObject(filter)
export const LogParameters = z.strictObject({
  ...filter,
  ...range,
  limit: described(
    count(mostRecords),
    `Records on this page, at most ${mostRecords}; 1000 by default.`,
    '1000',
  ),
  next: described(single.max(4096), '`next` of the page before: leads back in time.', 'AAAAAQ'),
})
export const QueryParameters = z.strictObject({
  ...choice,
  ...range,
  metric: single
    .min(1, 'takes the name of a metric; /api/metrics lists them')
    .max(512)
    .openapi({ param: { description: 'Name of the metric.', example: 'system.cpu.utilization' } }),
  where: filter.where,
  step: described(duration, 'Width of one point; the stored points without it.', '1m'),
  aggregate: z
    .enum(aggregates, { error: `takes one of ${aggregates.join(', ')}` })
    .optional()
    .openapi({ param: { description: 'How the points of a step, and with `by` the series, become one.' } }),
  by: listed(names, 'Attributes that stay apart when series are joined.', 'cpu.mode'),
  limit: counted(
    count(mostPoints),
    mostPoints,
    'A query that has more points is refused; 100000 by default.',
  ),
})
export const LatestParameters = z.strictObject({
  device: single
    .regex(/^[a-z0-9-]{1,64}$/, 'takes the name of one device')
    .openapi({ param: { description: 'The device.', example: 'mt2150x00001' } }),
})
export const DevicePath = z.object({
  device: z
    .string()
    .regex(/^[a-z0-9-]{1,64}$/, 'takes the name of one device')
    .openapi({ param: { description: 'The device.', example: 'mt2150x00001' } }),
})

/** What search and live tail share; `devices` is what device and selector came to. */
export function toLogFilter(
  parameters: z.output<typeof LiveParameters>,
  devices: readonly string[] | undefined,
): LogFilter {
  return {
    where: parameters.where ?? [],
    ...(parameters.text !== undefined && parameters.text !== '' && { text: parameters.text }),
    ...(parameters.severity !== undefined && { severity: parameters.severity }),
    ...(devices !== undefined && { device: devices }),
  }
}
