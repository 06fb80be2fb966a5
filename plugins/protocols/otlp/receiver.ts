// What the gRPC and the HTTP side of an OTLP server share (and other receivers over HTTP): the handler behind them, the memory that requests under
// way may take together, and what senders are told when it is used up or the program stops.
import { PermanentError, RetryableError } from '../../contract/errors.ts'
import type { Signal } from '../../contract/signal.ts'
import { failureOf } from './answers.ts'
import type { Failure, Handled } from './answers.ts'

export interface OtlpRequest {
  readonly signal: Signal
  /** Protobuf, bare; converted where JSON came. */
  readonly bytes: Uint8Array
  /** Address of the sender, without port; `unix` for a Unix socket. */
  readonly peer: string
}

export interface ReceiverOptions<Request = OtlpRequest, Answer = Handled> {
  /** Resolves when the records are safe: the sender is answered then. Throws what `failureOf` understands. */
  handle(request: Request): Promise<Answer>
  /** The largest request, also decompressed. */
  maxRequestBytes: number
  /** Of all requests that are not answered yet. */
  maxInFlightBytes: number
  maxInFlightRequests: number
  /** Hears of what `handle` threw that was no RetryableError or PermanentError: a bug. */
  report?: (error: unknown) => void
}

const overloaded = (): RetryableError =>
  new RetryableError('PEER_OVERLOADED', 'too many requests wait to be stored', { retryAfterMs: 1000 })

export class Receiver<Request = OtlpRequest, Answer = Handled> {
  readonly maxRequestBytes: number
  readonly #options: ReceiverOptions<Request, Answer>
  #inFlightBytes = 0
  #inFlightRequests = 0
  #isStopping = false

  constructor(options: ReceiverOptions<Request, Answer>) {
    this.#options = options
    this.maxRequestBytes = options.maxRequestBytes
  }

  get inFlightBytes(): number {
    return this.#inFlightBytes
  }

  get isStopping(): boolean {
    return this.#isStopping
  }

  /** From now on requests are refused as unavailable. */
  stop(): void {
    this.#isStopping = true
  }

  /** @throws RetryableError PEER_OVERLOADED where the memory is used up, STOPPING. */
  reserve(bytes: number): void {
    if (this.#isStopping) throw new RetryableError('STOPPING', 'the receiver stops')
    // One request is always let in, however large it is within its own limit.
    if (this.#inFlightBytes > 0 && this.#inFlightBytes + bytes > this.#options.maxInFlightBytes) {
      throw new RetryableError('PEER_OVERLOADED', 'too many requests wait to be stored', {
        retryAfterMs: 1000,
      })
    }
    this.#inFlightBytes += bytes
  }

  release(bytes: number): void {
    this.#inFlightBytes -= bytes
  }

  /** @throws RetryableError as `reserve`, and whatever the handler throws. */
  async handle(request: Request): Promise<Answer> {
    if (this.#isStopping) throw new RetryableError('STOPPING', 'the receiver stops')
    if (this.#inFlightRequests >= this.#options.maxInFlightRequests) throw overloaded()
    this.#inFlightRequests++
    try {
      return await this.#options.handle(request)
    } finally {
      this.#inFlightRequests--
    }
  }

  failure(error: unknown): Failure {
    const isKnown = error instanceof RetryableError || error instanceof PermanentError
    if (!isKnown) this.#options.report?.(error)
    return failureOf(error)
  }
}
