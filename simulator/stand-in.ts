// A stand-in for kinds, physics and faults until they are merged.
import type { Device, Kind, Physics, Schedule, ScheduleOptions, State } from './model.ts'
import { stepMs } from './model.ts'

const kind: Kind = {
  name: 'bluefield-3',
  vendor: 'NVIDIA',
  model: 'BlueField-3',
  partNumber: '900-9D3B6',
  serial: 'MT#########',
  arch: 'arm64',
  share: 1,
  cores: 16,
  memoryBytes: 32 * 2 ** 30,
  ports: [0, 1].map((n) => ({
    name: `p${n}`,
    bitsPerSecond: 200e9,
    driver: 'mlx5_core',
    isOptical: true,
    counterBits: 64 as const,
  })),
  sensors: [
    { id: 'mlx5/temp1', kind: 'temperature', of: 'asic', warning: 95, critical: 105 },
    { id: 'cpu/temp1', kind: 'temperature', of: 'cpu', warning: 95, critical: 105 },
    { id: 'board/temp1', kind: 'temperature', of: 'board', warning: 80, critical: 90 },
    { id: 'board/in0', kind: 'voltage', of: 'input', nominal: 12 },
    { id: 'board/power1', kind: 'power', of: 'input' },
  ],
  power: { idle: 45, full: 110 },
  thermal: { idle: 20, full: 55, seconds: 60, throttle: 100, shutdown: 115 },
  fans: 0,
  storage: [{ model: 'KIOXIA', bytes: 128e9, pci: '0000:05:00.0' }],
  accelerators: [],
  services: ['ovs-vswitchd', 'sshd', 'containerd', 'chronyd'],
  firmware: { nic: ['32.39.1002'], uefi: ['4.2.0'], nvme: ['1.0'] },
  chatter: [],
  boot: [],
  bootSeconds: 60,
  bmc: { flavour: 'bluefield', version: '23.10', answerMs: 100 },
} as Kind

export const kinds = [kind]
export const physics: Physics = {
  createState: (origin) =>
    ({
      elapsedMs: 0,
      power: 'on',
      bootedAtMs: -1e6,
      upAtMs: -9e5,
      boots: 1,
      load: { cpu: 0.2, network: 0.3, storage: 0.1, accelerators: [] },
      temperature: { inlet: 22, asic: 55, cpu: 50, board: 40, memory: 45, drives: [40], optics: [45, 46] },
      fans: [],
      fanDuty: 0.3,
      isThrottled: false,
      watts: 60,
      sensorLies: new Map(),
      ports: origin.kind.ports.map(() => ({
        isUp: true,
        carrierChanges: 1,
        rxBytes: 0,
        txBytes: 0,
        rxPackets: 0,
        txPackets: 0,
        rxErrors: 0,
        rxDropped: 0,
        pausedFrames: 0,
        rxPower: -3,
        txPower: -2,
        biasMilliamps: 7,
        ageing: 0,
      })),
      memory: { usedBytes: 8e9, cachedBytes: 2e9, eccCorrectable: 0, eccUncorrectable: 0 },
      aer: { correctable: 0, nonfatal: 0, fatal: 0 },
      drives: [
        {
          readBytes: 0,
          writtenBytes: 0,
          reads: 0,
          writes: 0,
          percentUsed: 3,
          mediaErrors: 0,
          availableSpare: 100,
        },
      ],
      accelerators: [],
      services: origin.kind.services.map((name) => ({
        name,
        isActive: true,
        restarts: 0,
        startedAtMs: 0,
        cpuSeconds: 0,
        memoryBytes: 1e8,
      })),
      firmware: { nic: '32.39.1002', uefi: '4.2.0', nvme: '1.0' },
      clock: { offsetMs: 0, driftPpm: 0 },
      isOffline: false,
      bmc: { hung: false, delayMs: 0, errorRate: 0, wrong: false, log: [], nextEntry: 1 },
      lines: [],
      kernel: [],
      kernelNext: 0,
    }) as unknown as State,
  step(device: Device) {
    const { state } = device
    state.elapsedMs += stepMs
    for (const port of state.ports) port.rxBytes += 1e8
    if (state.elapsedMs % 5000 === 0)
      state.lines.push({
        service: 'sshd',
        severity: 6,
        text: `session ${state.elapsedMs} opened`,
        pid: 400,
        atMs: state.elapsedMs,
      })
  },
}
export const createSchedule = (_: ScheduleOptions): Schedule => ({ step: () => undefined })
