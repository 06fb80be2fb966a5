// How much a device has to do: the day and bursts of its tenant, its own share and bursts, and what that puts on its
// ports and cores. Counters of the ports follow.
import type { Device } from '../model.ts'
import { stepMs } from '../model.ts'
import { counted, wholes } from './counters.ts'

const seconds = stepMs / 1000
/** What a card may do at the temperature at which it slows down, and least of all. */
const slowed = 0.75
const slowest = 0.1

export function moveTraffic(device: Device): void {
  const { state } = device
  const { inner, load, strain } = state
  const { traffic, work, noise, burst, tenant } = inner
  noise.network += -noise.network * 0.02 + (traffic.float() - 0.5) * 0.12
  noise.cpu += -noise.cpu * 0.05 + (work.float() - 0.5) * 0.1
  if (state.elapsedMs >= burst.untilMs) {
    const isBurst = burst.height === 0
    burst.height = isBurst ? Math.min(0.5, traffic.pareto(0.04, 1.5)) : 0
    const lasts = isBurst ? Math.min(240, traffic.pareto(4, 1.3)) : traffic.until(1500)
    burst.untilMs = state.elapsedMs + lasts * 1000
  }
  const own = inner.weight * tenant.level(state.elapsedMs) * 0.75 * (1 + noise.network) + burst.height
  const limit = state.isThrottled ? slowedBy(device) : 1
  load.network = bounded(own + strain.network, limit)
  load.cpu = bounded(0.04 + 0.5 * load.network + 0.5 * noise.cpu + strain.cpu, limit)
  state.cpuSeconds += load.cpu * device.kind.cores * seconds
  movePorts(device, own)
}

/** The nearer it comes to the temperature at which it goes off, the less it does. */
function slowedBy({ kind, state }: Device): number {
  const { throttle, shutdown } = kind.thermal
  const part = (state.temperature.asic - throttle) / (0.7 * (shutdown - throttle))
  return Math.max(slowest, Math.min(slowed, slowed * (1 - part)))
}

const bounded = (load: number, limit: number): number => Math.min(limit, Math.max(0.005, load))

function movePorts(device: Device, wanted: number): void {
  const { kind, state } = device
  const { tenant, traffic } = state.inner
  // What does not fit is paused, then dropped.
  const beyond = Math.max(0, wanted + state.strain.network - 0.92)
  // Drawn whatever the links do, so that they change nothing for the rest.
  const sway = traffic.float() - 0.5
  const chance = traffic.float()
  const count = kind.ports.length
  for (let index = 0; index < count; index++) {
    const ofKind = kind.ports[index]
    const port = state.ports[index]
    if (!ofKind || !port || !port.isUp) continue
    const bits = ofKind.counterBits
    const isUplink = ofKind.isOptical
    const part = isUplink ? (index === 0 ? 0.62 : 0.38) * state.load.network : 0.002 + 0.004 * state.load.cpu
    const bytes = (ofKind.bitsPerSecond / 8) * seconds * part
    const received = bytes * (0.5 + 0.06 * sway)
    const sent = bytes - received
    port.rxBytes = counted(port.rxBytes, received, bits)
    port.txBytes = counted(port.txBytes, sent, bits)
    const packet = isUplink ? tenant.packetBytes : 400
    port.rxPackets = counted(port.rxPackets, received / packet, bits)
    port.txPackets = counted(port.txPackets, sent / packet, bits)
    if (!isUplink) continue
    // An old laser brings the light near to what the receiver can tell apart.
    const margin = Math.max(0, port.ageing - 0.55)
    const errors = 2e-5 + (received / packet) * 1e-4 * margin ** 2
    port.rxErrors = counted(port.rxErrors, wholes(errors, chance), bits)
    if (beyond > 0) {
      port.rxDropped = counted(port.rxDropped, (received / packet) * 0.001 * beyond, bits)
      port.pausedFrames = counted(port.pausedFrames, 4000 * beyond * (1 + chance), bits)
    }
  }
}
