// The groups of the system source that need nothing but the reading in hand: files of /proc become data points.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import type { SystemMetric } from './proc-metrics.ts'
import { ratio } from './proc-reading.ts'
import type { Reading } from './proc-reading.ts'
import {
  integer,
  parseDisks,
  parseInterfaces,
  parseLoad,
  parseMeminfo,
  parseNumbers,
  parsePressure,
  parseSwaps,
  parseUptime,
  processState,
} from './proc.ts'
import type { Disk } from './proc.ts'

/** Semantic conventions name the interface by one attribute here and by another there. */
const networkMetrics = [
  ['system.network.io', 'network.interface.name', 'bytes'],
  ['system.network.packet.count', 'system.device', 'packets'],
  ['system.network.errors', 'network.interface.name', 'errors'],
  ['system.network.packet.dropped', 'network.interface.name', 'dropped'],
] as const

export function load(reading: Reading): void {
  const load = parseLoad(reading.proc('loadavg') ?? '')
  reading.add('system.cpu.load_average.1m', load?.[0])
  reading.add('system.cpu.load_average.5m', load?.[1])
  reading.add('system.cpu.load_average.15m', load?.[2])
}

export function memory(reading: Reading): void {
  const info = parseMeminfo(reading.proc('meminfo') ?? '')
  const get = (name: string): bigint => info.get(name) ?? 0n
  const limit = info.get('MemTotal')
  if (limit === undefined) return
  const reclaimable = info.get('SReclaimable')
  const cached = get('Cached') + (reclaimable ?? 0n)
  const rest = limit - get('MemFree') - get('Buffers') - cached
  const states = {
    used: rest < 0n ? 0n : rest,
    free: get('MemFree'),
    buffers: get('Buffers'),
    cached,
  }
  for (const [state, bytes] of Object.entries(states)) {
    reading.add('system.memory.usage', bytes, { 'system.memory.state': state })
  }
  reading.add('system.memory.limit', limit)
  for (const [state, bytes] of Object.entries(states)) {
    reading.add('system.memory.utilization', ratio(bytes, limit), { 'system.memory.state': state })
  }
  reading.add('system.memory.linux.available', info.get('MemAvailable'))
  reading.add('system.memory.linux.shared', info.get('Shmem'))
  const slab = (state: string) => ({ 'system.memory.linux.slab.state': state })
  reading.add('system.memory.linux.slab.usage', reclaimable, slab('reclaimable'))
  reading.add('system.memory.linux.slab.usage', info.get('SUnreclaim'), slab('unreclaimable'))
  hugePages(reading, info)
}

function hugePages(reading: Reading, info: ReadonlyMap<string, bigint>): void {
  const [limit, free] = [info.get('HugePages_Total'), info.get('HugePages_Free')]
  if (limit === undefined || free === undefined) return
  const state = (name: string) => ({ 'system.memory.linux.hugepages.state': name })
  reading.add('system.memory.linux.hugepages.limit', limit)
  reading.add('system.memory.linux.hugepages.page_size', info.get('Hugepagesize'))
  if (limit === 0n) return
  reading.add('system.memory.linux.hugepages.usage', limit - free, state('used'))
  reading.add('system.memory.linux.hugepages.usage', free, state('free'))
  reading.add('system.memory.linux.hugepages.reserved', info.get('HugePages_Rsvd'))
  reading.add('system.memory.linux.hugepages.surplus', info.get('HugePages_Surp'))
  reading.add('system.memory.linux.hugepages.utilization', ratio(limit - free, limit))
}

export function paging(reading: Reading): void {
  const swaps = parseSwaps(reading.proc('swaps') ?? '').flatMap(({ device, size, used }) => [
    { device, state: 'used', bytes: used, size },
    { device, state: 'free', bytes: size - used, size },
  ])
  const of = (device: string, state: string) => ({ 'system.device': device, 'system.paging.state': state })
  for (const { device, state, bytes } of swaps) reading.add('system.paging.usage', bytes, of(device, state))
  for (const { device, state, bytes, size } of swaps) {
    reading.add('system.paging.utilization', ratio(bytes, size), of(device, state))
  }
  const counts = parseNumbers(reading.proc('vmstat') ?? '')
  const [faults, major] = [counts.get('pgfault'), counts.get('pgmajfault')]
  const fault = (type: string) => ({ 'system.paging.fault.type': type })
  reading.add('system.paging.faults', major, fault('major'))
  if (faults !== undefined && major !== undefined)
    reading.add('system.paging.faults', faults - major, fault('minor'))
  // pgpgin and pgpgout, which others report here, are kilobytes of all block I/O.
  const swapped = (direction: string) => ({ ...fault('major'), 'system.paging.direction': direction })
  reading.add('system.paging.operations', counts.get('pswpin'), swapped('in'))
  reading.add('system.paging.operations', counts.get('pswpout'), swapped('out'))
}

export function disk(reading: Reading, wanted: (name: string) => boolean, partitions: boolean): void {
  // Without sysfs nothing tells partitions from devices.
  const whole = partitions ? [] : list(reading, join(reading.roots.sys, 'block'))
  const all = parseDisks(reading.proc('diskstats') ?? '').filter(
    ({ device }) => wanted(device) && (whole.length === 0 || whole.includes(device)),
  )
  const disks = reading.first('disks', all, ({ device }) => device)
  const both = (name: SystemMetric, value: (counts: Disk['read']) => number | bigint) => {
    for (const { device, read, write } of disks) {
      reading.add(name, value(read), { 'system.device': device, 'disk.io.direction': 'read' })
      reading.add(name, value(write), { 'system.device': device, 'disk.io.direction': 'write' })
    }
  }
  both('system.disk.io', ({ bytes }) => bytes)
  both('system.disk.operations', ({ operations }) => operations)
  both('system.disk.merged', ({ merged }) => merged)
  both('system.disk.operation_time', ({ seconds }) => seconds)
  for (const { device, busySeconds } of disks) {
    reading.add('system.disk.io_time', busySeconds, { 'system.device': device })
  }
  for (const { device } of disks) {
    const sectors = integer(reading.sys(`class/block/${device}/size`))
    if (sectors !== undefined) reading.add('system.disk.limit', sectors * 512n, { 'system.device': device })
  }
}

export function network(reading: Reading, wanted: (name: string) => boolean): void {
  const all = parseInterfaces(reading.ofMachine('net/dev') ?? '').filter(({ name }) => wanted(name))
  const interfaces = reading.first('interfaces', all, ({ name }) => name)
  for (const [metric, key, counted] of networkMetrics) {
    for (const { name, receive, transmit } of interfaces) {
      reading.add(metric, receive[counted], { [key]: name, 'network.io.direction': 'receive' })
      reading.add(metric, transmit[counted], { [key]: name, 'network.io.direction': 'transmit' })
    }
  }
}

export function pressure(reading: Reading): void {
  const lines = ['cpu', 'memory', 'io', 'irq'].flatMap((resource) =>
    parsePressure(reading.proc(`pressure/${resource}`) ?? '').map(({ type, ...line }) => ({
      attributes: { 'dpu.pressure.resource': resource, 'dpu.pressure.type': type },
      ...line,
    })),
  )
  for (const { attributes, total } of lines) reading.add('dpu.pressure.stalled', total, attributes)
  for (const { attributes, average10 } of lines)
    reading.add('dpu.pressure.average.10s', average10, attributes)
  for (const { attributes, average60 } of lines)
    reading.add('dpu.pressure.average.60s', average60, attributes)
  for (const { attributes, average300 } of lines)
    reading.add('dpu.pressure.average.300s', average300, attributes)
}

export function uptime(reading: Reading): void {
  reading.add('system.uptime', parseUptime(reading.proc('uptime') ?? ''))
}

export async function processes(reading: Reading): Promise<void> {
  const counts = { running: 0, sleeping: 0, stopped: 0, defunct: 0 }
  let seen = 0
  for (const name of list(reading, reading.roots.proc)) {
    if (!/^\d+$/.test(name)) continue
    // A machine with thousands of processes would hold up everything else.
    if (++seen % 100 === 0) await turn()
    const state = processStates[stateOf(reading, name)]
    if (state) counts[state]++
  }
  if (seen > 0) {
    for (const [state, count] of Object.entries(counts)) {
      reading.add('system.process.count', BigInt(count), { 'process.state': state })
    }
  }
  reading.add('system.process.created', reading.stat?.forks)
  reading.add('system.process.limit', integer(reading.proc('sys/kernel/threads-max')?.trim()))
  reading.add('dpu.process.blocked', reading.stat?.blocked)
}

function stateOf(reading: Reading, pid: string): string {
  try {
    return processState(reading.files.peek(join(reading.roots.proc, pid, 'stat')))
  } catch {
    return '' // it ended meanwhile, or is hidden from us
  }
}

function list(reading: Reading, path: string): string[] {
  try {
    return readdirSync(path)
  } catch (cause) {
    reading.files.tell(path, cause)
    return []
  }
}

type ProcessState = 'running' | 'sleeping' | 'stopped' | 'defunct'
const processStates: Readonly<Record<string, ProcessState>> = {
  R: 'running',
  S: 'sleeping',
  D: 'sleeping',
  I: 'sleeping',
  W: 'sleeping',
  K: 'sleeping',
  P: 'sleeping',
  T: 'stopped',
  t: 'stopped',
  Z: 'defunct',
  X: 'defunct',
}
