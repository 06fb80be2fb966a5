// Source of the PCI devices of this machine: what they are, how wide and fast their links run against what both ends can,
// and how many virtual functions they have.
import { join } from 'node:path'
import * as z from 'zod'
import { Readings, defineSource, duration } from '../contract/index.ts'
import type { Attributes, Context, Detected, MetricDeclaration, Records } from '../contract/index.ts'
import { gauge, own } from '../protocols/declared.ts'
import { describePci, findPciDevices, readPci } from '../protocols/pci.ts'
import { selection, selects } from '../protocols/proc-selection.ts'
import { rest } from '../protocols/sysfs.ts'

const emits = {
  'dpu.pci.device': gauge('1', 'A device, 1: its attributes say what it is.', 'capability'),
  'dpu.pci.link.speed': own('{transfer}/s', 'Transfers a second on each lane of the link.'),
  'dpu.pci.link.speed.limit': own('{transfer}/s', 'The most that both ends of the link can.'),
  'dpu.pci.link.width': own('{lane}', 'Lanes of the link.'),
  'dpu.pci.link.width.limit': own('{lane}', 'The most that both ends of the link can.'),
  'dpu.pci.link.degraded': own('1', '1 where the link is narrower or slower than both of its ends can.'),
  'dpu.pci.sriov.functions': gauge('{function}', 'Virtual functions that there are.', 'resource'),
  'dpu.pci.sriov.functions.limit': gauge('{function}', 'The most that there can be.', 'resource'),
} as const satisfies Record<string, MetricDeclaration>
type Metric = keyof typeof emits

const config = z.strictObject({
  interval: duration.prefault('1m').describe('Time between readings.'),
  devices: selection('devices', []).describe('Which devices to read, by address, such as 0000:03:00.*.'),
  most: z
    .int()
    .min(1)
    .max(8192)
    .default(1024)
    .describe('Most devices to read; a DPU may have a thousand virtual functions.'),
  root: z
    .strictObject({ sys: z.string().default('/sys').describe('Where sysfs is mounted.') })
    .prefault({})
    .describe('Roots, for a collector in a container.'),
})
type Config = z.output<typeof config>

/** One reading, sorted into Records by class. */
export async function readPciDevices(settings: Config, context: Context): Promise<Records[]> {
  const wanted = selects(settings.devices)
  const devices = findPciDevices(settings.root.sys, settings.most)
  const points: { name: Metric; value: bigint; attributes: Attributes }[] = []
  for (const device of devices.filter((one) => wanted(one.address))) {
    await rest()
    const { link, limit, vfs, vfsLimit } = readPci(device)
    const attributes = { 'hw.id': device.address }
    const add = (name: Metric, value: bigint | undefined, more: Attributes = attributes) => {
      if (value !== undefined) points.push({ name, value, attributes: more })
    }
    add('dpu.pci.device', 1n, describePci(device))
    add('dpu.pci.link.speed', link?.speed)
    add('dpu.pci.link.width', link?.width)
    add('dpu.pci.link.speed.limit', limit?.speed)
    add('dpu.pci.link.width.limit', limit?.width)
    if (link && limit) {
      add('dpu.pci.link.degraded', link.speed < limit.speed || link.width < limit.width ? 1n : 0n)
    }
    add('dpu.pci.sriov.functions', vfs)
    add('dpu.pci.sriov.functions.limit', vfsLimit)
  }
  const readings = new Readings({
    scope: { name: 'pci' },
    declared: emits,
    device: context.device,
    resource: context.resource({ 'service.name': 'dpulse' }),
    timeUnixNano: context.clock.nowUnixNano(),
  })
  const order = Object.keys(emits)
  for (const { name, value, attributes } of points.toSorted(
    (a, b) => order.indexOf(a.name) - order.indexOf(b.name),
  )) {
    readings.add(name, value, attributes)
  }
  return readings.finish()
}

export function detectPci(sys: string): Detected<z.input<typeof config>> {
  const devices = findPciDevices(sys, 1)
  return devices.length > 0
    ? { config: {} }
    : { leftOut: `no PCI devices in ${join(sys, 'bus/pci/devices')}` }
}

export default defineSource({
  name: 'pci',
  summary:
    'PCI devices: what they are, width and speed of their links against the maximum, virtual functions.',
  config,
  emits,
  create: (settings, context) => ({
    async run(emit, signal) {
      context.ready()
      await context.clock.every(settings.interval, signal, async () => {
        const records = await readPciDevices(settings, context)
        if (!signal.aborted) await Promise.all(records.map((one) => emit(one)))
      })
    },
  }),
  detect: () => Promise.resolve(detectPci('/sys')),
})
