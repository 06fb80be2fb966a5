// What is emitted of network ports, their modules and their devices, the most telling first.
import type { Attributes, MetricDeclaration } from '../../contract/index.ts'

const optics = (unit: string, description: string): MetricDeclaration => ({
  kind: 'gauge',
  unit,
  description,
  class: 'environment',
})

export const nicMetrics = {
  'dpu.network.interface': {
    kind: 'gauge',
    unit: '1',
    description: 'A port, 1: its attributes say what it is.',
    class: 'capability',
  },
  'hw.network.up': { kind: 'updowncounter', unit: '1', description: 'Whether the link is up.' },
  'hw.network.bandwidth.limit': { kind: 'updowncounter', unit: 'By/s', description: 'Speed of the link.' },
  'dpu.network.carrier.changes': {
    kind: 'counter',
    unit: '{change}',
    description: 'Times that the link went up or down.',
    class: 'error',
  },
  'hw.errors': {
    kind: 'counter',
    unit: '{error}',
    description: 'Errors and drops, by the name of the driver.',
  },
  'hw.status': {
    kind: 'updowncounter',
    unit: '1',
    description: 'Health of a device as its driver reports it: 1 for the state that it is in.',
  },
  'dpu.devlink.recoveries': {
    kind: 'counter',
    unit: '{recovery}',
    description: 'Times that a driver recovered its device.',
    class: 'error',
  },
  'dpu.devlink.dump.time': {
    kind: 'gauge',
    unit: 's',
    description: 'When a driver wrote down what it saw of a failure, in Unix time; while it holds that.',
    class: 'error',
  },
  'dpu.optics.temperature': optics('Cel', 'Temperature of a plugged module.'),
  'dpu.optics.voltage': optics('V', 'Supply of a plugged module.'),
  'dpu.optics.power': optics('W', 'Light on a lane, received or transmitted.'),
  'dpu.optics.bias': optics('A', 'Current through the laser of a lane.'),
  'dpu.optics.state': optics('1', 'State of a plugged module: 1 for the one that it is in.'),
  'dpu.optics.flag': optics('1', 'A warning of a plugged module: 1 while it is raised, 0 once it was.'),
  'dpu.rdma.io': { kind: 'counter', unit: 'By', description: 'Bytes over RDMA.' },
  'dpu.rdma.packets': { kind: 'counter', unit: '{packet}', description: 'Packets over RDMA.' },
  'dpu.network.statistic': {
    kind: 'counter',
    unit: '1',
    description: 'What else the driver counts, by its own name.',
  },
  'dpu.rdma.statistic': {
    kind: 'counter',
    unit: '1',
    description: 'What else an RDMA device counts, by its own name.',
  },
} as const satisfies Record<string, MetricDeclaration>
export type NicMetric = keyof typeof nicMetrics

export interface NicPoint {
  name: NicMetric
  value: bigint | number
  attributes: Attributes
}
