// Source of what the firmware of this machine says of its hardware: system, board, BIOS, processors, memory modules, slots.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import { Readings, defineSource, duration, messageOf } from '../contract/index.ts'
import type { Attributes, Context, Detected, MetricDeclaration, Records } from '../contract/index.ts'
import { realSerial, realText, realUuid } from '../protocols/hardware-ids.ts'
import { componentsOf, parseTable } from '../protocols/smbios.ts'
import type { Component } from '../protocols/smbios.ts'
import { readText } from '../protocols/sysfs.ts'

const capability = (
  kind: MetricDeclaration['kind'],
  unit: string,
  description: string,
): MetricDeclaration => ({ kind, unit, description, class: 'capability' })

const emits = {
  'dpu.hardware.component': capability('gauge', '1', 'A part, 1: its attributes say what it is.'),
  'hw.memory.size': capability('updowncounter', 'By', 'Size of a memory module.'),
  'hw.cpu.speed.limit': capability('gauge', 'Hz', 'The most that a processor can.'),
  'dpu.cpu.cores': capability('gauge', '{core}', 'Cores of a processor that are enabled.'),
  'dpu.cpu.threads': capability('gauge', '{thread}', 'Threads of a processor.'),
  'dpu.slot.used': capability('gauge', '1', 'Whether something is in a slot.'),
} as const satisfies Record<string, MetricDeclaration>
type Metric = keyof typeof emits

const config = z.strictObject({
  interval: duration.prefault('1h').describe('Time between readings.'),
  root: z
    .strictObject({ sys: z.string().default('/sys').describe('Where sysfs is mounted.') })
    .prefault({})
    .describe('Roots, for a collector in a container.'),
})
type Config = z.output<typeof config>

/** Kernel and firmware agree on 64 KiB at most before SMBIOS 3; larger tables are no tables. */
const mostTable = 1024 * 1024

/** Without the right to read the table: what the kernel shows to everybody. */
function publicComponents(sys: string): Component[] {
  const text = (file: string) => realText(readText(join(sys, 'class/dmi/id', file), 256))
  const serial = (file: string) => realSerial(text(file))
  const facts: Record<'bios' | 'system' | 'board' | 'chassis', Record<string, string | undefined>> = {
    bios: {
      'hw.vendor': text('bios_vendor'),
      'hw.firmware_version': text('bios_version'),
      'dpu.hardware.date': text('bios_date'),
    },
    system: {
      'hw.vendor': text('sys_vendor'),
      'hw.model': text('product_name') ?? deviceTree(sys, 'model'),
      'dpu.hardware.version': text('product_version'),
      'hw.serial_number': serial('product_serial') ?? realSerial(deviceTree(sys, 'serial-number')),
      'dpu.hardware.uuid': realUuid(text('product_uuid')),
      'dpu.hardware.sku': text('product_sku'),
      'dpu.hardware.family': text('product_family'),
    },
    board: {
      'hw.vendor': text('board_vendor'),
      'hw.model': text('board_name'),
      'dpu.hardware.version': text('board_version'),
      'hw.serial_number': serial('board_serial'),
      'dpu.hardware.asset_tag': text('board_asset_tag'),
    },
    chassis: {
      'hw.vendor': text('chassis_vendor'),
      'dpu.hardware.version': text('chassis_version'),
      'hw.serial_number': serial('chassis_serial'),
      'dpu.hardware.asset_tag': text('chassis_asset_tag'),
    },
  }
  return (Object.keys(facts) as (keyof typeof facts)[]).flatMap((kind): Component[] => {
    const known = Object.entries(facts[kind]).filter((one): one is [string, string] => one[1] !== undefined)
    return known.length === 0 ? [] : [{ id: kind, kind, facts: Object.fromEntries(known) }]
  })
}

/** Boards without SMBIOS, as many on Arm; its texts end with NUL. */
const deviceTree = (sys: string, file: string): string | undefined =>
  realText(
    readText(join(sys, 'firmware/devicetree/base', file), 256)
      ?.replaceAll('\0', '')
      .trim(),
  )

export class SmbiosReader {
  readonly #sys: string
  readonly #context: Context
  #isTold = false

  constructor(settings: Config, context: Context) {
    this.#sys = settings.root.sys
    this.#context = context
  }

  async read(): Promise<Records[]> {
    const readings = new Readings({
      scope: { name: 'smbios' },
      declared: emits,
      device: this.#context.device,
      resource: this.#context.resource({ 'service.name': 'dpulse' }),
      timeUnixNano: this.#context.clock.nowUnixNano(),
    })
    for (const { name, value, attributes } of pointsOf(await this.#components())) {
      readings.add(name, value, attributes)
    }
    return readings.finish()
  }

  async #components(): Promise<Component[]> {
    const path = join(this.#sys, 'firmware/dmi/tables/DMI')
    try {
      const table = await readFile(path)
      if (table.length > mostTable) throw new Error(`a table of ${table.length} bytes`)
      const { structures, isWhole } = parseTable(table)
      if (!isWhole) this.#tell('the table of SMBIOS is damaged', { path, structures: structures.length })
      return componentsOf(structures)
    } catch (error) {
      const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT'
      // Root alone may read it, because of serial numbers.
      if (!isMissing) {
        const reason = `${messageOf(error)}; processors, memory and slots are left out`
        this.#tell('the table of SMBIOS cannot be read', { path, reason })
      }
      return publicComponents(this.#sys)
    }
  }

  #tell(message: string, fields: Record<string, unknown>): void {
    if (!this.#isTold) this.#context.log.warn(message, fields)
    this.#isTold = true
  }
}

/** Of OTel's `hw.type`. */
const types: Readonly<Record<Component['kind'], string>> = {
  bios: 'enclosure',
  system: 'enclosure',
  board: 'enclosure',
  chassis: 'enclosure',
  cpu: 'cpu',
  memory: 'memory',
  slot: 'enclosure',
}

/** Points in the order of their metrics. */
function pointsOf(components: readonly Component[]) {
  const points: { name: Metric; value: bigint; attributes: Attributes }[] = []
  for (const { id, kind, facts, size, cpu, isUsed } of components) {
    const about = { 'hw.id': id, 'hw.type': types[kind] }
    const add = (name: Metric, value: bigint | undefined, more: Attributes = {}) => {
      if (value !== undefined) points.push({ name, value, attributes: { ...about, ...more } })
    }
    add('dpu.hardware.component', 1n, { 'dpu.hardware.kind': kind, ...facts })
    add('hw.memory.size', size)
    add('hw.cpu.speed.limit', cpu?.maxHz, { 'hw.limit_type': 'max' })
    add('dpu.cpu.cores', cpu?.cores)
    add('dpu.cpu.threads', cpu?.threads)
    add('dpu.slot.used', isUsed === undefined ? undefined : isUsed ? 1n : 0n)
  }
  const order = Object.keys(emits)
  return points.toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name))
}

export function detectSmbios(sys: string): Detected<z.input<typeof config>> {
  const found = publicComponents(sys)
  return found.length > 0
    ? { config: {} }
    : { leftOut: `neither SMBIOS nor a device tree in ${sys} says what this machine is` }
}

export default defineSource({
  name: 'smbios',
  summary: 'What the firmware says of the hardware: system, board, BIOS, processors, memory modules, slots.',
  config,
  emits,
  create: (settings, context) => ({
    async run(emit, signal) {
      const reader = new SmbiosReader(settings, context)
      context.ready()
      await context.clock.every(settings.interval, signal, async () => {
        const records = await reader.read()
        if (!signal.aborted) await Promise.all(records.map((one) => emit(one)))
      })
    },
  }),
  detect: () => Promise.resolve(detectSmbios('/sys')),
})
