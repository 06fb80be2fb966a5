// Which lines of the kernel are events: a table of what they look like, what they are called, and which of their words
// become attributes. One line makes one event: of several lines about one thing (AER, MCE, OOM) the one that says most.
import type { Attributes } from '../../contract/index.ts'

interface Rule {
  readonly event: string
  /** One of these is in every such line: looked for before the expression. */
  readonly has: readonly string[]
  readonly match: RegExp
  /** Severity of OTel; that of the line where there is none. */
  readonly severity?: number
  /** By name of a group of the expression; names without an entry stand under `dpu.`. */
  readonly attributes?: Readonly<Record<string, string>>
  /** The same for every such line. */
  readonly always?: Attributes
}

const info = 9
const warn = 13
const error = 17
const fatal = 21
const pci = '(?<address>[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7])'
const attributeOf: Readonly<Record<string, string>> = {
  address: 'dpu.pci.address',
  interface: 'network.interface.name',
  pid: 'process.pid',
  process: 'process.executable.name',
  device: 'system.device',
  type: 'error.type',
}

export const kernelEvents: readonly Rule[] = [
  {
    event: 'dpu.kernel.machine_check',
    has: ['Machine Check'],
    match:
      /CPU:? ?(?<cpu>\d+): Machine Check(?<exception> Exception)?: \S+ Bank (?<bank>\d+): (?<status>[0-9a-f]+)/,
    severity: error,
    attributes: { cpu: 'cpu.logical_number', bank: 'dpu.mce.bank', status: 'dpu.mce.status', exception: '' },
    always: { 'hw.type': 'cpu' },
  },
  {
    event: 'dpu.kernel.machine_check',
    has: ['achine check events logged'],
    match: /[Mm]achine check events logged/,
    severity: warn,
    always: { 'hw.type': 'cpu' },
  },
  {
    event: 'dpu.kernel.hardware_error',
    has: ['Hardware error from APEI'],
    match: /Hardware error from APEI Generic Hardware Error Source: (?<source>\d+)/,
    severity: error,
    attributes: { source: 'dpu.ghes.source' },
  },
  {
    event: 'dpu.kernel.memory_error',
    has: ['EDAC '],
    match: /EDAC (?<id>\S+): (?<count>\d+) (?<type>CE|UE) (?<text>.*?) on (?<label>.+?)(?: \(|$)/,
    attributes: { id: 'hw.id', count: 'dpu.error.count', text: '', label: 'hw.name' },
    always: { 'hw.type': 'memory' },
  },
  {
    event: 'dpu.kernel.pcie_error',
    has: ['PCIe Bus Error: '],
    match: new RegExp(`${pci}: (?:AER: )?PCIe Bus Error: severity=(?<type>[^,]+), type=(?<layer>[^,]+)`),
    attributes: { layer: 'dpu.pci.layer' },
  },
  {
    event: 'dpu.kernel.pcie_recovery',
    has: ['device recovery '],
    match: new RegExp(`${pci}: (?:AER: )?device recovery (?<outcome>failed|successful)`),
    attributes: { outcome: 'dpu.outcome' },
  },
  {
    event: 'dpu.kernel.nic_health',
    has: ['mlx5_core'],
    match: new RegExp(
      `${pci}: .*?(?<type>Health issue observed, [^,]+|device's health compromised|handling bad device|` +
        'Fatal error \\d+ detected|health recovery flow aborted|PCI slot is unavailable)',
    ),
    severity: error,
    always: { 'hw.type': 'network' },
  },
  {
    event: 'dpu.kernel.thermal',
    has: ['High temperature on sensors'],
    match: new RegExp(`${pci}: .*High temperature on sensors`),
    severity: warn,
    always: { 'hw.type': 'network', 'hw.state': 'degraded' },
  },
  {
    event: 'dpu.kernel.nic_module',
    has: ['Port module event'],
    match: new RegExp(
      `${pci}: .*?Port module event(?:\\[error\\])?: module (?<module>\\d+), (?<state>Cable [a-z ]+)(?:, (?<type>.+))?`,
    ),
    attributes: { module: 'dpu.nic.module', state: 'dpu.nic.module.state' },
    always: { 'hw.type': 'network' },
  },
  {
    event: 'dpu.kernel.nic_power',
    has: ['insufficient power'],
    match: new RegExp(`${pci}: .*insufficient power.*?\\((?<watts>\\d+)W\\)`),
    severity: warn,
    attributes: { watts: 'dpu.pci.slot_power' },
    always: { 'hw.type': 'network' },
  },
  {
    event: 'dpu.kernel.tx_timeout',
    has: ['NETDEV WATCHDOG'],
    match: /NETDEV WATCHDOG:(?: CPU: \d+:)? (?<interface>[^\s:]+).*?transmit queue (?<queue>\d+) timed out/,
    severity: error,
    attributes: { queue: 'dpu.nic.queue' },
    always: { 'hw.type': 'network' },
  },
  {
    event: 'dpu.kernel.link',
    has: ['ink up', 'ink down', 'ink is ', 'link status definitely '],
    match:
      /(?:^|\s)\(?(?:slave )?(?<interface>[A-Za-z][\w.@-]*)\)?:? (?:NIC )?link(?: status)?(?: is| definitely)? (?<state>up|down)\b/i,
    severity: info,
    attributes: { state: 'dpu.link.state' },
    always: { 'hw.type': 'network' },
  },
  {
    event: 'dpu.kernel.thermal',
    has: ['temperature above threshold', 'temperature/speed normal'],
    match: /CPU(?<cpu>\d+): .*?(?<state>temperature above threshold|temperature\/speed normal)/,
    attributes: { cpu: 'cpu.logical_number', state: 'dpu.thermal.state' },
    always: { 'hw.type': 'cpu' },
  },
  {
    event: 'dpu.kernel.thermal',
    has: ['critical temperature reached'],
    match: /(?:thermal )?(?<zone>\S+): critical temperature reached/,
    severity: fatal,
    attributes: { zone: 'hw.id' },
    always: { 'hw.type': 'temperature', 'hw.state': 'failed' },
  },
  {
    event: 'dpu.kernel.nvme_reset',
    has: ['nvme '],
    match:
      /nvme (?<device>nvme\d+): (?<type>controller is down; will reset|I\/O .*timeout, (?:reset|disable) controller|resetting controller|Removing after probe failure|Device not ready; aborting)/,
    severity: error,
    always: { 'hw.type': 'physical_disk' },
  },
  {
    event: 'dpu.kernel.io_error',
    has: ['I/O error, dev '],
    match: /I\/O error, dev (?<device>[\w-]+), sector (?<sector>\d+)(?: op \S+:\((?<type>\w+)\))?/,
    severity: error,
    attributes: { sector: 'dpu.disk.sector', type: 'dpu.disk.operation' },
    always: { 'hw.type': 'logical_disk' },
  },
  {
    event: 'dpu.kernel.filesystem_error',
    has: ['Remounting filesystem read-only', '-fs error (device '],
    match:
      /(?<type>\w+)-fs (?:error )?\((?:device )?(?<device>[^)]+)\):? ?(?:Remounting filesystem read-only)?/,
    severity: error,
    attributes: { type: 'system.filesystem.type' },
  },
  {
    event: 'dpu.kernel.oom_kill',
    has: ['Killed process '],
    match: /(?:(?<scope>Memory cgroup|Out of memory).*?)?Killed process (?<pid>\d+),? \((?<process>[^)]*)\)/,
    severity: error,
    attributes: { scope: 'dpu.oom.scope' },
  },
  {
    event: 'dpu.kernel.hung_task',
    has: ['blocked for more than'],
    match: /task (?<process>.+):(?<pid>\d+) blocked for more than (?<seconds>\d+) seconds/,
    severity: error,
    attributes: { seconds: 'dpu.hung.seconds' },
  },
  {
    event: 'dpu.kernel.lockup',
    has: ['soft lockup', 'hard LOCKUP', 'detected stall', 'detected stalls'],
    match: /(?<type>soft lockup|hard LOCKUP|detected stalls?)(?: - CPU#(?<cpu>\d+))?/,
    severity: fatal,
    attributes: { cpu: 'cpu.logical_number' },
  },
  {
    event: 'dpu.kernel.oops',
    has: ['nable to handle', 'kernel BUG at', 'general protection fault'],
    match:
      /(?<type>[Uu]nable to handle (?:kernel )?[A-Za-z ]+?|kernel BUG at|general protection fault)(?: at\b|[,:;]|$| \S+[.:])/,
    severity: fatal,
  },
  {
    event: 'dpu.kernel.panic',
    has: ['Kernel panic'],
    match: /Kernel panic - not syncing: (?<type>.+)/,
    severity: fatal,
  },
]

export interface KernelEvent {
  readonly name: string
  /** Undefined: that of the line. */
  readonly severity: number | undefined
  readonly attributes: Attributes
}

/** As syslog daemons write it, and as `dmesg` prints it. */
const saidByKernel = /\bkernel: |^(?:<\d{1,3}>)?\[ *\d{1,9}\.\d{6}\] /

/** What the kernel says in a line of a file of logs; undefined where the line is somebody else's. */
export function kernelTextOf(line: string): string | undefined {
  const found = saidByKernel.exec(line)
  return found === null ? undefined : line.slice(found.index + found[0].length)
}

const numeric = /^\d{1,15}$/

/** The event that a line of the kernel is; undefined for most lines. */
export function kernelEventOf(line: string): KernelEvent | undefined {
  for (const rule of kernelEvents) {
    if (!rule.has.some((text) => line.includes(text))) continue
    const groups = rule.match.exec(line)
    if (groups === null) continue
    const attributes: Record<string, string | number> = {}
    for (const [group, value] of Object.entries(groups.groups ?? {})) {
      const key = rule.attributes?.[group] ?? attributeOf[group] ?? `dpu.${group}`
      if (value === undefined || key === '') continue
      const isNumber = numeric.test(value) && key !== 'dpu.mce.status'
      attributes[key] = isNumber ? Number(value) : group === 'state' ? value.toLowerCase() : value
    }
    return {
      name: rule.event,
      severity: severityOf(rule, attributes),
      attributes: { ...rule.always, ...attributes },
    }
  }
  return undefined
}

// The same line of text speaks of trifles and of the end, and its level does not always say which.
function severityOf(rule: Rule, attributes: Attributes): number | undefined {
  const type = attributes['error.type']
  if (type === 'CE' || type === 'Corrected' || type === 'Correctable') return warn
  if (type === 'UE' || (typeof type === 'string' && type.startsWith('Uncorrect')))
    return type.includes('(Fatal)') ? fatal : error
  if (attributes['dpu.link.state'] === 'down') return warn
  if (attributes['dpu.outcome'] === 'failed') return error
  return rule.severity
}
