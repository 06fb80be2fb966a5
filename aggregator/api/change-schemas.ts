// What the HTTP API takes and answers where devices are changed: wishes, and how they compare with what devices report.
import { z } from '@hono/zod-openapi'
import {
  longestVerbosityMs,
  mostConfigurationBytes,
  reportedSchema,
  severityNames,
} from '../../plugins/protocols/change.ts'
import { changeStates, rolloutStates } from '../../plugins/protocols/fleet-changes.ts'
import { parseDuration } from '../../plugins/contract/settings.ts'

const State = z.enum(changeStates).openapi('ChangeState', {
  description:
    '`own`: it goes by its own file or what it found; `pending`: it has not answered yet, offline perhaps; ' +
    '`drift`: what is in force is not what is wished, and it has not said why',
})

const Problem = z
  .object({
    path: z.string().openapi({ description: 'Empty for the text as a whole' }),
    message: z.string(),
    severity: z.enum(['error', 'warning']),
    line: z.int().optional(),
    column: z.int().optional(),
  })
  .openapi('Problem')

const Reported = z.object(reportedSchema.shape).openapi('Reported', {
  description: 'As the collector published it on `config/reported`; its times are those of its own clock',
})

export const DeviceChange = z
  .object({
    device: z.string(),
    online: z.boolean(),
    state: State,
    detail: z.string(),
    desired: z
      .object({
        revision: z.int(),
        configuration: z
          .object({
            revision: z.int(),
            hash: z.string().nullable().openapi({ description: "Null: the device's own" }),
            by: z.string(),
            time: z.string(),
            rollout: z.string().optional(),
          })
          .optional(),
        verbosity: z.array(
          z.object({
            id: z.string(),
            source: z.string(),
            severity: z.enum(severityNames),
            by: z.string(),
            time: z.string(),
            until: z.string(),
          }),
        ),
        labels: z.record(z.string(), z.string().nullable()),
      })
      .nullable(),
    reported: Reported.nullable(),
  })
  .openapi('DeviceChange')

export const DeviceChangeText = DeviceChange.extend({
  text: z.string().nullable().openapi({ description: "YAML of what is wished; null: the device's own" }),
}).openapi('DeviceChangeText')

const by = z.string().max(256).optional().openapi({ description: 'Who wishes it, where nobody logs in' })

const duration = (least: number, most: number, example: string) =>
  z
    .string()
    .transform((text, context) => {
      const ms = parseDuration(text)
      if (ms !== undefined && ms >= least && ms <= most) return ms
      context.addIssue({ code: 'custom', message: `takes a duration such as ${example}` })
      return z.NEVER
    })
    .openapi({ type: 'string', example })

export const ApplyBody = z.strictObject({
  text: z.string().min(1).max(mostConfigurationBytes).openapi({ description: 'A collector’s YAML' }),
  by,
  stages: z
    .array(z.number().positive('takes percentages above 0').max(100, 'takes percentages up to 100'))
    .min(1)
    .max(20)
    .refine((list) => list.at(-1) === 100, 'ends with 100')
    .refine((list) => list.every((one, at) => one > (list[at - 1] ?? 0)), 'grows from stage to stage')
    .optional()
    .openapi({ description: 'Percent of the devices; all at once where absent', example: [1, 10, 100] }),
  soak: duration(0, 7 * 86_400_000, '30s')
    .optional()
    .openapi({ description: 'How long a stage is watched once it is in force; 30s where absent' }),
})

const chosen = {
  devices: z.array(z.string()),
  online: z.array(z.string()).openapi({ description: 'Those of them that are online: they will answer' }),
}

export const Applied = z
  .object({
    hash: z.string(),
    warnings: z.array(Problem),
    ...chosen,
    rollout: z.string().optional().openapi({ description: 'With stages: its id' }),
  })
  .openapi('Applied')

export const RefusedConfiguration = z
  .object({ error: z.object({ code: z.string(), message: z.string(), problems: z.array(Problem) }) })
  .openapi('RefusedConfiguration')

export const Changed = z.object(chosen).openapi('Changed')

export const VerbosityBody = z.strictObject({
  source: z
    .string()
    .regex(/^[a-z][a-z0-9_-]{0,63}$/, 'takes the id of a source, as in `dpulse top` of the device')
    .openapi({ example: 'syslog' }),
  severity: z.enum(severityNames, { error: `takes one of ${severityNames.join(', ')}` }),
  for: duration(1000, longestVerbosityMs, '1h').openapi({ description: 'The device ends it by itself' }),
  by,
})

export const LabelsBody = z.strictObject({
  devices: z
    .record(
      z.string().regex(/^[a-z0-9-]{1,64}$/, 'takes names of devices'),
      z.record(z.string(), z.string().max(256).nullable()),
    )
    .openapi({ description: 'By device and label, with or without `dpu.`; null takes one away' }),
  by,
})

export const Labelled = z
  .object({
    ...chosen,
    unknown: z.array(z.string()).openapi({ description: 'Not heard of yet: they get them when they come' }),
  })
  .openapi('Labelled')

export const Rollout = z
  .object({
    id: z.string(),
    hash: z.string(),
    by: z.string(),
    time: z.string(),
    state: z.enum(rolloutStates),
    detail: z.string().openapi({ description: 'Why it stopped, or what it waits for' }),
    stages: z.array(z.number()),
    stage: z.int().openapi({ description: 'Which is under way, from 0' }),
    devices: z.int(),
    reached: z.int(),
    states: z.partialRecord(z.enum(changeStates), z.int()),
  })
  .openapi('Rollout')

export const Stopped = z.object({ stopped: z.string() }).openapi('Stopped')
