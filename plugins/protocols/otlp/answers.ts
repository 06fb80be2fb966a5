// How an OTLP receiver answers: responses with partial success, failures as google.rpc.Status, and which HTTP status
// and gRPC code each of our errors becomes. (opentelemetry-proto docs/specification.md, "OTLP/gRPC", "OTLP/HTTP")
import { PermanentError, RetryableError, messageOf } from '../../contract/errors.ts'
import type { ErrorCode } from '../../contract/errors.ts'
import type { Signal } from '../../contract/signal.ts'
import { GrpcError, grpcCodes } from '../grpc.ts'
import type { GrpcCode } from '../grpc.ts'
import { objectToMessage } from './from-json.ts'
import { rejectedNames, responses, retryInfo, rpcStatus } from './schema.ts'
import { messageToJson } from './to-json.ts'

/** What was done with a request: `rejected` records were refused for good. */
export interface Handled {
  readonly rejected: number
  readonly message?: string
}

export type Format = 'protobuf' | 'json'

export function encodeResponse(signal: Signal, { rejected, message }: Handled): Buffer {
  if (rejected === 0 && message === undefined) return Buffer.alloc(0)
  const partialSuccess = { [rejectedNames[signal]]: rejected, errorMessage: message ?? '' }
  return objectToMessage(responses[signal], { partialSuccess })
}

export const responseBody = (signal: Signal, handled: Handled, format: Format): Buffer => {
  const bytes = encodeResponse(signal, handled)
  return format === 'protobuf' ? bytes : Buffer.from(messageToJson(responses[signal], bytes))
}

export interface Failure {
  readonly http: number
  readonly grpc: GrpcCode
  readonly message: string
  /** Set where trying again may help. */
  readonly retryAfterMs?: number
}

const permanent: Readonly<Partial<Record<ErrorCode, readonly [http: number, grpc: GrpcCode]>>> = {
  // RESOURCE_EXHAUSTED without RetryInfo: do not try again.
  INPUT_TOO_LARGE: [413, 'RESOURCE_EXHAUSTED'],
  PERMISSION_DENIED: [403, 'PERMISSION_DENIED'],
}

/**
 * What a sender is told. A bug of ours is answered as a passing failure, so that the sender keeps the records: an
 * OTLP sender drops them after a 500.
 */
export function failureOf(error: unknown): Failure {
  const message = messageOf(error)
  if (error instanceof PermanentError) {
    const [http, grpc] = permanent[error.code] ?? [400, 'INVALID_ARGUMENT']
    return { http, grpc, message }
  }
  if (error instanceof RetryableError) {
    const overloaded = error.code === 'PEER_OVERLOADED'
    const retryAfterMs = error.retryAfterMs ?? 1000
    return overloaded
      ? { http: 429, grpc: 'RESOURCE_EXHAUSTED', message, retryAfterMs }
      : { http: 503, grpc: 'UNAVAILABLE', message, retryAfterMs }
  }
  return { http: 503, grpc: 'UNAVAILABLE', message: 'internal error', retryAfterMs: 5000 }
}

/** google.rpc.Status; where trying again helps it carries RetryInfo. */
export function encodeStatus({ grpc, message, retryAfterMs }: Failure): Buffer {
  const details = retryAfterMs === undefined ? [] : [retryDetail(retryAfterMs)]
  return objectToMessage(rpcStatus, { code: grpcCodes[grpc], message, details })
}

const retryInfoType = 'type.googleapis.com/google.rpc.RetryInfo'

function retryDetail(retryAfterMs: number): { typeUrl: string; value: string } {
  const seconds = Math.floor(retryAfterMs / 1000)
  const nanos = Math.round((retryAfterMs - seconds * 1000) * 1e6)
  const value = objectToMessage(retryInfo, { retryDelay: { seconds, nanos } })
  return { typeUrl: retryInfoType, value: value.toString('base64') }
}

export const statusBody = (failure: Failure, format: Format): Buffer => {
  const bytes = encodeStatus(failure)
  if (format === 'protobuf') return bytes
  return Buffer.from(JSON.stringify({ code: grpcCodes[failure.grpc], message: failure.message }))
}

export const grpcFailure = (failure: Failure): GrpcError =>
  new GrpcError(failure.grpc, failure.message, encodeStatus(failure))

interface PlainStatus {
  message?: string
  details?: { typeUrl?: string; value?: string }[]
}

/** What a google.rpc.Status says; an empty one where the bytes are none. */
export function decodeStatus(bytes: Uint8Array): { message: string; retryAfterMs?: number } {
  try {
    const status = JSON.parse(messageToJson(rpcStatus, bytes)) as PlainStatus
    const detail = status.details?.find(({ typeUrl }) => typeUrl?.endsWith('/google.rpc.RetryInfo'))
    const message = status.message ?? ''
    if (!detail) return { message }
    const info = JSON.parse(messageToJson(retryInfo, Buffer.from(detail.value ?? '', 'base64'))) as {
      retryDelay?: { seconds?: string; nanos?: number }
    }
    const { seconds = '0', nanos = 0 } = info.retryDelay ?? {}
    return { message, retryAfterMs: Math.max(0, Number(seconds) * 1000 + nanos / 1e6) }
  } catch {
    return { message: '' }
  }
}

/** What a receiver's response says of partial success. */
export function decodeResponse(signal: Signal, bytes: Uint8Array): { rejected: number; message: string } {
  const { partialSuccess } = JSON.parse(messageToJson(responses[signal], bytes)) as {
    partialSuccess?: Record<string, string>
  }
  const rejected = Number(partialSuccess?.[rejectedNames[signal]] ?? 0)
  return { rejected: Math.max(0, rejected), message: partialSuccess?.errorMessage ?? '' }
}
