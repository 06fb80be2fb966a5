// Readings of `nic` on a virtual device: links, what drivers count, optics.
import type { Attributes } from '../../plugins/contract/index.ts'
import type { Device, PortKind, PortState } from '../model.ts'
import { firmwareOf, ofNic } from './firmware.ts'
import type { Simulated } from './simulated.ts'

interface Port {
  readonly kind: PortKind
  /** Its number among those with optics; −1 without. */
  readonly optics: number
  readonly about: Attributes
  readonly facts: Attributes
  readonly errors: readonly { attributes: Attributes; count: (port: PortState) => number }[]
  readonly statistics: readonly { attributes: Attributes; count: (port: PortState) => number }[]
  readonly lane: Attributes
  readonly received: Attributes
  readonly transmitted: Attributes
}

const errorsOf: readonly [name: string, direction: string, count: (port: PortState) => number][] = [
  ['rx_crc_errors_phy', 'receive', ({ rxErrors }) => rxErrors],
  ['rx_discards_phy', 'receive', ({ rxDropped }) => rxDropped],
]
const statisticsOf: readonly [name: string, direction: string, count: (port: PortState) => number][] = [
  ['rx_pause_ctrl_phy', 'receive', ({ pausedFrames }) => pausedFrames],
]

function portsOf({ kind, state, random }: Device): Port[] {
  const address = random('mac')
  let optics = 0
  return kind.ports.map((port) => {
    const about = {
      'hw.id': `${port.pci}/${port.name}`,
      'hw.name': port.name,
      'hw.type': 'network',
      'network.interface.name': port.name,
    }
    const octet = () => address.below(256).toString(16).padStart(2, '0')
    const counted = (key: string) => (list: typeof errorsOf) =>
      list.map(([name, direction, count]) => ({
        attributes: { ...about, 'network.io.direction': direction, [key]: name },
        count,
      }))
    const lane = { ...about, 'dpu.optics.lane': 1 }
    const firmware = firmwareOf(state, ofNic)
    return {
      kind: port,
      optics: port.isOptical ? optics++ : -1,
      about,
      facts: {
        ...about,
        'hw.network.physical_address': `b8:3f:d2:${octet()}:${octet()}:${octet()}`,
        'dpu.network.port.kind': 'physical',
        'dpu.network.port.name': port.name,
        'dpu.network.mtu': '9000',
        'dpu.network.driver': port.driver,
        ...(firmware !== undefined && { 'hw.firmware_version': firmware }),
      },
      errors: counted('error.type')(errorsOf),
      statistics: counted('dpu.network.statistic')(statisticsOf),
      lane,
      received: { ...lane, 'network.io.direction': 'receive' },
      transmitted: { ...lane, 'network.io.direction': 'transmit' },
    }
  })
}

/** What the driver counts of the engines of the card, on its first port. */
function enginesOf({ kind }: Device, [first]: readonly Port[]) {
  if (!first) return []
  const statistic = (name: string) => ({ ...first.about, 'dpu.network.statistic': name })
  return kind.accelerators.map((name) => ({
    operations: statistic(`${name}_operations`),
    bytes: statistic(`${name}_bytes`),
    errors: { ...first.about, 'error.type': `${name}_errors` },
  }))
}

/** As a module tells it; in the dark a receiver shows its floor. */
const watts = (dBm: number): number => 10 ** (Math.max(-40, dBm) / 10) / 1000
const tenth = (value: number): number => Math.round(value * 10) / 10

export const nic: Simulated = {
  name: 'nic',
  service: 'dpulse',
  open(device) {
    const ports = portsOf(device)
    const engines = enginesOf(device, ports)
    return {
      points(readings) {
        const { state } = device
        const here = ports.flatMap((port, index) => {
          const now = state.ports[index]
          return now ? [{ ...port, now, index }] : []
        })
        for (const { facts } of here) readings.add('dpu.network.interface', 1n, facts)
        for (const { about, now } of here) readings.add('hw.network.up', now.isUp ? 1n : 0n, about)
        for (const { about, kind, now } of here) {
          if (now.isUp)
            readings.add('hw.network.bandwidth.limit', BigInt(Math.round(kind.bitsPerSecond / 8)), about)
        }
        for (const { about, now } of here) {
          readings.add('dpu.network.carrier.changes', BigInt(now.carrierChanges), about)
        }
        for (const { errors, now } of here) {
          for (const { attributes, count } of errors) {
            readings.add('hw.errors', BigInt(Math.floor(count(now))), attributes)
          }
        }
        for (const [index, { errors }] of engines.entries()) {
          readings.add('hw.errors', BigInt(Math.floor(state.accelerators[index]?.errors ?? 0)), errors)
        }
        for (const { statistics, now } of here) {
          for (const { attributes, count } of statistics) {
            readings.add('dpu.network.statistic', BigInt(Math.floor(count(now))), attributes)
          }
        }
        for (const [index, { operations, bytes }] of engines.entries()) {
          const now = state.accelerators[index]
          readings.add('dpu.network.statistic', BigInt(Math.floor(now?.operations ?? 0)), operations)
          readings.add('dpu.network.statistic', BigInt(Math.floor(now?.bytes ?? 0)), bytes)
        }
        // Of an empty cage nothing is told.
        const isEmpty = (index: number) => ((state.inner.empty >> index) & 1) === 1
        const optical = here.filter(({ kind, index }) => kind.isOptical && !isEmpty(index))
        for (const { about, optics } of optical) {
          const degrees = state.temperature.optics[optics]
          if (degrees !== undefined) readings.add('dpu.optics.temperature', tenth(degrees), about)
        }
        for (const { now, received, transmitted } of optical) {
          readings.add('dpu.optics.power', watts(now.rxPower), received)
          readings.add('dpu.optics.power', watts(now.txPower), transmitted)
        }
        for (const { now, lane } of optical) {
          readings.add('dpu.optics.bias', Math.round(now.biasMilliamps * 500) / 500_000, lane)
        }
      },
    }
  },
}
