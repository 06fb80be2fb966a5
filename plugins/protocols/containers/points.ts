// Readings of containers: names, kinds and units, and the points of one container.
import type { Attributes, MetricDeclaration } from '../../contract/index.ts'
import type { ContainerStats } from './schemas.ts'

const sum = (kind: 'counter' | 'updowncounter', unit: string, description: string): MetricDeclaration => ({
  kind,
  unit,
  description,
})

export const containerMetrics = {
  'dpu.container.state': sum(
    'updowncounter',
    '1',
    'State of a container: 1 for the one that it is in, 0 for those in which it was.',
  ),
  'dpu.container.health': sum('updowncounter', '1', 'Result of its health check, likewise.'),
  'dpu.container.restarts': sum('counter', '{restart}', 'Restarts by its policy.'),
  'container.uptime': { kind: 'gauge', unit: 's', description: 'Time since its start.' },
  'container.cpu.time': sum('counter', 's', 'CPU time.'),
  'container.cpu.usage': { kind: 'gauge', unit: '{cpu}', description: 'CPUs used since the reading before.' },
  'container.memory.usage': sum('updowncounter', 'By', 'Memory, caches included.'),
  'container.memory.working_set': sum('updowncounter', 'By', 'Memory without inactive pages of files.'),
  'dpu.container.memory.limit': sum('updowncounter', 'By', 'Most memory that it may have.'),
  'dpu.container.tasks': sum('updowncounter', '{task}', 'Processes and threads.'),
  'container.disk.io': sum('counter', 'By', 'Bytes read from and written to disks.'),
  'container.network.io': sum('counter', 'By', 'Bytes received and sent.'),
  'dpu.container.network.errors': sum('counter', '{error}', 'Packets with errors.'),
  'dpu.container.network.dropped': sum('counter', '{packet}', 'Packets dropped.'),
} as const satisfies Record<string, MetricDeclaration>
export type ContainerMetric = keyof typeof containerMetrics

type Add = (name: ContainerMetric, value: number | bigint | undefined, more?: Attributes) => void

/** Engines tell a container without a limit as one that may have all of the machine, or more. */
const whole = (value: number | undefined): bigint | undefined =>
  value === undefined || !Number.isFinite(value) ? undefined : BigInt(Math.round(value))

/** What a running container uses. `machineMemory` is the least of what is no limit. */
export function addUse(add: Add, stats: ContainerStats, machineMemory: number): void {
  const { memory_stats: memory, networks, blkio_stats: blkio } = stats
  const cpu = stats.cpu_stats?.cpu_usage?.total_usage
  add('container.cpu.time', cpu === undefined ? undefined : cpu / 1e9)
  add('container.memory.usage', whole(memory?.usage))
  const inactive = memory?.stats?.inactive_file ?? memory?.stats?.total_inactive_file
  if (memory?.usage !== undefined && inactive !== undefined)
    add('container.memory.working_set', whole(Math.max(0, memory.usage - inactive)))
  const limit = memory?.limit
  if (limit !== undefined && limit > 0 && limit < machineMemory)
    add('dpu.container.memory.limit', whole(limit))
  add('dpu.container.tasks', whole(stats.pids_stats?.current))
  for (const direction of ['read', 'write'] as const) {
    const parts = blkio?.io_service_bytes_recursive?.filter(({ op }) => op.toLowerCase() === direction)
    if (parts && parts.length > 0) {
      const bytes = parts.reduce((total, { value }) => total + value, 0)
      add('container.disk.io', whole(bytes), { 'disk.io.direction': direction })
    }
  }
  const metrics = [
    ['container.network.io', 'bytes'],
    ['dpu.container.network.errors', 'errors'],
    ['dpu.container.network.dropped', 'dropped'],
  ] as const
  for (const [metric, field] of metrics) {
    for (const [name, one] of Object.entries(networks ?? {}).slice(0, 64)) {
      const which = { 'network.interface.name': name }
      add(metric, whole(one[`rx_${field}`]), { ...which, 'network.io.direction': 'receive' })
      add(metric, whole(one[`tx_${field}`]), { ...which, 'network.io.direction': 'transmit' })
    }
  }
}
