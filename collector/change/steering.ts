// What a collector does with wishes that come from afar: checks a configuration, tries it, keeps it once the aggregator
// has heard that it runs, and goes back by itself where it has not. Wishes are carried out one after the other; what must
// outlive this process is on disk before it is done.
//
//   hear → check ─ refused
//             └─ on disk as a trial → runtime ─┬ confirmed → in force
//                                              └ nobody heard of it within the window → back, rolled_back
import { ulid } from 'ulid'
import { messageOf } from '../../plugins/contract/index.ts'
import type { Changes, Clock, Definition, Log as Logger } from '../../plugins/contract/index.ts'
import { configurationHash, desiredSchema } from '../../plugins/protocols/change.ts'
import type {
  Desired,
  Outcome,
  Reported,
  ReportedProblem,
  SeverityName,
  WishedConfiguration,
} from '../../plugins/protocols/change.ts'
import type { CollectorConfig } from '../config.ts'
import type { CollectorIdentity } from '../context.ts'
import { now, ownOf, resolveApplied, sentence } from './in-force.ts'
import type { Base, InForce, Resolved } from './in-force.ts'
import type { Applied, KeptFile } from './kept.ts'
import { labelsOf, readLabels } from './labels.ts'
import { counted, floorsOf, merged } from './verbosity.ts'
import type { BootClock } from './verbosity.ts'

/** What of a runtime is changed. */
export interface Steered {
  apply(config: CollectorConfig): Promise<void>
  /** The lowest severity of log lines that leaves each of these sources. */
  setVerbosity(floors: ReadonlyMap<string, SeverityName>): void
  setLabels(labels: Readonly<Record<string, string>>): void
}

export interface SteeringOptions {
  kept: KeptFile
  base: Base
  identity: Pick<CollectorIdentity, 'collector' | 'instance'>
  definitions: readonly Definition[]
  clock: Clock
  boot: BootClock
  log: Logger
}

const tickMs = 1000
/** An acknowledgement of a report may be lost. */
const repeatReportMs = 2000
const labelsMs = 5000
const saveVerbosityMs = 60_000

export class Steering implements Changes {
  readonly #options: SteeringOptions
  readonly #listeners = new Set<() => void>()
  #base: Base
  #inForce: InForce
  #runtime: Steered | undefined
  #work: Promise<void> = Promise.resolve()
  #trial = new AbortController()
  /** The runtime has what is on trial: from now on a report of it proves that it works. */
  #isTrialApplied = false
  #labelsOfFile: Readonly<Record<string, string>> = {}
  #labelsProblem = ''
  #savedMs = 0

  constructor(options: SteeringOptions) {
    this.#options = options
    this.#base = options.base
    this.#inForce = this.#own()
  }

  /** The configuration to start with. */
  async begin(): Promise<CollectorConfig> {
    const { kept, log } = this.#options
    const { state } = kept
    if (state.trial) {
      state.trial.starts++
      if (state.trial.starts > 1) this.#settle('rolled_back', 'the collector ended twice while it was tried')
      await kept.save()
    }
    await this.#readLabels()
    const wanted = state.trial ? state.trial.configuration : state.applied
    const { found, problems } = await this.#resolve(wanted)
    if (found) {
      this.#inForce = found
      if (wanted) log.info('goes by the configuration that was applied', { hash: wanted.hash, by: wanted.by })
    } else {
      const reason = `it cannot be used any more: ${sentence(problems)}`
      log.error('the applied configuration is left out', { reason })
      this.#settle('refused', reason, problems)
    }
    state.verbosity = state.verbosity.map((row) => counted(row, this.#options.boot))
    return this.#inForce.config
  }

  get labels(): Record<string, string> {
    const { labels } = this.#options.kept.state
    return labelsOf(this.#inForce.config.collector.labels, this.#labelsOfFile, labels)
  }

  /** Puts the first configuration in force. @throws what hinders the device's own one. */
  async start(runtime: Steered, signal: AbortSignal): Promise<void> {
    const { kept, log, clock } = this.#options
    this.#runtime = runtime
    this.#refine()
    try {
      await runtime.apply(this.#inForce.config)
    } catch (error) {
      if (this.#inForce.origin !== 'applied') throw error
      log.error('the applied configuration cannot start', { error })
      this.#settle(kept.state.trial ? 'rolled_back' : 'refused', messageOf(error))
      this.#inForce = this.#own()
      this.#refine()
      await runtime.apply(this.#inForce.config)
    }
    // One more window; a second restart ends it.
    if (kept.state.trial) this.#watch(kept.state.trial.windowMs)
    signal.addEventListener('abort', () => this.#trial.abort(), { once: true })
    void clock.every(tickMs, signal, () => this.#soon('counting verbosities', () => this.#count()))
    void clock.every(labelsMs, signal, () => this.#soon('reading labels', () => this.#reread()))
  }

  /** The device's own configuration has changed; it is in force unless another one was applied. */
  async rebase(base: Base): Promise<void> {
    await this.#queue('reloading', async () => {
      const { kept, log } = this.#options
      const { state } = kept
      if ((state.trial ? state.trial.configuration : state.applied) !== null) {
        this.#base = base
        log.info('the configuration that was applied stays in force; `dpulse delete config` ends that')
        return this.#tell()
      }
      await this.#runtime?.apply(base.config)
      this.#base = base
      this.#inForce = this.#own()
      this.#refine()
      return this.#tell()
    })
  }

  hear(desired: unknown): void {
    const parsed = desiredSchema.safeParse(desired)
    if (parsed.success) void this.#soon('wish', () => this.#heed(parsed.data))
    else this.#options.log.warn('a wish is malformed', { problem: messageOf(parsed.error).slice(0, 300) })
  }

  confirm(trial: string): void {
    const { state } = this.#options.kept
    if (state.trial?.id !== trial || !this.#isTrialApplied) return
    void this.#soon('confirmation', async () => {
      if (state.trial?.id !== trial) return
      state.applied = state.trial.configuration
      this.#settle('in_force')
      await this.#options.kept.save()
      this.#options.log.info('the configuration has proved itself', { hash: this.#inForce.hash })
      this.#tell()
    })
  }

  report(): Reported {
    const { kept, identity, boot } = this.#options
    const { revision, outcome, verbosity, trial } = kept.state
    const { hash, origin, since } = this.#inForce
    const own = this.#own()
    const sources = this.#inForce.config.sources.map(({ id }) => id)
    return {
      instance: identity.instance,
      time: now(),
      revision,
      configuration: { hash, origin, since },
      base: { hash: own.hash, origin: own.origin === 'detected' ? 'detected' : 'file' },
      outcome: outcome && { ...outcome, ...(trial && this.#isTrialApplied && { trial: trial.id }) },
      verbosity: verbosity.map((row) => {
        const { id, source, severity, state, endsUnixMs } = counted(row, boot)
        const until = new Date(endsUnixMs).toISOString()
        if (state === 'ended' || sources.includes(source))
          return { id, source, severity, state, until, reason: '' }
        const reason = `there is no source ${source}; there are ${sources.join(', ')}`
        return { id, source, severity, state: 'refused', until, reason }
      }),
      labels: this.labels,
    }
  }

  onReport(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  async #heed(desired: Desired): Promise<void> {
    const { kept, boot } = this.#options
    const { state } = kept
    if (desired.revision < state.revision) return
    const { configuration: wish } = desired
    const isNew = wish !== null && wish.revision > (state.outcome?.revision ?? 0)
    if (desired.revision === state.revision && !isNew) return
    state.revision = desired.revision
    state.labels = desired.labels
    state.verbosity = merged(state.verbosity, desired.verbosity, boot)
    await kept.save()
    this.#refine()
    if (isNew) await this.#try(wish)
    this.#tell()
  }

  async #try(wish: WishedConfiguration): Promise<void> {
    const { kept, log } = this.#options
    const { state } = kept
    const { revision, text, by, time } = wish
    const target = text === null ? null : { hash: configurationHash(text), text, by, time }
    const about = { revision, hash: target?.hash ?? null, time: now() }
    const { found, problems } = await this.#resolve(target)
    if (!found) {
      state.outcome = { ...about, state: 'refused', reason: sentence(problems), problems }
      log.error('a configuration from the aggregator is refused', { by, reason: state.outcome.reason })
      return kept.save()
    }
    const isThere = found.hash === this.#inForce.hash && found.origin === this.#inForce.origin
    if (isThere && !state.trial) {
      state.outcome = { ...about, state: 'in_force', reason: '', problems }
      return kept.save()
    }
    const { trial: windowMs } = this.#inForce.config.collector
    const began = this.#options.clock.elapsedMs()
    this.#trial.abort()
    this.#isTrialApplied = false
    state.trial = { id: ulid(), configuration: target, starts: 0, windowMs }
    state.outcome = { ...about, state: 'trial', reason: '', problems }
    try {
      await kept.save()
    } catch (error) {
      // Tried all the same, it would come back neither over a kill nor after one.
      return this.#settle('refused', `it cannot be kept here: ${messageOf(error)}`)
    }
    log.info('a configuration from the aggregator is tried', { by, hash: found.hash, windowMs })
    try {
      await this.#enforce(found)
    } catch (error) {
      return this.#goBack('refused', messageOf(error))
    }
    return this.#watch(windowMs - (this.#options.clock.elapsedMs() - began))
  }

  /** From now on a report of it proves that it works; without one it ends after `leftMs`. */
  #watch(leftMs: number): void {
    const { kept, clock } = this.#options
    const { trial } = kept.state
    if (!trial) return
    const { id, windowMs } = trial
    this.#trial = new AbortController()
    this.#isTrialApplied = true
    const { signal } = this.#trial
    void clock.every(repeatReportMs, signal, () => this.#tell())
    clock.delay(Math.max(0, leftMs), signal).then(
      () =>
        this.#soon('roll-back', async () => {
          if (kept.state.trial?.id !== id) return
          await this.#goBack('rolled_back', `it did not reach the aggregator within ${windowMs / 1000} s`)
          this.#tell()
        }),
      () => undefined,
    )
  }

  /** To what was in force before the trial. On disk first: a kill from here on starts with the old one. */
  async #goBack(state: 'refused' | 'rolled_back', reason: string): Promise<void> {
    const { kept, log } = this.#options
    this.#settle(state, reason)
    await kept.save()
    const { found } = await this.#resolve(kept.state.applied)
    log.error('the configuration from the aggregator is rolled back', { reason })
    await this.#enforce(found ?? this.#own())
  }

  async #enforce(found: InForce): Promise<void> {
    await this.#runtime?.apply(found.config)
    this.#inForce = found
    this.#refine()
  }

  /** The trial is over. */
  #settle(state: Outcome, reason = '', problems?: ReportedProblem[]): void {
    const { state: kept } = this.#options.kept
    this.#trial.abort()
    kept.trial = null
    this.#isTrialApplied = false
    if (!kept.outcome) return
    kept.outcome = { ...kept.outcome, state, reason, time: now(), ...(problems && { problems }) }
  }

  #own(): InForce {
    return ownOf(this.#base)
  }

  #resolve(applied: Applied | null): Promise<Resolved> {
    const { definitions, identity } = this.#options
    return resolveApplied(applied, this.#base, { definitions, collector: identity.collector })
  }

  /** Verbosity and labels follow the configuration in force. */
  #refine(): void {
    this.#runtime?.setVerbosity(floorsOf(this.#options.kept.state.verbosity))
    this.#runtime?.setLabels(this.labels)
  }

  async #count(): Promise<void> {
    const { kept, boot, clock, log } = this.#options
    const { state } = kept
    if (!state.verbosity.some((row) => row.state === 'in_force')) return
    const before = state.verbosity
    state.verbosity = before.map((row) => counted(row, boot))
    const ended = state.verbosity.filter((row, at) => row.state !== before[at]?.state)
    const isDue = clock.elapsedMs() - this.#savedMs > saveVerbosityMs
    if (ended.length === 0 && !isDue) return
    this.#savedMs = clock.elapsedMs()
    await kept.save()
    if (ended.length === 0) return
    for (const { source, severity } of ended) log.info('a verbosity has ended', { source, severity })
    this.#refine()
    this.#tell()
  }

  async #reread(): Promise<void> {
    const before = JSON.stringify(this.labels)
    await this.#readLabels()
    if (JSON.stringify(this.labels) === before) return
    this.#options.log.info('labels have changed', { labels: this.labels })
    this.#refine()
    this.#tell()
  }

  /** What cannot be read changes nothing. */
  async #readLabels(): Promise<void> {
    const { labels_file: file } = this.#inForce.config.collector
    try {
      this.#labelsOfFile = await readLabels(file)
      this.#labelsProblem = ''
    } catch (error) {
      const problem = messageOf(error)
      if (problem !== this.#labelsProblem)
        this.#options.log.error('labels are refused, those before stay', { file, problem })
      this.#labelsProblem = problem
    }
  }

  #queue(what: string, task: () => Promise<void> | void): Promise<void> {
    const done = this.#work.then(task)
    this.#work = done.catch((error: unknown) => this.#options.log.error('a change failed', { what, error }))
    return done
  }

  /** Its failure is told in the log. */
  #soon(what: string, task: () => Promise<void> | void): Promise<void> {
    return this.#queue(what, task).catch(() => undefined)
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }
}
