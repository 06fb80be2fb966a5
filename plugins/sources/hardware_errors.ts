// Source of errors that the hardware of this machine counts: memory by EDAC, PCI Express by its advanced error reporting,
// NVMe drives by their SMART log.
import { join } from 'node:path'
import * as z from 'zod'
import { Readings, defineSource, duration, messageOf } from '../contract/index.ts'
import type { Attributes, Context, Detected, MetricDeclaration, Records } from '../contract/index.ts'
import { readEdac } from '../protocols/edac.ts'
import { loadLibc } from '../protocols/native/index.ts'
import type { Libc } from '../protocols/native/index.ts'
import { readHealth } from '../protocols/nvme.ts'
import type { NvmeHealth } from '../protocols/nvme.ts'
import { findPciDevices, hwTypeOf, readAer } from '../protocols/pci.ts'
import { linkName, listFolder, readText, rest } from '../protocols/sysfs.ts'

const emits = {
  'hw.errors': { kind: 'counter', unit: '{error}', description: 'Errors, by kind.' },
  'dpu.pci.errors': {
    kind: 'counter',
    unit: '{error}',
    description: 'Errors of PCI Express by their name; only those that happened.',
  },
  'hw.physical_disk.endurance_utilization': {
    kind: 'gauge',
    unit: '1',
    description: 'What remains of the endurance of a drive.',
  },
  'hw.physical_disk.smart': { kind: 'gauge', unit: '1', description: 'Values of the SMART log of a drive.' },
  'hw.status': {
    kind: 'updowncounter',
    unit: '1',
    description: 'State of an NVMe controller: 1 for the one that it is in.',
  },
} as const satisfies Record<string, MetricDeclaration>
type Metric = keyof typeof emits

const config = z.strictObject({
  interval: duration.prefault('30s').describe('Time between readings.'),
  smart: duration
    .prefault('5m')
    .describe('Time between readings of SMART logs of NVMe drives, which takes root; 0 for none.'),
  most: z.int().min(1).max(8192).default(1024).describe('Most PCI devices to read.'),
  root: z
    .strictObject({
      sys: z.string().default('/sys').describe('Where sysfs is mounted.'),
      dev: z.string().default('/dev').describe('Where NVMe drives have their files.'),
    })
    .prefault({})
    .describe('Roots, for a collector in a container.'),
})
type Config = z.output<typeof config>

interface Point {
  name: Metric
  value: bigint | number
  attributes: Attributes
}

function memoryPoints(sys: string): Point[] {
  const modules = readEdac(sys)
  return modules.flatMap(({ id, name, parent, corrected, uncorrected }) => {
    const about = {
      'hw.id': id,
      'hw.name': name,
      'hw.type': 'memory',
      ...(parent && { 'hw.parent': parent }),
    }
    const counts = { corrected, uncorrected }
    return Object.entries(counts).flatMap(([type, value]): Point[] =>
      value === undefined ? [] : [{ name: 'hw.errors', value, attributes: { ...about, 'error.type': type } }],
    )
  })
}

async function pciPoints({ root, most }: Config): Promise<Point[]> {
  const points: Point[] = []
  for (const device of findPciDevices(root.sys, most)) {
    await rest()
    const about = { 'hw.id': device.address, 'hw.type': hwTypeOf(device) }
    for (const { severity, total, kinds } of readAer(device)) {
      const type = `pcie.${severity}`
      points.push({ name: 'hw.errors', value: total, attributes: { ...about, 'error.type': type } })
      for (const [kind, value] of kinds) {
        const attributes = { ...about, 'error.type': kind, 'dpu.pci.severity': severity }
        points.push({ name: 'dpu.pci.errors', value, attributes })
      }
    }
  }
  return points
}

/** Documentation/ABI/stable/sysfs-nvme and drivers/nvme/host/core.c, `nvme_sysfs_show_state`. */
const nvmeStates: Readonly<Record<string, 'ok' | 'degraded' | 'failed'>> = {
  live: 'ok',
  new: 'degraded',
  resetting: 'degraded',
  connecting: 'degraded',
  deleting: 'degraded',
  'deleting (no IO)': 'failed',
  dead: 'failed',
}
const states = ['ok', 'degraded', 'predicted_failure', 'failed'] as const

interface Drive {
  name: string
  state: (typeof states)[number]
  about: Attributes
}

function findDrives(sys: string): Drive[] {
  const folder = join(sys, 'class/nvme')
  const names = listFolder(folder).filter((one) => /^nvme\d+$/.test(one))
  return names.slice(0, 256).flatMap((name): Drive[] => {
    const text = (file: string) => readText(join(folder, name, file))
    const [model, serial, firmware] = [text('model'), text('serial'), text('firmware_rev')]
    const device = linkName(join(folder, name, 'device'))
    const state = nvmeStates[text('state') ?? '']
    const about: Attributes = {
      // The number of a controller changes with the order in which they were found.
      'hw.id': device === undefined ? name : `nvme@${device}`,
      'hw.name': name,
      ...(model && { 'hw.model': model }),
      ...(serial && { 'hw.serial_number': serial }),
      ...(firmware && { 'hw.firmware_version': firmware }),
    }
    return state === undefined ? [] : [{ name, state, about }]
  })
}

/** State and health of a drive; of one that warns of itself a failure is foreseen. */
export function drivePoints({ state, about }: Drive, health: NvmeHealth | undefined): Point[] {
  const controller = { ...about, 'hw.type': 'disk_controller' }
  const isWarning = state === 'ok' && health !== undefined && health.criticalWarning !== 0
  const now = isWarning ? 'predicted_failure' : state
  const points = states.map((one): Point => ({
    name: 'hw.status',
    value: one === now ? 1n : 0n,
    attributes: { ...controller, 'hw.state': one },
  }))
  if (!health) return points
  const disk = { ...about, 'hw.type': 'physical_disk' }
  const { availableSpare, used, counts, mediaErrors, criticalWarning } = health
  points.push({
    name: 'hw.physical_disk.endurance_utilization',
    value: Math.max(0, 100 - used) / 100,
    attributes: { ...disk, 'hw.physical_disk.state': 'remaining' },
  })
  const smart: [string, bigint][] = [
    ['critical_warning', BigInt(criticalWarning)],
    ['available_spare', BigInt(availableSpare)],
    ['percentage_used', BigInt(used)],
    ...counts,
  ]
  for (const [attribute, value] of smart) {
    const attributes = { ...disk, 'hw.physical_disk.smart_attribute': attribute }
    points.push({ name: 'hw.physical_disk.smart', value, attributes })
  }
  if (mediaErrors !== undefined) {
    points.push({ name: 'hw.errors', value: mediaErrors, attributes: { ...disk, 'error.type': 'media' } })
  }
  return points
}

export class ErrorsReader {
  readonly #config: Config
  readonly #context: Context
  #libc: Libc | undefined
  #isSmart: boolean
  readonly #health = new Map<string, { atMs: number; health: NvmeHealth | undefined }>()

  constructor(settings: Config, context: Context) {
    this.#config = settings
    this.#context = context
    this.#isSmart = settings.smart > 0
  }

  /** One reading, sorted into Records by class. */
  async read(): Promise<Records[]> {
    const { sys } = this.#config.root
    const [pci, drives] = await Promise.all([pciPoints(this.#config), this.#drives(sys)])
    const points = [...memoryPoints(sys), ...pci, ...drives]
    const readings = new Readings({
      scope: { name: 'hardware_errors' },
      declared: emits,
      device: this.#context.device,
      resource: this.#context.resource({ 'service.name': 'dpulse' }),
      timeUnixNano: this.#context.clock.nowUnixNano(),
    })
    const order = Object.keys(emits)
    const sorted = points.toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name))
    for (const { name, value, attributes } of sorted) readings.add(name, value, attributes)
    return readings.finish()
  }

  async #drives(sys: string): Promise<Point[]> {
    const points: Point[] = []
    // One after the other: each may take its time.
    for (const drive of findDrives(sys)) points.push(...drivePoints(drive, await this.#healthOf(drive)))
    return points
  }

  /** Asked anew only now and then. */
  async #healthOf({ name, state }: Drive): Promise<NvmeHealth | undefined> {
    const nowMs = this.#context.clock.elapsedMs()
    const known = this.#health.get(name)
    if (!this.#isSmart || state !== 'ok') return undefined
    if (known && nowMs - known.atMs < this.#config.smart) return known.health
    const health = await this.#ask(join(this.#config.root.dev, name))
    this.#health.set(name, { atMs: nowMs, health })
    return health
  }

  async #ask(device: string): Promise<NvmeHealth | undefined> {
    try {
      this.#libc ??= await loadLibc()
      return await readHealth(this.#libc, device)
    } catch (error) {
      this.#isSmart = false
      this.#context.log.warn('SMART logs cannot be read', { device, reason: messageOf(error) })
      return undefined
    }
  }
}

export function detectErrors(sys: string): Detected<z.input<typeof config>> {
  const isCounted =
    readEdac(sys).length > 0 ||
    listFolder(join(sys, 'class/nvme')).length > 0 ||
    findPciDevices(sys, 1024).some((device) => readAer(device).length > 0)
  return isCounted
    ? { config: {} }
    : { leftOut: 'no EDAC driver, NVMe controller or PCI device that reports errors on this machine' }
}

export default defineSource({
  name: 'hardware_errors',
  summary: 'Errors that the hardware counts: memory (EDAC), PCI Express (AER), NVMe drives (state, SMART).',
  config,
  emits,
  create: (settings, context) => ({
    async run(emit, signal) {
      const reader = new ErrorsReader(settings, context)
      context.ready()
      await context.clock.every(settings.interval, signal, async () => {
        const records = await reader.read()
        if (!signal.aborted) await Promise.all(records.map((one) => emit(one)))
      })
    },
  }),
  detect: () => Promise.resolve(detectErrors('/sys')),
})
