// An entry of the journal as `journalctl -o json` prints it (systemd.io/JOURNAL_EXPORT_FORMATS): one object a line; text
// as strings, other bytes as arrays of numbers, a field that stands several times as an array of those.
import { integer } from '../proc.ts'

export interface JournalEntry {
  readonly cursor: string
  /** Unix microseconds: when the sender made it where that is known, else when the journal took it. */
  readonly micro: bigint
  readonly transport: string
  /** 0 emergency … 7 debug; undefined where none was given. */
  readonly level: number | undefined
  readonly message: Buffer
  readonly field: (name: string) => string | undefined
}

/** What is asked of journalctl beside what it always gives. */
export const entryFields = [
  'MESSAGE',
  'MESSAGE_ID',
  'PRIORITY',
  'SYSLOG_FACILITY',
  'SYSLOG_IDENTIFIER',
  'SYSLOG_PID',
  'CONTAINER_ID_FULL',
  'CONTAINER_NAME',
  '_COMM',
  '_MACHINE_ID',
  '_PID',
  '_SOURCE_REALTIME_TIMESTAMP',
  '_SYSTEMD_UNIT',
  '_TRANSPORT',
  '_KERNEL_DEVICE',
  '_KERNEL_SUBSYSTEM',
] as const

/** Undefined where the line is no entry. */
export function parseEntry(line: string): JournalEntry | undefined {
  let fields: Readonly<Record<string, unknown>>
  try {
    const parsed: unknown = JSON.parse(line)
    if (typeof parsed !== 'object' || parsed === null) return undefined
    fields = parsed as Readonly<Record<string, unknown>>
  } catch {
    return undefined
  }
  const field = (name: string): string | undefined => bytesOf(fields[name])?.toString()
  const cursor = field('__CURSOR')
  const micro = integer(field('_SOURCE_REALTIME_TIMESTAMP')) ?? integer(field('__REALTIME_TIMESTAMP'))
  if (cursor === undefined || micro === undefined) return undefined
  const level = Number(field('PRIORITY') ?? NaN)
  return {
    cursor,
    micro,
    transport: field('_TRANSPORT') ?? '',
    level: Number.isInteger(level) && level >= 0 && level <= 7 ? level : undefined,
    message: bytesOf(fields.MESSAGE) ?? Buffer.alloc(0),
    field,
  }
}

// Of a field that stands several times the first counts.
function bytesOf(value: unknown): Buffer | undefined {
  if (typeof value === 'string') return Buffer.from(value)
  if (!Array.isArray(value)) return undefined
  return typeof value[0] === 'number' ? Buffer.from(value as number[]) : bytesOf(value[0])
}
