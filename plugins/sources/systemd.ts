// Source of the state of systemd's units and of what they use. States come from `systemctl`, use from the files of
// control groups; where systemd does not answer, the groups of services are found without it.
import { basename } from 'node:path'
import * as z from 'zod'
import { PermanentError, Readings, defineSource, duration, messageOf } from '../contract/index.ts'
import type { Attributes, Context, Detected, MetricDeclaration, Records } from '../contract/index.ts'
import { Cgroups } from '../protocols/cgroups.ts'
import { LogBatches } from '../protocols/lines/batches.ts'
import { selects } from '../protocols/proc-selection.ts'
import { ProcFiles } from '../protocols/proc.ts'
import { ask, isInstalled } from '../protocols/programs.ts'
import { parseUnits, unitProperties } from '../protocols/systemd.ts'
import type { Unit } from '../protocols/systemd.ts'

const emits = {
  'systemd.unit.state': {
    kind: 'updowncounter',
    unit: '1',
    description: 'State of a unit: 1 for the one that it is in, 0 for those in which it was.',
  },
  'systemd.service.restarts': { kind: 'counter', unit: '{restarts}', description: 'Automatic restarts.' },
  'systemd.service.cpu.time': { kind: 'counter', unit: 'us', description: 'CPU time by mode.' },
  'dpu.systemd.memory.usage': { kind: 'updowncounter', unit: 'By', description: 'Memory, caches included.' },
  'dpu.systemd.tasks': { kind: 'updowncounter', unit: '{task}', description: 'Processes and threads.' },
  'dpu.systemd.io': { kind: 'counter', unit: 'By', description: 'Bytes read from and written to disks.' },
} as const satisfies Record<string, MetricDeclaration>

const patterns = z.array(z.string().min(1).max(200))

const config = z.strictObject({
  interval: duration.prefault('30s').describe('Time between readings.'),
  units: patterns
    .min(1)
    .max(50)
    .default(['*.service'])
    .describe(
      'Patterns (* and ?) of the units to read. Those that never ran are left out, unless named in full.',
    ),
  exclude: patterns.max(50).default([]).describe('Patterns of units to leave out.'),
  most: z.int().min(1).max(4096).default(256).describe('Most units to read; the first by name.'),
  timeout: duration.prefault('10s').describe('Longest wait for systemd.'),
  program: z.string().min(1).default('systemctl').describe('The program that asks systemd.'),
  root: z
    .strictObject({
      cgroup: z.string().default('/sys/fs/cgroup').describe('Where control groups are mounted.'),
    })
    .prefault({})
    .describe('Roots, for a collector in a container.'),
})
type Config = z.output<typeof config>

const scope = { name: 'systemd' }
const mostOutput = 16 * 1024 * 1024
/** Severities of OTel for what a unit became. */
const info = 9
const error = 17

/** Reads the units. Holds the states that each was in. */
export class UnitReader {
  readonly #config: Config
  readonly #context: Context
  readonly #groups: Cgroups
  readonly #excluded: (name: string) => boolean
  /** The last state comes last. */
  readonly #states = new Map<string, Set<string>>()
  #isFirst = true
  #isAsked = true
  #told = ''

  constructor(settings: Config, context: Context) {
    this.#config = settings
    this.#context = context
    this.#groups = new Cgroups(new ProcFiles(() => undefined), settings.root.cgroup)
    this.#excluded = selects({ include: settings.exclude, exclude: [] })
  }

  async read(signal: AbortSignal): Promise<Records[]> {
    const found = (await this.#ask(signal)) ?? this.#find()
    const now = this.#context.clock.nowUnixNano()
    const units = found
      .filter((unit) => unit.isLoaded && !this.#excluded(unit.id) && this.#isOfInterest(unit))
      .toSorted((a, b) => (a.id < b.id ? -1 : 1))
    if (units.length > this.#config.most)
      this.#tell(`${units.length} units found, ${this.#config.most} are read`)
    const events = new LogBatches({ scope, device: this.#context.device, resource: this.#resource() })
    events.observedAt(now)
    const chosen = units.slice(0, this.#config.most)
    for (const unit of chosen) this.#changed(unit, events)
    this.#vanished(chosen, events)
    this.#isFirst = false
    return [...events.finish(), ...this.#points(chosen, now)]
  }

  /** Undefined where systemd cannot be asked; said once. */
  async #ask(signal: AbortSignal): Promise<Unit[] | undefined> {
    const { program, units, timeout } = this.#config
    if (!this.#isAsked) return undefined
    try {
      const parameters = ['show', '--no-pager', `--property=${unitProperties.join(',')}`, '--', ...units]
      return parseUnits(await ask(program, parameters, { timeoutMs: timeout, mostBytes: mostOutput, signal }))
    } catch (cause) {
      if (signal.aborted) throw cause
      // What is not installed will not be; a bus may come later.
      if (cause instanceof PermanentError) this.#isAsked = false
      this.#tell(
        `systemd does not answer, so units are known by their control groups only: ${messageOf(cause)}`,
      )
      return undefined
    }
  }

  #find(): Unit[] {
    const isWanted = selects({ include: this.#config.units, exclude: [] })
    return this.#groups
      .services()
      .map((group) => ({ ...unknown, id: basename(group), group }))
      .filter(({ id }) => isWanted(id))
  }

  #isOfInterest({ id, state }: Unit): boolean {
    return state !== 'inactive' || this.#states.has(id) || this.#config.units.includes(id)
  }

  #changed(unit: Unit, events: LogBatches): void {
    const states = this.#states.get(unit.id) ?? new Set()
    const before = [...states].at(-1)
    states.delete(unit.state)
    states.add(unit.state)
    this.#states.set(unit.id, states)
    if (before === unit.state || (this.#isFirst && unit.state !== 'failed')) return
    const isBad = unit.state === 'failed'
    const record = events.begin(isBad ? error : info, 'dpu.systemd.unit_state')
    record.body(`${unit.id} is ${unit.state}${isBad && unit.result !== '' ? ` (${unit.result})` : ''}`)
    record.attribute('systemd.unit.name', unit.id)
    record.attribute('systemd.unit.active_state', unit.state)
    if (unit.substate !== '') record.attribute('systemd.unit.sub_state', unit.substate)
    if (before !== undefined) record.attribute('dpu.systemd.previous_state', before)
    if (isBad && unit.result !== '') record.attribute('error.type', unit.result)
    events.end()
  }

  /** Units that systemd forgot, as it does with those that are inactive and that nobody needs. */
  #vanished(units: readonly Unit[], events: LogBatches): void {
    const here = new Set(units.map(({ id }) => id))
    for (const [id, states] of this.#states) {
      if (here.has(id)) continue
      if ([...states].at(-1) !== 'inactive') {
        this.#changed({ ...unknown, id, state: 'inactive' }, events)
      }
      this.#states.delete(id)
    }
  }

  #points(units: readonly Unit[], now: bigint): Records[] {
    const readings = new Readings({
      scope,
      declared: emits,
      device: this.#context.device,
      resource: this.#resource(),
      timeUnixNano: now,
    })
    const used = units.map((unit) => ({
      unit,
      use: unit.group === '' ? undefined : this.#groups.use(unit.group),
    }))
    const add = (
      metric: keyof typeof emits,
      id: string,
      value: bigint | undefined,
      more?: Attributes,
    ): void => {
      if (value !== undefined) readings.add(metric, value, { 'systemd.unit.name': id, ...more })
    }
    for (const { id } of units) {
      const states = [...(this.#states.get(id) ?? [])]
      for (const [index, state] of states.entries()) {
        const value = index === states.length - 1 ? 1n : 0n
        add('systemd.unit.state', id, value, { 'systemd.unit.active_state': state })
      }
    }
    for (const { id, restarts } of units) add('systemd.service.restarts', id, restarts)
    for (const { unit, use } of used) {
      add('systemd.service.cpu.time', unit.id, use?.userMicro, { 'cpu.mode': 'user' })
      add('systemd.service.cpu.time', unit.id, use?.systemMicro, { 'cpu.mode': 'system' })
    }
    for (const { unit, use } of used) add('dpu.systemd.memory.usage', unit.id, use?.memory ?? unit.memory)
    for (const { unit, use } of used) add('dpu.systemd.tasks', unit.id, use?.tasks ?? unit.tasks)
    for (const { unit, use } of used) {
      add('dpu.systemd.io', unit.id, use?.read ?? unit.read, { 'disk.io.direction': 'read' })
      add('dpu.systemd.io', unit.id, use?.written ?? unit.written, { 'disk.io.direction': 'write' })
    }
    return readings.finish()
  }

  #resource(): Uint8Array {
    return this.#context.resource({ 'service.name': 'systemd' })
  }

  #tell(reason: string): void {
    if (this.#told === reason) return
    this.#told = reason
    this.#context.log.warn('units cannot be read in full', { reason })
  }
}

const unknown: Unit = {
  id: '',
  isLoaded: true,
  state: 'active',
  substate: '',
  result: '',
  restarts: undefined,
  group: '',
  memory: undefined,
  tasks: undefined,
  read: undefined,
  written: undefined,
}

/** Whether there is a systemd to ask, or control groups as it makes them. */
export async function detectSystemd(
  program: string,
  cgroup: string,
): Promise<Detected<z.input<typeof config>>> {
  const groups = new Cgroups(new ProcFiles(() => undefined), cgroup)
  if (groups.services().length > 0) return { config: {} }
  if (!isInstalled(program)) return { leftOut: `no program ${program}, and no control groups of services` }
  try {
    const signal = AbortSignal.timeout(4000)
    await ask(program, ['show', '--property=Version'], { timeoutMs: 3000, mostBytes: 65_536, signal })
    return { config: {} }
  } catch (cause) {
    const [why = ''] = messageOf(cause).split(/\n|\\n|: Command failed/)
    return { leftOut: `systemd does not run this machine: ${why}` }
  }
}

export default defineSource({
  name: 'systemd',
  summary: 'State, restarts, CPU, memory, tasks and I/O of units, and events when their state changes.',
  config,
  emits,
  signals: ['metrics', 'logs'],
  create: (settings, context) => ({
    async run(emit, signal) {
      const reader = new UnitReader(settings, context)
      context.ready()
      await context.clock.every(settings.interval, signal, async () => {
        const records = await reader.read(signal)
        if (!signal.aborted) await Promise.all(records.map((one) => emit(one)))
      })
    },
  }),
  detect: () => detectSystemd('systemctl', '/sys/fs/cgroup'),
})
