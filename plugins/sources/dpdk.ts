// Source of what DPDK programs count: ports, queues' losses, memory pools and heaps, asked over their telemetry sockets.
import { readdirSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import process from 'node:process'
import * as z from 'zod'
import { PermanentError, defineSource, duration, messageOf } from '../contract/index.ts'
import type { Attributes, Context, Detected, MetricDeclaration, Records } from '../contract/index.ts'
import { TelemetryClient } from '../protocols/dpdk/telemetry.ts'
import { Complaints } from '../protocols/complaints.ts'
import { counter, level } from '../protocols/declared.ts'
import { countOf, objectOf, textOf } from '../protocols/exact-json.ts'
import { emitInGroups } from '../protocols/lines/batches.ts'
import { selects } from '../protocols/proc-selection.ts'
import { ReadingWithStarts, Resets } from '../protocols/resets.ts'

const emits = {
  'dpu.dpdk.up': level('1', '1 where the program answers, else 0.'),
  'dpu.dpdk.port.up': level('1', '1 where the link of a port is up, else 0.'),
  'dpu.dpdk.port.bandwidth.limit': level('By/s', 'Speed of the link of a port.'),
  'dpu.dpdk.port.io': counter('By', 'Bytes received and sent.'),
  'dpu.dpdk.port.packets': counter('{packet}', 'Packets received and sent.'),
  'dpu.dpdk.port.dropped': counter('{packet}', 'Packets that the port had to drop.'),
  'dpu.dpdk.port.errors': counter('{error}', 'Packets with errors.'),
  'dpu.dpdk.port.statistic': counter('{count}', 'Extended statistics of a port, by name.'),
  'dpu.dpdk.mempool.limit': level('{element}', 'Elements of a memory pool.'),
  'dpu.dpdk.mempool.free': level('{element}', 'Elements that are free, caches included.'),
  'dpu.dpdk.heap.limit': level('By', 'Size of a heap.'),
  'dpu.dpdk.heap.usage': level('By', 'What of a heap is used.'),
} as const satisfies Record<string, MetricDeclaration>
type Metric = keyof typeof emits

const name = 'dpdk_telemetry.v2'

const config = z.strictObject({
  sockets: z
    .array(z.string().startsWith('/'))
    .max(64)
    .optional()
    .describe(
      'Paths of telemetry sockets; otherwise those of all programs, under /var/run/dpdk or XDG_RUNTIME_DIR.',
    ),
  interval: duration.prefault('15s').describe('Time between readings.'),
  statistics: z
    .array(z.string().min(1).max(200))
    .max(50)
    .default([])
    .describe('Patterns (* and ?) of extended statistics to read, such as rx_discards_phy.'),
  most: z
    .int()
    .min(1)
    .max(1024)
    .default(64)
    .describe('Most programs, ports, pools and heaps to read, of each kind.'),
  timeout: duration.prefault('3s').describe('Longest wait for one answer.'),
})
type Config = z.output<typeof config>

const scope = { name: 'dpdk' }
/** Extended statistics of one port. */
const mostStatistics = 512
const bytesPerMegabit = 125_000n

/** Sockets of the programs of this machine; those of root, and those of this user. */
export function telemetrySockets(): string[] {
  const own = process.env.XDG_RUNTIME_DIR ?? `/run/user/${process.getuid?.() ?? 0}`
  return [...new Set(['/var/run/dpdk', join(own, 'dpdk')])].flatMap((folder) => {
    try {
      return readdirSync(folder, { withFileTypes: true })
        .filter((one) => one.isDirectory())
        .flatMap((one) => {
          const path = join(folder, one.name)
          return readdirSync(path).includes(name) ? [join(path, name)] : []
        })
    } catch {
      return []
    }
  })
}

export class DpdkReader {
  readonly #config: Config
  readonly #context: Context
  readonly #isStatistic: (name: string) => boolean
  readonly #resets = new Resets()
  /** Sockets that answered once. */
  readonly #answered = new Set<string>()
  readonly #complaints: Complaints

  constructor(settings: Config, context: Context) {
    this.#config = settings
    this.#context = context
    this.#complaints = new Complaints(context.log, 'a DPDK program cannot be read in full')
    this.#isStatistic = selects({ include: settings.statistics, exclude: [] })
  }

  async read(signal: AbortSignal): Promise<Records[]> {
    const reading = new ReadingWithStarts(this.#context, scope, emits, 'dpdk')
    const found = this.#config.sockets ?? telemetrySockets()
    for (const socket of this.#complaints.first('programs', found, this.#config.most)) {
      if (signal.aborted) break
      const who = { 'dpu.dpdk.prefix': basename(dirname(socket)) }
      const isUp = await this.#program(reading, socket, who)
      // A program that was killed leaves its socket behind: only one that was asked for, or that answered, is down.
      const isExpected = this.#config.sockets !== undefined || this.#answered.has(socket)
      if (isUp || isExpected) reading.add('dpu.dpdk.up' satisfies Metric, isUp ? 1n : 0n, who)
    }
    this.#resets.retain(reading.timeUnixNano)
    return reading.finish()
  }

  async #program(reading: ReadingWithStarts, socket: string, who: Attributes): Promise<boolean> {
    try {
      using client = await TelemetryClient.open(socket, this.#config.timeout)
      this.#answered.add(socket)
      await this.#ports(reading, client, who)
      await this.#pools(reading, client, who)
      await this.#heaps(reading, client, who)
      return true
    } catch (error) {
      if (error instanceof PermanentError && error.code === 'LIBRARY_MISSING') throw error
      this.#complaints.tell(messageOf(error))
      return false
    }
  }

  async #ports(reading: ReadingWithStarts, client: TelemetryClient, program: Attributes): Promise<void> {
    for (const id of this.#complaints.first(
      'ports',
      numbersOf(await client.ask('/ethdev/list')),
      this.#config.most,
    )) {
      const details = objectOf(await client.ask(`/ethdev/info,${id}`))
      const stats = objectOf(await client.ask(`/ethdev/stats,${id}`))
      const link = objectOf(await client.ask(`/ethdev/link_status,${id}`))
      const who = { ...program, 'dpu.dpdk.port': textOf(details.name) || `${id}` }
      const keys = ['ibytes', 'obytes', 'ipackets', 'opackets', 'imissed', 'ierrors', 'oerrors']
      const key = `${client.info.pid} ${id}`
      const start = this.#resets.startOf(
        key,
        keys.map((one) => countOf(stats[one])),
        reading.timeUnixNano,
      )
      const add = (metric: Metric, value: bigint | undefined, more?: Attributes) =>
        reading.add(metric, value, { ...who, ...more }, start)
      const state = textOf(link.status)
      if (state !== '') add('dpu.dpdk.port.up', state.toUpperCase() === 'UP' ? 1n : 0n)
      const speed = countOf(link.speed)
      // The largest number of 32 bits stands for a speed that is not known.
      if (speed !== undefined && speed > 0n && speed < 0xffff_ffffn)
        add('dpu.dpdk.port.bandwidth.limit', speed * bytesPerMegabit)
      const receive = { 'network.io.direction': 'receive' }
      const transmit = { 'network.io.direction': 'transmit' }
      add('dpu.dpdk.port.io', countOf(stats.ibytes), receive)
      add('dpu.dpdk.port.io', countOf(stats.obytes), transmit)
      add('dpu.dpdk.port.packets', countOf(stats.ipackets), receive)
      add('dpu.dpdk.port.packets', countOf(stats.opackets), transmit)
      add('dpu.dpdk.port.dropped', countOf(stats.imissed), { ...receive, 'error.type': 'queue_full' })
      add('dpu.dpdk.port.dropped', countOf(stats.rx_nombuf), { ...receive, 'error.type': 'no_buffer' })
      add('dpu.dpdk.port.errors', countOf(stats.ierrors), receive)
      add('dpu.dpdk.port.errors', countOf(stats.oerrors), transmit)
      if (this.#config.statistics.length === 0) continue
      const extended = Object.entries(objectOf(await client.ask(`/ethdev/xstats,${id}`)))
      for (const [statistic, value] of extended
        .filter(([one]) => this.#isStatistic(one))
        .slice(0, mostStatistics))
        add('dpu.dpdk.port.statistic', countOf(value), { 'dpu.dpdk.statistic': statistic })
    }
  }

  async #pools(reading: ReadingWithStarts, client: TelemetryClient, program: Attributes): Promise<void> {
    const names = await client.ask('/mempool/list')
    for (const pool of this.#complaints.first(
      'memory pools',
      Array.isArray(names) ? names.map(textOf) : [],
      this.#config.most,
    )) {
      const details = objectOf(await client.ask(`/mempool/info,${pool}`))
      const who = { ...program, 'dpu.dpdk.mempool': pool }
      reading.add('dpu.dpdk.mempool.limit' satisfies Metric, countOf(details.size), who)
      const [common, cached] = [countOf(details.common_pool_count), countOf(details.total_cache_count)]
      if (common !== undefined)
        reading.add('dpu.dpdk.mempool.free' satisfies Metric, common + (cached ?? 0n), who)
    }
  }

  async #heaps(reading: ReadingWithStarts, client: TelemetryClient, program: Attributes): Promise<void> {
    for (const id of this.#complaints.first(
      'heaps',
      numbersOf(await client.ask('/eal/heap_list')),
      this.#config.most,
    )) {
      const details = objectOf(await client.ask(`/eal/heap_info,${id}`))
      const who = { ...program, 'dpu.dpdk.heap': textOf(details.Name) || `${id}` }
      reading.add('dpu.dpdk.heap.limit' satisfies Metric, countOf(details.Heap_size), who)
      reading.add('dpu.dpdk.heap.usage' satisfies Metric, countOf(details.Alloc_size), who)
    }
  }
}

const numbersOf = (value: unknown): bigint[] =>
  Array.isArray(value) ? value.flatMap((one) => countOf(one) ?? []) : []

/** Whether a program answers on one of the sockets. */
export async function detectDpdk(sockets: readonly string[]): Promise<Detected<z.input<typeof config>>> {
  const reasons: string[] = []
  for (const socket of sockets.slice(0, 8)) {
    try {
      using client = await TelemetryClient.open(socket, 1000)
      if (client.info.version !== '') return { config: {} }
    } catch (error) {
      reasons.push(messageOf(error))
    }
  }
  return { leftOut: reasons.join('; ') || 'no DPDK program with a telemetry socket on this machine' }
}

export default defineSource({
  name: 'dpdk',
  summary: 'Ports, links, losses, memory pools and heaps of DPDK programs, from their telemetry sockets.',
  config,
  emits,
  create: (settings, context) => ({
    async run(emit, signal) {
      const reader = new DpdkReader(settings, context)
      context.ready()
      await context.clock.every(settings.interval, signal, async () => {
        const records = await reader.read(signal)
        if (!signal.aborted) await emitInGroups(emit, records)
      })
    },
  }),
  detect: () => detectDpdk(telemetrySockets()),
})
