// What is emitted of network ports, their modules and their devices, the most telling first.
import type { Attributes, MetricDeclaration } from '../../contract/index.ts'
import { counter, gauge, level, own } from '../declared.ts'

export const nicMetrics = {
  'dpu.network.interface': gauge('1', 'A port, 1: its attributes say what it is.', 'capability'),
  'hw.network.up': level('1', 'Whether the link is up.'),
  'hw.network.bandwidth.limit': level('By/s', 'Speed of the link.'),
  'dpu.network.carrier.changes': counter('{change}', 'Times that the link went up or down.', 'error'),
  'hw.errors': counter('{error}', 'Errors and drops, by the name of the driver.'),
  'hw.status': level('1', 'Health of a device as its driver reports it: 1 for the state that it is in.'),
  'dpu.devlink.recoveries': counter('{recovery}', 'Times that a driver recovered its device.', 'error'),
  'dpu.devlink.dump.time': gauge(
    's',
    'When a driver wrote down what it saw of a failure, in Unix time; while it holds that.',
    'error',
  ),
  'dpu.optics.temperature': own('Cel', 'Temperature of a plugged module.'),
  'dpu.optics.voltage': own('V', 'Supply of a plugged module.'),
  'dpu.optics.power': own('W', 'Light on a lane, received or transmitted.'),
  'dpu.optics.bias': own('A', 'Current through the laser of a lane.'),
  'dpu.optics.state': own('1', 'State of a plugged module: 1 for the one that it is in.'),
  'dpu.optics.flag': own('1', 'A warning of a plugged module: 1 while it is raised, 0 once it was.'),
  'dpu.rdma.io': counter('By', 'Bytes over RDMA.'),
  'dpu.rdma.packets': counter('{packet}', 'Packets over RDMA.'),
  'dpu.network.statistic': counter('1', 'What else the driver counts, by its own name.'),
  'dpu.rdma.statistic': counter('1', 'What else an RDMA device counts, by its own name.'),
} as const satisfies Record<string, MetricDeclaration>
export type NicMetric = keyof typeof nicMetrics

export interface NicPoint {
  name: NicMetric
  value: bigint | number
  attributes: Attributes
}
