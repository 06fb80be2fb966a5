// Takes batches from the buffer to the exporter: classes in order of worth, fresh before backlog, within a window.
//
// Slots: fresh batches share `window` of them, which grows while acknowledgements come within half a second and halves
// when one takes longer than a second, so that little waits in front of a precious batch on a thin link. Each class has
// one slot of its own besides, and the backlog eight, so that no flood ever keeps another class, or the backlog, away.
import { PermanentError, RetryableError, classes, codeOf, rank } from '../plugins/contract/index.ts'
import type { Class, Clock, Exporter, Log as Logger, Receipt } from '../plugins/contract/index.ts'
import type { Bandwidth } from './bandwidth.ts'
import type { BatchBuffer } from './buffer.ts'
import type { Held } from './held.ts'

export interface SenderOptions {
  exporter: Exporter
  buffer: BatchBuffer
  clock: Clock
  logger: Logger
  /** An attempt that takes longer has failed. */
  timeoutMs: number
  /** Most fresh batches under way, besides one of each class. */
  window: number
  bandwidth: Bandwidth | undefined
  /** For jitter: 0 ≤ x < 1. */
  random: () => number
  onOutcome: (outcome: Outcome) => void
  /** Something is due later: `tick` then. */
  onDue: (dueMs: number) => void
}

export type Outcome = { durationMs: number; records: number; bytes: number } & (
  | { kind: 'delivered'; rejected: number }
  | { kind: 'failed' | 'dropped'; error: unknown }
)

interface Attempt {
  readonly held: Held
  readonly startedMs: number
  readonly controller: AbortController
  /** Bytes charged to the bandwidth. */
  readonly charged: number
  finished: boolean
}

const backlogSlots = 8
const mostBytes = 16 * 1024 * 1024
const firstBackoffMs = 500
const longestBackoffMs = 30_000
const longestRetryAfterMs = 300_000
const unexpectedTries = 5

export class Sender {
  readonly #options: SenderOptions
  readonly #attempts = new Set<Attempt>()
  readonly #inClass = classes.map(() => 0)
  #freshInFlight = 0
  #backlogInFlight = 0
  #bytesInFlight = 0
  #window: number
  #narrowedMs = 0
  #isReady = false
  #isStopped = false
  /** Failures of the peer since its last success: then one batch at a time tries whether it is back. */
  #failures = 0
  /** When the peer last took something, or was last given something while it owed nothing. */
  #progressMs: number
  #pausedUntilMs = 0
  /** When the next class that waits for bandwidth may go on. */
  #bandwidthDueMs = Infinity

  constructor(options: SenderOptions) {
    this.#options = options
    this.#window = Math.min(8, options.window)
    this.#progressMs = options.clock.elapsedMs()
  }

  get inFlight(): number {
    return this.#attempts.size
  }

  /** The peer takes what it is given, as far as is known. */
  get isHealthy(): boolean {
    return this.#isReady && this.#failures === 0
  }

  /** For how long the peer has been away, refused, or left unanswered what it was given; 0 while all is well. */
  get silentMs(): number {
    if (this.isHealthy && this.#attempts.size === 0) return 0
    return this.#options.clock.elapsedMs() - this.#progressMs
  }

  ready(isReady: boolean): void {
    if (this.isHealthy && this.#attempts.size === 0) this.#progressMs = this.#options.clock.elapsedMs()
    this.#isReady = isReady
    if (isReady) {
      // A new connection is no reason to wait for the end of a back-off.
      this.#pausedUntilMs = 0
      this.pump()
    }
  }

  /** Starts as many attempts as may be under way. */
  pump(): void {
    if (!this.#isReady || this.#isStopped) return
    const nowMs = this.#options.clock.elapsedMs()
    if (nowMs < this.#pausedUntilMs) return this.#options.onDue(this.#pausedUntilMs)
    this.#bandwidthDueMs = Infinity
    while (this.#failures === 0 || this.#attempts.size === 0) {
      const held = this.#next()
      if (!held) break
      if (this.#options.buffer.isExpired(held)) this.#options.buffer.discard(held, 'expired')
      else this.#start(held, nowMs)
    }
    this.#options.onDue(Math.min(this.#bandwidthDueMs, this.#options.buffer.retryDueMs(nowMs)))
  }

  /** Ends attempts that take too long. */
  tick(): void {
    const nowMs = this.#options.clock.elapsedMs()
    for (const attempt of this.#attempts) {
      if (nowMs - attempt.startedMs < this.#options.timeoutMs) continue
      const error = new RetryableError('PEER_TIMEOUT', `no answer within ${this.#options.timeoutMs} ms`)
      attempt.controller.abort(error)
      this.#fail(attempt, error)
    }
    this.pump()
    for (const { startedMs } of this.#attempts) {
      this.#options.onDue(startedMs + this.#options.timeoutMs)
      break // the oldest comes first
    }
  }

  /** No further attempts; those under way are given up and their batches go back. */
  stop(): void {
    this.#isStopped = true
    const error = new RetryableError('STOPPING', 'the collector stops')
    for (const attempt of this.#attempts) {
      this.#end(attempt)
      attempt.controller.abort(error)
      this.#options.buffer.giveBack(attempt.held)
    }
  }

  #next(): Held | undefined {
    const { buffer } = this.#options
    for (const name of classes) {
      if (!this.#hasBandwidth(name)) continue
      if (this.#mayStartFresh(name) && buffer.hasFresh(name)) return buffer.takeFresh(name)
    }
    if (this.#backlogInFlight >= backlogSlots || this.#bytesInFlight >= mostBytes) return undefined
    for (const name of classes) {
      if (!this.#hasBandwidth(name)) continue
      const held = buffer.takeBacklog(name)
      if (held) return held
    }
    return undefined
  }

  /** Where there is none, it is asked again as soon as there is. */
  #hasBandwidth(name: Class): boolean {
    const waitMs = this.#options.bandwidth?.waitMs(name) ?? 0
    if (waitMs > 0)
      this.#bandwidthDueMs = Math.min(this.#bandwidthDueMs, this.#options.clock.elapsedMs() + waitMs)
    return waitMs === 0
  }

  #mayStartFresh(name: Class): boolean {
    if (this.#inClass[rank[name]] === 0) return true
    return this.#freshInFlight < this.#window && this.#bytesInFlight < mostBytes
  }

  #start(held: Held, nowMs: number): void {
    const charged = this.#options.bandwidth?.take(held.batch.bytes.length) ?? 0
    const controller = new AbortController()
    const attempt: Attempt = { held, startedMs: nowMs, controller, charged, finished: false }
    held.attempts++
    if (this.isHealthy && this.#attempts.size === 0) this.#progressMs = nowMs
    this.#attempts.add(attempt)
    this.#inClass[rank[held.stream.class]]! += 1 // one entry for each class
    this.#bytesInFlight += held.bytes
    if (held.fromLog) this.#backlogInFlight++
    else this.#freshInFlight++
    this.#options.onDue(nowMs + this.#options.timeoutMs)
    void this.#run(attempt)
  }

  async #run(attempt: Attempt): Promise<void> {
    try {
      const receipt = await this.#options.exporter.export(attempt.held.batch, attempt.controller.signal)
      this.#succeed(attempt, receipt)
    } catch (error) {
      this.#fail(attempt, error)
    }
    this.pump()
  }

  #succeed(attempt: Attempt, receipt: Receipt): void {
    // An answer that came after all, while its batch was given back, is not needed: sent again, it is dropped there.
    if (attempt.finished) return
    const { held, startedMs } = attempt
    const durationMs = this.#options.clock.elapsedMs() - startedMs
    const { count } = held.batch.header
    const rejected = Math.min(count, Math.max(0, receipt.rejected))
    const facts = { durationMs, records: count, bytes: held.batch.bytes.length }
    const { length } = held.batch.bytes
    this.#options.bandwidth?.settle(length, attempt.charged, receipt.wireBytes ?? length)
    this.#adapt(durationMs, !held.fromLog && this.#freshInFlight >= this.#window)
    this.#end(attempt)
    this.#failures = 0
    this.#progressMs = this.#options.clock.elapsedMs()
    this.#options.buffer.settle(held, rejected, 'rejected')
    if (rejected > 0) {
      this.#options.logger.warn('records rejected by the peer', { rejected, reason: receipt.reason })
    }
    this.#options.onOutcome({ kind: 'delivered', rejected, ...facts })
  }

  #fail(attempt: Attempt, error: unknown): void {
    if (attempt.finished) return
    const { held, startedMs } = attempt
    const { clock, buffer, logger } = this.#options
    const nowMs = clock.elapsedMs()
    const { header, bytes } = held.batch
    const facts = { durationMs: nowMs - startedMs, records: header.count, bytes: bytes.length, error }
    const where = { device: header.device, class: header.class, seq: header.seq, records: header.count }
    this.#end(attempt)
    if (error instanceof RetryableError) {
      buffer.giveBack(held)
      this.#pause(error.retryAfterMs ?? 0, nowMs)
      logger.warn('export failed, it will be tried again', { code: codeOf(error), error })
    } else if (error instanceof PermanentError) {
      logger.error('batch refused for good, its records are dropped', { ...where, error })
      buffer.discard(held, 'rejected')
    } else if (++held.unexpected >= unexpectedTries) {
      logger.error('batch set aside after unexpected errors, its records are dropped', { ...where, error })
      buffer.discard(held, 'rejected')
    } else {
      held.notBeforeMs = nowMs + this.#backoffMs(held.unexpected)
      buffer.giveBack(held)
      logger.error('unexpected error of an exporter', { ...where, error })
    }
    this.#options.onOutcome({ kind: held.settled ? 'dropped' : 'failed', ...facts })
  }

  #end(attempt: Attempt): void {
    attempt.finished = true
    const { held } = attempt
    this.#attempts.delete(attempt)
    this.#inClass[rank[held.stream.class]]! -= 1 // one entry for each class
    this.#bytesInFlight -= held.bytes
    if (held.fromLog) this.#backlogInFlight--
    else this.#freshInFlight--
  }

  /** The attempts that were under way together fail together: that is one failure of the peer. */
  #pause(retryAfterMs: number, nowMs: number): void {
    if (nowMs >= this.#pausedUntilMs) {
      this.#failures++
      this.#pausedUntilMs = nowMs + this.#backoffMs(this.#failures)
    }
    const wished = nowMs + Math.min(retryAfterMs, longestRetryAfterMs)
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, wished)
    this.#options.onDue(this.#pausedUntilMs)
  }

  /** Exponential, with full jitter, so that a fleet does not return in step. */
  #backoffMs(failures: number): number {
    const most = Math.min(longestBackoffMs, firstBackoffMs * 2 ** Math.min(failures - 1, 10))
    return 10 + this.#options.random() * most
  }

  #adapt(durationMs: number, wasFull: boolean): void {
    const nowMs = this.#options.clock.elapsedMs()
    if (durationMs > 1000) {
      // Once for the batches that were under way together.
      if (nowMs - this.#narrowedMs < durationMs) return
      this.#narrowedMs = nowMs
      this.#window = Math.max(1, Math.floor(this.#window / 2))
    } else if (durationMs < 500 && wasFull && this.#window < this.#options.window) this.#window++
  }
}
