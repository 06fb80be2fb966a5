// Source of errors that the hardware of this machine counts: memory by EDAC, PCI Express by its advanced error reporting,
// and whether NVMe controllers live.
import { join } from 'node:path'
import * as z from 'zod'
import { Readings, defineSource, duration } from '../contract/index.ts'
import type { Attributes, Context, Detected, MetricDeclaration, Records } from '../contract/index.ts'
import { readEdac } from '../protocols/edac.ts'
import { findPciDevices, hwTypeOf, readAer } from '../protocols/pci.ts'
import { linkName, listFolder, readText } from '../protocols/sysfs.ts'

const emits = {
  'hw.errors': { kind: 'counter', unit: '{error}', description: 'Errors, by kind.' },
  'dpu.pci.errors': {
    kind: 'counter',
    unit: '{error}',
    description: 'Errors of PCI Express by their name; only those that happened.',
  },
  'hw.status': {
    kind: 'updowncounter',
    unit: '1',
    description: 'State of an NVMe controller: 1 for the one that it is in.',
  },
} as const satisfies Record<string, MetricDeclaration>
type Metric = keyof typeof emits

const config = z.strictObject({
  interval: duration.prefault('30s').describe('Time between readings.'),
  most: z.int().min(1).max(8192).default(1024).describe('Most PCI devices to read.'),
  root: z
    .strictObject({ sys: z.string().default('/sys').describe('Where sysfs is mounted.') })
    .prefault({})
    .describe('Roots, for a collector in a container.'),
})
type Config = z.output<typeof config>

interface Point {
  name: Metric
  value: bigint
  attributes: Attributes
}

async function memoryPoints(sys: string): Promise<Point[]> {
  const modules = await readEdac(sys)
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
  for (const device of await findPciDevices(root.sys, most)) {
    const about = { 'hw.id': device.address, 'hw.type': hwTypeOf(device) }
    for (const { severity, total, kinds } of await readAer(device)) {
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
const states = ['ok', 'degraded', 'failed'] as const

async function nvmePoints(sys: string): Promise<Point[]> {
  const folder = join(sys, 'class/nvme')
  const points: Point[] = []
  for (const name of (await listFolder(folder)).filter((one) => /^nvme\d+$/.test(one)).slice(0, 256)) {
    const at = join(folder, name)
    const state = nvmeStates[(await readText(join(at, 'state'))) ?? '']
    if (state === undefined) continue
    const [model, serial, firmware, device] = await Promise.all([
      readText(join(at, 'model')),
      readText(join(at, 'serial')),
      readText(join(at, 'firmware_rev')),
      linkName(join(at, 'device')),
    ])
    const about: Attributes = {
      // The number of a controller changes with the order in which they were found.
      'hw.id': device === undefined ? name : `nvme@${device}`,
      'hw.name': name,
      'hw.type': 'disk_controller',
      ...(model && { 'hw.model': model }),
      ...(serial && { 'hw.serial_number': serial }),
      ...(firmware && { 'hw.firmware_version': firmware }),
    }
    for (const one of states) {
      points.push({
        name: 'hw.status',
        value: one === state ? 1n : 0n,
        attributes: { ...about, 'hw.state': one },
      })
    }
  }
  return points
}

/** One reading, sorted into Records by class. */
export async function readErrors(settings: Config, context: Context): Promise<Records[]> {
  const { sys } = settings.root
  const points = (await Promise.all([memoryPoints(sys), pciPoints(settings), nvmePoints(sys)])).flat()
  const readings = new Readings({
    scope: { name: 'hardware_errors' },
    declared: emits,
    device: context.device,
    resource: context.resource({ 'service.name': 'dpulse' }),
    timeUnixNano: context.clock.nowUnixNano(),
  })
  const order = Object.keys(emits)
  const sorted = points.toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name))
  for (const { name, value, attributes } of sorted) readings.add(name, value, attributes)
  return readings.finish()
}

export async function detectErrors(sys: string): Promise<Detected<z.input<typeof config>>> {
  const [memory, drives, devices] = await Promise.all([
    readEdac(sys),
    listFolder(join(sys, 'class/nvme')),
    findPciDevices(sys, 1024),
  ])
  if (memory.length > 0 || drives.length > 0) return { config: {} }
  for (const device of devices) if ((await readAer(device)).length > 0) return { config: {} }
  return { leftOut: 'no EDAC driver, NVMe controller or PCI device that reports errors on this machine' }
}

export default defineSource({
  name: 'hardware_errors',
  summary:
    'Errors that the hardware counts: memory (EDAC), PCI Express (AER), and the state of NVMe controllers.',
  config,
  emits,
  create: (settings, context) => ({
    async run(emit, signal) {
      context.ready()
      await context.clock.every(settings.interval, signal, async () => {
        const records = await readErrors(settings, context)
        if (!signal.aborted) await Promise.all(records.map((one) => emit(one)))
      })
    },
  }),
  detect: () => detectErrors('/sys'),
})
