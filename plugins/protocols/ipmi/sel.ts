// The system event log (IPMI 2.0, chapter 31): records as they are, read from where the last reading ended; ipmitool says
// what they mean.
import { createHash } from 'node:crypto'
import type { Ipmitool } from './tool.ts'

/** A record of the log. */
export interface SelRecord {
  readonly id: number
  /** Of what it says: after the log was cleared ids begin anew. */
  readonly key: string
  /** Undefined where the BMC did not know the time, or tells how long it had been on. */
  readonly timeUnixNano: bigint | undefined
  readonly isAsserted: boolean
  /** Raw, in hex. */
  readonly raw: string
}

/** What ipmitool makes of a record. */
export interface SelMeaning {
  readonly sensorType: string | undefined
  readonly sensorName: string | undefined
  readonly sensorNumber: string | undefined
  readonly eventType: string | undefined
  readonly description: string | undefined
  readonly reading: string | undefined
  readonly threshold: string | undefined
}

/** Before that, a timestamp counts from the start of the BMC (IPMI 2.0, §37.1). */
const initializing = 0x20000000
const unspecified = 0xffffffff
const end = 0xffff

interface Got {
  record: SelRecord
  next: number
}

/** Entries, last addition and last erasure: where they are as they were, nothing is new. */
export async function selState(tool: Ipmitool, signal: AbortSignal): Promise<string> {
  const lines = await tool.ask('sel info', signal)
  return lines
    .filter((line) => /^(Entries|Last (Add|Del) Time|Overflow)/.test(line))
    .join('; ')
    .slice(0, 240)
}

/** One record, and the id of the next; undefined where there is none of that id. */
export async function getRecord(tool: Ipmitool, id: number, signal: AbortSignal): Promise<Got | undefined> {
  const lines = await tool.ask(`raw 0x0a 0x43 0 0 ${id & 0xff} ${id >> 8} 0 0xff`, signal)
  const hex = lines.filter((line) => /^( [0-9a-f]{2})+$/i.test(line))
  const bytes = Buffer.from(hex.join('').replaceAll(' ', ''), 'hex')
  if (bytes.length < 18) return undefined
  const raw = bytes.subarray(2, 18)
  return { record: recordOf(raw), next: bytes.readUInt16LE(0) }
}

/** @param raw The 16 bytes of a record (IPMI 2.0, table 32-1). */
export function recordOf(raw: Buffer): SelRecord {
  const type = raw[2] ?? 0
  const seconds = raw.readUInt32LE(3)
  // OEM records from 0xe0 on have no time.
  const isTimed = type < 0xe0 && seconds > initializing && seconds !== unspecified
  return {
    id: raw.readUInt16LE(0),
    key: createHash('sha1').update(raw).digest('base64url').slice(0, 9),
    timeUnixNano: isTimed ? BigInt(seconds) * 1_000_000_000n : undefined,
    isAsserted: type !== 2 || ((raw[12] ?? 0) & 0x80) === 0,
    raw: raw.toString('hex'),
  }
}

/** Records after `id`, or all where that record is no longer what it was. Ends where the log does. */
export async function* recordsAfter(
  tool: Ipmitool,
  last: { id: number; raw: string } | undefined,
  signal: AbortSignal,
): AsyncGenerator<SelRecord> {
  let next = 0
  if (last) {
    const at = await getRecord(tool, last.id, signal)
    if (at?.record.raw === last.raw) next = at.next
  }
  // Ids are 16 bits; a BMC whose records lead in a circle ends here.
  for (let left = 65_535; left > 0 && next !== end; left--) {
    const got = await getRecord(tool, next, signal)
    if (!got) return
    yield got.record
    if (got.next === next) return
    next = got.next
  }
}

/** What ipmitool says of a record. */
export async function meaningOf(tool: Ipmitool, id: number, signal: AbortSignal): Promise<SelMeaning> {
  return parseMeaning(await tool.ask(`sel get 0x${id.toString(16)}`, signal))
}

/** @param lines `Sensor Type : Temperature`, …, and at the end a line of the sensor itself, as CSV. */
export function parseMeaning(lines: readonly string[]): SelMeaning {
  const found = new Map<string, string>()
  let sensorName: string | undefined
  for (const line of lines) {
    const [, key, value] = /^\s*([A-Z][\w ()]*?)\s*: (.*)$/.exec(line) ?? []
    if (key !== undefined && value !== undefined && value.trim() !== '')
      found.set(key, value.trim().slice(0, 256))
    else if (/^[^,:]{1,64},[^,]*,[^,]*,[a-z]{2,3},/.test(line)) sensorName = line.split(',')[0]
  }
  const named = /^(.*?)(?: \(0x[0-9a-f]+\))?$/.exec(found.get('Sensor ID') ?? '')?.[1]
  return {
    sensorType: found.get('Sensor Type'),
    sensorName: sensorName ?? (named === '' ? undefined : named),
    sensorNumber: found.get('Sensor Number'),
    eventType: found.get('Event Type'),
    description: found.get('Description'),
    reading: found.get('Trigger Reading'),
    threshold: found.get('Trigger Threshold'),
  }
}
