// What the system source emits: names, units and kinds of OTel semantic conventions 1.44 (`system.*`), load averages as
// the OpenTelemetry Collector names them, and `dpu.*` for what neither has.
import type { MetricDeclarations } from '../contract/index.ts'
import { counter, gauge, level } from './declared.ts'

export const systemMetrics = {
  'system.cpu.time': counter('s', 'CPU time by mode.'),
  'system.cpu.utilization': gauge('1', 'Share of CPU time by mode since the last reading.'),
  'system.cpu.frequency': gauge('Hz', 'Clock of a logical CPU; with per_cpu.'),
  'system.cpu.logical.count': level('{cpu}', 'Logical CPUs that are online.'),
  'system.cpu.physical.count': level('{cpu}', 'Cores that are online.'),
  'dpu.cpu.context_switches': counter('{context_switch}', 'Context switches of all CPUs.'),
  'dpu.cpu.interrupts': counter('{interrupt}', 'Interrupts of all CPUs.'),

  'system.cpu.load_average.1m': gauge('{thread}', 'Load average of one minute.'),
  'system.cpu.load_average.5m': gauge('{thread}', 'Load average of five minutes.'),
  'system.cpu.load_average.15m': gauge('{thread}', 'Load average of fifteen minutes.'),

  'system.memory.usage': level('By', 'Memory by state; cached includes reclaimable slab.'),
  'system.memory.limit': level('By', 'Memory that the kernel manages.'),
  'system.memory.utilization': gauge('1', 'Share of memory by state.'),
  'system.memory.linux.available': level('By', 'What new programs can have without swapping.'),
  'system.memory.linux.shared': level('By', 'Shared memory, mostly tmpfs.'),
  'system.memory.linux.slab.usage': level('By', 'Memory of kernel caches.'),
  'system.memory.linux.hugepages.limit': level('{page}', 'Huge pages of the default size.'),
  'system.memory.linux.hugepages.usage': level('{page}', 'Huge pages by state.'),
  'system.memory.linux.hugepages.reserved': level('{page}', 'Huge pages promised and not yet taken.'),
  'system.memory.linux.hugepages.surplus': level('{page}', 'Huge pages beyond the configured number.'),
  'system.memory.linux.hugepages.page_size': level('By', 'Size of a huge page.'),
  'system.memory.linux.hugepages.utilization': gauge('1', 'Share of huge pages in use.'),

  'system.paging.usage': level('By', 'Swap space by state.'),
  'system.paging.utilization': gauge('1', 'Share of swap space by state.'),
  'system.paging.faults': counter('{fault}', 'Page faults; a major one waited for a disk.'),
  'system.paging.operations': counter('{operation}', 'Pages swapped in and out.'),

  'system.disk.io': counter('By', 'Bytes read and written.'),
  'system.disk.operations': counter('{operation}', 'Reads and writes that completed.'),
  'system.disk.merged': counter('{operation}', 'Reads and writes that were joined to a neighbour.'),
  'system.disk.operation_time': counter('s', 'Sum of the times that operations took.'),
  'system.disk.io_time': counter('s', 'Time during which at least one operation was under way.'),
  'system.disk.limit': level('By', 'Size of the device.'),

  'system.filesystem.usage': level('By', 'Space by state; reserved is for root only.'),
  'system.filesystem.utilization': gauge('1', 'Share of space in use, of what users can have.'),
  'system.filesystem.limit': level('By', 'Size of the file system.'),
  'dpu.filesystem.inode.usage': level('{inode}', 'Inodes by state.'),

  'system.network.io': counter('By', 'Bytes received and transmitted.'),
  'system.network.packet.count': counter('{packet}', 'Packets received and transmitted.'),
  'system.network.errors': counter('{error}', 'Packets with an error.'),
  'system.network.packet.dropped': counter('{packet}', 'Packets dropped without an error.'),

  'dpu.pressure.stalled': counter('us', 'Time that tasks (some, or all: full) waited for a resource.'),
  'dpu.pressure.average.10s': gauge('1', 'Share of the last 10 seconds that tasks waited.'),
  'dpu.pressure.average.60s': gauge('1', 'Share of the last 60 seconds that tasks waited.'),
  'dpu.pressure.average.300s': gauge('1', 'Share of the last 300 seconds that tasks waited.'),

  'system.process.count': level('{process}', 'Processes by state.'),
  'system.process.created': counter('{process}', 'Processes and threads ever made.'),
  'system.process.limit': level('{thread}', 'Most threads that the kernel allows.'),
  'dpu.process.blocked': level('{process}', 'Processes that wait for a disk.'),

  'system.uptime': gauge('s', 'Time since the start of the machine.'),
} as const satisfies MetricDeclarations

export type SystemMetric = keyof typeof systemMetrics

/** Types of file systems that hold no data on a disk of this machine, or whose server can make a reader wait for ever. */
export const virtualFileSystems = [
  'autofs',
  'binfmt_misc',
  'bpf',
  'cgroup*',
  'configfs',
  'debugfs',
  'dev*',
  'ecryptfs',
  'efivarfs',
  'fuse*',
  'hugetlbfs',
  'iso9660',
  'mqueue',
  'nfs*',
  'nsfs',
  'proc',
  'pstore',
  'ramfs',
  'rpc_pipefs',
  'rootfs',
  'securityfs',
  'selinuxfs',
  'squashfs',
  'sysfs',
  'tmpfs',
  'tracefs',
  '9p',
  'ceph',
  'cifs',
  'smb*',
]
/** Where container runtimes and package managers mount what is counted elsewhere. */
export const mountPointsOfOthers = [
  '/dev/*',
  '/proc/*',
  '/run/*',
  '/snap/*',
  '/sys/*',
  '/var/lib/containerd/*',
  '/var/lib/containers/*',
  '/var/lib/docker/*',
  '/var/lib/kubelet/*',
]
export const virtualDisks = ['fd*', 'loop*', 'nbd*', 'ram*', 'sr*', 'zram*']
export const virtualInterfaces = [
  'bonding_masters',
  'br-*',
  'cali*',
  'cni*',
  'docker*',
  'dummy*',
  'flannel*',
  'ifb*',
  'lo',
  'sit*',
  'tunl*',
  'veth*',
  'virbr*',
]
