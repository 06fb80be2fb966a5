// Sending OTLP requests over gRPC or HTTP, one attempt at a time. This file holds what the two have in common; which
// failures may pass is told by OTLP itself. (opentelemetry-proto docs/specification.md, "Failures")
import type * as z from 'zod'
import type { tls } from '../../contract/settings.ts'
import type { Signal } from '../../contract/signal.ts'
import type { Compression } from '../compression.ts'
import { pem } from './listen.ts'

/** What the receiver said of a request that it took. */
export interface Delivered {
  readonly rejected: number
  readonly message: string
}

export interface Delivery {
  /**
   * One attempt; endpoints that cannot be reached are passed over. `onWire` hears what the request came to,
   * compressed.
   * @throws RetryableError where the failure may pass, PermanentError where it will not, and whatever `signal`
   * aborts with.
   */
  send(
    signal: Signal,
    request: Uint8Array,
    abort: AbortSignal,
    onWire?: (bytes: number) => void,
  ): Promise<Delivered>
  close(): Promise<void>
}

export interface ClientTls {
  ca?: Buffer
  cert?: Buffer
  key?: Buffer
  servername?: string
  rejectUnauthorized: boolean
}

export interface DeliveryOptions {
  /** At least one; the base of `/v1/logs` and its siblings over HTTP, host and port for gRPC. */
  endpoints: readonly URL[]
  compression: Compression
  /** Asked for at each attempt, since secrets may change. */
  headers(): Readonly<Record<string, string>>
  timeoutMs: number
  tls: ClientTls
  /** Where HTTP_PROXY, HTTPS_PROXY and NO_PROXY are. */
  environment: NodeJS.ProcessEnv
}

/** An answer is small; more of it is not from a receiver of OTLP. */
export const maxAnswerBytes = 1024 * 1024

export const hostOf = (endpoint: URL): string => endpoint.hostname.replace(/^\[|\]$/g, '')

/** What a client needs of the files that a configuration names. @throws PermanentError CREDENTIAL_MISSING */
export function clientTls({ ca, cert, key, verify, server_name }: z.output<typeof tls>): ClientTls {
  return {
    ...(ca === undefined ? {} : { ca: pem('ca', ca) }),
    ...(cert === undefined ? {} : { cert: pem('cert', cert) }),
    ...(key === undefined ? {} : { key: pem('key', key) }),
    ...(server_name === undefined ? {} : { servername: server_name }),
    rejectUnauthorized: verify,
  }
}
