// Source of the network ports of this machine: links, what their drivers count (errors, drops, pause frames, priorities),
// plugged modules, the health of their devices, RDMA counters, representors and virtual functions.
import { join } from 'node:path'
import * as z from 'zod'
import { Readings, defineSource, duration, messageOf } from '../contract/index.ts'
import type { Attributes, Context, Detected, Records } from '../contract/index.ts'
import { readHealth } from '../protocols/devlink.ts'
import { Ethtool } from '../protocols/native/index.ts'
import { Netlink } from '../protocols/native/netlink.ts'
import { nicMetrics } from '../protocols/nic/metrics.ts'
import type { NicMetric, NicPoint } from '../protocols/nic/metrics.ts'
import { healthPoints, linkPoints, opticsPoints } from '../protocols/nic/points.ts'
import { whatIs } from '../protocols/nic/statistics.ts'
import { moduleOf } from '../protocols/optics/memory.ts'
import type { Flag, Module } from '../protocols/optics/module.ts'
import { readPort, readRdma } from '../protocols/ports.ts'
import type { NetworkPort, RdmaPort } from '../protocols/ports.ts'
import { virtualInterfaces } from '../protocols/proc-metrics.ts'
import { selection, selects } from '../protocols/proc-selection.ts'
import { listFolder, rest } from '../protocols/sysfs.ts'

const config = z.strictObject({
  interval: duration.prefault('30s').describe('Time between readings.'),
  interfaces: selection('interfaces', virtualInterfaces).describe('Which interfaces to read, by name.'),
  statistics: selection('statistics', []).describe('Which statistics of drivers and RDMA devices, by name.'),
  optics: duration
    .prefault('1m')
    .describe('Time between readings of plugged modules, which takes CAP_NET_ADMIN; 0 for none.'),
  health: z
    .boolean()
    .default(true)
    .describe('Also the health of devices as their drivers report it to devlink.'),
  queues: z.boolean().default(false).describe('Also what drivers count for each queue.'),
  most: z.int().min(1).max(100_000).default(5000).describe('Most statistics of a reading.'),
  root: z
    .strictObject({ sys: z.string().default('/sys').describe('Where sysfs is mounted.') })
    .prefault({})
    .describe('Roots, for a collector in a container; drivers are asked of the own network namespace.'),
})
type Config = z.output<typeof config>

/** Beyond it a driver means "none". */
const mostCount = 2n ** 63n - 1n

/** How the kernel is asked for what no file says; what is missing is not read. */
interface Kernel {
  readonly ethtool?: Ethtool | undefined
  readonly netlink?: Netlink | undefined
}

interface Plugged {
  atMs: number
  module: Module | undefined
  /** What was raised when it was read the time before. */
  before: readonly Flag[]
}

export class NicReader {
  readonly #config: Config
  readonly #context: Context
  readonly #ethtool: Ethtool | undefined
  readonly #isInterface: (name: string) => boolean
  readonly #isStatistic: (name: string) => boolean
  readonly #netlink: Netlink | undefined
  readonly #modules = new Map<string, Plugged>()
  #isFull = false

  constructor(settings: Config, context: Context, kernel: Kernel = {}) {
    this.#config = settings
    this.#context = context
    this.#ethtool = kernel.ethtool
    this.#netlink = kernel.netlink
    this.#isInterface = selects(settings.interfaces)
    this.#isStatistic = selects(settings.statistics)
  }

  async read(): Promise<Records[]> {
    const { sys } = this.#config.root
    const names = listFolder(join(sys, 'class/net')).filter((name) => this.#isInterface(name))
    const points: NicPoint[] = []
    for (const name of names.slice(0, 4096)) {
      await rest()
      const port = readPort(sys, name)
      if (port) points.push(...(await this.#portPoints(port)))
    }
    for (const port of readRdma(sys)) points.push(...this.#rdmaPoints(port))
    if (this.#netlink && this.#config.health) {
      for (const reporter of await readHealth(this.#netlink)) points.push(...healthPoints(reporter))
    }
    return this.#encode(points)
  }

  async #portPoints(port: NetworkPort): Promise<NicPoint[]> {
    const driver = this.#ethtool?.driver(port.name)
    const about = {
      'hw.id': port.bus === undefined ? port.name : `${port.bus}/${port.name}`,
      'hw.name': port.name,
      'hw.type': 'network',
      'network.interface.name': port.name,
    }
    const plugged = await this.#pluggedIn(port)
    const module = plugged?.module
    const facts: Attributes = {
      ...port.facts,
      ...module?.facts,
      ...(driver && driver.driver !== '' && { 'dpu.network.driver': driver.driver }),
      ...(driver && /\w/.test(driver.firmware) && { 'hw.firmware_version': driver.firmware }),
    }
    return [
      ...linkPoints(about, facts, port),
      ...(module ? opticsPoints(about, module, plugged?.before) : []),
      ...this.#counted(this.#ethtool?.statistics(port.name) ?? [], about, 'dpu.network.statistic'),
    ]
  }

  /** Read anew only now and then: the bus of a module is slow. */
  async #pluggedIn({ name, facts }: NetworkPort): Promise<Plugged | undefined> {
    const { optics: everyMs } = this.#config
    if (!this.#ethtool || everyMs === 0 || facts['dpu.network.port.kind'] !== 'physical') return undefined
    const nowMs = this.#context.clock.elapsedMs()
    const known = this.#modules.get(name)
    if (known && nowMs - known.atMs < everyMs) return known
    const module = await moduleOf(name, this.#ethtool, this.#netlink)
    const plugged = { atMs: nowMs, module, before: known?.module?.flags ?? [] }
    this.#modules.set(name, plugged)
    return plugged
  }

  #rdmaPoints(port: RdmaPort): NicPoint[] {
    const about = {
      'hw.id': `${port.device}/${port.port}`,
      'hw.name': port.device,
      'hw.type': 'network',
      'dpu.rdma.port': port.port,
      ...(port.bus !== undefined && { 'hw.parent': port.bus }),
    }
    const points = linkPoints(about, { ...port.facts, 'dpu.network.port.kind': 'rdma' }, port)
    const rest = new Map(port.counters)
    const flows = [
      ['port_rcv_data', 'dpu.rdma.io', 'receive', 4n],
      ['port_xmit_data', 'dpu.rdma.io', 'transmit', 4n],
      ['port_rcv_packets', 'dpu.rdma.packets', 'receive', 1n],
      ['port_xmit_packets', 'dpu.rdma.packets', 'transmit', 1n],
    ] as const
    for (const [counter, name, direction, factor] of flows) {
      const value = rest.get(counter)
      rest.delete(counter)
      if (value === undefined || value > mostCount / factor) continue
      const attributes = { ...about, 'network.io.direction': direction }
      points.push({ name, value: value * factor, attributes })
    }
    return [...points, ...this.#counted(rest, about, 'dpu.rdma.statistic')]
  }

  #counted(statistics: Iterable<[string, bigint]>, about: Attributes, other: NicMetric): NicPoint[] {
    const points: NicPoint[] = []
    for (const [name, value] of statistics) {
      if (value > mostCount || !this.#isStatistic(name)) continue
      const { kind, isOfQueue, direction } = whatIs(name)
      if (isOfQueue && !this.#config.queues) continue
      const attributes: Attributes = { ...about, ...(direction && { 'network.io.direction': direction }) }
      if (kind === 'error') {
        points.push({ name: 'hw.errors', value, attributes: { ...attributes, 'error.type': name } })
      } else points.push({ name: other, value, attributes: { ...attributes, 'dpu.network.statistic': name } })
    }
    return points
  }

  #encode(points: readonly NicPoint[]): Records[] {
    const { most } = this.#config
    if (points.length > most && !this.#isFull) {
      this.#isFull = true
      this.#context.log.warn('ports count more than is read', { found: points.length, read: most })
    }
    const readings = new Readings({
      scope: { name: 'nic' },
      declared: nicMetrics,
      device: this.#context.device,
      resource: this.#context.resource({ 'service.name': 'dpulse' }),
      timeUnixNano: this.#context.clock.nowUnixNano(),
    })
    const order = Object.keys(nicMetrics)
    // Links first, then errors: what is left out is the least.
    const sorted = points.toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name))
    for (const { name, value, attributes } of sorted.slice(0, most)) readings.add(name, value, attributes)
    return readings.finish()
  }
}

/** Without it links and RDMA are still read. */
async function openEthtool(context: Context): Promise<Ethtool | undefined> {
  try {
    return await Ethtool.open()
  } catch (error) {
    context.log.warn('drivers cannot be asked what they count', { reason: messageOf(error) })
    return undefined
  }
}

export function detectPorts(sys: string): Detected<z.input<typeof config>> {
  const wanted = selects(config.parse({}).interfaces)
  const names = listFolder(join(sys, 'class/net')).filter((name) => wanted(name))
  if (names.length > 0 || listFolder(join(sys, 'class/infiniband')).length > 0) return { config: {} }
  return { leftOut: `no network port in ${join(sys, 'class/net')}` }
}

export default defineSource({
  name: 'nic',
  summary:
    'Network ports: links, errors and counters of their drivers, optics, health, RDMA, representors and virtual functions.',
  config,
  emits: nicMetrics,
  create: (settings, context) => ({
    async run(emit, signal) {
      using ethtool = await openEthtool(context)
      using netlink = ethtool && (await Netlink.open())
      const reader = new NicReader(settings, context, { ethtool, netlink })
      context.ready()
      await context.clock.every(settings.interval, signal, async () => {
        const records = await reader.read()
        if (!signal.aborted) await Promise.all(records.map((one) => emit(one)))
      })
    },
  }),
  detect: () => Promise.resolve(detectPorts('/sys')),
})
