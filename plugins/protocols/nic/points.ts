// Points of network ports, of their modules, and of the health of their devices.
import type { Attributes } from '../../contract/index.ts'
import type { HealthReporter } from '../devlink.ts'
import { moduleStates } from '../optics/module.ts'
import type { Flag, Module } from '../optics/module.ts'
import type { NicMetric, NicPoint } from './metrics.ts'

/** A link, of Ethernet or RDMA. */
export function linkPoints(
  about: Attributes,
  facts: Attributes,
  link: { isUp: boolean; bandwidth: bigint | undefined; carrierChanges?: bigint | undefined },
): NicPoint[] {
  const { isUp, bandwidth, carrierChanges } = link
  const points: NicPoint[] = [
    { name: 'dpu.network.interface', value: 1n, attributes: { ...about, ...facts } },
    { name: 'hw.network.up', value: isUp ? 1n : 0n, attributes: about },
  ]
  if (bandwidth !== undefined) {
    points.push({ name: 'hw.network.bandwidth.limit', value: bandwidth, attributes: about })
  }
  if (carrierChanges !== undefined) {
    points.push({ name: 'dpu.network.carrier.changes', value: carrierChanges, attributes: about })
  }
  return points
}

/**
 * What a module measures, lane by lane where it has several, and what it warns of. Of warnings only those that are
 * raised are told, and once those that were before: most modules have none of some hundred.
 */
export function opticsPoints(about: Attributes, module: Module, before: readonly Flag[] = []): NicPoint[] {
  const { temperature, voltage, state, lanes, flags } = module
  const points: NicPoint[] = []
  const add = (name: NicMetric, value: number | bigint | undefined, more: Attributes = {}) => {
    if (value !== undefined) points.push({ name, value, attributes: { ...about, ...more } })
  }
  add('dpu.optics.temperature', temperature)
  add('dpu.optics.voltage', voltage)
  for (const { number, received, transmitted, bias } of lanes) {
    const lane = { 'dpu.optics.lane': number }
    add('dpu.optics.power', received, { ...lane, 'network.io.direction': 'receive' })
    add('dpu.optics.power', transmitted, { ...lane, 'network.io.direction': 'transmit' })
    add('dpu.optics.bias', bias, lane)
  }
  if (state !== undefined) {
    for (const one of moduleStates) {
      add('dpu.optics.state', one === state ? 1n : 0n, { 'dpu.optics.state': one })
    }
  }
  const values = new Map<string, [Flag, bigint]>(before.map((one) => [keyOf(one), [one, 0n]]))
  for (const one of flags) values.set(keyOf(one), [one, 1n])
  for (const [flag, value] of values.values()) {
    const { name, lane } = flag
    add('dpu.optics.flag', value, {
      'dpu.optics.flag': name,
      ...(lane !== undefined && { 'dpu.optics.lane': lane }),
    })
  }
  return points
}

const keyOf = ({ name, lane }: Flag): string => `${name}/${lane ?? ''}`

const healthStates = ['ok', 'degraded', 'failed'] as const

/** Of one reporter of devlink. Where the driver calls an error fatal, the device has failed. */
export function healthPoints(reporter: HealthReporter): NicPoint[] {
  const { bus, device, port, name, isHealthy, errors, recoveries, dumpUnixNano } = reporter
  const about: Attributes = {
    'hw.id': bus === 'pci' ? device : `${bus}/${device}`,
    'hw.type': 'network',
    'dpu.devlink.reporter': name,
    ...(port !== undefined && { 'dpu.devlink.port': port }),
  }
  const now = isHealthy ? 'ok' : name.includes('fatal') ? 'failed' : 'degraded'
  const points = healthStates.map((state): NicPoint => ({
    name: 'hw.status',
    value: state === now ? 1n : 0n,
    attributes: { ...about, 'hw.state': state },
  }))
  points.push(
    { name: 'hw.errors', value: errors, attributes: { ...about, 'error.type': `devlink.${name}` } },
    { name: 'dpu.devlink.recoveries', value: recoveries, attributes: about },
  )
  if (dumpUnixNano !== undefined) {
    const value = Number(dumpUnixNano / 1_000_000n) / 1000
    points.push({ name: 'dpu.devlink.dump.time', value, attributes: about })
  }
  return points
}
