// Source of containers of Docker and Podman, through the API that both speak: what they use, in which state they are,
// what happens to them, and what they log.
import { existsSync } from 'node:fs'
import process from 'node:process'
import * as z from 'zod'
import { RetryableError, defineSource, duration, messageOf, size } from '../contract/index.ts'
import type { Attributes, Context, Detected, Emit } from '../contract/index.ts'
import { EngineApi } from '../protocols/containers/api.ts'
import { followEvents, nanoOf, writeEvent } from '../protocols/containers/events.ts'
import { LogFollowers } from '../protocols/containers/logs.ts'
import type { LogPlace } from '../protocols/containers/logs.ts'
import { ownContainer } from '../protocols/containers/own.ts'
import { containerMetrics } from '../protocols/containers/points.ts'
import { ContainerReader } from '../protocols/containers/reader.ts'
import type { Container } from '../protocols/containers/reader.ts'
import { loadCursor } from '../protocols/cursors.ts'
import { LogBatches } from '../protocols/lines/batches.ts'
import { longestLine, writeBody } from '../protocols/lines/body.ts'
import { GroupedEmission } from '../protocols/lines/group.ts'
import { readingLength, severityOf } from '../protocols/lines/reading.ts'
import { selection, selects } from '../protocols/proc-selection.ts'

const config = z.strictObject({
  socket: z
    .string()
    .startsWith('/')
    .optional()
    .describe("Path of the engine's socket; otherwise the first of Docker's and Podman's that is there."),
  interval: duration.prefault('15s').describe('Time between readings.'),
  containers: selection('containers', []).describe('Which containers, by name.'),
  metrics: z.boolean().default(true).describe('Read what containers use.'),
  events: z
    .boolean()
    .default(true)
    .describe('Take events of the engine: start, die, oom, health and others.'),
  logs: z.boolean().default(true).describe('Follow the logs of containers.'),
  logs_from: z
    .enum(['beginning', 'now'])
    .default('now')
    .describe(
      'Where logs begin that are there at the first start; those of later containers begin at their beginning.',
    ),
  labels: z
    .array(z.string().min(1).max(200))
    .max(50)
    .default([])
    .describe('Labels of containers that readings and logs carry, as container.label.NAME.'),
  max_length: size
    .refine((bytes) => bytes >= 80 && bytes <= longestLine, `expected 80 to ${longestLine} bytes`)
    .prefault('64KiB')
    .describe('Longer lines are cut and marked dpulse.truncated; at most 256KiB.'),
  most: z
    .int()
    .min(1)
    .max(1000)
    .default(128)
    .describe('Most containers to read and to follow; the first by name.'),
})
type Config = z.output<typeof config>

/** What the checkpoint holds: up to where logs and events are safe. */
const cursor = z.strictObject({
  eventNano: z.number(),
  logs: z.record(z.string(), z.strictObject({ seconds: z.number(), nanos: z.number(), count: z.number() })),
})

const scope = { name: 'containers' }
const retryMs = 5000

/** Sockets of engines, in the order in which they are tried. */
export function engineSockets(): string[] {
  const runtime = process.env.XDG_RUNTIME_DIR ?? `/run/user/${process.getuid?.() ?? 0}`
  return [
    '/run/docker.sock',
    '/var/run/docker.sock',
    '/run/podman/podman.sock',
    `${runtime}/podman/podman.sock`,
  ]
}

class ContainerRun {
  readonly #config: Config
  readonly #context: Context
  readonly #emit: Emit
  readonly #api: EngineApi
  readonly #reader: ContainerReader
  readonly #batches: LogBatches
  readonly #group: GroupedEmission
  readonly #followers: LogFollowers
  readonly #isWanted: (name: string) => boolean
  readonly #own = ownContainer()
  #who = new Map<string, Attributes>()
  #eventNano: number
  #isFirst: boolean

  constructor(
    settings: Config,
    context: Context,
    emit: Emit,
    socket: string,
    saved: z.output<typeof cursor> | undefined,
  ) {
    this.#config = settings
    this.#context = context
    this.#emit = emit
    this.#api = new EngineApi(socket)
    this.#isWanted = selects(settings.containers)
    const { labels, most, metrics } = settings
    this.#reader = new ContainerReader(this.#api, context, {
      isWanted: this.#isWanted,
      labels,
      most,
      metrics,
    })
    const resource = context.resource({ 'service.name': 'containers' })
    this.#batches = new LogBatches({ scope, device: context.device, resource })
    this.#group = new GroupedEmission(this.#batches, emit, () => this.#begin())
    this.#isFirst = saved === undefined
    this.#eventNano = saved?.eventNano ?? Number(context.clock.nowUnixNano())
    this.#followers = new LogFollowers(
      {
        api: this.#api,
        longest: settings.max_length,
        most,
        log: context.log,
        take: (...line) => this.#line(...line),
        flushed: () => this.#group.flushed(),
      },
      saved?.logs ?? {},
    )
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#context
    const events = this.#config.events ? this.#events(signal) : undefined
    try {
      await clock.every(this.#config.interval, signal, async () => {
        try {
          await this.#read(signal)
        } catch (error) {
          if (signal.aborted) return
          // An engine that is being restarted is no reason to give up the rest.
          log.warn('containers cannot be read', { error })
          if (!(error instanceof RetryableError)) throw error
        }
      })
    } finally {
      await Promise.allSettled([events, this.#followers.ended()])
    }
  }

  async #read(signal: AbortSignal): Promise<void> {
    const containers = await this.#reader.containers(signal)
    if (signal.aborted) return
    this.#who = new Map(containers.map((one) => [one.id, this.#reader.attributesOf(one)]))
    if (this.#config.logs) this.#follow(containers, signal)
    if (this.#config.metrics) await Promise.all(this.#reader.points(containers).map((one) => this.#emit(one)))
    this.#isFirst = false
  }

  #follow(containers: readonly Container[], signal: AbortSignal): void {
    const now = Number(this.#context.clock.nowUnixNano() / 1_000_000_000n)
    const start: LogPlace = { seconds: 0, nanos: 0, count: 0 }
    const from = this.#isFirst && this.#config.logs_from === 'now' ? { ...start, seconds: now } : start
    this.#followers.retain(new Set(containers.map(({ id }) => id)))
    for (const { id, details } of containers) {
      if (id === this.#own) continue
      // The log of one that has ended is read once more, to its end, where it may not have been.
      if (details.State.Running || !this.#followers.isRead(id, details.State.FinishedAt))
        this.#followers.follow(id, details.Config.Tty, from, signal)
    }
  }

  async #events(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#context
    while (!signal.aborted) {
      try {
        await followEvents(
          {
            api: this.#api,
            after: this.#eventNano,
            take: (event) => {
              this.#stamp()
              this.#eventNano = Math.max(this.#eventNano, nanoOf(event))
              if (event.Actor.ID !== this.#own) writeEvent(this.#batches, event, this.#isWanted)
            },
            flushed: () => this.#group.flushed(),
          },
          signal,
        )
      } catch (error) {
        if (!signal.aborted) log.warn('the stream of container events broke off', { error })
      }
      await clock.delay(retryMs, signal).catch(() => undefined)
    }
  }

  #line(
    id: string,
    stream: string,
    seconds: number,
    nanos: number,
    bytes: Buffer,
    start: number,
    end: number,
    wasCut: boolean,
  ): void {
    if (end <= start) return
    this.#stamp()
    const severity = severityOf(bytes.toString('latin1', start, Math.min(end, start + readingLength)))
    const record = this.#batches.begin(severity?.number ?? 0, '', seconds, nanos)
    if (severity) record.severityText(severity.text)
    writeBody(record, bytes, start, end, wasCut)
    for (const [key, value] of Object.entries(this.#who.get(id) ?? { 'container.id': id }))
      record.attribute(key, value)
    record.attribute('log.iostream', stream)
    this.#batches.end()
  }

  #stamp(): void {
    if (this.#batches.count === 0) this.#batches.observedAt(this.#context.clock.nowUnixNano())
  }

  #begin(): () => Promise<void> {
    const places = this.#followers.snapshot()
    const eventNano = this.#eventNano
    return () => this.#context.checkpoint.save({ eventNano, logs: places() })
  }
}

async function run(settings: Config, context: Context, emit: Emit, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const socket = settings.socket ?? engineSockets().find((path) => existsSync(path))
  if (socket === undefined) {
    throw new RetryableError(
      'PEER_UNREACHABLE',
      `no container engine: none of ${engineSockets().join(', ')} is there`,
    )
  }
  const saved = await loadCursor(context, cursor)
  await new EngineApi(socket).get('/version', z.looseObject({}), signal)
  context.ready(`unix:${socket}`)
  await new ContainerRun(settings, context, emit, socket, saved).run(signal)
}

/** The first engine that answers. */
export async function detectEngine(sockets: readonly string[]): Promise<Detected<z.input<typeof config>>> {
  const there = [...new Set(sockets)].filter((path) => existsSync(path))
  if (there.length === 0) return { leftOut: 'no socket of Docker or Podman on this machine' }
  const reasons: string[] = []
  for (const socket of there) {
    try {
      await new EngineApi(socket).get('/version', z.looseObject({}), AbortSignal.timeout(3000))
      return { config: { socket } }
    } catch (error) {
      reasons.push(messageOf(error))
    }
  }
  return { leftOut: reasons.join('; ') }
}

export default defineSource({
  name: 'containers',
  summary:
    'Containers of Docker and Podman: state, health, CPU, memory, I/O, network, restarts, events and logs.',
  config,
  emits: containerMetrics,
  signals: ['metrics', 'logs'],
  create: (settings, context) => ({ run: (emit, signal) => run(settings, context, emit, signal) }),
  detect: () => detectEngine(engineSockets()),
})
