// What the firmware says of the hardware (DMTF DSP0134, System Management BIOS): the table as the kernel shows it, and what of
// it is worth telling.
//
//   structure   type, length, handle (u16), formatted area up to `length`, strings that end with NUL, NUL
import { realSerial, realText, realUuid } from './hardware-ids.ts'

export interface Structure {
  readonly type: number
  /** With its header, so that offsets are those of the specification. */
  readonly data: Buffer
  readonly strings: readonly string[]
}

const mostStructures = 4096
const endOfTable = 127

/** All structures; what is damaged ends the list, and `isWhole` says so. */
export function parseTable(table: Buffer): { structures: Structure[]; isWhole: boolean } {
  const structures: Structure[] = []
  let at = 0
  while (at + 4 <= table.length && structures.length < mostStructures) {
    const type = table[at] ?? 0
    const length = table[at + 1] ?? 0
    if (length < 4 || at + length > table.length) return { structures, isWhole: false }
    const data = table.subarray(at, at + length)
    const strings: string[] = []
    at += length
    // Two NULs where there are none, else one behind each and one more.
    for (;;) {
      const end = table.indexOf(0, at)
      if (end < 0) return { structures, isWhole: false }
      if (end === at) {
        at += strings.length === 0 ? 2 : 1
        break
      }
      strings.push(table.toString('latin1', at, end).trim())
      at = end + 1
    }
    structures.push({ type, data, strings })
    if (type === endOfTable) return { structures, isWhole: true }
  }
  // Some firmware forgets the structure that says that it is the last.
  return { structures, isWhole: at >= table.length }
}

export interface Component {
  /** `system`, `memory/P1-DIMMA1`: the same as long as the board is. */
  id: string
  kind: 'bios' | 'system' | 'board' | 'chassis' | 'cpu' | 'memory' | 'slot'
  /** Attributes by their names; what is not known is absent. */
  facts: Readonly<Record<string, string>>
  /** Of a memory module, in bytes. */
  size?: bigint
  cpu?: { maxHz: bigint | undefined; cores: bigint | undefined; threads: bigint | undefined }
  /** Of a slot. */
  isUsed?: boolean
}

type Facts = Record<string, string | undefined>
const known = (facts: Facts): Record<string, string> =>
  Object.fromEntries(Object.entries(facts).filter((one): one is [string, string] => one[1] !== undefined))

/** What can be told of the structures; slots for modules and processors that are empty are left out. */
export function componentsOf(structures: readonly Structure[]): Component[] {
  const taken = new Set<string>()
  return structures.flatMap((structure) => {
    const component = componentOf(structure)
    if (!component) return []
    let { id } = component
    for (let number = 2; taken.has(id); number++) id = `${component.id}#${number}`
    taken.add(id)
    return [{ ...component, id }]
  })
}

function componentOf(structure: Structure): Component | undefined {
  switch (structure.type) {
    case 0:
      return { id: 'bios', kind: 'bios', facts: biosFacts(structure) }
    case 1:
      return { id: 'system', kind: 'system', facts: systemFacts(structure) }
    case 2:
      return { id: 'board', kind: 'board', facts: partFacts(structure) }
    case 3:
      return { id: 'chassis', kind: 'chassis', facts: partFacts(structure, 0) }
    case 4:
      return processorOf(structure)
    case 9:
      return slotOf(structure)
    case 17:
      return moduleOf(structure)
    default:
      return undefined
  }
}

const byteAt = ({ data }: Structure, at: number): number | undefined => data[at]
const wordAt = ({ data }: Structure, at: number): number | undefined =>
  at + 2 <= data.length ? data.readUInt16LE(at) : undefined

function textAt(structure: Structure, at: number): string | undefined {
  const number = byteAt(structure, at) ?? 0
  return number === 0 ? undefined : realText(structure.strings[number - 1])
}
const serialAt = (structure: Structure, at: number): string | undefined => realSerial(textAt(structure, at))

const biosFacts = (structure: Structure) =>
  known({
    'hw.vendor': textAt(structure, 0x04),
    'hw.firmware_version': textAt(structure, 0x05),
    'dpu.hardware.date': textAt(structure, 0x08),
  })

const systemFacts = (structure: Structure) =>
  known({
    'hw.vendor': textAt(structure, 0x04),
    'hw.model': textAt(structure, 0x05),
    'dpu.hardware.version': textAt(structure, 0x06),
    'hw.serial_number': serialAt(structure, 0x07),
    'dpu.hardware.uuid': uuidAt(structure, 0x08),
    'dpu.hardware.sku': textAt(structure, 0x19),
    'dpu.hardware.family': textAt(structure, 0x1a),
  })

/** Boards name their model where a chassis has its form. */
const partFacts = (structure: Structure, model = 0x05) =>
  known({
    'hw.vendor': textAt(structure, 0x04),
    'hw.model': model === 0 ? undefined : textAt(structure, model),
    'dpu.hardware.version': textAt(structure, 0x06),
    'hw.serial_number': serialAt(structure, 0x07),
    'dpu.hardware.asset_tag': textAt(structure, 0x08),
  })

/** The first three fields are little-endian. */
function uuidAt({ data }: Structure, at: number): string | undefined {
  if (at + 16 > data.length) return undefined
  const hex = (offsets: readonly number[]) =>
    offsets.map((offset) => (data[at + offset] ?? 0).toString(16).padStart(2, '0')).join('')
  const parts = [
    [3, 2, 1, 0],
    [5, 4],
    [7, 6],
    [8, 9],
    [10, 11, 12, 13, 14, 15],
  ]
  return realUuid(parts.map(hex).join('-'))
}

function processorOf(structure: Structure): Component | undefined {
  const isThere = ((byteAt(structure, 0x18) ?? 0) & 0x40) !== 0
  if (!isThere) return undefined
  const mhz = wordAt(structure, 0x14)
  // 255 says that the number is in a field of two bytes that came later.
  const count = (at: number, wide: number) => {
    const small = byteAt(structure, at)
    const number = small === 0xff ? wordAt(structure, wide) : small
    return number ? BigInt(number) : undefined
  }
  return {
    id: `cpu/${textAt(structure, 0x04) ?? 'socket'}`,
    kind: 'cpu',
    facts: known({
      'hw.vendor': textAt(structure, 0x07),
      'hw.model': textAt(structure, 0x10),
      'hw.serial_number': serialAt(structure, 0x20),
      'dpu.hardware.part_number': textAt(structure, 0x22),
    }),
    cpu: {
      maxHz: mhz ? BigInt(mhz) * 1_000_000n : undefined,
      cores: count(0x24, 0x2c),
      threads: count(0x25, 0x2e),
    },
  }
}

const memoryTypes: Readonly<Record<number, string>> = {
  0x12: 'DDR',
  0x13: 'DDR2',
  0x18: 'DDR3',
  0x1a: 'DDR4',
  0x1b: 'LPDDR',
  0x1c: 'LPDDR2',
  0x1d: 'LPDDR3',
  0x1e: 'LPDDR4',
  0x20: 'HBM',
  0x21: 'HBM2',
  0x22: 'DDR5',
  0x23: 'LPDDR5',
  0x24: 'HBM3',
}

function moduleOf(structure: Structure): Component | undefined {
  const size = moduleSize(structure)
  if (size === undefined) return undefined
  const speed = wordAt(structure, 0x20) || wordAt(structure, 0x15)
  return {
    id: `memory/${textAt(structure, 0x10) ?? textAt(structure, 0x11) ?? 'module'}`,
    kind: 'memory',
    facts: known({
      'hw.vendor': textAt(structure, 0x17),
      'hw.model': textAt(structure, 0x1a),
      'hw.serial_number': serialAt(structure, 0x18),
      'hw.memory.type': memoryTypes[byteAt(structure, 0x12) ?? 0],
      'dpu.hardware.bank': textAt(structure, 0x11),
      'dpu.memory.speed': speed && speed !== 0xffff ? `${speed} MT/s` : undefined,
    }),
    size,
  }
}

/** 0: nothing in the slot; FFFF: not known; 7FFF: in the field of four bytes; the top bit: KiB instead of MiB. */
function moduleSize(structure: Structure): bigint | undefined {
  const size = wordAt(structure, 0x0c)
  if (size === undefined || size === 0 || size === 0xffff) return undefined
  if (size === 0x7fff) {
    const { data } = structure
    const mebibytes = data.length >= 0x20 ? data.readUInt32LE(0x1c) & 0x7fffffff : 0
    return mebibytes === 0 ? undefined : BigInt(mebibytes) * 1_048_576n
  }
  return (size & 0x8000) === 0 ? BigInt(size) * 1_048_576n : BigInt(size & 0x7fff) * 1024n
}

function slotOf(structure: Structure): Component | undefined {
  const name = textAt(structure, 0x04)
  const usage = byteAt(structure, 0x07)
  if (name === undefined || (usage !== 3 && usage !== 4)) return undefined
  const [segment, bus, functions] = [
    wordAt(structure, 0x0d),
    byteAt(structure, 0x0f),
    byteAt(structure, 0x10),
  ]
  const hex = (number: number, digits: number) => number.toString(16).padStart(digits, '0')
  const address =
    segment === undefined ||
    bus === undefined ||
    functions === undefined ||
    segment === 0xffff ||
    bus === 0xff ||
    // The host bridge sits in no slot: nobody filled it in.
    (bus === 0 && functions === 0)
      ? undefined
      : `${hex(segment, 4)}:${hex(bus, 2)}:${hex(functions >> 3, 2)}.${functions & 7}`
  return {
    id: `slot/${name}`,
    kind: 'slot',
    facts: known({ 'dpu.pci.address': address }),
    isUsed: usage === 4,
  }
}
