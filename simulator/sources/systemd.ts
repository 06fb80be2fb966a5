// Readings of `systemd` on a virtual device: its services, and an event when one fails or comes back.
import type { Context, Records } from '../../plugins/contract/index.ts'
import { LogBatches } from '../../plugins/protocols/lines/batches.ts'
import type { Device, ServiceState } from '../model.ts'
import type { Simulated } from './simulated.ts'

const info = 9
const error = 17
const scope = { name: 'systemd' }

const unitOf = ({ name }: ServiceState): string => `${name}.service`
const stateOf = ({ isActive }: ServiceState): 'active' | 'failed' => (isActive ? 'active' : 'failed')

/** The states that each unit was in, the present one last. */
class Units {
  readonly #device: Device
  readonly #context: Context
  readonly #states = new Map<string, string[]>()

  constructor(device: Device, context: Context) {
    this.#device = device
    this.#context = context
  }

  statesOf(service: ServiceState): readonly string[] {
    return this.#states.get(service.name) ?? [stateOf(service)]
  }

  /** Events of what changed since the last reading. */
  changes(nowUnixNano: bigint): Records[] {
    let events: LogBatches | undefined
    for (const service of this.#device.state.services) {
      const known = this.#states.get(service.name) ?? []
      const before = known.at(-1)
      const now = stateOf(service)
      if (before === now) continue
      this.#states.set(service.name, [...known.filter((state) => state !== now), now])
      if (before === undefined && now !== 'failed') continue
      events ??= this.#open(nowUnixNano)
      this.#write(events, service, before)
    }
    return events?.finish() ?? []
  }

  #open(nowUnixNano: bigint): LogBatches {
    const resource = this.#context.resource({ 'service.name': 'systemd' })
    const events = new LogBatches({ scope, device: this.#context.device, resource })
    events.observedAt(nowUnixNano)
    return events
  }

  #write(events: LogBatches, service: ServiceState, before: string | undefined): void {
    const isBad = !service.isActive
    const record = events.begin(isBad ? error : info, 'dpu.systemd.unit_state')
    record.body(`${unitOf(service)} is ${stateOf(service)}${isBad ? ' (exit-code)' : ''}`)
    record.attribute('systemd.unit.name', unitOf(service))
    record.attribute('systemd.unit.active_state', stateOf(service))
    record.attribute('systemd.unit.sub_state', isBad ? 'failed' : 'running')
    if (before !== undefined) record.attribute('dpu.systemd.previous_state', before)
    if (isBad) record.attribute('error.type', 'exit-code')
    events.end()
  }
}

export const systemd: Simulated = {
  name: 'systemd',
  service: 'systemd',
  open(device, context) {
    const units = new Units(device, context)
    const { services } = device.state
    return {
      logs: (now) => units.changes(now),
      points(readings) {
        for (const service of services) {
          const states = units.statesOf(service)
          for (const [index, state] of states.entries()) {
            readings.add('systemd.unit.state', index === states.length - 1 ? 1n : 0n, {
              'systemd.unit.name': unitOf(service),
              'systemd.unit.active_state': state,
            })
          }
        }
        const named = services.map((service) => ({ service, unit: { 'systemd.unit.name': unitOf(service) } }))
        for (const { service, unit } of named) {
          readings.add('systemd.service.restarts', BigInt(service.restarts), unit)
        }
        for (const { service, unit } of named) {
          for (const [mode, share] of Object.entries(shares)) {
            const micro = BigInt(Math.floor(service.cpuSeconds * share * 1e6))
            readings.add('systemd.service.cpu.time', micro, { ...unit, 'cpu.mode': mode })
          }
        }
        for (const { service, unit } of named) {
          readings.add('dpu.systemd.memory.usage', BigInt(Math.floor(service.memoryBytes)), unit)
        }
      },
    }
  },
}

const shares = { user: 0.7, system: 0.3 }
