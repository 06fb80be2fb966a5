// A device as it is at first, and how it moves: one call is one step of all that happens in it.
import type { Device, DriveState, Kind, PortState, ServiceState, State, Strain } from '../model.ts'
import { stepMs } from '../model.ts'
import type { Random } from '../random.ts'
import { moveAccelerators } from './accelerators.ts'
import { bootText, moveBoot } from './boot.ts'
import { chat } from './chatter.ts'
import { moveClock } from './clock.ts'
import { moveErrors } from './hardware-errors.ts'
import type { Inner } from './inner.ts'
import { moveLinks } from './links.ts'
import { moveMemory } from './memory.ts'
import { movePower } from './power.ts'
import { watchSensors } from './sensors.ts'
import { moveServices } from './services.ts'
import { moveStorage } from './storage.ts'
import { moveHeat } from './thermal.ts'
import { moveTraffic } from './traffic.ts'

export { panic, powerOff, powerOn, reboot, reset } from './boot.ts'
export { readSensor } from './sensors.ts'
export { World } from './world.ts'

const dayMs = 86_400_000

/** The device moves on by `stepMs`. Allocates nothing but the lines that it writes. */
export function step(device: Device): void {
  const { state } = device
  state.elapsedMs += stepMs
  if (state.power === 'booting') moveBoot(device)
  moveLinks(device)
  if (state.power === 'on') {
    moveTraffic(device)
    moveStorage(device)
    moveAccelerators(device)
    moveServices(device)
    moveMemory(device)
    moveErrors(device)
    chat(device)
  }
  movePower(device)
  moveHeat(device)
  watchSensors(device)
  moveClock(device)
  clear(state.strain)
}

function clear(strain: Strain): void {
  strain.airflow = 0
  strain.inlet = 0
  strain.cpu = 0
  strain.network = 0
  strain.storage = 0
  strain.linksDown = 0
  strain.crashing = 0
  strain.eccCorrectable = 0
  strain.eccUncorrectable = 0
  strain.aerCorrectable = 0
  strain.aerNonfatal = 0
  strain.wear.fill(0)
  strain.mediaErrors.fill(0)
  strain.leak.fill(0)
  strain.lines.fill(0)
}

/** As it is at the start of a run: on for days already, warm, with counters that have counted. */
export function createState(origin: Omit<Device, 'state'>): State {
  const { kind, random } = origin
  const draw = random('origin')
  const uptimeMs = Math.round(draw.between(0.02, 40) * dayMs)
  const inner = innerOf(origin, draw)
  const inlet = inner.site.inlet(0) + inner.rack.offset
  const asic = inlet + kind.thermal.idle + 0.35 * (kind.thermal.full - kind.thermal.idle)
  const board = inlet + 0.42 * (asic - inlet)
  const state: State = {
    elapsedMs: 0,
    power: 'on',
    bootedAtMs: -uptimeMs - kind.bootSeconds * 1000,
    upAtMs: -uptimeMs,
    boots: 1,
    load: { cpu: 0.1, network: 0.1, storage: 0.05, accelerators: kind.accelerators.map(() => 0) },
    temperature: {
      inlet,
      asic,
      cpu: asic + 2,
      board,
      memory: board + 8,
      drives: kind.storage.map(() => board + 5),
      optics: kind.ports.filter(({ isOptical }) => isOptical).map(() => board + 8),
    },
    fans: Array.from({ length: kind.fans }, () => ({ rpm: 6000, health: 1 })),
    fanDuty: 0.45,
    isThrottled: false,
    watts: kind.power.idle * 1.2,
    joules: 0,
    cpuSeconds: Math.round((uptimeMs / 1000) * kind.cores * draw.between(0.08, 0.3)),
    sensorLies: new Map(),
    ports: kind.ports.map((port, index) => portOf(port, uptimeMs, ((inner.empty >> index) & 1) === 1, draw)),
    memory: {
      usedBytes: 0,
      cachedBytes: Math.round(kind.memoryBytes * draw.between(0.1, 0.4)),
      eccCorrectable: draw.poisson((uptimeMs / dayMs) * 0.05),
      eccUncorrectable: 0,
    },
    aer: { correctable: draw.poisson((uptimeMs / dayMs) * 0.25), nonfatal: 0, fatal: 0 },
    drives: kind.storage.map((drive) => driveOf(drive.bytes, draw)),
    accelerators: kind.accelerators.map(() => ({
      operations: Math.round((uptimeMs / 1000) * draw.between(2000, 60_000)),
      bytes: Math.round((uptimeMs / 1000) * draw.between(2e7, 5e8)),
      errors: draw.poisson(0.2),
    })),
    services: kind.services.map((name) => serviceOf(name, uptimeMs, draw)),
    firmware: firmwareOf(kind, draw),
    clock: { offsetMs: (draw.float() - 0.5) * (inner.isWellTimed ? 2 : 90), driftPpm: 18 * draw.normal() },
    isOffline: false,
    bmc: { hung: false, delayMs: 0, errorRate: 0, wrong: false, log: [], nextEntry: 1 + draw.below(400) },
    lines: [],
    kernel: [],
    kernelNext: 0,
    strain: strainOf(kind),
    inner,
  }
  for (let index = 0; index < state.services.length; index++) {
    const service = state.services[index]
    const mine = inner.services[index]
    if (service && mine) service.memoryBytes = mine.restBytes
  }
  bootedBefore(state, kind)
  return state
}

/** What the kernel said when it booted, long ago. */
function bootedBefore(state: State, kind: Kind): void {
  kind.boot.forEach((line, index) => {
    const atMs = state.bootedAtMs + Math.round((kind.bootSeconds * 400 * (index + 1)) / kind.boot.length)
    state.kernel.push({ severity: 6, text: bootText(state.firmware, line), atMs })
  })
  state.kernelNext = state.kernel.length
}

function innerOf({ world, kind, placement, random }: Omit<Device, 'state'>, draw: Random): Inner {
  const empty = kind.ports.reduce(
    (bits, port, index) => (index > 0 && port.isOptical && draw.chance(0.06) ? bits | (1 << index) : bits),
    0,
  )
  const parts = kind.services.map(() => draw.between(0.3, 1.7))
  const sum = parts.reduce((total, part) => total + part, 0)
  const forServices = kind.memoryBytes * draw.between(0.18, 0.34)
  return {
    site: world.site(placement.site),
    rack: world.rack(placement.site, placement.rack),
    tenant: world.tenant(placement.tenant),
    traffic: random('traffic'),
    work: random('work'),
    errors: random('errors'),
    talk: random('talk'),
    life: random('life'),
    weight: Math.min(1.5, Math.exp(0.35 * draw.normal())),
    resistance: Math.exp(0.05 * draw.normal()),
    thirst: Math.exp(0.03 * draw.normal()),
    noise: { network: 0, cpu: 0, storage: 0 },
    burst: { height: 0, untilMs: draw.below(900) * 1000 },
    isTooHot: false,
    throttles: 0,
    crossed: new Int8Array(kind.sensors.length),
    bootLine: kind.boot.length,
    lastWords: [],
    services: parts.map((part) => ({
      pid: 900 + draw.below(3000),
      restBytes: Math.round((forServices * part) / sum),
      leakedBytes: 0,
      diesAtMs: Math.round(draw.until(400 * 86_400) * 1000),
      startsAtMs: 0,
    })),
    quietFor: draw.until(1),
    repeat: { template: 0, left: 0 },
    suppressed: new Map(),
    empty,
    isWellTimed: !draw.chance(0.15),
    syncAtMs: draw.below(64) * 1000,
  }
}

function strainOf(kind: Kind): Strain {
  return {
    airflow: 0,
    inlet: 0,
    cpu: 0,
    network: 0,
    storage: 0,
    linksDown: 0,
    crashing: 0,
    eccCorrectable: 0,
    eccUncorrectable: 0,
    aerCorrectable: 0,
    aerNonfatal: 0,
    wear: kind.storage.map(() => 0),
    mediaErrors: kind.storage.map(() => 0),
    leak: kind.services.map(() => 0),
    lines: kind.services.map(() => 0),
  }
}

function portOf(port: Kind['ports'][number], uptimeMs: number, isEmpty: boolean, draw: Random): PortState {
  const seconds = uptimeMs / 1000
  const share = port.isOptical ? draw.between(0.05, 0.25) : 0.004
  const rx = isEmpty ? 0 : Math.round((port.bitsPerSecond / 8) * seconds * share * 0.5)
  const tx = isEmpty ? 0 : Math.round(rx * draw.between(0.7, 1.2))
  const packet = draw.between(300, 1200)
  const wrap = port.counterBits === 32 ? 2 ** 32 : Number.MAX_SAFE_INTEGER
  return {
    isUp: !isEmpty,
    carrierChanges: isEmpty ? 0 : 1 + 2 * draw.below(3),
    rxBytes: rx % wrap,
    txBytes: tx % wrap,
    rxPackets: Math.round(rx / packet) % wrap,
    txPackets: Math.round(tx / packet) % wrap,
    rxErrors: isEmpty ? 0 : draw.poisson(2),
    rxDropped: isEmpty ? 0 : draw.below(900),
    pausedFrames: isEmpty ? 0 : draw.below(4000),
    rxPower: -2,
    txPower: -0.4,
    biasMilliamps: 6.6,
    ageing: draw.between(0, 0.35),
  }
}

function driveOf(bytes: number, draw: Random): DriveState {
  const percentUsed = draw.between(0, 35)
  const writtenBytes = Math.round((percentUsed / 100) * bytes * 1200)
  const readBytes = Math.round(writtenBytes * draw.between(0.8, 3))
  return {
    readBytes,
    writtenBytes,
    reads: Math.round(readBytes / 24_000),
    writes: Math.round(writtenBytes / 24_000),
    percentUsed,
    mediaErrors: 0,
    availableSpare: 100,
  }
}

function serviceOf(name: string, uptimeMs: number, draw: Random): ServiceState {
  return {
    name,
    isActive: true,
    restarts: draw.poisson(0.05),
    startedAtMs: -Math.round(uptimeMs * draw.between(0.9, 1)),
    cpuSeconds: Math.round((uptimeMs / 1000) * draw.between(0.01, 0.2)),
    memoryBytes: 0,
  }
}

/** The newer a version, the more have it; the parts of one card are of about one age. */
function firmwareOf(kind: Kind, draw: Random): Record<string, string> {
  const age = draw.float() ** 2
  return Object.fromEntries(
    Object.entries(kind.firmware).map(([part, versions]) => {
      const back = Math.floor(age * versions.length + (draw.chance(0.15) ? 1 : 0))
      return [part, versions[Math.max(0, versions.length - 1 - back)] ?? '']
    }),
  )
}
