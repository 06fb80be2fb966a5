// OTLP/JSON of whole requests: what `application/json` carries, and what the exporters stdout and file write.
import type { Signal } from '../../contract/signal.ts'
import { refuseMalformed } from './check.ts'
import { jsonToMessage } from './from-json.ts'
import { requests } from './schema.ts'
import { messageToJson } from './to-json.ts'

/**
 * The request as one line of OTLP/JSON, without the header of a batch and other unknown fields.
 * @throws PermanentError INPUT_INVALID with the byte offset where it is malformed.
 */
export const requestToJson = (signal: Signal, bytes: Uint8Array): string =>
  refuseMalformed(signal, bytes.length, () => messageToJson(requests[signal], bytes))

/**
 * The request in protobuf.
 * @throws PermanentError INPUT_INVALID with the path of what does not fit.
 */
export function jsonToRequest(signal: Signal, json: string | Uint8Array): Uint8Array {
  const text =
    typeof json === 'string' ? json : Buffer.from(json.buffer, json.byteOffset, json.byteLength).toString()
  // A byte order mark is no JSON, but some senders on Windows write one.
  return jsonToMessage(requests[signal], text.startsWith('\uFEFF') ? text.slice(1) : text)
}
