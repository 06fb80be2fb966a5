// Modules of the Common Management Interface Specification (OIF-CMIS-05.3 §8): QSFP-DD, OSFP, DSFP, and the QSFP and SFP
// of 100 Gbit/s a lane.
//
//   lower      2 flat memory   3 state   8, 9 flags of the module   14 temperature   16 voltage
//   page 00h   129 vendor   148 part   166 serial   210 lanes that there are not
//   page 01h   142 banks   157, 158 flags of lanes, 159, 160 monitors that there are, and the factor of the bias
//   page 11h   of each bank of eight lanes: 135 … 152 flags, one bit a lane   154 transmitted   170 bias   186 received
import {
  biasStep,
  degreeStep,
  factsAt,
  halfBytes,
  hasBit,
  levels,
  moduleStates,
  powerStep,
  rounded,
  silent,
  steps,
  upper,
  voltStep,
} from './module.ts'
import type { Flag, Lane, Module, ModuleState, ReadHalf } from './module.ts'

const lanesOfBank = 8
/** Banks 0; 0 and 1; 0 to 3. */
const bankCounts = [1, 2, 4]
const biasFactors = [1, 2, 4]

/** What the module says that it measures. */
interface Offer {
  temperature: boolean
  voltage: boolean
  bias: boolean
  transmitted: boolean
  received: boolean
  biasFactor: number
  /** Names of flags of lanes. */
  flags: ReadonlySet<string>
  banks: number
}

/** `first` is the lower half, which is known already. */
export async function readCmis(first: Buffer, read: ReadHalf): Promise<Module> {
  const identity = await read(upper(0))
  const about = {
    facts: identity === undefined ? {} : factsAt(identity, 1, 148 - halfBytes, 166 - halfBytes),
    state: stateOf(first),
  }
  // Flat: copper that has two halves only, and measures at most the first of them.
  const offered = hasBit(first, 2, 7) ? undefined : await read(upper(1))
  if (offered === undefined) {
    if (first.readUInt16BE(16) === 0) return { ...about, ...silent }
    return { ...about, ...moduleValues(first, true, true), lanes: [], flags: moduleFlags(first) }
  }
  const offer = offerOf(offered)
  const absent = identity?.[210 - halfBytes] ?? 0
  const lanes: Lane[] = []
  const flags = moduleFlags(first)
  for (let bank = 0; bank < offer.banks; bank++) {
    const page = await read(upper(0x11, bank))
    if (page === undefined) break
    for (let index = 0; index < lanesOfBank; index++) {
      if (bank === 0 && ((absent >> index) & 1) === 1) continue
      const number = bank * lanesOfBank + index + 1
      if (offer.bias || offer.transmitted || offer.received) lanes.push(laneOf(page, index, number, offer))
      flags.push(...laneFlags(page, index, number, offer))
    }
  }
  return { ...about, ...moduleValues(first, offer.temperature, offer.voltage), lanes, flags }
}

function stateOf(first: Buffer): ModuleState | undefined {
  return moduleStates[(((first[3] ?? 0) >> 1) & 7) - 1]
}

const moduleValues = (first: Buffer, temperature: boolean, voltage: boolean) => ({
  temperature: temperature ? first.readInt16BE(14) * degreeStep : undefined,
  voltage: voltage ? steps(first, 16, voltStep) : undefined,
})

function offerOf(page: Buffer): Offer {
  const at = (byte: number, bit: number) => hasBit(page, byte - halfBytes, bit)
  const [transmitted, bias, received] = [at(160, 1), at(160, 0), at(160, 2)]
  const flags = new Set<string>()
  const offered: readonly (readonly [string, boolean])[] = [
    ['tx_fault', at(157, 0)],
    ['tx_los', at(157, 1)],
    ['tx_cdr_lol', at(157, 2)],
    ['tx_adaptive_eq_fail', at(157, 3)],
    ['rx_los', at(158, 1)],
    ['rx_cdr_lol', at(158, 2)],
  ]
  for (const [name, isOffered] of offered) if (isOffered) flags.add(name)
  for (const level of levels) {
    if (transmitted) flags.add(`tx_power_${level}`)
    if (bias) flags.add(`tx_bias_${level}`)
    if (received) flags.add(`rx_power_${level}`)
  }
  return {
    temperature: at(159, 0),
    voltage: at(159, 1),
    bias,
    transmitted,
    received,
    biasFactor: biasFactors[((page[160 - halfBytes] ?? 0) >> 3) & 3] ?? 1,
    flags,
    banks: bankCounts[(page[142 - halfBytes] ?? 0) & 3] ?? 1,
  }
}

function laneOf(page: Buffer, index: number, number: number, offer: Offer): Lane {
  const field = (at: number, step: number) => steps(page, at - halfBytes + index * 2, step)
  return {
    number,
    transmitted: offer.transmitted ? field(154, powerStep) : undefined,
    bias: offer.bias ? rounded(field(170, biasStep) * offer.biasFactor) : undefined,
    received: offer.received ? field(186, powerStep) : undefined,
  }
}

/** Bytes of page 11h, from 135 on. */
const flagBytes = [
  'tx_fault',
  'tx_los',
  'tx_cdr_lol',
  'tx_adaptive_eq_fail',
  ...levels.map((level) => `tx_power_${level}`),
  ...levels.map((level) => `tx_bias_${level}`),
  'rx_los',
  'rx_cdr_lol',
  ...levels.map((level) => `rx_power_${level}`),
]

function laneFlags(page: Buffer, index: number, lane: number, offer: Offer): Flag[] {
  return flagBytes.flatMap((name, byte): Flag[] =>
    offer.flags.has(name) && hasBit(page, 135 - halfBytes + byte, index) ? [{ name, lane }] : [],
  )
}

function moduleFlags(first: Buffer): Flag[] {
  const flags: Flag[] = []
  if (hasBit(first, 8, 1)) flags.push({ name: 'firmware_error' })
  if (hasBit(first, 8, 2)) flags.push({ name: 'data_path_firmware_error' })
  for (const [bit, level] of levels.entries()) {
    if (hasBit(first, 9, bit)) flags.push({ name: `temperature_${level}` })
    if (hasBit(first, 9, bit + 4)) flags.push({ name: `voltage_${level}` })
  }
  return flags
}
