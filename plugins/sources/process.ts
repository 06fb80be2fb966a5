// Source of what chosen processes use: found by pid file, name, command line or cgroup at each reading.
import { join } from 'node:path'
import * as z from 'zod'
import { Readings, defineSource, duration } from '../contract/index.ts'
import type { Attributes, Context, MetricDeclaration, Records } from '../contract/index.ts'
import { patternProblem } from '../protocols/filter/pattern.ts'
import { emitInGroups } from '../protocols/lines/batches.ts'
import { ProcFiles, parseStat } from '../protocols/proc.ts'
import { ProcessFinder, ticksPerSecond } from '../protocols/processes.ts'
import type { ProcessUse } from '../protocols/processes.ts'

const emits = {
  'dpu.process.count': {
    kind: 'updowncounter',
    unit: '{process}',
    description: 'Processes of a group that run.',
  },
  'process.cpu.time': { kind: 'counter', unit: 's', description: 'CPU time by mode.' },
  'process.memory.usage': { kind: 'updowncounter', unit: 'By', description: 'Memory that is resident.' },
  'process.memory.virtual': { kind: 'updowncounter', unit: 'By', description: 'Address space.' },
  'process.disk.io': { kind: 'counter', unit: 'By', description: 'Bytes read from and written to disks.' },
  'process.thread.count': { kind: 'updowncounter', unit: '{thread}', description: 'Threads.' },
  'process.unix.file_descriptor.count': {
    kind: 'updowncounter',
    unit: '{file_descriptor}',
    description: 'Open files.',
  },
  'process.context_switches': { kind: 'counter', unit: '{context_switch}', description: 'Context switches.' },
  'process.paging.faults': { kind: 'counter', unit: '{fault}', description: 'Page faults.' },
  'process.uptime': { kind: 'gauge', unit: 's', description: 'Time since the start of the process.' },
} as const satisfies Record<string, MetricDeclaration>

const group = z
  .strictObject({
    name: z.string().min(1).max(100).describe('Name of the group, in dpu.process.group.'),
    pid_file: z.string().startsWith('/').optional().describe('File that holds the pid.'),
    executable: z
      .string()
      .min(1)
      .max(200)
      .optional()
      .describe('Pattern (* and ?) of the name of the program.'),
    command: z
      .string()
      .min(1)
      .max(1000)
      .superRefine((source, context) => {
        const problem = patternProblem(source)
        if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
      })
      .optional()
      .describe('Regular expression (RE2) that is found in the command line.'),
    cgroup: z
      .string()
      .min(1)
      .max(500)
      .optional()
      .describe('Pattern of the cgroup, such as /system.slice/openvswitch*.'),
  })
  .refine((one) => Object.values(one).filter((value) => value !== undefined).length === 2, {
    message: 'expected exactly one of pid_file, executable, command, cgroup',
  })

const config = z.strictObject({
  interval: duration.prefault('15s').describe('Time between readings.'),
  processes: z.array(group).min(1).max(100).describe('Groups of processes to read.'),
  most: z
    .int()
    .min(1)
    .max(1000)
    .default(64)
    .describe('Most processes to read, of all groups; the oldest pids first.'),
  root: z
    .strictObject({ proc: z.string().default('/proc').describe('Where procfs is mounted.') })
    .prefault({})
    .describe('Roots, for a collector in a container.'),
})
type Config = z.output<typeof config>

const scope = { name: 'process' }

/** Reads the processes. */
export class ProcessReader {
  readonly #config: Config
  readonly #context: Context
  readonly #files: ProcFiles
  readonly #finder: ProcessFinder
  #bootSeconds: bigint | undefined

  constructor(settings: Config, context: Context) {
    this.#config = settings
    this.#context = context
    this.#files = new ProcFiles((path, cause) =>
      context.log.warn('cannot be read', { path, reason: (cause as Error).message }),
    )
    this.#finder = new ProcessFinder(this.#files, settings.root.proc, settings.processes)
  }

  /** One reading: the counts of the groups, then the processes one by one. */
  read(): Records[] {
    const now = this.#context.clock.nowUnixNano()
    const found = this.#finder.find()
    const counts = this.#readings(now, undefined)
    const all: { name: string; pid: number }[] = []
    for (const [name, pids] of found) {
      counts.add('dpu.process.count', BigInt(pids.length), { 'dpu.process.group': name })
      all.push(...pids.map((pid) => ({ name, pid })))
    }
    const { most } = this.#config
    if (all.length > most) this.#files.tell('processes', new Error(`${all.length} found, ${most} are read`))
    return [
      ...counts.finish(),
      ...all.slice(0, most).flatMap(({ name, pid }) => {
        const use = this.#finder.use(pid)
        return use === undefined ? [] : this.#points(now, name, use)
      }),
    ]
  }

  #points(now: bigint, name: string, use: ProcessUse): Records[] {
    const started = this.#startOf(use)
    const readings = this.#readings(now, started)
    const who = { 'dpu.process.group': name, 'process.pid': use.pid, 'process.executable.name': use.program }
    const add = (metric: keyof typeof emits, value: number | bigint | undefined, more?: Attributes) => {
      if (value !== undefined) readings.add(metric, value, { ...who, ...more })
    }
    add('process.cpu.time', use.user, { 'cpu.mode': 'user' })
    add('process.cpu.time', use.system, { 'cpu.mode': 'system' })
    add('process.memory.usage', use.resident)
    add('process.memory.virtual', use.virtual)
    add('process.disk.io', use.read, { 'disk.io.direction': 'read' })
    add('process.disk.io', use.written, { 'disk.io.direction': 'write' })
    add('process.thread.count', use.threads)
    add('process.unix.file_descriptor.count', use.descriptors)
    add('process.context_switches', use.voluntary, { 'process.context_switch.type': 'voluntary' })
    add('process.context_switches', use.involuntary, { 'process.context_switch.type': 'involuntary' })
    add('process.paging.faults', use.minorFaults, { 'system.paging.fault.type': 'minor' })
    add('process.paging.faults', use.majorFaults, { 'system.paging.fault.type': 'major' })
    if (started !== undefined) add('process.uptime', Number(now - started) / 1e9)
    return readings.finish()
  }

  #startOf({ startTicks }: ProcessUse): bigint | undefined {
    if (this.#bootSeconds === undefined) {
      const text = this.#files.read(join(this.#config.root.proc, 'stat'))
      this.#bootSeconds = text === undefined ? undefined : parseStat(text).bootSeconds
    }
    if (this.#bootSeconds === undefined) return undefined
    return this.#bootSeconds * 1_000_000_000n + (startTicks * 1_000_000_000n) / BigInt(ticksPerSecond)
  }

  #readings(now: bigint, started: bigint | undefined): Readings {
    return new Readings({
      scope,
      declared: emits,
      device: this.#context.device,
      resource: this.#context.resource({ 'service.name': 'dpulse' }),
      timeUnixNano: now,
      ...(started === undefined || started > now ? {} : { startUnixNano: started }),
    })
  }
}

export default defineSource({
  name: 'process',
  summary: 'CPU, memory, disk, threads and files of chosen processes, and how many of them run.',
  config,
  emits,
  create: (settings, context) => ({
    async run(emit, signal) {
      const reader = new ProcessReader(settings, context)
      context.ready()
      await context.clock.every(settings.interval, signal, async () => {
        const records = reader.read()
        if (!signal.aborted) await emitInGroups(emit, records)
      })
    },
  }),
  detect: async () => ({ leftOut: 'only a configuration says which processes to read' }),
})
