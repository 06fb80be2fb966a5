// The body of a record from the bytes of a line: cut where it is too long, repaired where it is no UTF-8, both said.
import { isUtf8 } from 'node:buffer'
import type { LogsEncoder } from '../../contract/index.ts'
import { encodeAttribute } from '../syslog/attributes.ts'

const truncated = encodeAttribute('dpulse.truncated', true)
const malformed = encodeAttribute('dpulse.malformed', true)

/** Longest line that any source keeps; what is longer does not fit into a batch beside others. */
export const longestLine = 256 * 1024

/** Writes the body of the record that is open. Bytes that are no UTF-8 become U+FFFD. */
export function writeBody(
  encoder: LogsEncoder,
  bytes: Buffer,
  start: number,
  end: number,
  wasCut: boolean,
): void {
  if (isUtf8(bytes.subarray(start, end))) encoder.bodyBytes(bytes, start, end)
  else {
    encoder.body(bytes.toString('utf8', start, end))
    encoder.field(malformed)
  }
  if (wasCut) encoder.field(truncated)
}
