// gRPC over HTTP/2 as far as unary calls need it: framing of messages, codes, and how a failure is told. Client and
// server are grpc-client.ts and grpc-server.ts. (grpc/doc/PROTOCOL-HTTP2.md)
//
//   message   flag (1 byte: 1 is compressed as `grpc-encoding` says), length (4 bytes, big-endian), bytes
//   outcome   trailers `grpc-status`, `grpc-message` (percent-encoded), `grpc-status-details-bin` (base64 of a
//             google.rpc.Status)
import { PermanentError } from '../contract/errors.ts'
import { compress, compressionOf, decompress } from './compression.ts'
import type { Compression } from './compression.ts'

export const grpcCodes = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const
export type GrpcCode = keyof typeof grpcCodes

export const grpcCodeName = (number: number): GrpcCode =>
  (Object.keys(grpcCodes) as GrpcCode[]).find((name) => grpcCodes[name] === number) ?? 'UNKNOWN'

/** A call that failed with a status. */
export class GrpcError extends Error {
  readonly code: GrpcCode
  /** An encoded google.rpc.Status. */
  readonly details: Uint8Array | undefined
  constructor(code: GrpcCode, message: string, details?: Uint8Array) {
    super(message)
    this.name = 'GrpcError'
    this.code = code
    this.details = details
  }
}

export const frameHeaderBytes = 5

/** What we can read and write; `none` is called identity on the wire. */
export const acceptedEncodings = 'identity,gzip,zstd'

export const encodingName = (compression: Compression): string =>
  compression === 'none' ? 'identity' : compression

export async function frameMessage(message: Uint8Array, compression: Compression): Promise<Buffer> {
  const body = await compress(message, compression)
  const frame = Buffer.allocUnsafe(frameHeaderBytes + body.length)
  frame[0] = compression === 'none' ? 0 : 1
  frame.writeUInt32BE(body.length, 1)
  frame.set(body, frameHeaderBytes)
  return frame
}

/**
 * The message of a frame body.
 * @throws GrpcError UNIMPLEMENTED for an unknown encoding; PermanentError where it is damaged or too large.
 */
export async function unframeMessage(
  body: Uint8Array,
  isCompressed: boolean,
  encoding: string | undefined,
  maxBytes: number,
): Promise<Uint8Array> {
  if (!isCompressed || encoding === undefined || encoding === 'identity') {
    if (isCompressed) throw new GrpcError('INTERNAL', 'a compressed message without grpc-encoding')
    return body
  }
  if (encoding !== 'gzip' && encoding !== 'zstd') {
    throw new GrpcError('UNIMPLEMENTED', `grpc-encoding ${encoding} is not known; use ${acceptedEncodings}`)
  }
  if (compressionOf(body) !== encoding) {
    throw new PermanentError(
      'INPUT_INVALID',
      `a message of ${body.length} bytes is not ${encoding}, as its header says`,
    )
  }
  return decompress(body, maxBytes)
}

/** Collects the chunks of a stream that carries one message, and refuses what is too large before it is in memory. */
export class FrameReader {
  readonly #chunks: Buffer[] = []
  readonly #maxBytes: number
  #received = 0
  /** Bytes of the body, known after five bytes; -1 before. */
  size = -1
  isCompressed = false

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** @throws PermanentError INPUT_TOO_LARGE; GrpcError where more than one message comes. */
  push(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#received += chunk.length
    if (this.size < 0 && this.#received >= frameHeaderBytes) {
      const head = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks)
      this.isCompressed = head[0] === 1
      this.size = head.readUInt32BE(1)
      if (this.size > this.#maxBytes) {
        throw new PermanentError(
          'INPUT_TOO_LARGE',
          `a message of ${this.size} bytes where at most ${this.#maxBytes} are allowed`,
        )
      }
    }
    if (this.size >= 0 && this.#received > frameHeaderBytes + this.size) {
      throw new GrpcError('UNIMPLEMENTED', 'more than one message in a unary call')
    }
  }

  /** @throws GrpcError where the message is cut off. */
  take(): Buffer {
    if (this.size < 0 || this.#received < frameHeaderBytes + this.size) {
      throw new GrpcError('INTERNAL', `a message that ends after ${this.#received} bytes`)
    }
    const [only] = this.#chunks
    const whole = this.#chunks.length === 1 && only ? only : Buffer.concat(this.#chunks)
    return whole.subarray(frameHeaderBytes)
  }
}

/** Status messages go into a header: bounded, and escaped no more than needed, since grpc-js undoes only that much. */
export const encodeGrpcMessage = (text: string): string =>
  encodeURI(text.slice(0, 500).toWellFormed()).replaceAll('%20', ' ')

export function decodeGrpcMessage(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
