// The metrics of the redfish source: those of every BMC, and what only Redfish tells.
import type { MetricDeclaration } from '../../contract/readings.ts'
import { sensorMetrics, states } from '../bmc/metrics.ts'
import { gauge, own } from '../declared.ts'

export const redfishMetrics = {
  ...sensorMetrics,
  'hw.power_supply.limit': {
    kind: 'updowncounter',
    unit: 'W',
    description: 'What a power supply can deliver.',
  },
  'hw.power_supply.usage': { kind: 'updowncounter', unit: 'W', description: 'What a power supply delivers.' },
  'hw.network.up': states('Whether a port has a link.'),
  'hw.network.bandwidth.limit': { kind: 'updowncounter', unit: 'By/s', description: 'Speed of a link.' },
  'hw.memory.size': { kind: 'updowncounter', unit: 'By', description: 'Size of a memory module.' },
  'hw.physical_disk.size': { kind: 'updowncounter', unit: 'By', description: 'Size of a drive.' },
  'hw.physical_disk.endurance_utilization': gauge('1', 'What remains of the life of a drive.'),
  'dpu.boot.state': {
    ...states('How far it has booted: 1 for the state that it is in.'),
    class: 'environment',
  },
  'dpu.reset.time': own('s', 'When it was last reset, as Unix time.'),
  'dpu.firmware.info': { ...gauge('1', 'A firmware that is installed; always 1.'), class: 'capability' },
  'dpu.redfish.report': own('1', 'A value of a metric report, in the unit of its property.'),
} as const satisfies Record<string, MetricDeclaration>
export type RedfishMetric = keyof typeof redfishMetrics
