// Reading /proc: the files as the kernel writes them (proc(5), Documentation/admin-guide/iostats.rst, accounting/psi.rst),
// parsed into plain values. Whole numbers stay exact: a counter of the kernel is a bigint from its digits on.
import { closeSync, openSync, readSync } from 'node:fs'

/**
 * Reads small files of /proc and /sys, which never wait for a disk, into one buffer. A file that cannot be read is
 * reported once and then is undefined each time, quietly.
 */
export class ProcFiles {
  #buffer = Buffer.allocUnsafe(16 * 1024)
  readonly #told = new Set<string>()
  readonly #report: (path: string, cause: unknown) => void
  static readonly #limit = 4 * 1024 * 1024

  constructor(report: (path: string, cause: unknown) => void) {
    this.#report = report
  }

  read(path: string): string | undefined {
    try {
      return this.peek(path)
    } catch (cause) {
      this.tell(path, cause)
      return undefined
    }
  }

  /** @throws what the system says, each time. */
  peek(path: string): string {
    const file = openSync(path, 'r')
    try {
      let filled = 0
      for (;;) {
        const got = readSync(file, this.#buffer, filled, this.#buffer.length - filled, null)
        if (got === 0) return this.#buffer.toString('latin1', 0, filled)
        filled += got
        if (filled < this.#buffer.length) continue
        if (filled >= ProcFiles.#limit) throw new Error(`${path} is larger than ${ProcFiles.#limit} bytes`)
        this.#buffer = Buffer.concat([this.#buffer, Buffer.allocUnsafe(filled)])
      }
    } finally {
      closeSync(file)
    }
  }

  /** Reports once what a path suffers from. */
  tell(path: string, cause: unknown): void {
    // As many distinct complaints as anyone would read; the map may not grow with names that come and go.
    if (this.#told.has(path) || this.#told.size >= 200) return
    this.#told.add(path)
    this.#report(path, cause)
  }
}

/** Digits to an exact integer; undefined for anything else. */
export const integer = (text: string | undefined): bigint | undefined =>
  text !== undefined && /^-?\d{1,20}$/.test(text) ? BigInt(text) : undefined

const columns = (line: string): string[] => line.trim().split(/\s+/)

/** Clock ticks a second in which the kernel counts CPU time; fixed for user space on every Linux architecture. */
const ticksPerSecond = 100

export const cpuModes = ['user', 'nice', 'system', 'idle', 'iowait', 'interrupt', 'steal'] as const
/** Seconds in each mode; time of guests is in `user` already. */
export type CpuTimes = Record<(typeof cpuModes)[number], number>
export interface Stat {
  total: CpuTimes | undefined
  /** By number of the logical CPU; one that is offline is absent. */
  cpus: Map<number, CpuTimes>
  bootSeconds: bigint | undefined
  contextSwitches: bigint | undefined
  interrupts: bigint | undefined
  forks: bigint | undefined
  blocked: bigint | undefined
}

function cpuTimes(fields: readonly string[]): CpuTimes | undefined {
  const [user = NaN, nice = NaN, system = NaN, idle = NaN, iowait = 0, irq = 0, softirq = 0, steal = 0] =
    fields.slice(1).map(Number)
  const ticks = { user, nice, system, idle, iowait, interrupt: irq + softirq, steal }
  for (const mode of cpuModes) ticks[mode] /= ticksPerSecond
  return Object.values(ticks).every(Number.isFinite) ? ticks : undefined
}

/** /proc/stat */
export function parseStat(text: string): Stat {
  const single = new Map<string, string>()
  const cpus = new Map<number, CpuTimes>()
  let total: CpuTimes | undefined
  for (const line of text.split('\n')) {
    // The line `intr` has a number for each interrupt, thousands of them; only its sum is wanted.
    const fields = columns(line.startsWith('intr ') ? line.slice(0, 40) : line)
    const [name = '', value = ''] = fields
    if (name === 'cpu') total = cpuTimes(fields)
    else if (/^cpu\d+$/.test(name)) {
      const times = cpuTimes(fields)
      if (times) cpus.set(Number(name.slice(3)), times)
    } else single.set(name, value)
  }
  return {
    total,
    cpus,
    bootSeconds: integer(single.get('btime')),
    contextSwitches: integer(single.get('ctxt')),
    interrupts: integer(single.get('intr')),
    forks: integer(single.get('processes')),
    blocked: integer(single.get('procs_blocked')),
  }
}

/** /proc/meminfo: bytes for lines in kB, the bare number for the others (pages). */
export function parseMeminfo(text: string): Map<string, bigint> {
  const found = new Map<string, bigint>()
  for (const line of text.split('\n')) {
    const [, name = '', digits, unit] = /^([^:]+):\s+(\d+)( kB)?/.exec(line) ?? []
    const value = integer(digits)
    if (value !== undefined) found.set(name, unit ? value * 1024n : value)
  }
  return found
}

/** /proc/vmstat and others with a name and a number on each line. */
export function parseNumbers(text: string): Map<string, bigint> {
  const found = new Map<string, bigint>()
  for (const line of text.split('\n')) {
    const [name = '', digits] = line.split(' ')
    const value = integer(digits)
    if (value !== undefined) found.set(name, value)
  }
  return found
}

export interface Swap {
  device: string
  size: bigint
  used: bigint
}

/** Octal escapes with which /proc writes blanks, tabs, newlines and backslashes in paths. */
export const unescape = (path: string): string =>
  path.includes('\\')
    ? Buffer.from(
        path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8) & 255)),
        'latin1',
      ).toString('utf8')
    : Buffer.from(path, 'latin1').toString('utf8')

/** /proc/swaps, in bytes. */
export function parseSwaps(text: string): Swap[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [device = '', , size, used] = columns(line)
      const [all, taken] = [integer(size), integer(used)]
      return all !== undefined && taken !== undefined
        ? [{ device: unescape(device), size: all * 1024n, used: taken * 1024n }]
        : []
    })
}

/** /proc/loadavg: 1, 5 and 15 minutes. */
export function parseLoad(text: string): [number, number, number] | undefined {
  const [one = NaN, five = NaN, fifteen = NaN] = columns(text).slice(0, 3).map(Number)
  return [one, five, fifteen].every(Number.isFinite) ? [one, five, fifteen] : undefined
}

/** /proc/uptime: seconds since the start. */
export function parseUptime(text: string): number | undefined {
  const seconds = Number(columns(text)[0] || NaN)
  return Number.isFinite(seconds) ? seconds : undefined
}

export interface Pressure {
  type: 'some' | 'full'
  /** Shares of the last 10, 60 and 300 seconds, 0 to 1. */
  average10: number
  average60: number
  average300: number
  /** Microseconds stalled since the start. */
  total: bigint
}

/** /proc/pressure/cpu, memory, io, irq */
export function parsePressure(text: string): Pressure[] {
  const line = /^(some|full) avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+) total=(\d+)$/gm
  return [...text.matchAll(line)].map(([, type, ten, sixty, threeHundred, total]) => ({
    type: type as Pressure['type'],
    average10: Number(ten) / 100,
    average60: Number(sixty) / 100,
    average300: Number(threeHundred) / 100,
    total: BigInt(total ?? 0),
  }))
}

export interface DiskCounts {
  operations: bigint
  merged: bigint
  bytes: bigint
  /** Seconds, summed over operations. */
  seconds: number
}
export interface Disk {
  device: string
  read: DiskCounts
  write: DiskCounts
  /** Seconds during which at least one operation was under way. */
  busySeconds: number
}

/** /proc/diskstats, partitions included. A sector has 512 bytes here, whatever the device says. */
export function parseDisks(text: string): Disk[] {
  return text.split('\n').flatMap((line) => {
    const [, , device = '', ...numbers] = columns(line)
    // Kernels before 2.6.25 wrote four numbers for a partition.
    const values = numbers.map(integer)
    if (values.length < 11 || values.includes(undefined)) return []
    const [reads, readMerged, readSectors, readMs, writes, writeMerged, writeSectors, writeMs, , busyMs] =
      values as bigint[]
    const counts = (operations = 0n, merged = 0n, sectors = 0n, ms = 0n): DiskCounts => ({
      operations,
      merged,
      bytes: sectors * 512n,
      seconds: Number(ms) / 1000,
    })
    return [
      {
        device,
        read: counts(reads, readMerged, readSectors, readMs),
        write: counts(writes, writeMerged, writeSectors, writeMs),
        busySeconds: Number(busyMs ?? 0n) / 1000,
      },
    ]
  })
}

export interface Mount {
  /** `major:minor`; the same for two mounts of one file system. */
  id: string
  device: string
  mountPoint: string
  type: string
  mode: 'rw' | 'ro'
}

/** /proc/PID/mountinfo; a mount that a later one hides is left out. */
export function parseMountinfo(text: string): Mount[] {
  const found = new Map<string, Mount>()
  for (const line of text.split('\n')) {
    const [left = '', right] = line.split(' - ')
    const [, , id, , mountPoint, options = ''] = left.split(' ')
    if (id === undefined || mountPoint === undefined || right === undefined) continue
    const [type = '', device = ''] = right.split(' ')
    const path = unescape(mountPoint)
    const mode = options.split(',').includes('ro') ? 'ro' : 'rw'
    found.set(path, { id, device: unescape(device), mountPoint: path, type, mode })
  }
  return [...found.values()]
}

export interface InterfaceCounts {
  bytes: bigint
  packets: bigint
  errors: bigint
  dropped: bigint
}
export interface NetworkInterface {
  name: string
  receive: InterfaceCounts
  transmit: InterfaceCounts
}

/** /proc/net/dev */
export function parseInterfaces(text: string): NetworkInterface[] {
  return text.split('\n').flatMap((line) => {
    const colon = line.lastIndexOf(':')
    const values = colon < 0 ? [] : columns(line.slice(colon + 1)).map(integer)
    if (values.length < 16 || values.includes(undefined)) return []
    const counts = (at: number): InterfaceCounts => {
      const [bytes = 0n, packets = 0n, errors = 0n, dropped = 0n] = values.slice(at, at + 4) as bigint[]
      return { bytes, packets, errors, dropped }
    }
    return [{ name: line.slice(0, colon).trim(), receive: counts(0), transmit: counts(8) }]
  })
}

/** The state letter of /proc/PID/stat; the command before it may hold blanks and brackets. */
export const processState = (stat: string): string => stat.charAt(stat.lastIndexOf(')') + 2)
