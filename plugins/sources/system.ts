// Source of this machine's own readings from /proc and /sys: what it uses and what it suffers from.
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import { Readings, defineSource, duration } from '../contract/index.ts'
import type { Attributes, Context, Records } from '../contract/index.ts'
import { disk, load, memory, network, paging, pressure, processes, uptime } from '../protocols/proc-groups.ts'
import {
  mountPointsOfOthers,
  systemMetrics,
  virtualDisks,
  virtualFileSystems,
  virtualInterfaces,
} from '../protocols/proc-metrics.ts'
import { Reading } from '../protocols/proc-reading.ts'
import { selection, selects } from '../protocols/proc-selection.ts'
import { Spaces } from '../protocols/proc-space.ts'
import { ProcFiles, cpuModes, integer, parseStat } from '../protocols/proc.ts'
import type { CpuTimes, Stat } from '../protocols/proc.ts'

const groups = [
  'cpu',
  'load',
  'memory',
  'paging',
  'disk',
  'filesystem',
  'network',
  'pressure',
  'processes',
  'uptime',
] as const
type Group = (typeof groups)[number]

const config = z.strictObject({
  interval: duration.prefault('15s').describe('Time between readings.'),
  groups: z
    .array(z.enum(groups))
    .min(1)
    .default([...groups])
    .describe('What to read.'),
  per_cpu: z
    .boolean()
    .default(false)
    .describe('Read each logical CPU, with its clock, instead of their sum.'),
  disks: selection('block devices', virtualDisks).describe('Which block devices to read.'),
  partitions: z.boolean().default(false).describe('Read partitions beside whole devices.'),
  filesystem_types: selection('types of file systems', virtualFileSystems).describe(
    'Which types of file systems to read; those over a network can make a reader wait.',
  ),
  mount_points: selection('mount points', mountPointsOfOthers).describe('Which mount points to read.'),
  interfaces: selection('interfaces', virtualInterfaces).describe('Which network interfaces to read.'),
  most: z
    .int()
    .min(1)
    .max(4096)
    .default(256)
    .describe('Most disks, file systems and interfaces to read, of each kind; the first by name.'),
  root: z
    .strictObject({
      proc: z.string().default('/proc').describe('Where procfs is mounted.'),
      sys: z.string().default('/sys').describe('Where sysfs is mounted.'),
      files: z.string().default('/').describe('Where the root of the machine is mounted.'),
    })
    .prefault({})
    .describe('Roots, for a collector in a container.'),
})
type Config = z.output<typeof config>

const scope = { name: 'system' }

/** Reads the machine. Holds what one reading needs of the one before. */
export class SystemReader {
  readonly #config: Config
  readonly #context: Context
  readonly #files: ProcFiles
  readonly #spaces: Spaces
  readonly #disk: (name: string) => boolean
  readonly #interface: (name: string) => boolean
  readonly #lastTimes = new Map<string, CpuTimes>()
  #cores: { online: number; count: bigint | undefined } | undefined
  #bootUnixNano: bigint | undefined

  constructor(settings: Config, context: Context) {
    this.#config = settings
    this.#context = context
    this.#files = new ProcFiles((path, cause) => {
      const { code, message } = cause as NodeJS.ErrnoException
      if (code === 'ENOENT') context.log.info('this machine does not have it', { path })
      else context.log.warn('cannot be read', { path, reason: message })
    })
    this.#spaces = new Spaces(selects(settings.filesystem_types), selects(settings.mount_points))
    this.#disk = selects(settings.disks)
    this.#interface = selects(settings.interfaces)
  }

  /** One reading; all of its points share one time. */
  async read(signal: AbortSignal): Promise<Records[]> {
    const { root, most, partitions, groups: wanted } = this.#config
    const now = this.#context.clock.nowUnixNano()
    const text = this.#files.read(join(root.proc, 'stat'))
    const stat = text === undefined ? undefined : parseStat(text)
    const start = this.#startOfCounters(stat, now)
    const readings = new Readings({
      scope,
      declared: systemMetrics,
      device: this.#context.device,
      resource: this.#context.resource({ 'service.name': 'dpulse' }),
      timeUnixNano: now,
      ...(start === undefined ? {} : { startUnixNano: start }),
    })
    const reading = new Reading(readings, this.#files, root, most, stat)
    const readers: Record<Group, () => void | Promise<void>> = {
      cpu: () => this.#cpu(reading),
      load: () => load(reading),
      memory: () => memory(reading),
      paging: () => paging(reading),
      disk: () => disk(reading, this.#disk, partitions),
      filesystem: () => this.#spaces.read(reading, signal),
      network: () => network(reading, this.#interface),
      pressure: () => pressure(reading),
      processes: () => processes(reading),
      uptime: () => uptime(reading),
    }
    for (const group of wanted) await readers[group]()
    return readings.finish()
  }

  /** The kernel derives it from the wall clock: it moves with each correction, though the counters do not start anew. */
  #startOfCounters(stat: Stat | undefined, now: bigint): bigint | undefined {
    if (this.#bootUnixNano === undefined && stat?.bootSeconds !== undefined) {
      this.#bootUnixNano = stat.bootSeconds * 1_000_000_000n
    }
    return this.#bootUnixNano !== undefined && this.#bootUnixNano < now ? this.#bootUnixNano : undefined
  }

  #cpu(reading: Reading): void {
    const { stat } = reading
    if (!stat?.total) return
    const measured: { key: string; which: Attributes; times: CpuTimes }[] = this.#config.per_cpu
      ? [...stat.cpus].map(([cpu, times]) => ({ key: `${cpu}`, which: { 'cpu.logical_number': cpu }, times }))
      : [{ key: '', which: {}, times: stat.total }]
    for (const { which, times } of measured) {
      for (const mode of cpuModes) reading.add('system.cpu.time', times[mode], { ...which, 'cpu.mode': mode })
    }
    for (const { key, which, times } of measured) this.#utilization(reading, key, which, times)
    if (this.#config.per_cpu) {
      for (const cpu of stat.cpus.keys()) {
        const kHz = integer(reading.sys(`devices/system/cpu/cpu${cpu}/cpufreq/scaling_cur_freq`))
        if (kHz !== undefined) reading.add('system.cpu.frequency', kHz * 1000n, { 'cpu.logical_number': cpu })
      }
    }
    reading.add('system.cpu.logical.count', BigInt(stat.cpus.size))
    reading.add('system.cpu.physical.count', this.#coreCount(reading, stat))
    reading.add('dpu.cpu.context_switches', stat.contextSwitches)
    reading.add('dpu.cpu.interrupts', stat.interrupts)
  }

  #utilization(reading: Reading, key: string, which: Attributes, times: CpuTimes): void {
    const last = this.#lastTimes.get(key)
    this.#lastTimes.set(key, times)
    if (!last) return
    // The kernel's idle and iowait may step back a little.
    const spent = cpuModes.map((mode) => Math.max(0, Math.round((times[mode] - last[mode]) * 1000)))
    const all = spent.reduce((sum, ms) => sum + ms, 0)
    if (all === 0) return
    for (const [index, mode] of cpuModes.entries()) {
      reading.add('system.cpu.utilization', (spent[index] ?? 0) / all, { ...which, 'cpu.mode': mode })
    }
  }

  /** Cores change only with the CPUs that are online, and asking takes three files for each. */
  #coreCount(reading: Reading, { cpus }: Stat): bigint | undefined {
    if (this.#cores?.online === cpus.size) return this.#cores.count
    const cores = new Set<string>()
    for (const cpu of cpus.keys()) {
      const of = (file: string) => reading.sys(`devices/system/cpu/cpu${cpu}/topology/${file}`)
      const core = of('core_id')
      if (core === undefined) break
      cores.add(`${of('physical_package_id')}:${core}:${of('core_cpus_list')}`)
    }
    this.#cores = { online: cpus.size, count: cores.size > 0 ? BigInt(cores.size) : undefined }
    return this.#cores.count
  }
}

export default defineSource({
  name: 'system',
  summary:
    'CPU, memory, paging, disks, file systems, network, load, pressure, processes and uptime of this machine.',
  config,
  emits: systemMetrics,
  create: (settings, context) => ({
    async run(emit, signal) {
      const reader = new SystemReader(settings, context)
      context.ready()
      await context.clock.every(settings.interval, signal, async () => {
        const records = await reader.read(signal)
        if (!signal.aborted) await Promise.all(records.map((one) => emit(one)))
      })
    },
  }),
  async detect() {
    try {
      await access('/proc/stat')
      return { config: {} }
    } catch {
      return { leftOut: 'this machine has no /proc/stat (it is not Linux)' }
    }
  },
})
