// What a plugged module says of itself, of whatever kind: identity, what it measures, and what it warns of.

export interface Lane {
  /** From 1. */
  number: number
  /** Watts. */
  received: number | undefined
  transmitted: number | undefined
  /** Amperes through the laser. */
  bias: number | undefined
}

/** A warning that is raised: such as `rx_los`, `temperature_high_alarm`; of one lane, or of the module. */
export interface Flag {
  name: string
  lane?: number
}

export const moduleStates = ['low_power', 'powering_up', 'ready', 'powering_down', 'fault'] as const
export type ModuleState = (typeof moduleStates)[number]

export interface Module {
  facts: Readonly<Record<string, string>>
  /** Of those that tell it (CMIS). */
  state?: ModuleState | undefined
  temperature: number | undefined
  voltage: number | undefined
  lanes: readonly Lane[]
  /** Raised now, or since they were last read: modules keep most of them until then. */
  flags: readonly Flag[]
}

/** Memory comes in halves of 128 bytes. A2 is the second device of an SFP; what is upper depends on page and bank. */
export interface Place {
  device: 'A0' | 'A2'
  page: number
  bank: number
  isUpper: boolean
}

/** Undefined where there is no such half, or it cannot be read. */
export type ReadHalf = (at: Place) => Promise<Buffer | undefined>

export const lower: Place = { device: 'A0', page: 0, bank: 0, isUpper: false }
export const upper = (page: number, bank = 0): Place => ({ device: 'A0', page, bank, isUpper: true })
export const halfBytes = 128

export const levels = ['high_alarm', 'low_alarm', 'high_warning', 'low_warning'] as const
export const silent = { temperature: undefined, voltage: undefined, lanes: [], flags: [] }

/** Steps of the fields: 0.1 µW, 2 µA, 100 µV, 1/256 °C. */
export const [powerStep, biasStep, voltStep, degreeStep] = [1e-7, 2e-6, 1e-4, 1 / 256]

export const steps = (memory: Buffer, at: number, step: number): number =>
  rounded(memory.readUInt16BE(at) * step)

/** The steps are decimal; what binary adds behind them is noise. */
export const rounded = (value: number): number => Number(value.toPrecision(6))

export const hasBit = (memory: Buffer, at: number, bit: number): boolean =>
  (((memory[at] ?? 0) >> bit) & 1) === 1

/** Vendor, part and serial number, of 16 characters each. */
export function factsAt(
  memory: Buffer,
  vendor: number,
  part: number,
  serial: number,
): Record<string, string> {
  const text = (at: number) =>
    memory
      .toString('latin1', at, at + 16)
      .replaceAll(/[^ -~]/g, '')
      .trim()
  const facts = {
    'dpu.optics.vendor': text(vendor),
    'dpu.optics.model': text(part),
    'dpu.optics.serial_number': text(serial),
  }
  return Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== ''))
}
