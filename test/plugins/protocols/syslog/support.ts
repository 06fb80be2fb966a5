// One parser for tests, from text to plain records.
import { encodeResource } from '../../../../plugins/contract/index.ts'
import type { Records } from '../../../../plugins/contract/index.ts'
import { SyslogParser } from '../../../../plugins/protocols/syslog/index.ts'
import type { Origin } from '../../../../plugins/protocols/syslog/index.ts'
import { collectLogs } from '../../../support/records.ts'
import type { PlainLog } from '../../../support/records.ts'

export const arrival = BigInt(Date.parse('2026-10-12T08:00:00.000Z')) * 1_000_000n

export interface Given {
  timezone?: string
  maxLength?: number
  at?: bigint
  origin?: Origin
  /** Says to the parser that the region is UTF-8, as a listener does that knows it. */
  valid?: boolean
}

export function parseAll(messages: readonly (string | Buffer)[], given: Given = {}): Records[] {
  const found: Records[] = []
  const {
    timezone = 'UTC',
    maxLength = 256 * 1024,
    at = arrival,
    origin = { local: false },
    valid = false,
  } = given
  const parser = new SyslogParser(
    { device: 'd', resource: encodeResource({ 'host.id': 'd' }), maxLength, timezone },
    (records) => void found.push(records),
  )
  parser.observedAt(at)
  for (const message of messages) {
    const bytes = Buffer.from(message)
    parser.parse(bytes, 0, bytes.length, origin, valid, false)
  }
  parser.flush()
  return found
}

export function parse(message: string | Buffer, given: Given = {}): PlainLog {
  const [record, ...more] = collectLogs(parseAll([message], given))
  if (record === undefined || more.length > 0) throw new Error('expected one record')
  return record
}

export const timeOf = (record: PlainLog): string =>
  new Date(Number(record.time / 1_000_000n)).toISOString().replace('Z', '') +
  String(record.time % 1_000_000n).padStart(6, '0')
