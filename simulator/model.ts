// What a virtual device is: the plain state that physics moves, faults disturb, the simulated sources read and the BMC
// serves. Everything of a device is here, so that none of them needs to know another.
import type { Beat } from './beat.ts'
import type { Inner } from './physics/inner.ts'
import type { World } from './physics/world.ts'
import type { Random } from './random.ts'

/** One step of physics, and the grain of everything that is simulated. */
export const stepMs = 1000

/** A product: what all devices of it have in common. One file each in `kinds/`. */
export interface Kind {
  /** As `--devices bluefield-3:10` and the truth name it. */
  readonly name: string
  readonly vendor: string
  readonly model: string
  readonly partNumber: string
  /** Of a serial number: `MT#########`, where each # is a digit. */
  readonly serial: string
  /** Vendor and device of its network function on the bus, as the kernel writes it: `15b3:a2dc`. */
  readonly pciId: string
  readonly arch: 'arm64' | 'x64'
  /** How many of the fleet are of this kind, beside the others. */
  readonly share: number
  readonly cores: number
  readonly memoryBytes: number
  readonly ports: readonly PortKind[]
  readonly sensors: readonly SensorKind[]
  /** Power at rest and at full load, in watts. */
  readonly power: { readonly idle: number; readonly full: number }
  /** Degrees above the inlet at rest and at full load with all fans well, and how fast it follows, in seconds. */
  readonly thermal: {
    readonly idle: number
    readonly full: number
    readonly seconds: number
    readonly throttle: number
    readonly shutdown: number
  }
  readonly fans: number
  readonly storage: readonly DriveKind[]
  readonly accelerators: readonly string[]
  readonly services: readonly string[]
  /** Versions that a fleet has side by side, oldest first, of each part of the firmware. */
  readonly firmware: Readonly<Record<string, readonly string[]>>
  readonly chatter: readonly Template[]
  /** Lines of the kernel at a boot, in order. */
  readonly boot: readonly string[]
  readonly bootSeconds: number
  readonly bmc: BmcKind
}

export interface PortKind {
  readonly name: string
  /** Its address on the card's own bus, as its driver writes it. */
  readonly pci: string
  readonly bitsPerSecond: number
  readonly driver: string
  readonly isOptical: boolean
  /** Width of its counters: where they wrap. */
  readonly counterBits: 32 | 64
}

export interface SensorKind {
  /** As the device names it: `hw.id`, and in Redfish its Id. */
  readonly id: string
  readonly kind: 'temperature' | 'voltage' | 'power' | 'current' | 'fan'
  /** What it follows. */
  readonly of: 'asic' | 'cpu' | 'board' | 'inlet' | 'memory' | 'drive' | 'optics' | 'input' | 'rail' | 'fan'
  readonly index?: number
  /** Volts of a rail. */
  readonly nominal?: number
  readonly warning?: number
  readonly critical?: number
  readonly lowWarning?: number
  readonly lowCritical?: number
}

export interface DriveKind {
  readonly model: string
  readonly bytes: number
  readonly pci: string
}

export interface BmcKind {
  /** What its Redfish tree looks like. */
  readonly flavour: 'bluefield' | 'openbmc'
  readonly version: string
  /** Milliseconds to an answer. */
  readonly answerMs: number
}

/** A kind of log line. `{n}`-like holes are filled anew each time: {int}, {hex}, {ip}, {port}, {uuid}, {ms}, {pid}, {user}, {path},
 * {mac}, {if} a port, {pci} of a port, {svc} a service. */
export interface Template {
  readonly service: string
  /** Of RFC 5424: 0 emergency … 7 debug. */
  readonly severity: number
  readonly text: string
  /** Lines an hour at rest; `perLoad` more at full load. */
  readonly perHour: number
  readonly perLoad?: number
}

export interface Placement {
  readonly site: string
  readonly rack: string
  readonly host: string
  /** Of one or two cards in a host. */
  readonly slot: number
  readonly tenant: string
}

/** A device of the fleet: who it is, and how it is now. */
export interface Device {
  readonly index: number
  /** As in topics and stores: vendor's serial number behind the kind. */
  readonly id: string
  readonly serial: string
  readonly uuid: string
  readonly kind: Kind
  readonly placement: Placement
  /** Unix time, in milliseconds, at which `elapsedMs` was 0: with it physics knows the time of day. */
  readonly epochMs: number
  /** What all devices of the fleet share: the air of sites and racks, the day of tenants. */
  readonly world: World
  /** Streams of its own: what one part draws changes nothing for the others. */
  readonly random: (part: string) => Random
  /** Tells those who read it when. */
  readonly beat: Beat
  readonly state: State
}

export interface State {
  /** Simulated time since the start of the run. */
  elapsedMs: number
  power: 'on' | 'off' | 'booting'
  /** Simulated time at which it began to boot, and that at which it will be up. */
  bootedAtMs: number
  upAtMs: number
  boots: number
  /** 0 to 1 each. */
  load: { cpu: number; network: number; storage: number; accelerators: number[] }
  /** Degrees Celsius. */
  temperature: {
    inlet: number
    asic: number
    cpu: number
    board: number
    memory: number
    drives: number[]
    optics: number[]
  }
  /** 1 is the full speed at the present duty; 0 stands still. */
  fans: { rpm: number; health: number }[]
  fanDuty: number
  isThrottled: boolean
  watts: number
  /** Used since the start of the run. */
  joules: number
  /** All cores together were busy for so long since the boot. */
  cpuSeconds: number
  /** What a sensor tells in place of the truth: absent, or absurd. By sensor id. */
  sensorLies: Map<string, number | 'absent'>
  ports: PortState[]
  memory: { usedBytes: number; cachedBytes: number; eccCorrectable: number; eccUncorrectable: number }
  /** AER counters of the card's own link. */
  aer: { correctable: number; nonfatal: number; fatal: number }
  drives: DriveState[]
  accelerators: { operations: number; bytes: number; errors: number }[]
  services: ServiceState[]
  firmware: Record<string, string>
  /** Its own clock beside the simulated time. */
  clock: { offsetMs: number; driftPpm: number }
  /** Cut off from the aggregator. */
  isOffline: boolean
  bmc: {
    hung: boolean
    delayMs: number
    errorRate: number
    wrong: boolean
    log: BmcEntry[]
    nextEntry: number
  }
  /** Lines since the source took the last ones; bounded by whoever adds. */
  lines: Line[]
  /** Of the kernel, since boot; the oldest go when it is full. */
  kernel: KernelLine[]
  /** Number of the next line of the kernel, as in /dev/kmsg: 0 is the first of a boot. */
  kernelNext: number
  /** What weighs on it in this step beside its own work: faults add before a step, physics takes and clears it. */
  readonly strain: Strain
  /** What physics remembers from step to step; nobody else looks at it. */
  readonly inner: Inner
}

export interface Strain {
  /** Part of the cooling air that does not come, 0 to 1. */
  airflow: number
  /** Degrees by which the air at the inlet is warmer. */
  inlet: number
  /** Work of others on the card and its links, 0 to 1 each. */
  cpu: number
  network: number
  storage: number
  /** Links that are held down, and services that die soon after each start: bit i is port or service i. */
  linksDown: number
  crashing: number
  /** A second. */
  eccCorrectable: number
  eccUncorrectable: number
  aerCorrectable: number
  aerNonfatal: number
  /** Of each drive: per cent of its life that a second uses up, and errors a second. */
  wear: number[]
  mediaErrors: number[]
  /** Of each service: bytes a second that it does not give back, and lines a second that it writes. */
  leak: number[]
  lines: number[]
}

export interface PortState {
  isUp: boolean
  carrierChanges: number
  rxBytes: number
  txBytes: number
  rxPackets: number
  txPackets: number
  rxErrors: number
  rxDropped: number
  pausedFrames: number
  /** Of the optics: dBm, mA. `ageing` 0 is new, 1 is done for. */
  rxPower: number
  txPower: number
  biasMilliamps: number
  ageing: number
}

export interface DriveState {
  readBytes: number
  writtenBytes: number
  reads: number
  writes: number
  percentUsed: number
  mediaErrors: number
  availableSpare: number
}

export interface ServiceState {
  readonly name: string
  isActive: boolean
  restarts: number
  startedAtMs: number
  cpuSeconds: number
  memoryBytes: number
}

export interface Line {
  readonly service: string
  readonly severity: number
  readonly text: string
  readonly pid: number
  /** Simulated time. */
  readonly atMs: number
}

export interface KernelLine {
  readonly severity: number
  readonly text: string
  readonly atMs: number
}

export interface BmcEntry {
  readonly id: number
  readonly severity: 'OK' | 'Warning' | 'Critical'
  readonly message: string
  /** Of the DMTF registries or OpenBMC's. */
  readonly messageId: string
  readonly atMs: number
}

/** One file each in `faults/`. */
export interface FaultKind {
  /** As `--faults` and the truth name it; nothing that is emitted does. */
  readonly name: string
  readonly summary: string
  /** Usual length; drawn around it. */
  readonly seconds: number
  /** How many begin on a device in a day, where `--faults` asks for it without a rate. */
  readonly perDay: number
  /** Whether this device can have it. */
  fits(device: Device): boolean
  /** Begins on the device, to last so many seconds. `step` runs before each step of physics with the seconds since it began; `end` mends what does not stay broken. */
  begin(device: Device, random: Random, lasts: number): Fault
}

export interface Fault {
  /** For the truth: which port, drive, fan, service. */
  readonly where: string
  step(device: Device, seconds: number): void
  end(device: Device): void
}

/** A line of `--truth`: JSON, one for the beginning and one for the end of each fault. */
export interface Truth {
  readonly at: string
  readonly device: string
  readonly fault: string
  readonly where: string
  readonly phase: 'begin' | 'end'
}

/** What `createSchedule` of `faults/schedule.ts` makes of `--faults`. */
export interface Schedule {
  /** Before each step of physics: begins what is due on this device, disturbs it, ends what is over, and tells the truth. */
  step(device: Device): void
  /** Ends what is under way on it, as a run ends. */
  end(device: Device): void
}

export interface ScheduleOptions {
  /** As `--faults` has it; an empty one is a fleet without faults. @throws what is wrong with it. */
  readonly faults: string
  readonly devices: readonly Device[]
  readonly tell: (truth: Truth) => void
}
