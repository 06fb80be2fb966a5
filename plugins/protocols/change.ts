// What an aggregator wishes of a collector, and what the collector answers: the JSON of `config/desired` and
// `config/reported`. Both are retained, both are whole: a newer one replaces the one before it.
import { createHash } from 'node:crypto'
import * as z from 'zod'

/** The least severe first; each is the lowest that a source lets through while its verbosity is set. */
export const severityNames = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const
export type SeverityName = (typeof severityNames)[number]

/** Of a configuration that is applied from afar: devices and labels of a fleet fit the broker beside it. */
export const mostConfigurationBytes = 128 * 1024
/** Verbosities of one collector at once. */
export const mostVerbosities = 32
export const mostLabels = 64
/** A verbosity is for a while: who wants it for longer writes a rule. */
export const longestVerbosityMs = 31 * 86_400_000

/** Under which a configuration is spoken of: the first 16 digits of the SHA-256 of its text. */
export const configurationHash = (text: string): string =>
  createHash('sha256').update(text).digest('hex').slice(0, 16)

/** Grows with every wish, by the clock of the aggregator in milliseconds where that is ahead. */
const revision = z.int().min(1)
const text = (most: number) => z.string().max(most)
/** RFC 3339. */
const time = text(40)
const hash = z.string().regex(/^[0-9a-f]{16}$/, 'expected 16 hexadecimal digits')
const who = text(256)

/** Names of labels, as they stand in a configuration: without `dpu.`, which their attributes have. */
export const labelName = /^[a-z][a-z0-9_.]{0,63}$/
export const bareLabel = (name: string): string => (name.startsWith('dpu.') ? name.slice(4) : name)
const label = z.string().regex(labelName, 'expected small letters, digits, _ and .')
const labelValue = text(256)

const wishedConfiguration = z.object({
  /** Of this part: another one tries the same text again. */
  revision,
  /** YAML, as it was applied; null: the device's own configuration, its file or what it finds. */
  text: text(mostConfigurationBytes).nullable(),
  /** Of the text. */
  hash: hash.nullable(),
  by: who,
  time,
})
export type WishedConfiguration = z.infer<typeof wishedConfiguration>

const wishedVerbosity = z.object({
  /** What the device has ended once stays ended. */
  id: text(64),
  /** Id of a source of the configuration in force. */
  source: text(64),
  severity: z.enum(severityNames),
  /** From when the device hears of it. */
  forMs: z.int().min(1).max(longestVerbosityMs),
  by: who,
  time,
})
export type WishedVerbosity = z.infer<typeof wishedVerbosity>

/** `<root>/<collector>/config/desired` */
export const desiredSchema = z.object({
  revision,
  /** Null: nobody has wished for one, and what is in force stays. */
  configuration: wishedConfiguration.nullable(),
  verbosity: z.array(wishedVerbosity).max(mostVerbosities).default([]),
  /** Over those that the device has itself; null takes one away. */
  labels: z.record(label, labelValue.nullable()).default({}),
})
export type Desired = z.infer<typeof desiredSchema>

const problem = z.object({
  path: text(1000),
  message: text(2000),
  severity: z.enum(['error', 'warning']),
  line: z.int().optional(),
  column: z.int().optional(),
})
export type ReportedProblem = z.infer<typeof problem>
/** More say nothing new. */
export const mostProblems = 50

export const origins = ['applied', 'file', 'detected'] as const
/** Where a configuration comes from: from the aggregator, the device's own file, or what it found to start. */
export type Origin = (typeof origins)[number]

export const outcomes = ['in_force', 'trial', 'refused', 'rolled_back'] as const
export type Outcome = (typeof outcomes)[number]

/** `<root>/<collector>/config/reported` */
export const reportedSchema = z.object({
  /** Of the run of the collector that reports. */
  instance: text(64),
  time,
  /** Of the newest wish that it has acted on; 0 for none. */
  revision: z.int().min(0),
  /** What is in force, on trial included. */
  configuration: z.object({ hash, origin: z.enum(origins), since: time }),
  /** The device's own, to which it returns when nothing is wished. */
  base: z.object({ hash, origin: z.enum(['file', 'detected']) }),
  /** What became of the newest configuration that was wished; null where none was. */
  outcome: z
    .object({
      revision,
      hash: hash.nullable(),
      state: z.enum(outcomes),
      /** Why it was refused or rolled back; empty otherwise. */
      reason: text(4000).default(''),
      problems: z.array(problem).max(mostProblems).default([]),
      time,
      /** Of this trial: the aggregator names it on the `ack` topic, and so the trial is over. */
      trial: text(64).optional(),
    })
    .nullable(),
  verbosity: z
    .array(
      z.object({
        id: text(64),
        source: text(64),
        severity: z.enum(severityNames),
        state: z.enum(['in_force', 'ended', 'refused']),
        reason: text(1000).default(''),
        /** When it ends or ended, by the clock of the device. */
        until: time,
      }),
    )
    .max(mostVerbosities)
    .default([]),
  /** All that are in force, from wherever. */
  labels: z.record(text(64), labelValue).default({}),
})
export type Reported = z.infer<typeof reportedSchema>
