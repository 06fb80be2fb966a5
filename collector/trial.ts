// Components outside a runtime: a Context that keeps nothing, and one run of a source to see what it would emit.
import { PermanentError, codeOf, messageOf } from '../plugins/contract/index.ts'
import type { Clock, Context, Records } from '../plugins/contract/index.ts'
import { checkpointOf } from './checkpoint.ts'
import type { SourceComponent } from './config.ts'
import { contextOf } from './context.ts'
import type { CollectorIdentity } from './context.ts'
import type { Logger } from './logger.ts'
import type { Measures } from './measure.ts'

export interface TrialSurroundings {
  identity: CollectorIdentity
  clock: Clock
  logger: Logger
  measures: Measures
}

export interface Trial {
  id: string
  isFine: boolean
  /** A sentence. */
  outcome: string
}

export const inertContext = (
  id: string,
  { identity, clock, logger }: TrialSurroundings,
  ready: (address: string | undefined) => void = () => undefined,
): Context =>
  contextOf(identity, {
    id,
    clock,
    logger: logger.for(id),
    checkpoint: checkpointOf(undefined, id),
    ready,
    dropped: () => undefined,
  })

/** Runs a source until it emitted, failed, or the time is over. What it emits goes nowhere and is never acknowledged. */
export async function trySource(
  { id, definition, config }: SourceComponent,
  around: TrialSurroundings,
  timeoutMs: number,
): Promise<Trial> {
  const stop = new AbortController()
  const emitted: Records[] = []
  const first = Promise.withResolvers<void>()
  let address: string | undefined
  const timer = setTimeout(first.resolve, timeoutMs)
  try {
    const source = definition.create(
      config,
      inertContext(id, around, (told) => (address = told)),
    )
    const run = source.run((records) => {
      if (emitted.length < 1000) emitted.push(records)
      // A little later, so that all classes of one reading are seen.
      if (emitted.length === 1) setTimeout(first.resolve, 200)
      // Not acknowledged: a source with a cursor of its own must not move it for a trial.
      return new Promise((_, reject) => {
        stop.signal.addEventListener('abort', () => reject(stop.signal.reason as Error), { once: true })
      })
    }, stop.signal)
    await Promise.race([run, first.promise])
    stop.abort(new PermanentError('STOPPING', 'the trial is over'))
    await Promise.race([run.catch(() => undefined), around.clock.delay(1000, new AbortController().signal)])
    return { id, isFine: true, outcome: summary(emitted, address, timeoutMs) }
  } catch (error) {
    return { id, isFine: false, outcome: `cannot run (${codeOf(error)}): ${messageOf(error)}` }
  } finally {
    clearTimeout(timer)
    stop.abort()
  }
}

function summary(emitted: readonly Records[], address: string | undefined, timeoutMs: number): string {
  const where = address === undefined ? '' : `listens at ${address}; `
  if (emitted.length === 0) return `${where}nothing to emit within ${timeoutMs / 1000} s`
  const counts = new Map<string, number>()
  for (const { class: name, signal, count } of emitted) {
    counts.set(`${signal} of class ${name}`, (counts.get(`${signal} of class ${name}`) ?? 0) + count)
  }
  const parts = [...counts].map(([what, count]) => `${count} ${what}`)
  return `${where}emits ${parts.join(', ')}`
}
