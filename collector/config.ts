// From YAML to a validated configuration. Every problem is found in one go and named with its path and line; nothing is
// opened or connected for it.
import { resolve, dirname } from 'node:path'
import { pathToFileURL } from 'node:url'
import type {
  Definition,
  ExporterDefinition,
  ProcessorDefinition,
  SourceDefinition,
} from '../plugins/contract/index.ts'
import { messageOf } from '../plugins/contract/index.ts'
import { Problems } from './problems.ts'
import type { Problem } from './problems.ts'
import type { Limits } from './limits.ts'
import { localBroker } from './local-broker.ts'
import { bufferSettings, outline, subscriberSettings } from './settings.ts'
import type { BufferSettings, Outline, PipelineSettings, SubscriberSettings } from './settings.ts'

export type { Problem } from './problems.ts'

export interface Component<D extends Definition> {
  id: string
  definition: D
  /** Checked and converted by the plugin's schema. */
  config: unknown
  /** As it was written: two that are equal need no restart. */
  written: string
}
export type SourceComponent = Component<SourceDefinition>
export type ProcessorComponent = Component<ProcessorDefinition>
export type ExporterComponent = Component<ExporterDefinition> & { buffer: BufferSettings }

/** An exporter without a buffer, for which nobody waits. */
export type SubscriberComponent = Component<ExporterDefinition> & { settings: SubscriberSettings }

export interface CollectorConfig {
  collector: Outline['collector']
  api: Outline['api']
  limits: Limits
  /** Modules with further plugins, as they were named. */
  modules: readonly string[]
  sources: SourceComponent[]
  processors: ProcessorComponent[]
  exporters: ExporterComponent[]
  subscribers: SubscriberComponent[]
  pipelines: ({ id: string } & PipelineSettings)[]
}

export interface Parsed {
  config: CollectorConfig | undefined
  problems: Problem[]
}

/** What may be done for a text that comes from afar: by whoever wrote it nothing is loaded that was not meant to be. */
export interface ParseLimits {
  /** Modules that may be loaded; a text that names another one is refused. All where absent. */
  modules?: readonly string[]
  /** No module is loaded, and a plugin that is not known here is a warning: another machine decides. */
  elsewhere?: boolean
}

/** `file` is for what the text refers to and for messages; it is not read. */
export async function parseConfig(
  text: string,
  file: string,
  builtIn: readonly Definition[],
  given: ParseLimits = {},
): Promise<Parsed> {
  const checker = new Checker(text, given)
  const raw = checker.plain()
  if (raw === undefined) return { config: undefined, problems: checker.problems }
  const base = outline.safeParse(raw)
  if (!base.success) checker.issues(base.error, [])
  // Components are looked at even where the outline has problems, so that all are told at once.
  const parts = record(raw)
  const plugins = Array.isArray(parts.plugins) ? parts.plugins.filter((one) => typeof one === 'string') : []
  const definitions =
    given.elsewhere === true ? builtIn : await loadPlugins(plugins, file, builtIn, checker, given.modules)
  const sources = checker.components(parts.sources, 'sources', 'source', definitions)
  const processors = checker.components(parts.processors, 'processors', 'processor', definitions)
  const exporters = checker.exporters(parts.exporters, definitions)
  const subscribers = checker.subscribers(parts, definitions)
  checker.references(parts)
  checker.sort()
  const isFine = base.success && !checker.problems.some(({ severity }) => severity === 'error')
  if (!isFine) return { config: undefined, problems: checker.problems }
  const { collector, api, limits, pipelines } = base.data
  const list = Object.entries(pipelines).map(([id, pipeline]) => ({ id, ...pipeline }))
  // Named only in a pipeline, `dpulse` is the collector's own measurements with their defaults.
  const config = {
    collector,
    api,
    limits,
    modules: plugins,
    sources,
    processors,
    exporters,
    subscribers,
    pipelines: list,
  }
  return { config, problems: checker.problems }
}

async function loadPlugins(
  modules: readonly string[],
  file: string,
  builtIn: readonly Definition[],
  checker: Checker,
  allowed: readonly string[] = modules,
): Promise<Definition[]> {
  const definitions = [...builtIn]
  for (const [index, module] of modules.entries()) {
    const path = ['plugins', index]
    if (!allowed.includes(module)) {
      checker.problem(path, `${module} may be loaded only where the device's own file names it`)
      continue
    }
    try {
      // A path is relative to the file; a bare name is a package.
      const isPath = module.startsWith('.') || module.startsWith('/')
      const url = isPath ? pathToFileURL(resolve(dirname(file), module)).href : module
      const loaded = ((await import(url)) as { default?: unknown }).default
      for (const one of Array.isArray(loaded) ? (loaded as unknown[]) : [loaded]) {
        if (!isDefinition(one)) checker.problem(path, `${module} exports something that is no plugin`)
        else if (definitions.some(({ kind, name }) => kind === one.kind && name === one.name)) {
          checker.problem(path, `${module} has a ${one.kind} named ${one.name}, and there is one already`)
        } else definitions.push(one)
      }
    } catch (error) {
      checker.problem(path, `cannot be loaded: ${messageOf(error)}`)
    }
  }
  return definitions
}

const kinds: readonly string[] = ['source', 'processor', 'exporter', 'driver'] satisfies Definition['kind'][]

function isDefinition(value: unknown): value is Definition {
  const { kind, name, config, create } = record(value)
  if (typeof kind !== 'string' || typeof name !== 'string' || typeof create !== 'function') return false
  return kinds.includes(kind) && typeof record(config).safeParse === 'function'
}

const record = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {}

interface ByKind {
  source: SourceDefinition
  processor: ProcessorDefinition
  exporter: ExporterDefinition
}

class Checker extends Problems {
  readonly #limits: ParseLimits

  constructor(text: string, limits: ParseLimits) {
    super(text)
    this.#limits = limits
  }

  components<K extends keyof ByKind>(
    given: unknown,
    section: string,
    kind: K,
    definitions: readonly Definition[],
    reserved: readonly string[] = [],
  ): Component<ByKind[K]>[] {
    const known = definitions.filter((one) => one.kind === kind) as ByKind[K][] // the kind says which
    const found: Component<ByKind[K]>[] = []
    for (const [id, value] of Object.entries(record(given))) {
      const { type, ...settings } = record(value)
      if (typeof type !== 'string') continue // the outline said so
      const definition = known.find(({ name }) => name === type)
      if (!definition) {
        this.problem(
          [section, id, 'type'],
          unknownName(
            type,
            `${kind} type`,
            known.map(({ name }) => name),
          ),
          this.#limits.elsewhere === true ? 'warning' : 'error',
        )
        continue
      }
      for (const key of reserved) delete settings[key]
      const parsed = definition.config.safeParse(settings)
      if (parsed.success) found.push({ id, definition, config: parsed.data, written: JSON.stringify(value) })
      else this.issues(parsed.error, [section, id])
    }
    return found
  }

  exporters(given: unknown, definitions: readonly Definition[]): ExporterComponent[] {
    return this.components(given, 'exporters', 'exporter', definitions, ['buffer']).flatMap((component) => {
      const buffer = bufferSettings.safeParse(record(record(given)[component.id]).buffer)
      if (buffer.success) return [{ ...component, buffer: buffer.data }]
      this.issues(buffer.error, ['exporters', component.id, 'buffer'])
      return []
    })
  }

  /** Of the exporters of this build, all but the one that waits for an aggregator: its name is the collector's own broker. */
  subscribers(given: Record<string, unknown>, definitions: readonly Definition[]): SubscriberComponent[] {
    const types = [localBroker, ...definitions.filter(({ name }) => name !== localBroker.name)]
    const own = Object.keys(subscriberSettings.shape)
    const pipelines = Object.keys(record(given.pipelines))
    const found = this.components(given.subscribers, 'subscribers', 'exporter', types, own)
    return found.flatMap((component) => {
      const path = ['subscribers', component.id]
      const written = record(record(given.subscribers)[component.id])
      const chosen = Object.fromEntries(Object.entries(written).filter(([key]) => own.includes(key)))
      const settings = subscriberSettings.safeParse(chosen)
      if (!settings.success) {
        this.issues(settings.error, path)
        return []
      }
      for (const [index, name] of (settings.data.pipelines ?? []).entries()) {
        if (pipelines.includes(name)) continue
        this.problem([...path, 'pipelines', index], unknownName(name, 'pipeline', pipelines))
      }
      return [{ ...component, settings: settings.data }]
    })
  }

  /** Pipelines name components that there are; components that no pipeline names do nothing. */
  references(given: Record<string, unknown>): void {
    const pipelines = Object.entries(record(given.pipelines))
    for (const section of ['sources', 'processors', 'exporters'] as const) {
      const known = Object.keys(record(given[section]))
      const named = new Set<string>()
      const allowed = section === 'sources' ? [...known, 'dpulse'] : known
      for (const [id, pipeline] of pipelines) {
        const list = record(pipeline)[section]
        for (const [index, name] of (Array.isArray(list) ? (list as unknown[]) : []).entries()) {
          if (typeof name !== 'string') continue
          const path = ['pipelines', id, section, index]
          if (!allowed.includes(name)) this.problem(path, unknownName(name, section.slice(0, -1), allowed))
          else if ((list as unknown[]).indexOf(name) !== index) this.problem(path, `${name} is named twice`)
          named.add(name)
        }
      }
      for (const name of known) {
        if (!named.has(name)) this.problem([section, name], 'no pipeline uses it', 'warning')
      }
    }
    if (pipelines.length === 0) this.problem(['pipelines'], 'there is no pipeline, so nothing would run')
  }
}

function unknownName(name: string, what: string, known: readonly string[]): string {
  const nearest = known
    .map((other) => ({ other, distance: distanceOf(name, other) }))
    .sort((one, other) => one.distance - other.distance)[0]
  const hint =
    nearest && nearest.distance <= Math.max(2, name.length / 3)
      ? `; did you mean ${nearest.other}?`
      : known.length > 0
        ? `; there are ${known.join(', ')}`
        : ''
  return `there is no ${what} ${name}${hint}`
}

/** Levenshtein. */
function distanceOf(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index)
  for (let at = 1; at <= one.length; at++) {
    const next = [at]
    for (let to = 1; to <= other.length; to++) {
      const cost = one[at - 1] === other[to - 1] ? 0 : 1
      next.push(Math.min((row[to] ?? 0) + 1, (next[to - 1] ?? 0) + 1, (row[to - 1] ?? 0) + cost))
    }
    row = next
  }
  return row[other.length] ?? 0
}
