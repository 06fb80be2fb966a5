// OTLP/gRPC as a sender. (opentelemetry-proto docs/specification.md, "OTLP/gRPC Response")
import { PermanentError, RetryableError } from '../../contract/errors.ts'
import { GrpcClient } from '../grpc-client.ts'
import { GrpcError } from '../grpc.ts'
import type { GrpcCode } from '../grpc.ts'
import { decodeResponse, decodeStatus } from './answers.ts'
import { hostOf, maxAnswerBytes } from './delivery.ts'
import type { Delivery, DeliveryOptions } from './delivery.ts'
import { grpcMethod } from './methods.ts'

const passing: ReadonlySet<GrpcCode> = new Set([
  'CANCELLED',
  'DEADLINE_EXCEEDED',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNAVAILABLE',
  'DATA_LOSS',
])

export function createGrpcDelivery(options: DeliveryOptions): Delivery {
  const client = new GrpcClient({
    targets: options.endpoints.map((endpoint) => {
      const secure = endpoint.protocol === 'https:'
      return { host: hostOf(endpoint), port: Number(endpoint.port || (secure ? 443 : 80)), secure }
    }),
    tls: options.tls,
    environment: options.environment,
    timeoutMs: options.timeoutMs,
    maxResponseBytes: maxAnswerBytes,
  })
  return {
    async send(signal, request, abort, onWire) {
      const limit = AbortSignal.timeout(options.timeoutMs)
      try {
        const answer = await client.call(grpcMethod(signal), request, {
          compression: options.compression,
          headers: options.headers(),
          signal: AbortSignal.any([abort, limit]),
          ...(onWire ? { onWire } : {}),
        })
        return decodeResponse(signal, answer)
      } catch (error) {
        abort.throwIfAborted()
        if (limit.aborted) {
          client.moveOn()
          const said = `${client.authority} did not answer within ${options.timeoutMs} ms`
          throw new RetryableError('PEER_TIMEOUT', said, { cause: error })
        }
        throw error instanceof GrpcError ? outcomeOf(error, client) : error
      }
    },
    close: () => client.close(),
  }
}

function outcomeOf(error: GrpcError, client: GrpcClient): Error {
  const { retryAfterMs } = error.details ? decodeStatus(error.details) : {}
  const said = `${client.authority} answered ${error.code}: ${error.message}`
  const after = retryAfterMs === undefined ? {} : { retryAfterMs }
  // Without RetryInfo the request itself is too much for the peer, and will be again.
  if (error.code === 'RESOURCE_EXHAUSTED' && retryAfterMs !== undefined) {
    return new RetryableError('PEER_OVERLOADED', said, { cause: error, ...after })
  }
  if (!passing.has(error.code)) return new PermanentError('PEER_REFUSED', said, { cause: error })
  if (error.code === 'UNAVAILABLE') client.moveOn()
  return new RetryableError('PEER_UNREACHABLE', said, { cause: error, ...after })
}
