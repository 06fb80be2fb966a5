// `dpulse check FILE [--try]`: validates a configuration offline, and on wish runs each of its sources once.
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import process from 'node:process'
import { PermanentError, messageOf } from '../plugins/contract/index.ts'
import type { Definition } from '../plugins/contract/index.ts'
import { systemClock } from './clock.ts'
import { parseConfig } from './config.ts'
import type { CollectorConfig, Problem } from './config.ts'
import type { CollectorIdentity } from './context.ts'
import { Logger } from './logger.ts'
import { Measures } from './measure.ts'
import { inertContext, trySource } from './trial.ts'
import type { Trial } from './trial.ts'

export type { Problem } from './config.ts'

/** Every problem with its path, those of building the components included. Nothing is opened. */
export async function checkConfig(
  text: string,
  file: string,
  definitions: readonly Definition[],
): Promise<Problem[]> {
  const { config, problems } = await parseConfig(text, file, definitions)
  return config ? [...problems, ...buildProblems(config)] : problems
}

/** Runs each source of a configuration until it emitted, failed, or some seconds have passed. */
export async function tryConfig(config: CollectorConfig, timeoutMs = 5000): Promise<Trial[]> {
  const silent = new Logger({ write: () => undefined })
  const clock = systemClock
  const around = { identity: nobody, clock, logger: silent, measures: new Measures(clock.nowUnixNano()) }
  return Promise.all(config.sources.map((source) => trySource(source, around, timeoutMs)))
}

/** The command: prints, and fails with what must be mended. */
export async function check(file: string, options: { try: boolean }): Promise<void> {
  const { definitions, textOf } = await import('./main.ts')
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new PermanentError('CONFIG_INVALID', `${file} cannot be read`, { cause })
  })
  const path = resolve(file)
  const problems = await checkConfig(text, path, definitions)
  for (const problem of problems) process.stdout.write(`${file}: ${problem.severity}: ${textOf(problem)}\n`)
  const errors = problems.filter(({ severity }) => severity === 'error').length
  if (errors > 0)
    throw new PermanentError('CONFIG_INVALID', `${file} has ${errors} ${errors === 1 ? 'error' : 'errors'}`)
  process.stdout.write(`${file}: fine\n`)
  if (!options.try) return
  const { config } = await parseConfig(text, path, definitions)
  const trials = config ? await tryConfig(config) : []
  for (const { id, outcome } of trials) process.stdout.write(`${id}: ${outcome}\n`)
  if (trials.some(({ isFine }) => !isFine))
    throw new PermanentError('CONFIG_INVALID', 'some sources cannot run')
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

function buildProblems(config: CollectorConfig): Problem[] {
  const problems: Problem[] = []
  const silent = new Logger({ write: () => undefined })
  const measures = new Measures(0n)
  const around = { identity: nobody, clock: systemClock, logger: silent, measures }
  for (const [section, list] of Object.entries({
    sources: config.sources,
    processors: config.processors,
    exporters: config.exporters,
  })) {
    for (const component of list) {
      try {
        component.definition.create(component.config, inertContext(component.id, around))
      } catch (error) {
        problems.push({ path: `${section}.${component.id}`, message: messageOf(error), severity: 'error' })
      }
    }
  }
  return problems
}
