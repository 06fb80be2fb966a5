// Which configuration a collector can go by: its own, or one that was applied, once it has been checked here.
import type { Definition } from '../../plugins/contract/index.ts'
import { configurationHash, mostProblems } from '../../plugins/protocols/change.ts'
import type { Origin, ReportedProblem } from '../../plugins/protocols/change.ts'
import { parseAndCheck } from '../check.ts'
import type { CollectorConfig, Problem } from '../config.ts'
import type { Applied } from './kept.ts'

/** The device's own configuration: its file, or what it found. */
export interface Base {
  config: CollectorConfig
  /** What the file said; undefined where there is none. */
  text: string | undefined
  /** For what a text refers to. */
  file: string
}

export interface InForce {
  config: CollectorConfig
  hash: string
  origin: Origin
  since: string
}

/** Undefined where it has errors. */
export interface Resolved {
  found?: InForce
  problems: ReportedProblem[]
}

export function ownOf({ config, text }: Base): InForce {
  const { sources, processors, exporters } = config
  const written = [sources, processors, exporters].map((list) => list.map((one) => [one.id, one.written]))
  const hash = configurationHash(text ?? JSON.stringify(written))
  return { config, hash, origin: text === undefined ? 'detected' : 'file', since: now() }
}

/** What was applied, checked as `dpulse check` would here; null is the device's own. */
export async function resolveApplied(
  applied: Applied | null,
  own: Base,
  { definitions, collector }: { definitions: readonly Definition[]; collector: string },
): Promise<Resolved> {
  if (!applied) return { found: ownOf(own), problems: [] }
  const { config: base, file } = own
  const limits = { modules: base.modules }
  const { config, problems } = await parseAndCheck(applied.text, file, definitions, limits)
  const told: Problem[] = [...problems]
  const id = config?.collector.id
  if (id !== undefined && id !== collector) {
    const message = `this collector is ${collector}; only its own file can say otherwise`
    told.unshift({ path: 'collector.id', message, severity: 'error' })
  }
  const isSame = JSON.stringify(config?.api) === JSON.stringify(base.api)
  if (config && (config.limits.disk !== base.limits.disk || !isSame))
    told.push({ path: '', message: 'api and limits.disk change with the next start', severity: 'warning' })
  const isFine = config && !told.some(({ severity }) => severity === 'error')
  return {
    ...(isFine && { found: { config, hash: applied.hash, origin: 'applied', since: now() } }),
    problems: told.slice(0, mostProblems).map(shortened),
  }
}

export const now = (): string => new Date().toISOString()

export const sentence = (problems: readonly ReportedProblem[]): string =>
  problems
    .filter(({ severity }) => severity === 'error')
    .slice(0, 5)
    .map(({ path, message }) => (path === '' ? message : `${path}: ${message}`))
    .join('; ')
    .slice(0, 4000)

function shortened({ path, message, severity, line, column }: Problem): ReportedProblem {
  return {
    path: path.slice(0, 1000),
    message: message.slice(0, 2000),
    severity,
    ...(line !== undefined && { line }),
    ...(column !== undefined && { column }),
  }
}
