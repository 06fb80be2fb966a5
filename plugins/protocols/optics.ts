// What a plugged module says of itself: identity and optical diagnostics, from the memory that the driver shows
// (SFF-8472 for SFP, SFF-8636 for QSFP). Copper has no diagnostics, and none are made up for it.
//
//   SFF-8472   A0h: 20 vendor, 40 part, 68 serial, 92 kind of monitoring    A2h at 256: 96 temperature, 98 voltage,
//              100 bias, 102 transmitted, 104 received
//   SFF-8636   22 temperature, 26 voltage, 34 received ×4, 42 bias ×4, 50 transmitted ×4    148 vendor, 168 part, 196 serial

export interface Lane {
  /** Watts. */
  received: number | undefined
  transmitted: number | undefined
  /** Amperes through the laser. */
  bias: number | undefined
}

export interface Module {
  facts: Readonly<Record<string, string>>
  temperature: number | undefined
  voltage: number | undefined
  lanes: readonly Lane[]
}

const sfp = [0x03]
const qsfp = [0x0c, 0x0d, 0x11]
/** Steps of the fields: 0.1 µW, 2 µA, 100 µV, 1/256 °C. */
const [powerStep, biasStep, voltStep] = [1e-7, 2e-6, 1e-4]

/** Undefined where the memory is of no kind that is known. */
export function decodeModule(memory: Buffer): Module | undefined {
  const kind = memory[0] ?? 0
  if (sfp.includes(kind)) return decodeSfp(memory)
  return qsfp.includes(kind) ? decodeQsfp(memory) : undefined
}

function decodeSfp(memory: Buffer): Module {
  const facts = factsAt(memory, 20, 40, 68)
  const monitoring = memory[92] ?? 0
  // Implemented, and calibrated by the module itself: otherwise the numbers are raw.
  if (memory.length < 256 + 106 || (monitoring & 0x60) !== 0x60) return { facts, ...silent }
  const a2 = memory.subarray(256)
  const lane = {
    bias: stepped(a2, 100, biasStep),
    transmitted: stepped(a2, 102, powerStep),
    received: stepped(a2, 104, powerStep),
  }
  return { facts, ...measured(a2.readInt16BE(96), a2.readUInt16BE(98)), lanes: [lane] }
}

function decodeQsfp(memory: Buffer): Module {
  const facts = factsAt(memory, 148, 168, 196)
  if (memory.length < 58) return { facts, ...silent }
  const [temperature, voltage] = [memory.readInt16BE(22), memory.readUInt16BE(26)]
  // Copper, or diagnostics that are not ready: all is zero then.
  if (voltage === 0 || ((memory[2] ?? 0) & 1) !== 0) return { facts, ...silent }
  const lanes = [0, 1, 2, 3].map((lane) => ({
    received: stepped(memory, 34 + lane * 2, powerStep),
    bias: stepped(memory, 42 + lane * 2, biasStep),
    transmitted: stepped(memory, 50 + lane * 2, powerStep),
  }))
  // A module without such a monitor leaves its field at zero for every lane.
  for (const field of ['received', 'bias', 'transmitted'] as const) {
    if (lanes.every((lane) => lane[field] === 0)) for (const lane of lanes) lane[field] = undefined
  }
  return { facts, ...measured(temperature, voltage), lanes }
}

const silent = { temperature: undefined, voltage: undefined, lanes: [] }

const measured = (temperature: number, voltage: number) => ({
  temperature: temperature / 256,
  voltage: rounded(voltage * voltStep),
})

const stepped = (memory: Buffer, at: number, step: number): number | undefined =>
  rounded(memory.readUInt16BE(at) * step)

/** The steps are decimal; what binary adds behind them is noise. */
const rounded = (value: number): number => Number(value.toPrecision(6))

function factsAt(memory: Buffer, vendor: number, part: number, serial: number): Record<string, string> {
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
