// Source of the network ports of this machine: links, what their drivers count (errors, drops, pause frames, priorities),
// plugged modules, RDMA counters, representors and virtual functions.
import { join } from 'node:path'
import * as z from 'zod'
import { Readings, defineSource, duration, messageOf } from '../contract/index.ts'
import type { Attributes, Context, Detected, MetricDeclaration, Records } from '../contract/index.ts'
import { Ethtool } from '../protocols/native/index.ts'
import { decodeModule } from '../protocols/optics.ts'
import type { Module } from '../protocols/optics.ts'
import { readPort, readRdma } from '../protocols/ports.ts'
import type { NetworkPort, RdmaPort } from '../protocols/ports.ts'
import { virtualInterfaces } from '../protocols/proc-metrics.ts'
import { selection, selects } from '../protocols/proc-selection.ts'
import { listFolder, rest } from '../protocols/sysfs.ts'

const optics = (unit: string, description: string): MetricDeclaration => ({
  kind: 'gauge',
  unit,
  description,
  class: 'environment',
})

const emits = {
  'dpu.network.interface': {
    kind: 'gauge',
    unit: '1',
    description: 'A port, 1: its attributes say what it is.',
    class: 'capability',
  },
  'hw.network.up': { kind: 'updowncounter', unit: '1', description: 'Whether the link is up.' },
  'hw.network.bandwidth.limit': { kind: 'updowncounter', unit: 'By/s', description: 'Speed of the link.' },
  'dpu.network.carrier.changes': {
    kind: 'counter',
    unit: '{change}',
    description: 'Times that the link went up or down.',
    class: 'error',
  },
  'hw.errors': {
    kind: 'counter',
    unit: '{error}',
    description: 'Errors and drops, by the name of the driver.',
  },
  'dpu.network.statistic': {
    kind: 'counter',
    unit: '1',
    description: 'What else the driver counts, by its own name.',
  },
  'dpu.optics.temperature': optics('Cel', 'Temperature of a plugged module.'),
  'dpu.optics.voltage': optics('V', 'Supply of a plugged module.'),
  'dpu.optics.power': optics('W', 'Light on a lane, received or transmitted.'),
  'dpu.optics.bias': optics('A', 'Current through the laser of a lane.'),
  'dpu.rdma.io': { kind: 'counter', unit: 'By', description: 'Bytes over RDMA.' },
  'dpu.rdma.packets': { kind: 'counter', unit: '{packet}', description: 'Packets over RDMA.' },
  'dpu.rdma.statistic': {
    kind: 'counter',
    unit: '1',
    description: 'What else an RDMA device counts, by its own name.',
  },
} as const satisfies Record<string, MetricDeclaration>
type Metric = keyof typeof emits

const config = z.strictObject({
  interval: duration.prefault('30s').describe('Time between readings.'),
  interfaces: selection('interfaces', virtualInterfaces).describe('Which interfaces to read, by name.'),
  statistics: selection('statistics', []).describe('Which statistics of drivers and RDMA devices, by name.'),
  optics: duration
    .prefault('1m')
    .describe('Time between readings of plugged modules, which takes CAP_NET_ADMIN; 0 for none.'),
  queues: z.boolean().default(false).describe('Also what drivers count for each queue.'),
  most: z.int().min(1).max(100_000).default(5000).describe('Most statistics of a reading.'),
  root: z
    .strictObject({ sys: z.string().default('/sys').describe('Where sysfs is mounted.') })
    .prefault({})
    .describe('Roots, for a collector in a container; drivers are asked of the own network namespace.'),
})
type Config = z.output<typeof config>

/** `rx0_packets`, `tx_queue_3_bytes`, `rx-0.packets`, `[0]: rx_ucast_packets`; not `rx_prio0_bytes`, `rx_64_bytes_phy`. */
const ofQueue = /^(?:rx|tx|ch|q|txq|rxq|queue)-?\d+[_.:]|queue[_-]?\d+[_.:]|^\[\d+\]/
const ofError =
  /(?:^|[_. ])(?:err(?:or)?s?|discards?|discarded|drops?|dropped|crc|fcs|jabbers?|missed|timeouts?|downed|out_of_buffer|out_of_sequence|nak|retrans)(?:[_. ]|$)/
/** Beyond it a driver means "none". */
const mostCount = 2n ** 63n - 1n

export type Counted = 'error' | 'statistic'

/** What the name of a statistic says: an error or drop, in or out. Undefined where it is of one queue. */
export function whatIs(name: string): { kind: Counted; isOfQueue: boolean; direction: string | undefined } {
  const lower = name.toLowerCase()
  const direction = /(?:^|[_. ])(?:rx|rcv)/.test(lower)
    ? 'receive'
    : /(?:^|[_. ])(?:tx|xmit)/.test(lower)
      ? 'transmit'
      : undefined
  return { kind: ofError.test(lower) ? 'error' : 'statistic', isOfQueue: ofQueue.test(lower), direction }
}

interface Point {
  name: Metric
  value: bigint | number
  attributes: Attributes
}

export class NicReader {
  readonly #config: Config
  readonly #context: Context
  readonly #ethtool: Ethtool | undefined
  readonly #isInterface: (name: string) => boolean
  readonly #isStatistic: (name: string) => boolean
  readonly #modules = new Map<string, { atMs: number; module: Module | undefined }>()
  #isFull = false

  constructor(settings: Config, context: Context, ethtool: Ethtool | undefined) {
    this.#config = settings
    this.#context = context
    this.#ethtool = ethtool
    this.#isInterface = selects(settings.interfaces)
    this.#isStatistic = selects(settings.statistics)
  }

  async read(): Promise<Records[]> {
    const { sys } = this.#config.root
    const names = listFolder(join(sys, 'class/net')).filter((name) => this.#isInterface(name))
    const points: Point[] = []
    for (const name of names.slice(0, 4096)) {
      await rest()
      const port = readPort(sys, name)
      if (port) points.push(...(await this.#portPoints(port)))
    }
    for (const port of readRdma(sys)) points.push(...this.#rdmaPoints(port))
    return this.#encode(points)
  }

  async #portPoints(port: NetworkPort): Promise<Point[]> {
    const driver = this.#ethtool?.driver(port.name)
    const about = {
      'hw.id': port.bus === undefined ? port.name : `${port.bus}/${port.name}`,
      'hw.name': port.name,
      'hw.type': 'network',
      'network.interface.name': port.name,
    }
    const module = await this.#moduleOf(port)
    const facts: Attributes = {
      ...port.facts,
      ...module?.facts,
      ...(driver && driver.driver !== '' && { 'dpu.network.driver': driver.driver }),
      ...(driver && /\w/.test(driver.firmware) && { 'hw.firmware_version': driver.firmware }),
    }
    return [
      ...linkPoints(about, facts, port),
      ...(module ? opticsPoints(about, module) : []),
      ...this.#counted(this.#ethtool?.statistics(port.name) ?? [], about, 'dpu.network.statistic'),
    ]
  }

  /** Read anew only now and then: the bus of a module is slow. */
  async #moduleOf({ name, facts }: NetworkPort): Promise<Module | undefined> {
    const { optics: everyMs } = this.#config
    if (!this.#ethtool || everyMs === 0 || facts['dpu.network.port.kind'] !== 'physical') return undefined
    const nowMs = this.#context.clock.elapsedMs()
    const known = this.#modules.get(name)
    if (known && nowMs - known.atMs < everyMs) return known.module
    const memory = await this.#ethtool.module(name)
    const module = memory && decodeModule(memory)
    this.#modules.set(name, { atMs: nowMs, module })
    return module
  }

  #rdmaPoints(port: RdmaPort): Point[] {
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

  #counted(statistics: Iterable<[string, bigint]>, about: Attributes, other: Metric): Point[] {
    const points: Point[] = []
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

  #encode(points: readonly Point[]): Records[] {
    const { most } = this.#config
    if (points.length > most && !this.#isFull) {
      this.#isFull = true
      this.#context.log.warn('ports count more than is read', { found: points.length, read: most })
    }
    const readings = new Readings({
      scope: { name: 'nic' },
      declared: emits,
      device: this.#context.device,
      resource: this.#context.resource({ 'service.name': 'dpulse' }),
      timeUnixNano: this.#context.clock.nowUnixNano(),
    })
    const order = Object.keys(emits)
    // Links first, then errors: what is left out is the least.
    const sorted = points.toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name))
    for (const { name, value, attributes } of sorted.slice(0, most)) readings.add(name, value, attributes)
    return readings.finish()
  }
}

function linkPoints(
  about: Attributes,
  facts: Attributes,
  link: { isUp: boolean; bandwidth: bigint | undefined; carrierChanges?: bigint | undefined },
): Point[] {
  const { isUp, bandwidth, carrierChanges } = link
  const points: Point[] = [
    { name: 'dpu.network.interface', value: 1n, attributes: { ...about, ...facts } },
    { name: 'hw.network.up', value: isUp ? 1n : 0n, attributes: about },
  ]
  if (bandwidth !== undefined) {
    points.push({ name: 'hw.network.bandwidth.limit', value: bandwidth, attributes: about })
  }
  if (carrierChanges !== undefined) {
    points.push({ name: 'dpu.network.carrier.changes', value: carrierChanges, attributes: about })
  }
  return points
}

/** What a module measures, lane by lane where it has several. */
export function opticsPoints(about: Attributes, { temperature, voltage, lanes }: Module): Point[] {
  const points: Point[] = []
  const add = (name: Metric, value: number | undefined, more: Attributes = {}) => {
    if (value !== undefined) points.push({ name, value, attributes: { ...about, ...more } })
  }
  add('dpu.optics.temperature', temperature)
  add('dpu.optics.voltage', voltage)
  for (const [index, { received, transmitted, bias }] of lanes.entries()) {
    const lane = { 'dpu.optics.lane': index + 1 }
    add('dpu.optics.power', received, { ...lane, 'network.io.direction': 'receive' })
    add('dpu.optics.power', transmitted, { ...lane, 'network.io.direction': 'transmit' })
    add('dpu.optics.bias', bias, lane)
  }
  return points
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
    'Network ports: links, errors and counters of their drivers, optics, RDMA, representors and virtual functions.',
  config,
  emits,
  create: (settings, context) => ({
    async run(emit, signal) {
      using ethtool = await openEthtool(context)
      const reader = new NicReader(settings, context, ethtool)
      context.ready()
      await context.clock.every(settings.interval, signal, async () => {
        const records = await reader.read()
        if (!signal.aborted) await Promise.all(records.map((one) => emit(one)))
      })
    },
  }),
  detect: () => Promise.resolve(detectPorts('/sys')),
})
