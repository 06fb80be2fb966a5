// Canonical OTel JSON of Records, for `toMatchFileSnapshot`: one request each, as our own codec spells it (64-bit
// integers as text, enums as numbers, ids in hex), two spaces of indentation. Reviewed as code.
import type { Records } from '../../plugins/contract/index.ts'
import { requestToJson } from '../../plugins/protocols/otlp/json.ts'

const request = ({ signal, bytes }: Pick<Records, 'signal' | 'bytes'>): unknown =>
  JSON.parse(requestToJson(signal, bytes))

/** One request, or an array of requests where several Records are given; ends with a newline. */
export function golden(records: Records | readonly Records[]): string {
  const whole = Array.isArray(records)
    ? (records as readonly Records[]).map((one) => request(one))
    : request(records as Records)
  return `${JSON.stringify(whole, undefined, 2)}\n`
}
