// A collector's configuration for `dpulse check`: validated offline, and on wish each of its sources runs once.
import process from 'node:process'
import { messageOf } from '../plugins/contract/index.ts'
import type { Definition } from '../plugins/contract/index.ts'
import { systemClock } from './clock.ts'
import { parseConfig } from './config.ts'
import type { CollectorConfig, ParseLimits, Parsed, Problem } from './config.ts'
import type { CollectorIdentity } from './context.ts'
import { Logger } from './logger.ts'
import { Measures } from './measure.ts'
import { Problems } from './problems.ts'
import { absentReferences } from './references.ts'
import { inertContext, trySource } from './trial.ts'
import type { Trial } from './trial.ts'

export type { Problem } from './config.ts'

/** Every problem with its path, those of building the components included. Nothing is opened. */
export async function checkConfig(
  text: string,
  file: string,
  definitions: readonly Definition[],
): Promise<Problem[]> {
  return (await parseAndCheck(text, file, definitions)).problems
}

/** The same, with the configuration where there is no error. */
export async function parseAndCheck(
  text: string,
  file: string,
  definitions: readonly Definition[],
  limits: ParseLimits = {},
): Promise<Parsed> {
  const { config, problems } = await parseConfig(text, file, definitions, limits)
  if (!config) return { config, problems }
  const found = new Problems(text)
  found.problems.push(...problems)
  buildProblems(config, found)
  // What another machine has cannot be seen from here.
  if (limits.elsewhere !== true) absent(config, found)
  found.sort()
  const isFine = !found.problems.some(({ severity }) => severity === 'error')
  return { config: isFine ? config : undefined, problems: found.problems }
}

/** Secrets and files of TLS that this machine lacks, which may not be the one that it runs on: warnings. */
function absent(config: CollectorConfig, found: Problems): void {
  for (const section of ['sources', 'processors', 'exporters', 'subscribers'] as const) {
    for (const { id, config: settings } of config[section]) {
      for (const { path, message } of absentReferences(settings, [section, id])) {
        found.problem(path, message, 'warning')
      }
    }
  }
}

/** Runs each source of a configuration until it emitted, failed, or some seconds have passed. */
export async function tryConfig(config: CollectorConfig, timeoutMs = 5000): Promise<Trial[]> {
  const silent = new Logger({ write: () => undefined })
  const clock = systemClock
  const around = { identity: nobody, clock, logger: silent, measures: new Measures(clock.nowUnixNano()) }
  return Promise.all(config.sources.map((source) => trySource(source, around, timeoutMs)))
}

/** What `dpulse check` asks of a collector's configuration. */
export const checker = {
  async check(text: string, file: string): Promise<Problem[]> {
    const { definitions } = await import('./main.ts')
    return checkConfig(text, file, definitions)
  },
  async try(text: string, file: string): Promise<Trial[]> {
    const { definitions } = await import('./main.ts')
    const { config } = await parseConfig(text, file, definitions)
    return config ? tryConfig(config) : []
  },
}

/** Who is asked about before a collector runs: components may look at it, nothing is sent under it. */
const nobody: CollectorIdentity = {
  collector: 'check',
  device: 'check',
  instance: '00000000000000000000000000',
  version: '',
  since: '',
  hostname: '',
  arch: process.arch,
  labels: {},
  identity: 'none',
  portOffset: 0,
}

/** What shows when components are built, and what processors find in their own configuration. */
function buildProblems(config: CollectorConfig, found: Problems): void {
  const silent = new Logger({ write: () => undefined })
  const measures = new Measures(0n)
  const around = { identity: nobody, clock: systemClock, logger: silent, measures }
  for (const [section, list] of Object.entries({
    sources: config.sources,
    processors: config.processors,
    exporters: config.exporters,
    subscribers: config.subscribers,
  })) {
    for (const { id, definition, config: settings } of list) {
      const context = inertContext(id, around)
      try {
        definition.create(settings, context)
        if (definition.kind !== 'processor') continue
        for (const { path, message, severity } of definition.check?.(settings, context) ?? []) {
          found.problem([section, id, ...path], message, severity)
        }
      } catch (error) {
        found.problem([section, id], messageOf(error))
      }
    }
  }
}
