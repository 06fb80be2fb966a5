// One reading of all containers: their list, the details of each, and what the running ones use.
import { totalmem } from 'node:os'
import { Readings } from '../../contract/index.ts'
import type { Attributes, Context, Records } from '../../contract/index.ts'
import type { EngineApi } from './api.ts'
import { parseTime } from './frames.ts'
import { addUse, containerMetrics } from './points.ts'
import type { ContainerMetric } from './points.ts'
import { containerDetails, containerList, containerStats } from './schemas.ts'
import type { ContainerDetails, ContainerStats } from './schemas.ts'

export interface Container {
  readonly id: string
  readonly name: string
  readonly image: string
  readonly details: ContainerDetails
  readonly stats: ContainerStats | undefined
}

export interface ReaderOptions {
  readonly isWanted: (name: string) => boolean
  readonly labels: readonly string[]
  readonly most: number
  readonly metrics: boolean
}

/** An engine answers each with some work of its own. */
const mostAtOnce = 4

export class ContainerReader {
  readonly #api: EngineApi
  readonly #context: Context
  readonly #options: ReaderOptions
  /** States in which each container was, the last one last. */
  readonly #seen = new Map<string, Set<string>>()
  readonly #lastCpu = new Map<string, { nano: number; atMs: number }>()
  #isOverTold = false

  constructor(api: EngineApi, context: Context, options: ReaderOptions) {
    this.#api = api
    this.#context = context
    this.#options = options
  }

  async containers(signal: AbortSignal): Promise<Container[]> {
    const list = (await this.#api.get('/containers/json?all=true', containerList, signal)) ?? []
    const named = list
      .map((one) => ({ ...one, name: (one.Names?.[0] ?? one.Id.slice(0, 12)).replace(/^\//, '') }))
      .filter(({ name }) => this.#options.isWanted(name))
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    const { most, metrics } = this.#options
    if (named.length > most && !this.#isOverTold) {
      this.#isOverTold = true
      this.#context.log.warn('more containers than are read', { found: named.length, read: most })
    }
    const chosen = named.slice(0, most)
    const found: Container[] = []
    const next = chosen.values()
    const work = async (): Promise<void> => {
      for (const { Id: id, name, Image } of next) {
        const details = await this.#api.get(`/containers/${id}/json`, containerDetails, signal)
        if (details === undefined) continue // removed in the meantime
        const path = `/containers/${id}/stats?stream=false&one-shot=true`
        const isUsing = metrics && details.State.Running
        const stats = isUsing ? await this.#api.get(path, containerStats, signal) : undefined
        found.push({ id, name, image: details.Config.Image || Image, details, stats })
      }
    }
    await Promise.all(Array.from({ length: mostAtOnce }, work))
    return found.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** Attributes by which records about a container say which one it is. */
  attributesOf({ id, name, image, details }: Container): Attributes {
    const labels = this.#options.labels.flatMap((label) => {
      const value = details.Config.Labels?.[label]
      return value === undefined ? [] : [[`container.label.${label}`, value] as const]
    })
    return {
      'container.id': id,
      'container.name': name,
      'container.image.name': image,
      ...Object.fromEntries(labels),
    }
  }

  points(containers: readonly Container[]): Records[] {
    const now = this.#context.clock.nowUnixNano()
    const collected = new Map<ContainerMetric, [bigint | number, Attributes][]>()
    for (const container of containers) {
      const who = this.attributesOf(container)
      const add = (
        name: ContainerMetric,
        value: number | bigint | undefined,
        more: Attributes = {},
      ): void => {
        if (value === undefined) return
        const points = collected.get(name) ?? []
        points.push([value, { ...who, ...more }])
        collected.set(name, points)
      }
      const { State, RestartCount } = container.details
      this.#states(`state ${container.id}`, State.Status, (state, value) =>
        add('dpu.container.state', value, { 'dpu.container.state': state }),
      )
      const health = State.Health?.Status ?? ''
      if (health !== '' && health !== 'none')
        this.#states(`health ${container.id}`, health, (state, value) =>
          add('dpu.container.health', value, { 'dpu.container.health': state }),
        )
      add('dpu.container.restarts', BigInt(RestartCount))
      const started = State.Running ? parseTime(State.StartedAt) : undefined
      if (started)
        add('container.uptime', Number(now / 1_000_000n) / 1000 - started.seconds - started.nanos / 1e9)
      if (!container.stats) continue
      addUse(add, container.stats, totalmem())
      add('container.cpu.usage', this.#cpuSince(container.id, container.stats))
    }
    this.#forget(containers)
    const readings = new Readings({
      scope: { name: 'containers' },
      declared: containerMetrics,
      device: this.#context.device,
      resource: this.#context.resource({ 'service.name': 'containers' }),
      timeUnixNano: now,
    })
    for (const [name, points] of collected)
      for (const [value, attributes] of points) readings.add(name, value, attributes)
    return readings.finish()
  }

  #states(key: string, state: string, give: (state: string, value: bigint) => void): void {
    const seen = this.#seen.get(key) ?? new Set()
    seen.delete(state)
    seen.add(state)
    this.#seen.set(key, seen)
    for (const one of seen) give(one, one === state ? 1n : 0n)
  }

  #cpuSince(id: string, stats: ContainerStats): number | undefined {
    const nano = stats.cpu_stats?.cpu_usage?.total_usage
    const atMs = this.#context.clock.elapsedMs()
    const last = this.#lastCpu.get(id)
    if (nano === undefined) return undefined
    this.#lastCpu.set(id, { nano, atMs })
    // A container that was started anew counts from zero.
    return last === undefined || nano < last.nano || atMs <= last.atMs
      ? undefined
      : (nano - last.nano) / 1e6 / (atMs - last.atMs)
  }

  #forget(containers: readonly Container[]): void {
    const here = new Set(containers.map(({ id }) => id))
    for (const key of this.#seen.keys()) if (!here.has(key.split(' ')[1] ?? '')) this.#seen.delete(key)
    for (const id of this.#lastCpu.keys()) if (!here.has(id)) this.#lastCpu.delete(id)
  }
}
