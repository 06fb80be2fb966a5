// Wishes for a fleet: takes them, remembers them, brings them to the collectors and compares them with what these report.
// It meets the aggregator over the journal's tables and MQTT only.
import { ulid } from 'ulid'
import { PermanentError, messageOf } from '../../plugins/contract/errors.ts'
import type { Clock, Log } from '../../plugins/contract/define.ts'
import {
  configurationHash,
  mostConfigurationBytes,
  mostLabels,
  mostProblems,
  mostVerbosities,
  reportedSchema,
} from '../../plugins/protocols/change.ts'
import type { Reported, ReportedProblem } from '../../plugins/protocols/change.ts'
import type {
  ApplyAnswer,
  ApplyWish,
  DeviceChange,
  FleetChanges,
  VerbosityWish,
  WishSummary,
} from '../../plugins/protocols/fleet-changes.ts'
import { topics } from '../../plugins/protocols/topics.ts'
import { compare } from './compare.ts'
import { Publisher, withoutEnded } from './publisher.ts'
import type { Bus } from './publisher.ts'
import { Rollouts } from './rollouts.ts'
import { Wishes, noWish } from './wishes.ts'
import type { Table, Wish } from './wishes.ts'

export interface ChangesOptions {
  /** `dpulse_registry` and `dpulse_operations`. */
  registry: Table
  operations: Table
  bus: Bus
  root: string
  /** The devices that there are; those whose collector has their name can be changed. */
  /** Hears of the labels that a device has now. */
  onLabels(device: string, labels: Readonly<Record<string, string>>): void
  devices(): Promise<readonly { device: string; collector: string; state: 'online' | 'offline' }[]>
  losses(devices: readonly string[]): Promise<ReadonlyMap<string, number>>
  /** Problems of a configuration that show here; the device decides. */
  check(text: string): Promise<ReportedProblem[]>
  /** Whether rollouts and repairs are for this aggregator, where several share the journal. */
  isLeader: () => boolean
  clock: Clock
  log: Log
}

export interface RunningChanges extends FleetChanges {
  /** What a collector reports; empty where it was cleared. */
  onReported(collector: string, payload: Uint8Array): void
  /** Until aborted. */
  run(signal: AbortSignal): Promise<void>
}

const stepMs = 1000
const mendMs = 5000
const pruneMs = 3_600_000
/** As many as there may be devices. */
const mostCollectors = 200_000
const mostReportBytes = 256 * 1024
/** A rollout is one row, and a message of Kafka takes a megabyte. */
const mostOfRollout = 10_000
/** Wishes that are written at once. */
const width = 50

export function openChanges(options: ChangesOptions): RunningChanges {
  return new Changes(options)
}

class Changes implements RunningChanges {
  readonly #options: ChangesOptions
  readonly #wishes: Wishes
  readonly #publisher: Publisher
  readonly #rollouts: Rollouts
  readonly #reported = new Map<string, Reported>()
  /** One change of a row after the other. */
  #work: Promise<unknown> = Promise.resolve()

  constructor(options: ChangesOptions) {
    this.#options = options
    const { registry, operations, bus, root, clock, log } = options
    this.#wishes = new Wishes(registry, log)
    this.#publisher = new Publisher({ wishes: this.#wishes, bus, root, clock, log })
    this.#rollouts = new Rollouts({
      table: operations,
      log,
      nowMs: () => this.#nowMs(),
      states: (devices) => this.list(devices),
      losses: (devices) => options.losses(devices),
      tell: (devices, { id, hash, by }) => this.#wish(devices, hash, by, id),
    })
    for (const { topic, payload } of bus.retained(topics(root).allReported)) {
      this.onReported(topic.slice(root.length + 1, -'/config/reported'.length), payload)
    }
  }

  onReported(collector: string, payload: Uint8Array): void {
    const { bus, root, log } = this.#options
    if (payload.length === 0) return void this.#reported.delete(collector)
    const isTooMuch = !this.#reported.has(collector) && this.#reported.size >= mostCollectors
    if (isTooMuch || payload.length > mostReportBytes) {
      return log.warn('a report is not kept', { collector, bytes: payload.length })
    }
    try {
      const reported = reportedSchema.parse(JSON.parse(Buffer.from(payload).toString()))
      this.#reported.set(collector, reported)
      this.#options.onLabels(collector, reported.labels)
      const trial = reported.outcome?.trial
      if (trial === undefined) return
      const ack = JSON.stringify({ streams: [], trial })
      bus
        .publish(topics(root).ack(collector), ack)
        .catch((error: unknown) =>
          log.debug('a trial is not acknowledged yet', { collector, error: messageOf(error) }),
        )
    } catch (error) {
      log.warn('a report is malformed', { collector, error: messageOf(error).slice(0, 300) })
    }
  }

  async list(devices?: readonly string[]): Promise<DeviceChange[]> {
    const known = new Map((await this.#options.devices()).map((one) => [one.device, one]))
    const chosen = devices ? new Set(devices) : undefined
    const names = [...known.values()].filter(
      ({ device, collector }) => device === collector || this.#wishes.get(device) !== undefined,
    )
    const wished = devices ?? [...this.#wishes.all()].map(([collector]) => collector)
    const all = new Set([...names.map(({ device }) => device), ...wished])
    return [...all]
      .filter((device) => chosen?.has(device) ?? true)
      .toSorted()
      .map((device) => this.#shown(device, known.get(device)?.state === 'online'))
  }

  async get(device: string) {
    const [found] = await this.list([device])
    const isKnown = found && (found.desired ?? found.reported ?? (await this.#isKnown(device)))
    if (!isKnown) return undefined
    const hash = this.#wishes.get(device)?.configuration?.hash
    return { ...found, text: hash ? (this.#wishes.text(hash) ?? null) : null }
  }

  async apply({ text, devices, by, stages, soakMs }: ApplyWish): Promise<ApplyAnswer> {
    if (Buffer.byteLength(text) > mostConfigurationBytes) {
      const what = `a configuration may have ${mostConfigurationBytes} bytes`
      throw new PermanentError('INPUT_TOO_LARGE', what)
    }
    const problems = (await this.#options.check(text)).slice(0, mostProblems)
    if (problems.some(({ severity }) => severity === 'error')) return { refused: problems }
    const hash = configurationHash(text)
    await this.#alone(() => this.#wishes.keepText(hash, text))
    const answer = { hash, warnings: problems, devices: [...devices] }
    if (!stages) {
      await this.#wish(devices, hash, by)
      return answer
    }
    if (devices.length > mostOfRollout) {
      throw new PermanentError('INPUT_TOO_LARGE', `a rollout may have ${mostOfRollout} devices`)
    }
    const id = ulid()
    const online = new Map((await this.list(devices)).map((one) => [one.device, one.online]))
    const chosen = devices.map((device) => ({ device, online: online.get(device) ?? false }))
    await this.#rollouts.start({ id, hash, by, stages, soakMs, devices: chosen })
    return { ...answer, rollout: id }
  }

  release(devices: readonly string[], by: string): Promise<void> {
    return this.#wish(devices, null, by)
  }

  async setVerbosity({ devices, source, severity, forMs, by }: VerbosityWish): Promise<void> {
    await this.#change(devices, (wish) => {
      const others = wish.verbosity.filter((one) => one.source !== source)
      if (others.length >= mostVerbosities) {
        throw new PermanentError('INPUT_TOO_LARGE', `a device may have ${mostVerbosities} verbosities`)
      }
      const one = { id: ulid(), source, severity, forMs, by, time: this.#now() }
      return { ...wish, verbosity: [...others, one] }
    })
  }

  async endVerbosity(devices: readonly string[], source: string | undefined): Promise<void> {
    await this.#change(devices, (wish) => {
      const left = wish.verbosity.filter((one) => source !== undefined && one.source !== source)
      return left.length < wish.verbosity.length ? { ...wish, verbosity: left } : undefined
    })
  }

  async setLabels(labels: ReadonlyMap<string, Readonly<Record<string, string | null>>>): Promise<void> {
    await this.#change([...labels.keys()], (wish, device) => {
      const all = { ...wish.labels, ...labels.get(device) }
      if (Object.keys(all).length > mostLabels) {
        throw new PermanentError('INPUT_TOO_LARGE', `a device may have ${mostLabels} labels`)
      }
      return { ...wish, labels: all }
    })
  }

  forget(device: string): Promise<void> {
    return this.#alone(async () => {
      await this.#wishes.forget(device)
      this.#reported.delete(device)
      await this.#publisher.clear(device)
    })
  }

  rollouts() {
    return this.#rollouts.list()
  }

  stopRollout(id: string, by: string): Promise<boolean> {
    return this.#alone(() => this.#rollouts.stop(id, by))
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, isLeader, log } = this.#options
    const often = (everyMs: number, what: string, task: () => Promise<void>) =>
      clock.every(everyMs, signal, async () => {
        if (!isLeader()) return
        try {
          await task()
        } catch (error) {
          log.error('wishes are not looked after', { what, error: messageOf(error) })
        }
      })
    const loops = [
      often(stepMs, 'rollouts', () => this.#rollouts.step()),
      often(stepMs, 'verbosities', () => this.#endVerbosities()),
      often(mendMs, 'messages', () => this.#publisher.mend()),
      often(pruneMs, 'texts', () => this.#alone(() => this.#wishes.prune(this.#rollouts.needs))),
    ]
    await Promise.all(loops).catch((error: unknown) => {
      if (!signal.aborted) throw error
    })
  }

  /** The text is there already; null is the devices' own. */
  async #wish(devices: readonly string[], hash: string | null, by: string, rollout?: string): Promise<void> {
    const time = this.#now()
    await this.#change(devices, (wish, _, revision) => {
      if (rollout !== undefined && wish.configuration?.rollout === rollout) return undefined
      const configuration = { revision, hash, by, time, ...(rollout !== undefined && { rollout }) }
      return { ...wish, configuration }
    })
  }

  async #endVerbosities(): Promise<void> {
    const over = [...this.#wishes.all()].flatMap(([collector, wish]) =>
      withoutEnded(wish, this.#nowMs()) ? [collector] : [],
    )
    await this.#change(over, (wish) => {
      const left = withoutEnded(wish, this.#nowMs())
      return left && { ...wish, verbosity: left }
    })
  }

  /** `next` answers undefined where nothing changes. The row first, then the message: a kill between is mended. */
  #change(
    devices: readonly string[],
    next: (wish: Wish, device: string, revision: number) => Wish | undefined,
  ): Promise<void> {
    return this.#alone(async () => {
      if (devices.some((device) => !this.#wishes.get(device)) && this.#wishes.count() >= mostCollectors) {
        throw new PermanentError('INPUT_TOO_LARGE', `there are wishes for ${mostCollectors} devices already`)
      }
      for (let at = 0; at < devices.length; at += width) {
        await Promise.all(
          devices.slice(at, at + width).map(async (device) => {
            const before = this.#wishes.get(device) ?? noWish
            const revision = this.#revision(device, before)
            const wish = next(before, device, revision)
            if (!wish) return
            const row = { ...wish, revision }
            await this.#wishes.set(device, row)
            await this.#publisher.publish(device, row)
          }),
        )
      }
    })
  }

  /** Ahead of all that the device has heard, also where this aggregator's clock is behind or its journal is new. */
  #revision(device: string, before: Wish): number {
    const reported = this.#reported.get(device)
    return Math.max(
      this.#nowMs(),
      before.revision + 1,
      (reported?.revision ?? 0) + 1,
      (reported?.outcome?.revision ?? 0) + 1,
    )
  }

  #shown(device: string, online: boolean): DeviceChange {
    const wish = this.#wishes.get(device)
    const reported = this.#reported.get(device)
    return {
      device,
      online,
      ...compare(wish, reported, online),
      desired: wish ? summaryOf(wish) : null,
      reported: reported ?? null,
    }
  }

  async #isKnown(device: string): Promise<boolean> {
    return (await this.#options.devices()).some((one) => one.device === device && one.collector === device)
  }

  #alone<T>(task: () => Promise<T>): Promise<T> {
    const done = this.#work.then(task)
    this.#work = done.catch(() => undefined)
    return done
  }

  #nowMs(): number {
    return Number(this.#options.clock.nowUnixNano() / 1_000_000n)
  }

  #now(): string {
    return new Date(this.#nowMs()).toISOString()
  }
}

function summaryOf({ revision, configuration, verbosity, labels }: Wish): WishSummary {
  return {
    revision,
    ...(configuration && { configuration: withoutUndefined(configuration) }),
    verbosity: verbosity.map(({ id, source, severity, by, time, forMs }) => {
      const until = new Date(Date.parse(time) + forMs).toISOString()
      return { id, source, severity, by, time, until }
    }),
    labels,
  }
}

const withoutUndefined = ({ rollout, ...rest }: NonNullable<Wish['configuration']>) => ({
  ...rest,
  ...(rollout !== undefined && { rollout }),
})
