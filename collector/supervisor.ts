// Runs one component and starts it again when it fails: with back-off and jitter after errors that time may mend, five
// times after unexpected ones, seldom after permanent ones (a right may be given, a file may appear).
import { PermanentError, RetryableError, codeOf, messageOf } from '../plugins/contract/index.ts'
import type { Clock, Log as Logger } from '../plugins/contract/index.ts'
import type { Meter } from './measure.ts'

export type ComponentState = 'starting' | 'running' | 'waiting' | 'failed' | 'ended' | 'stopped'

export interface SupervisedOptions {
  meter: Meter
  clock: Clock
  logger: Logger
  random: () => number
  run: (signal: AbortSignal) => Promise<void>
  /** Whether one that runs for a second and says nothing counts as up. */
  silentIsUp: boolean
  onChange: () => void
}

const firstBackoffMs = 500
const longestBackoffMs = 60_000
const permanentBackoffMs = 60_000
const unexpectedTries = 5
/** One that ran so long starts counting anew. */
const soundMs = 60_000
/** A listener on a busy device takes seconds to start; who takes it for up before that sends into the void. */
const silentMs = 10_000

export class Supervised {
  readonly #options: SupervisedOptions
  readonly #stop = new AbortController()
  #done: Promise<void> = Promise.resolve()
  #unexpected = 0
  #failures = 0
  state: ComponentState = 'starting'
  address = ''
  /** Why it does not run. */
  detail = ''

  constructor(options: SupervisedOptions) {
    this.#options = options
  }

  get meter(): Meter {
    return this.#options.meter
  }

  start(): void {
    this.#done = this.#supervise()
  }

  /** It said where it listens or connects, or it emitted. */
  ready(address?: string): void {
    if (this.#stop.signal.aborted) return
    if (this.state === 'running' && (address === undefined || address === this.address)) return
    if (address !== undefined) this.address = address
    this.#enter('running')
  }

  async stop(): Promise<void> {
    this.#stop.abort(new RetryableError('STOPPING', 'the collector stops'))
    await this.#done
    this.#enter('stopped')
  }

  #enter(state: ComponentState, detail = ''): void {
    if (this.state === state && this.detail === detail && state !== 'running') return
    this.state = state
    this.detail = detail
    this.#options.onChange()
  }

  async #supervise(): Promise<void> {
    const { clock, run, meter } = this.#options
    const { signal } = this.#stop
    while (!signal.aborted) {
      const startedMs = clock.elapsedMs()
      const silence = new AbortController()
      if (this.#options.silentIsUp) this.#announce(silence.signal)
      let failure: unknown
      try {
        await run(signal)
        if (!signal.aborted) this.#enter('ended')
        return
      } catch (error) {
        failure = error
      } finally {
        silence.abort()
      }
      if (signal.aborted) return // after the abort errors are noise
      if (clock.elapsedMs() - startedMs > soundMs) this.#failures = this.#unexpected = 0
      const pauseMs = this.#judge(failure)
      if (pauseMs === undefined) return
      await clock.delay(pauseMs, signal).catch(() => undefined)
      meter.restarts++
      if (!signal.aborted) this.#enter('starting', this.detail)
    }
  }

  /** One that says nothing and does not fail is up. */
  #announce(signal: AbortSignal): void {
    this.#options.clock.delay(silentMs, signal).then(
      () => {
        if (this.state === 'starting') this.ready()
      },
      () => undefined,
    )
  }

  /** How long to wait before the next start; undefined for never. */
  #judge(error: unknown): number | undefined {
    const { logger, random, meter } = this.#options
    const code = codeOf(error)
    meter.fail(code)
    this.#failures++
    const most = Math.min(longestBackoffMs, firstBackoffMs * 2 ** Math.min(this.#failures - 1, 10))
    if (error instanceof RetryableError) {
      const pauseMs = Math.max(error.retryAfterMs ?? 0, most / 2 + (random() * most) / 2)
      logger.warn('component failed, it will be started again', { code, error, pauseMs: Math.round(pauseMs) })
      this.#enter('waiting', messageOf(error))
      return pauseMs
    }
    if (error instanceof PermanentError) {
      logger.error('component cannot run', { code, error })
      this.#enter('failed', messageOf(error))
      return permanentBackoffMs
    }
    logger.error('component failed unexpectedly', { code, error })
    this.#enter('failed', messageOf(error))
    return ++this.#unexpected > unexpectedTries ? undefined : most
  }
}
