// Modules of one and of four lanes (SFF-8472 for SFP, SFF-8636 for QSFP). Copper has no diagnostics, and none are made
// up for it.
//
//   SFF-8472   A0h: 20 vendor, 40 part, 68 serial, 92 kind of monitoring, 93 what is implemented
//              A2h: 96 temperature, 98 voltage, 100 bias, 102 transmitted, 104 received, 110 state, 112 alarms,
//              116 warnings
//   SFF-8636   3 loss of signal, 4 fault, 5 loss of lock, 6 … 14 alarms and warnings, 22 temperature, 26 voltage,
//              34 received ×4, 42 bias ×4, 50 transmitted ×4      upper: 148 vendor, 168 part, 196 serial
import {
  biasStep,
  degreeStep,
  factsAt,
  halfBytes,
  hasBit,
  levels,
  lower,
  powerStep,
  silent,
  steps,
  upper,
  voltStep,
} from './module.ts'
import type { Flag, Lane, Module, ReadHalf } from './module.ts'

/** `first` is the lower half, which is known already. */
export async function readSfp(first: Buffer, read: ReadHalf): Promise<Module> {
  const facts = factsAt(first, 20, 40, 68)
  // Implemented, and calibrated by the module itself: otherwise the numbers are raw.
  if (((first[92] ?? 0) & 0x60) !== 0x60) return { facts, ...silent }
  const values = await read({ ...lower, device: 'A2' })
  if (values === undefined || values.length < 106) return { facts, ...silent }
  const lane: Lane = {
    number: 1,
    bias: steps(values, 100, biasStep),
    transmitted: steps(values, 102, powerStep),
    received: steps(values, 104, powerStep),
  }
  return { facts, ...measured(values, 96, 98), lanes: [lane], flags: sfpFlags(first, values) }
}

/** In the order of their bits, from 112 and again from 116; each has a high and a low one. */
const sfpMonitors = ['temperature', 'voltage', 'tx_bias', 'tx_power', 'rx_power']

function sfpFlags(first: Buffer, values: Buffer): Flag[] {
  const flags: Flag[] = []
  if (hasBit(first, 93, 5) && hasBit(values, 110, 2)) flags.push({ name: 'tx_fault', lane: 1 })
  if (hasBit(first, 93, 4) && hasBit(values, 110, 1)) flags.push({ name: 'rx_los', lane: 1 })
  if (!hasBit(first, 93, 7)) return flags
  for (const [index, monitor] of sfpMonitors.entries()) {
    for (const [level, name] of levels.entries()) {
      const bit = index * 2 + (level & 1)
      const at = (level < 2 ? 112 : 116) + (bit >> 3)
      if (hasBit(values, at, 7 - (bit & 7))) {
        flags.push({ name: `${monitor}_${name}`, ...(index >= 2 && { lane: 1 }) })
      }
    }
  }
  return flags
}

export async function readQsfp(first: Buffer, read: ReadHalf): Promise<Module> {
  const identity = await read(upper(0))
  const [vendor, part, serial] = [148 - halfBytes, 168 - halfBytes, 196 - halfBytes]
  const facts = identity === undefined ? {} : factsAt(identity, vendor, part, serial)
  // Copper, or diagnostics that are not ready: all is zero then.
  if (first.length < 58 || first.readUInt16BE(26) === 0 || hasBit(first, 2, 0)) return { facts, ...silent }
  const lanes: Lane[] = [0, 1, 2, 3].map((lane) => ({
    number: lane + 1,
    received: steps(first, 34 + lane * 2, powerStep),
    bias: steps(first, 42 + lane * 2, biasStep),
    transmitted: steps(first, 50 + lane * 2, powerStep),
  }))
  // A module without such a monitor leaves its field at zero for every lane.
  for (const field of ['received', 'bias', 'transmitted'] as const) {
    if (lanes.every((lane) => lane[field] === 0)) for (const lane of lanes) lane[field] = undefined
  }
  return { facts, ...measured(first, 22, 26), lanes, flags: qsfpFlags(first) }
}

/** Name, byte, and bit of the first lane. */
const qsfpLosses = [
  ['rx_los', 3, 0],
  ['tx_los', 3, 4],
  ['tx_fault', 4, 0],
  ['tx_adaptive_eq_fail', 4, 4],
  ['rx_cdr_lol', 5, 0],
  ['tx_cdr_lol', 5, 4],
] as const

function qsfpFlags(first: Buffer): Flag[] {
  const flags: Flag[] = []
  for (const [name, at, bit] of qsfpLosses) {
    for (const lane of [1, 2, 3, 4]) if (hasBit(first, at, bit + lane - 1)) flags.push({ name, lane })
  }
  for (const [index, level] of levels.entries()) {
    if (hasBit(first, 6, 7 - index)) flags.push({ name: `temperature_${level}` })
    if (hasBit(first, 7, 7 - index)) flags.push({ name: `voltage_${level}` })
  }
  for (const [monitor, from] of [
    ['rx_power', 9],
    ['tx_bias', 11],
    ['tx_power', 13],
  ] as const) {
    for (const lane of [1, 2, 3, 4]) {
      // Two lanes a byte, the first in its upper half.
      const [at, top] = [from + ((lane - 1) >> 1), lane % 2 === 1 ? 7 : 3]
      for (const [index, level] of levels.entries()) {
        if (hasBit(first, at, top - index)) flags.push({ name: `${monitor}_${level}`, lane })
      }
    }
  }
  return flags
}

const measured = (memory: Buffer, temperature: number, voltage: number) => ({
  temperature: memory.readInt16BE(temperature) * degreeStep,
  voltage: steps(memory, voltage, voltStep),
})
