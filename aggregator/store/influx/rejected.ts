// What InfluxDB refused, set aside with its reason: the measurement `rejected` holds the line as it was sent. Nothing
// depends on it: the ledger counts, and this is for people.
import type { Log } from '../../../plugins/contract/define.ts'
import { messageOf } from '../../../plugins/contract/errors.ts'
import type { Connection } from './connection.ts'
import { Lines, ascii, fieldText, tagOf, utf8 } from './line.ts'
import type { Rejected } from './sending.ts'
import { ownMeasurements } from './series.ts'

/** Lines of one body that are kept; the others are counted. */
const keptLimit = 1000

export async function setAside(
  connection: Connection,
  bucket: string,
  rejected: readonly Rejected[],
  log: Log,
): Promise<void> {
  const byReason = new Map<string, number>()
  for (const { reason } of rejected) byReason.set(reason, (byReason.get(reason) ?? 0) + 1)
  for (const [reason, records] of [...byReason].slice(0, 10)) {
    log.warn('records rejected by InfluxDB', { bucket, records, reason })
  }
  const lines = new Lines()
  const nowMs = Date.now()
  for (const [index, { line, reason }] of rejected.slice(0, keptLimit).entries()) {
    const { out } = lines
    const device = /,host\.id=([a-z0-9-]+)/.exec(line)?.[1] ?? ''
    utf8(out, `${ownMeasurements.rejected}${tagOf('host.id', device)} reason="`)
    field(lines, reason)
    ascii(out, '",line="')
    field(lines, line)
    ascii(out, `" ${nowMs}${String(index).padStart(6, '0')}`)
    lines.end(-1)
  }
  try {
    const outcome = await connection.write(bucket, lines.out.buffer.subarray(0, lines.bytes))
    if (outcome.state !== 'taken') log.warn('rejected records not set aside', { bucket, ...outcome })
  } catch (error) {
    log.warn('rejected records not set aside', { bucket, error: messageOf(error) })
  }
}

function field(lines: Lines, text: string): void {
  const bytes = Buffer.from(text)
  fieldText(lines.out, bytes, 0, bytes.length)
}
