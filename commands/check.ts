// `dpulse check FILE [--try]`: every problem of a configuration with its path and line, and on wish one run of each
// source. Who knows the schemas of collector and aggregator is given by dpulse.ts.
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { ConfiguredProgram } from './configuration.ts'
import { programOf } from './configuration.ts'
import { CommandFailure } from './failure.ts'
import { note, print, printJson, printable, styled } from './terminal.ts'

export interface Problem {
  /** Empty for the file as a whole. */
  path: string
  message: string
  severity: 'error' | 'warning'
  line?: number | undefined
  column?: number | undefined
}

export interface Trial {
  id: string
  isFine: boolean
  outcome: string
}

export interface Checker {
  /** `file` is absolute; what the text names is relative to it. */
  check(text: string, file: string): Promise<Problem[]>
  /** Runs each source once; absent where a program has none. */
  try?(text: string, file: string): Promise<Trial[]>
}

export type Checkers = Record<ConfiguredProgram, () => Promise<Checker>>

export interface CheckOptions {
  try: boolean
  output: 'table' | 'json'
}

/** @throws CommandFailure that says how many errors there are. */
export async function check(file: string, options: CheckOptions, checkers: Checkers): Promise<void> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new CommandFailure(`${file} cannot be read (${(cause as NodeJS.ErrnoException).code})`, 2, {
      cause,
    })
  })
  const program = programOf(text)
  const checker = await checkers[program]()
  const problems = await checker.check(text, resolve(file))
  const errors = problems.filter(({ severity }) => severity === 'error').length
  const sources =
    options.try && errors === 0 && checker.try ? await checker.try(text, resolve(file)) : undefined
  if (options.output === 'json') {
    const told = sources?.map(({ id, isFine, outcome }) => ({ id, fine: isFine, outcome }))
    printJson({ file, program, valid: errors === 0, problems, ...(told && { sources: told }) })
  } else {
    for (const problem of problems) print(lineOf(file, problem))
    if (errors === 0) print(`${printable(file)}: a valid configuration of the ${program}`)
    for (const { id, isFine, outcome } of sources ?? []) {
      print(`${styled('bold', printable(id))}: ${styled(isFine ? 'green' : 'red', printable(outcome))}`)
    }
  }
  if (errors > 0) throw new CommandFailure(`${file} has ${errors} ${errors === 1 ? 'error' : 'errors'}`, 1)
  if (options.try && !checker.try) note(`the ${program} has no sources to try`)
  if (sources?.some(({ isFine }) => !isFine) === true) throw new CommandFailure('some sources cannot run', 1)
}

/** `collector.yaml:3:5: error: exporters.fleet.type: there is no exporter type otpl`, as compilers say it. */
export function lineOf(file: string, { path, message, severity, line, column }: Problem): string {
  const place = [file, line, column].filter((part) => part !== undefined).join(':')
  const text = path === '' ? message : `${path}: ${message}`
  return `${printable(place)}: ${styled(severity === 'error' ? 'red' : 'yellow', severity)}: ${printable(text)}`
}
