// `dpulse apply`: a configuration for devices, at once or in stages, and how it went.
import { readFile } from 'node:fs/promises'
import { Applied, Rollouts } from './answers.ts'
import type { Rollout } from './answers.ts'
import { RefusedConfiguration, ask, change, whoAmI } from './asking.ts'
import { lineOf } from './check.ts'
import { getConfig, targetOf } from './config.ts'
import type { TargetOptions } from './config.ts'
import { CommandFailure } from './failure.ts'
import { getRollouts, rolloutLine } from './rollouts.ts'
import { durationOf, progress, settle, theConfiguration } from './settling.ts'
import { note, print, printJson } from './terminal.ts'

export interface ApplyOptions extends TargetOptions {
  file?: string
  stages?: string
  soak?: string
  status: boolean
}

export async function apply(options: ApplyOptions): Promise<void> {
  if (options.status) {
    if (options.output === 'json') return getRollouts(options)
    await getRollouts(options)
    print('')
    return getConfig(options)
  }
  const { file } = options
  if (file === undefined) throw new CommandFailure('-f names the configuration to apply', 2)
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new CommandFailure(`${file} cannot be read (${(cause as NodeJS.ErrnoException).code})`, 2, {
      cause,
    })
  })
  const stages = options.stages === undefined ? undefined : stagesOf(options.stages)
  durationOf('wait', options.wait)
  const body = {
    text,
    by: whoAmI(),
    ...(stages && { stages }),
    ...(options.soak !== undefined && { soak: options.soak }),
  }
  let applied
  try {
    applied = await change(options, 'POST', '/api/config', targetOf(options), body, Applied)
  } catch (error) {
    if (!(error instanceof RefusedConfiguration)) throw error
    if (options.output === 'json') printJson({ refused: error.problems })
    else for (const problem of error.problems) print(lineOf(file, problem))
    throw new CommandFailure(`${file} is refused: no device was told`, 1, { cause: error })
  }
  for (const problem of applied.warnings) note(lineOf(file, problem))
  const { hash, rollout, devices } = applied
  if (rollout !== undefined) return follow(options, rollout)
  note(`${hash} is wished of ${devices.length} ${devices.length === 1 ? 'device' : 'devices'}`)
  return settle(options, applied, theConfiguration('take the configuration'), { hash })
}

/** `1%,10%,100%` or `1,10,100`. */
function stagesOf(text: string): number[] {
  const stages = text.split(',').map((one) => Number(/^\s*(\d{1,3}(?:\.\d{1,3})?)\s*%?\s*$/.exec(one)?.[1]))
  const grows = stages.every((one, at) => one > (stages[at - 1] ?? 0))
  if (grows && stages.at(-1) === 100) return stages
  throw new CommandFailure('--stages: takes percentages that grow up to 100, such as 1%,10%,100%', 2)
}

/** The aggregator goes on by itself; this only looks. @throws CommandFailure where it stopped. */
async function follow(options: ApplyOptions, id: string): Promise<void> {
  note(`rollout ${id}; it goes on when this command ends, \`dpulse delete rollout ${id}\` stops it`)
  if (options.wait === '0') return
  let last = ''
  for (;;) {
    const found = (await ask(options, '/api/rollouts', {}, Rollouts)).find((one) => one.id === id)
    if (!found) throw new CommandFailure(`the aggregator knows no rollout ${id} any more`, 1)
    const line = rolloutLine(found)
    if (line !== last && options.output === 'table') print(line)
    last = line
    if (found.state !== 'running') return ended(options, found)
    progress(line)
    await new Promise((resume) => setTimeout(resume, 500))
  }
}

function ended(options: ApplyOptions, found: Rollout): void {
  progress('')
  if (options.output === 'json') printJson(found)
  if (found.state === 'done') return
  const { reached, devices, detail } = found
  const undo = '`dpulse delete config` or `dpulse apply` of an older file undoes what was reached'
  throw new CommandFailure(`stopped after ${reached} of ${devices} devices: ${detail}; ${undo}`, 1)
}
