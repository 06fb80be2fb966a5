// Sources and exporters as the runtime holds them: the plugin's instance, its supervision, and what it is wired to.
// A unit lives as long as its configuration stays the same, whatever is changed around it.
import { isClass, isDeviceId, isSignal } from '../plugins/contract/index.ts'
import type {
  Changes,
  Class,
  Clock,
  DropReason,
  Emit,
  EmitOptions,
  Exporter,
  Records,
  Source,
} from '../plugins/contract/index.ts'
import { codeOf } from '../plugins/contract/index.ts'
import type { Log } from '../plugins/protocols/log/index.ts'
import type { Budget } from './budget.ts'
import type { Chain } from './chain.ts'
import { checkpointOf } from './checkpoint.ts'
import type { ExporterComponent, SourceComponent } from './config.ts'
import { contextOf } from './context.ts'
import type { Keeper } from './keeper.ts'
import type { CollectorIdentity } from './context.ts'
import type { Logger } from './logger.ts'
import type { Measures, Meter } from './measure.ts'
import { Outlet } from './outlet.ts'
import { Supervised } from './supervisor.ts'
import type { Tap } from './subscribers.ts'
import type { Tail } from './tail.ts'

export interface Surroundings {
  identity: CollectorIdentity
  log: Log | undefined
  clock: Clock
  logger: Logger
  measures: Measures
  /** For those who look on. */
  tail: Tail
  /** What all components together may use. */
  budget: Budget
  random: () => number
  /** Makes the name of a session: a ULID. */
  newId: () => string
  /** For exporters behind which somebody may change this collector. */
  changes?: Changes | undefined
  /** A component came up, failed or moved. */
  onChange: () => void
}

/** One pipeline as a source sees it. */
export interface Route {
  chain: Chain
  /** Instead of it for log lines, while the source has a verbosity of its own. */
  verbose?: Chain | undefined
  keeper: Keeper
  outlets: readonly Outlet[]
  /** For those who read along behind the processors. */
  tap: Tap
}

export class SourceUnit {
  readonly component: SourceComponent
  readonly supervised: Supervised
  readonly #around: Surroundings
  readonly #meter: Meter
  readonly #source: Source
  routes: readonly Route[] = []

  constructor(component: SourceComponent, around: Surroundings) {
    this.component = component
    this.#around = around
    const { id, definition, config } = component
    const { identity, log, clock, logger } = around
    this.#meter = around.measures.meter(id, 'source', definition.name)
    const context = contextOf(identity, {
      id,
      clock,
      logger: logger.for(id),
      checkpoint: checkpointOf(log, id),
      admission: around.budget.admission,
      ready: (address) => this.supervised.ready(address),
      dropped: (name, reason, count) => this.#dropped(name, reason, count),
    })
    this.#source = definition.create(config, context)
    const { random, onChange } = around
    const run = (signal: AbortSignal) => this.#source.run(this.#emit, signal)
    this.supervised = new Supervised({
      meter: this.#meter,
      clock,
      logger: context.log,
      random,
      run,
      onChange,
      silentIsUp: true,
    })
  }

  readonly #emit: Emit = (records: Records, options?: EmitOptions): Promise<void> => {
    this.supervised.ready()
    const mayWait = options?.wait ?? this.component.definition.canWait
    this.#meter.in += records.count
    if (records.count === 0) return Promise.resolve()
    const problem = whatIsWrong(records)
    if (problem !== undefined) return this.#refuse(records, problem)
    const { budget } = this.#around
    const { class: name, bytes } = records
    if (!mayWait) return budget.sheds(name, bytes.length) ? this.#shed(records) : this.#route(records, false)
    const entry = budget.enter(name, bytes.length)
    return entry ? entry.then(() => this.#route(records, true)) : this.#route(records, true)
  }

  #route(records: Records, mayWait: boolean): Promise<void> {
    this.#around.tail.see(records)
    const [only] = this.routes
    if (this.routes.length === 1 && only) return this.#deliver(only, records, mayWait)
    return Promise.all(this.routes.map((route) => this.#deliver(route, records, mayWait))).then(
      () => undefined,
    )
  }

  #deliver(route: Route, records: Records, mayWait: boolean): Promise<void> {
    const isLine = records.class === 'log' || records.class === 'log_error'
    const { kept, dropped, taken } = ((isLine && route.verbose) || route.chain).pass(records)
    for (const [reason, count] of Object.entries(dropped)) {
      for (const outlet of route.outlets)
        outlet.drop(records.device, records.class, reason as DropReason, count)
    }
    for (const each of kept) route.tap.see(each)
    const [first] = kept
    const [only] = route.outlets
    if (kept.length === 1 && first && taken === 0 && route.outlets.length === 1 && only) {
      this.#meter.out += first.count
      return only.accept(first, mayWait)
    }
    const safe: Promise<void>[] = []
    for (const each of kept) {
      this.#meter.out += each.count
      for (const outlet of route.outlets) safe.push(outlet.accept(each, mayWait))
    }
    if (taken > 0) safe.push(route.keeper.saved())
    return safe.length === 0 ? Promise.resolve() : Promise.all(safe).then(() => undefined)
  }

  /** They cannot wait, and the budget has no room for them. */
  #shed({ device, class: name, count }: Records): Promise<void> {
    this.#meter.drop('budget', count)
    for (const { outlets } of this.routes)
      for (const outlet of outlets) outlet.drop(device, name, 'budget', count)
    return Promise.resolve()
  }

  #refuse(records: Records, problem: string): Promise<void> {
    const log = this.#around.logger.for(this.component.id)
    log.error('malformed records from a source are dropped', { problem, records: records.count })
    const name = isClass(records.class) ? records.class : 'log'
    const count = Number.isSafeInteger(records.count) && records.count > 0 ? records.count : 1
    this.#meter.in -= records.count
    this.#dropped(name, 'invalid', count)
    return Promise.resolve()
  }

  #dropped(name: Class, reason: DropReason, count: number): void {
    this.#meter.in += count
    this.#meter.drop(reason, count)
    for (const { outlets } of this.routes) {
      for (const outlet of outlets) outlet.drop(this.#around.identity.device, name, reason, count)
    }
  }
}

/** Per batch, not per record: what would harm other records if it were joined with them. */
function whatIsWrong({ device, class: name, signal, count, bytes }: Records): string | undefined {
  if (!isDeviceId(device)) return 'invalid device'
  if (!isClass(name) || !isSignal(signal)) return 'unknown class or signal'
  if (!Number.isSafeInteger(count) || count < 0) return 'invalid count'
  return isWhole(bytes) ? undefined : 'bytes are no request'
}

/** Whether the bytes are ResourceLogs (…Metrics, …Spans) one after the other, so that they can be concatenated. */
function isWhole(bytes: Uint8Array): boolean {
  let at = 0
  while (at < bytes.length) {
    if (bytes[at++] !== 0x0a) return false
    let size = 0
    let shift = 1
    for (let more = true; more; shift *= 128) {
      const byte = bytes[at++]
      if (byte === undefined || shift > 2 ** 28) return false
      size += (byte & 0x7f) * shift
      more = byte >= 0x80
    }
    at += size
  }
  return at === bytes.length
}

export class ExporterUnit {
  readonly component: ExporterComponent
  readonly supervised: Supervised
  readonly outlet: Outlet
  readonly #exporter: Exporter
  readonly #listeners = new Set<() => void>()
  #lastTold = ''
  #isReady = false

  constructor(component: ExporterComponent, around: Surroundings, defaultDisk: number) {
    this.component = component
    const { id, definition, config, buffer } = component
    const { identity, log, clock, logger, random } = around
    const meter = around.measures.meter(id, 'exporter', definition.name)
    const session = around.newId()
    const context = contextOf(identity, {
      id,
      clock,
      logger: logger.for(id),
      checkpoint: checkpointOf(log, id),
      listeners: this.#listeners,
      changes: around.changes,
      ready: (address) => this.#ready(address),
      dropped: (name, reason, count) => this.outlet.drop(identity.device, name, reason, count),
      status: () => ({
        devices: [...new Set([identity.device, ...this.outlet.devices])],
        session,
        ended: this.outlet.buffer.ended,
        held: this.outlet.buffer.held,
      }),
    })
    this.#exporter = definition.create(config, context)
    this.outlet = new Outlet({
      id,
      session,
      log,
      clock,
      logger: context.log,
      random,
      exporter: this.#exporter,
      collector: identity.collector,
      device: identity.device,
      limits: {
        get memory() {
          return around.budget.bufferBytes(buffer.memory)
        },
        disk: buffer.disk ?? defaultDisk,
        ageMs: buffer.max_age,
        spillMs: buffer.spill,
      },
      timeoutMs: buffer.timeout,
      window: buffer.in_flight,
      maxStreams: buffer.max_streams,
      bandwidth: around.budget.bandwidth,
      onOutcome: (outcome) => {
        meter.durationMs += outcome.durationMs
        if (outcome.kind === 'delivered') {
          meter.batches++
          meter.in += outcome.records
          meter.bytes += outcome.bytes
          meter.out += outcome.records - outcome.rejected
          meter.drop('rejected', outcome.rejected)
        } else {
          meter.fail(codeOf(outcome.error))
          if (outcome.kind === 'dropped') meter.drop('rejected', outcome.records)
        }
      },
      onStatusChange: () => this.#tell(),
    })
    const run = (signal: AbortSignal) => this.#exporter.run?.(signal) ?? Promise.resolve()
    const onChange = () => {
      if (this.supervised.state !== 'running' && this.#isReady) {
        this.#isReady = false
        this.outlet.ready(false)
      }
      around.onChange()
    }
    const silentIsUp = false // its first `ready` says when it may be sent to
    this.supervised = new Supervised({ meter, clock, logger: context.log, random, run, onChange, silentIsUp })
  }

  /** Opens the buffer and the connection, where the exporter has one. */
  async start(): Promise<void> {
    if (this.#exporter.run) this.supervised.start()
    await this.outlet.open()
    if (!this.#exporter.run) this.#ready(undefined)
  }

  /** Delivers what it can until the deadline; then the connection goes. */
  async stop(deadlineMs: number): Promise<void> {
    await this.outlet.close(deadlineMs)
    await this.supervised.stop()
  }

  #ready(address: string | undefined): void {
    this.supervised.ready(address)
    this.#isReady = true
    this.outlet.ready(true)
  }

  /** The collector itself is another: its labels. */
  announce(): void {
    for (const listener of this.#listeners) listener()
  }

  /** Only what an announcement would say differently. */
  #tell(): void {
    const told = JSON.stringify([this.outlet.devices.length, this.outlet.buffer.held.length])
    if (told === this.#lastTold) return
    this.#lastTold = told
    this.announce()
  }
}
