// Readings of `system` on a virtual device: processors, memory, load, drives, network and uptime, as /proc would show them.
import type { Attributes, Readings } from '../../plugins/contract/index.ts'
import { cpuModes } from '../../plugins/protocols/proc.ts'
import type { Device } from '../model.ts'
import { ofKind } from './simulated.ts'
import type { Simulated } from './simulated.ts'

type Mode = (typeof cpuModes)[number]

/** How time on the processors divides at a load: most work of a DPU is in user space, packets come as interrupts. */
const workOf: Readonly<Partial<Record<Mode, number>>> = {
  user: 0.62,
  system: 0.27,
  interrupt: 0.09,
  iowait: 0.02,
}

const modes = cpuModes.map((mode) => ({ mode, attributes: { 'cpu.mode': mode } }))
const memoryStates = ['used', 'free', 'buffers', 'cached'].map((state) => ({
  state,
  attributes: { 'system.memory.state': state },
}))

/** Buffers of block devices: little, and never nothing. */
const bufferBytes = 24 * 2 ** 20
const big = (value: number): bigint => BigInt(Math.floor(value))

/** What accumulates while the device is up. */
class Processors {
  readonly #device: Device
  readonly #seconds = new Map<Mode, number>()
  readonly #before = new Map<Mode, number>()
  #boots: number
  #atMs: number
  #load: readonly [number, number, number]
  #switches = 0
  #interrupts = 0

  constructor(device: Device) {
    this.#device = device
    this.#boots = device.state.boots
    this.#atMs = device.state.elapsedMs
    const busy = device.state.load.cpu * device.kind.cores
    this.#load = [busy, busy, busy]
  }

  /** Charges what was done since the last reading. */
  advance(): void {
    const { state, kind } = this.#device
    if (state.boots !== this.#boots) this.#reset()
    const seconds = Math.max(0, state.elapsedMs - this.#atMs) / 1000
    this.#atMs = state.elapsedMs
    const upSeconds = (state.elapsedMs - state.bootedAtMs) / 1000
    for (const { mode } of modes) {
      const before = this.#seconds.get(mode)
      if (before !== undefined) this.#before.set(mode, before)
      const work = state.cpuSeconds * (workOf[mode] ?? 0)
      this.#seconds.set(mode, mode === 'idle' ? Math.max(0, upSeconds * kind.cores - state.cpuSeconds) : work)
    }
    const busy = state.load.cpu * kind.cores
    const toward = (before: number, minutes: number) =>
      busy + (before - busy) * Math.exp(-seconds / (60 * minutes))
    this.#load = [toward(this.#load[0], 1), toward(this.#load[1], 5), toward(this.#load[2], 15)]
    const { network } = state.load
    this.#switches += seconds * (800 + 9000 * busy + 40_000 * network)
    this.#interrupts += seconds * (600 + 3000 * busy + 60_000 * network)
  }

  add(readings: Readings): void {
    const { cores } = this.#device.kind
    for (const { mode, attributes } of modes) {
      const seconds = this.#seconds.get(mode) ?? 0
      readings.add('system.cpu.time', Math.floor(seconds * 100) / 100, attributes)
    }
    const all = modes.reduce((sum, { mode }) => sum + this.#spent(mode), 0)
    for (const { mode, attributes } of all > 0 ? modes : []) {
      readings.add('system.cpu.utilization', this.#spent(mode) / all, attributes)
    }
    readings.add('system.cpu.logical.count', BigInt(cores))
    readings.add('system.cpu.physical.count', BigInt(cores))
    readings.add('dpu.cpu.context_switches', big(this.#switches))
    readings.add('dpu.cpu.interrupts', big(this.#interrupts))
    const [one, five, fifteen] = this.#load.map((load) => Math.round(load * 100) / 100)
    readings.add('system.cpu.load_average.1m', one ?? 0)
    readings.add('system.cpu.load_average.5m', five ?? 0)
    readings.add('system.cpu.load_average.15m', fifteen ?? 0)
  }

  /** Nothing is known to have been spent before the first reading. */
  #spent(mode: Mode): number {
    const before = this.#before.get(mode)
    return before === undefined ? 0 : Math.max(0, (this.#seconds.get(mode) ?? 0) - before)
  }

  #reset(): void {
    this.#boots = this.#device.state.boots
    this.#atMs = this.#device.state.bootedAtMs
    this.#before.clear()
    this.#seconds.clear()
    this.#load = [0, 0, 0]
    this.#switches = this.#interrupts = 0
  }
}

function addMemory(readings: Readings, { state, kind }: Device): void {
  const limit = kind.memoryBytes
  const cached = Math.min(state.memory.cachedBytes, limit)
  const used = Math.min(state.memory.usedBytes, limit - cached)
  const buffers = Math.min(bufferBytes, limit - cached - used)
  const free = limit - used - cached - buffers
  const bytes = [used, free, buffers, cached]
  for (const [index, { attributes }] of memoryStates.entries()) {
    readings.add('system.memory.usage', big(bytes[index] ?? 0), attributes)
  }
  readings.add('system.memory.limit', big(limit))
  for (const [index, { attributes }] of memoryStates.entries()) {
    readings.add('system.memory.utilization', Math.floor(bytes[index] ?? 0) / limit, attributes)
  }
  readings.add('system.memory.linux.available', big(free + buffers + cached * 0.9))
}

interface Named {
  readonly received: Attributes
  readonly transmitted: Attributes
}

const bothWays = (key: string, name: string, direction: string, ways: readonly [string, string]): Named => ({
  received: { [key]: name, [direction]: ways[0] },
  transmitted: { [key]: name, [direction]: ways[1] },
})
const networkWays = ['receive', 'transmit'] as const
const diskWays = ['read', 'write'] as const

function addDrives(readings: Readings, { state, kind }: Device, names: readonly Named[]): void {
  for (const [index, { received, transmitted }] of names.entries()) {
    readings.add('system.disk.io', big(state.drives[index]?.readBytes ?? 0), received)
    readings.add('system.disk.io', big(state.drives[index]?.writtenBytes ?? 0), transmitted)
  }
  for (const [index, { received, transmitted }] of names.entries()) {
    readings.add('system.disk.operations', big(state.drives[index]?.reads ?? 0), received)
    readings.add('system.disk.operations', big(state.drives[index]?.writes ?? 0), transmitted)
  }
  for (const [index, { bytes }] of kind.storage.entries()) {
    readings.add('system.disk.limit', BigInt(bytes), { 'system.device': driveName(index) })
  }
}

function addNetwork(
  readings: Readings,
  { state }: Device,
  names: readonly { io: Named; packets: Named }[],
): void {
  for (const [index, { io }] of names.entries()) {
    readings.add('system.network.io', big(state.ports[index]?.rxBytes ?? 0), io.received)
    readings.add('system.network.io', big(state.ports[index]?.txBytes ?? 0), io.transmitted)
  }
  for (const [index, { packets }] of names.entries()) {
    readings.add('system.network.packet.count', big(state.ports[index]?.rxPackets ?? 0), packets.received)
    readings.add('system.network.packet.count', big(state.ports[index]?.txPackets ?? 0), packets.transmitted)
  }
  for (const [index, { io }] of names.entries()) {
    readings.add('system.network.errors', big(state.ports[index]?.rxErrors ?? 0), io.received)
  }
  for (const [index, { packets }] of names.entries()) {
    readings.add('system.network.packet.dropped', big(state.ports[index]?.rxDropped ?? 0), packets.received)
  }
}

const driveName = (index: number): string => `nvme${index}n1`

const drivesOf = ofKind(({ storage }) =>
  storage.map((_, index) => bothWays('system.device', driveName(index), 'disk.io.direction', diskWays)),
)
const portsOf = ofKind(({ ports }) =>
  ports.map(({ name }) => ({
    io: bothWays('network.interface.name', name, 'network.io.direction', networkWays),
    packets: bothWays('system.device', name, 'network.io.direction', networkWays),
  })),
)

export const system: Simulated = {
  name: 'system',
  service: 'dpulse',
  tellsStart: true,
  open(device) {
    const { kind, state } = device
    const processors = new Processors(device)
    const drives = drivesOf(kind)
    const ports = portsOf(kind)
    return {
      points(readings) {
        processors.advance()
        processors.add(readings)
        addMemory(readings, device)
        addDrives(readings, device, drives)
        addNetwork(readings, device, ports)
        readings.add('system.uptime', Math.floor((state.elapsedMs - state.bootedAtMs) / 10) / 100)
      },
    }
  },
}
