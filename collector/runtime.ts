// Builds what a configuration describes, starts it (exporters first, sources last), changes it while it runs without
// touching what stays the same, and stops it in reverse, draining the buffers.
import { ulid } from 'ulid'
import { PermanentError, lossReasons, messageOf } from '../plugins/contract/index.ts'
import type { Changes, Clock, Dropped, Processor } from '../plugins/contract/index.ts'
import type { LeftOut, Part } from '../plugins/contract/parent.ts'
import type { SeverityName } from '../plugins/protocols/change.ts'
import type { Log } from '../plugins/protocols/log/index.ts'
import { Floors } from './change/floor.ts'
import { Budget } from './budget.ts'
import { Chain } from './chain.ts'
import type { Stage } from './chain.ts'
import { checkpointOf } from './checkpoint.ts'
import type { CollectorConfig, ProcessorComponent, SourceComponent } from './config.ts'
import { contextOf } from './context.ts'
import type { CollectorIdentity } from './context.ts'
import { Keeper } from './keeper.ts'
import type { Logger } from './logger.ts'
import { Measures, measureSource } from './measure.ts'
import type { Outlet } from './outlet.ts'
import { Subscribers } from './subscribers.ts'
import type { Tap } from './subscribers.ts'
import { Tail } from './tail.ts'
import { ExporterUnit, SourceUnit } from './units.ts'
import type { Route, Surroundings } from './units.ts'

export interface RuntimeOptions {
  identity: CollectorIdentity
  /** Undefined keeps everything in memory. */
  log: Log | undefined
  clock: Clock
  logger: Logger
  /** Bytes on disk that all exporters share, where their configuration names none. */
  disk: number
  random?: () => number
  /** ULIDs of sessions; of the machine's clock and randomness where absent. */
  newId?: () => string
  /** Where several runtimes share a process they share what it may use, and whoever made it stops it. */
  budget?: Budget
  /** Bytes of log records that are kept for those who look on. */
  tailBytes?: number
  /** Something came up, failed or moved: `parts` answers anew. */
  onChange?: () => void
  /** For exporters behind which somebody may change this collector. */
  changes?: Changes
}

const sourceStopMs = 3000
const drainMs = 10_000
/** A changed exporter is away so long at most. */
const changeDrainMs = 3000
/** For what windows hold at a stop to reach the log. */
const flushMs = 3000

interface ProcessorUnit {
  component: ProcessorComponent
  stage: Stage
}

interface Pipeline {
  id: string
  sources: readonly string[]
  chain: Chain
  keeper: Keeper
  /** The units that the chain is made of: the same ones keep their chain, and what it holds. */
  stages: readonly ProcessorUnit[]
  outlets: readonly Outlet[]
  tap: Tap
}

export class Runtime {
  readonly #options: RuntimeOptions
  readonly #around: Surroundings
  readonly measures: Measures
  readonly tail: Tail
  readonly subscribers: Subscribers
  readonly budget: Budget
  readonly #sources = new Map<string, SourceUnit>()
  readonly #processors = new Map<string, ProcessorUnit>()
  readonly #exporters = new Map<string, ExporterUnit>()
  #pipelines: Pipeline[] = []
  readonly #floors: Floors
  #changing: Promise<void> = Promise.resolve()
  /** Whose state of an earlier run was given back. */
  readonly #restored = new Set<string>()
  #isStopping = false
  /** Its first configuration is in force: before that there is no source that could be missed. */
  #hasBegun = false

  constructor(options: RuntimeOptions) {
    this.#options = options
    const { identity, log, clock, logger } = options
    this.measures = new Measures(clock.nowUnixNano())
    this.tail = new Tail(clock, options.tailBytes)
    this.budget = options.budget ?? new Budget({ clock, logger: logger.for('budget') })
    this.measures.budget = this.budget
    this.measures.buffers = () =>
      this.exporters.map(({ component, outlet }) => gaugesOf(component.id, outlet))
    this.measures.rules = () => {
      const stages = [...this.#processors.values()].map(({ stage }) => stage)
      return [...new Set([...stages, ...this.#floors.stages])].map(({ id, processor }) => ({
        id,
        counts: processor.counts?.() ?? [],
      }))
    }
    this.#around = {
      identity,
      log,
      clock,
      logger,
      measures: this.measures,
      tail: this.tail,
      budget: this.budget,
      random: options.random ?? Math.random,
      newId: options.newId ?? ulid,
      onChange: () => options.onChange?.(),
      changes: options.changes,
    }
    this.subscribers = new Subscribers(this.#around)
    this.#floors = new Floors({
      meter: () => this.measures.meter('verbosity', 'processor', 'severity'),
      logger: (pipeline) => logger.for(pipeline),
      make: (component, config) => this.#processor('', { ...component, config }).stage,
    })
  }

  get exporters(): ExporterUnit[] {
    return [...this.#exporters.values()]
  }

  get sources(): SourceUnit[] {
    return [...this.#sources.values()]
  }

  /** Changes to the configuration, one after the other. The first one starts. */
  apply(config: CollectorConfig): Promise<void> {
    const change = this.#changing.then(() => this.#change(config))
    this.#changing = change.catch(() => undefined)
    return change
  }

  /** From the next records on; without a restart of anything. */
  setVerbosity(floors: ReadonlyMap<string, SeverityName>): void {
    this.#floors.severities = floors
    for (const unit of this.sources) unit.routes = this.#routesOf(unit.component.id)
    this.#forgetFloors()
  }

  /** In all Resources that are made from now on, and in what exporters say of this collector. */
  setLabels(labels: Readonly<Record<string, string>>): void {
    const { identity } = this.#around
    if (JSON.stringify(labels) === JSON.stringify(identity.labels)) return
    identity.labels = labels
    for (const unit of this.exporters) unit.announce()
  }

  /** Sources end, buffers drain until the deadline and keep the rest on disk. */
  async stop(): Promise<void> {
    this.#isStopping = true
    if (!this.#options.budget) this.budget.stop()
    await this.#changing
    const sources = [...this.#sources.values()].reverse().map(({ supervised }) => supervised.stop())
    await this.#within(sourceStopMs, Promise.all(sources))
    await this.#end(this.#pipelines)
    await Promise.all([this.subscribers.stop(), ...this.exporters.map((unit) => unit.stop(drainMs))])
    await Promise.all(sources) // those that waited for room have been refused it
  }

  /** What runs, and where it can be reached. */
  parts(): Part[] {
    const units = [...this.#exporters.values(), ...this.#sources.values(), ...this.subscribers.units]
    return units.map(({ component, supervised }) => ({
      name: component.id,
      ...(supervised.address === '' ? {} : { address: supervised.address }),
      ...(supervised.state === 'running' ? {} : { note: note(supervised.state, supervised.detail) }),
    }))
  }

  /** Whether all sources came up, or have said why not. */
  get isSettled(): boolean {
    return this.#hasBegun && this.sources.every(({ supervised }) => supervised.state !== 'starting')
  }

  get isReady(): boolean {
    if (!this.#hasBegun) return false
    return this.sources.every(
      ({ supervised }) => supervised.state === 'running' || supervised.state === 'ended',
    )
  }

  async #change(config: CollectorConfig): Promise<void> {
    if (this.#isStopping) return
    const sources = withMeasures(config, this.measures)
    // `create` is inert, so that all that is new can be made, and may throw, before anything is touched.
    // Each pipeline has its own of a processor: what one has taken in comes out of the same.
    const processors = config.pipelines.flatMap(({ id, processors: names }) =>
      names.flatMap((name): [string, ProcessorUnit][] => {
        const component = config.processors.find((one) => one.id === name)
        return component ? [[`${id}/${name}`, this.#processor(id, component)]] : []
      }),
    )
    const named = new Set(config.pipelines.flatMap((pipeline) => pipeline.exporters))
    this.budget.configure(config.limits, named.size)
    const share = Math.floor(this.#options.disk / Math.max(1, named.size))
    const wanted = config.exporters.filter(({ id }) => named.has(id))
    const exporters = wanted.map((component) => {
      const known = this.#exporters.get(component.id)
      const isSame =
        known &&
        known.component.written === component.written &&
        known.component.definition === component.definition
      return isSame ? known : built(component.id, () => new ExporterUnit(component, this.#around, share))
    })
    const units = sources.map((component) => {
      const known = this.#sources.get(component.id)
      const isSame =
        known &&
        known.component.written === component.written &&
        known.component.definition === component.definition
      return isSame ? known : built(component.id, () => new SourceUnit(component, this.#around))
    })
    const changeSubscribers = this.subscribers.prepare(config.subscribers)
    const oldPipelines = this.#pipelines
    const goneExporters = this.exporters.filter((unit) => !exporters.includes(unit))
    const goneSources = this.sources.filter((unit) => !units.includes(unit))
    const newExporters = exporters.filter((unit) => !this.exporters.includes(unit))
    const newSources = units.filter((unit) => !this.sources.includes(unit))

    replaceAll(this.#processors, processors)
    replaceAll(
      this.#exporters,
      exporters.map((unit) => [unit.component.id, unit]),
    )
    this.#pipelines = this.#build(config)
    const stopping = goneSources.map(({ supervised }) => supervised.stop())
    // From here on records of sources that stay go the new way; they wait where a new outlet is not open yet.
    for (const unit of units) unit.routes = this.#routesOf(unit.component.id)
    const kept = new Set(this.#pipelines.map(({ chain }) => chain))
    await this.#end(oldPipelines.filter(({ chain }) => !kept.has(chain)))
    await this.#within(sourceStopMs, Promise.all(stopping))
    await Promise.all(goneExporters.map((unit) => unit.stop(changeDrainMs)))
    await Promise.all(newExporters.map((unit) => unit.start()))
    await changeSubscribers()
    for (const { keeper } of this.#pipelines) keeper.resume()
    await Promise.all(stopping)
    replaceAll(
      this.#sources,
      units.map((unit) => [unit.component.id, unit]),
    )
    this.#forgetFloors()
    for (const unit of newSources) unit.supervised.start()
    this.#hasBegun = true
    for (const { component } of goneSources) {
      if (!this.#sources.has(component.id)) this.measures.forget(component.id, 'source')
    }
    for (const { component } of goneExporters) {
      if (!this.#exporters.has(component.id)) this.measures.forget(component.id, 'exporter')
    }
    this.#around.onChange()
  }

  #processor(pipeline: string, component: ProcessorComponent): ProcessorUnit {
    const { id, definition, config, written } = component
    const known = this.#processors.get(`${pipeline}/${id}`)
    if (known && known.component.written === written && known.component.definition === definition)
      return known
    const { identity, log, clock, logger } = this.#around
    const meter = this.measures.meter(id, 'processor', definition.name)
    const context = contextOf(identity, {
      id,
      clock,
      logger: logger.for(id),
      checkpoint: checkpointOf(log, id),
      ready: () => undefined,
      dropped: () => undefined,
    })
    const processor: Processor = built(id, () => definition.create(config, context))
    return { component, stage: { id, processor, meter } }
  }

  #build(config: CollectorConfig): Pipeline[] {
    return config.pipelines.map(({ id, sources, processors, exporters }) => {
      const stages = processors.flatMap((name) => this.#processors.get(`${id}/${name}`) ?? [])
      const outlets = exporters.flatMap((name) => this.#exporters.get(name)?.outlet ?? [])
      const known = this.#pipelines.find((pipeline) => pipeline.id === id)
      const isSame =
        known?.stages.length === stages.length && known.stages.every((one, at) => one === stages[at])
      const { log, clock } = this.#around
      const logger = this.#options.logger.for(id)
      if (known && isSame) {
        known.keeper.outlets = outlets
        return { ...known, sources, outlets }
      }
      const list = stages.map(({ stage }) => stage)
      const chain = new Chain(list, logger)
      const tap = this.subscribers.tap(id)
      const keeper = new Keeper({ pipeline: id, chain, outlets, tap, log, clock, logger })
      keeper.restore(this.#restored)
      return { id, sources, chain, keeper, stages, outlets, tap }
    })
  }

  #routesOf(source: string): Route[] {
    const own = this.#pipelines.filter(({ sources }) => sources.includes(source))
    if (!this.#floors.severities.has(source)) return own
    return own.map((pipeline) => ({ ...pipeline, verbose: this.#floors.chainFor(pipeline, source) }))
  }

  #forgetFloors(): void {
    this.#floors.keepOnly(new Set(this.sources.flatMap(({ routes }) => routes.map(({ verbose }) => verbose))))
  }

  /** Windows end, and what they made is handed over; a disk that does not answer is not waited for. */
  async #end(pipelines: readonly Pipeline[]): Promise<void> {
    const made = Promise.all(pipelines.map(({ keeper }) => keeper.flush(true)))
    await this.#within(
      flushMs,
      made.catch(() => undefined),
    )
    for (const { keeper } of pipelines) keeper.stop()
  }

  async #within(ms: number, work: Promise<unknown>): Promise<void> {
    const timer = new AbortController()
    await Promise.race([work, this.#options.clock.delay(ms, timer.signal).catch(() => undefined)])
    timer.abort()
  }
}

/** The sources that some pipeline names; one may name `dpulse` without declaring it. */
function withMeasures(config: CollectorConfig, measures: Measures): SourceComponent[] {
  const definition = measuredBy(measures)
  const named = new Set(config.pipelines.flatMap(({ sources }) => sources))
  // Where it is declared, the checker knew only its schema; what it measures is this run.
  const declared = config.sources
    .filter(({ id }) => named.has(id))
    .map((source) => (source.definition.name === 'dpulse' ? { ...source, definition } : source))
  if (!named.has('dpulse') || declared.some(({ id }) => id === 'dpulse')) return declared
  return [...declared, { id: 'dpulse', definition, config: definition.config.parse({}), written: '{}' }]
}

const sourcesOfMeasures = new WeakMap<Measures, ReturnType<typeof measureSource>>()

function measuredBy(measures: Measures): ReturnType<typeof measureSource> {
  const known = sourcesOfMeasures.get(measures) ?? measureSource(measures)
  sourcesOfMeasures.set(measures, known)
  return known
}

function built<T>(id: string, create: () => T): T {
  try {
    return create()
  } catch (cause) {
    throw new PermanentError('CONFIG_INVALID', `${id} cannot be made: ${messageOf(cause)}`, { cause })
  }
}

function replaceAll<K, V>(map: Map<K, V>, entries: readonly (readonly [K, V])[]): void {
  map.clear()
  for (const [key, value] of entries) map.set(key, value)
}

const note = (state: string, detail: string): string => (detail === '' ? state : `${state}: ${detail}`)

const gaugesOf = (id: string, outlet: Outlet) => ({
  id,
  memoryBytes: outlet.memoryBytes,
  diskBytes: outlet.buffer.diskBytes,
  diskBatches: outlet.buffer.diskBatches,
  inFlight: outlet.sender.inFlight,
  waiting: outlet.waiting,
  lost: lostOf(outlet),
})

function lostOf(outlet: Outlet): Dropped {
  const lost: Dropped = {}
  for (const { dropped } of outlet.streams) {
    for (const reason of lossReasons) {
      const count = dropped[reason]
      if (count !== undefined) lost[reason] = (lost[reason] ?? 0) + count
    }
  }
  return lost
}

/** What a parent or a person is told of components that did not come up. */
export const leftOutOf = (runtime: Runtime): LeftOut[] =>
  runtime.sources
    .filter(({ supervised }) => supervised.state === 'failed' || supervised.state === 'waiting')
    .map(({ component, supervised }) => ({ name: component.id, reason: supervised.detail }))
