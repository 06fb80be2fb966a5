// Those who read along on this machine: each has a bounded inbox and takes from it at its own pace. Nothing here can make
// the pipeline wait; what a subscriber is too slow for it misses, counted, and it is told.
import { LogsEncoder, PermanentError, RetryableError, codeOf, messageOf } from '../plugins/contract/index.ts'
import type { Batch, Context, Exporter, Records } from '../plugins/contract/index.ts'
import { timeParts } from '../plugins/contract/readings.ts'
import { checkpointOf } from './checkpoint.ts'
import type { SubscriberComponent } from './config.ts'
import { contextOf } from './context.ts'
import { Inbox } from './inbox.ts'
import type { Group } from './inbox.ts'
import type { LocalBroker } from './local-broker.ts'
import type { Meter } from './measure.ts'
import { Supervised } from './supervisor.ts'
import type { Surroundings } from './units.ts'

type Around = Omit<Surroundings, 'log'>

/** Records that come within this go out together. */
const gatherMs = 50
const firstPauseMs = 500
const longestPauseMs = 15_000

/** Where one pipeline hands its records over to exporters: who listens gets them too. */
export class Tap {
  #listeners: readonly ((records: Records) => void)[] = []

  see(records: Records): void {
    for (const listener of this.#listeners) listener(records)
  }

  listen(listener: (records: Records) => void): () => void {
    this.#listeners = [...this.#listeners, listener]
    return () => {
      this.#listeners = this.#listeners.filter((one) => one !== listener)
    }
  }
}

/** All subscribers of a configuration, and the taps of its pipelines. */
export class Subscribers {
  readonly #around: Around
  readonly #taps = new Map<string, Tap>()
  #units = new Map<string, SubscriberUnit>()

  constructor(around: Around) {
    this.#around = around
  }

  get units(): SubscriberUnit[] {
    return [...this.#units.values()]
  }

  /** The tap of a pipeline, the same one whatever changes around it. */
  tap(pipeline: string): Tap {
    const known = this.#taps.get(pipeline) ?? new Tap()
    this.#taps.set(pipeline, known)
    return known
  }

  /** Makes what is new, and may throw; the function that it returns ends and starts them. */
  prepare(components: readonly SubscriberComponent[]): () => Promise<void> {
    const wanted = components.map((component) => {
      const known = this.#units.get(component.id)
      const isSame =
        known?.component.written === component.written && known.component.definition === component.definition
      return known && isSame ? known : new SubscriberUnit(component, this.#around)
    })
    return async () => {
      const before = this.#units
      this.#units = new Map(wanted.map((unit) => [unit.component.id, unit]))
      const gone = [...before.values()].filter((unit) => !wanted.includes(unit))
      await Promise.all(gone.map((unit) => unit.stop()))
      for (const { component } of gone) {
        if (!this.#units.has(component.id)) this.#around.measures.forget(component.id, 'subscriber')
      }
      const known = new Set(before.values())
      for (const unit of wanted) if (!known.has(unit)) unit.start((pipeline) => this.tap(pipeline))
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.units.map((unit) => unit.stop()))
  }
}

export class SubscriberUnit {
  readonly component: SubscriberComponent
  readonly supervised: Supervised
  readonly #around: Around
  readonly #meter: Meter
  readonly #context: Context
  readonly #exporter: Exporter & Partial<LocalBroker>
  readonly #inbox: Inbox
  readonly #stopped = new AbortController()
  readonly #encoder = new LogsEncoder({ name: 'dpulse.collector' }, 1024)
  #silence: readonly (() => void)[] = []
  #isReady = false
  #isBusy = false
  /** Missed, and not told yet. */
  #untold = 0

  constructor(component: SubscriberComponent, around: Around) {
    this.component = component
    this.#around = around
    const { id, definition, config, settings } = component
    const { identity, clock, logger, random, onChange } = around
    const meter = around.measures.meter(id, 'subscriber', definition.name)
    this.#meter = meter
    this.#context = contextOf(identity, {
      id,
      clock,
      logger: logger.for(id),
      checkpoint: checkpointOf(undefined, id),
      ready: (address) => this.#ready(address),
      dropped: (_name, _reason, count) => void (meter.missed += count),
    })
    this.#inbox = new Inbox(settings.queue.memory, (count) => void (meter.missed += count))
    try {
      this.#exporter = definition.create(config, this.#context)
    } catch (cause) {
      throw new PermanentError('CONFIG_INVALID', `${id} cannot be made: ${messageOf(cause)}`, { cause })
    }
    this.supervised = new Supervised({
      meter,
      clock,
      logger: this.#context.log,
      random,
      run: (signal) => this.#run(signal),
      onChange: () => {
        if (this.supervised.state !== 'running') this.#isReady = false
        onChange()
      },
      silentIsUp: false,
    })
  }

  /** Listens where it is configured to: `tapOf` gives the tap of a pipeline. */
  start(tapOf: (pipeline: string) => Tap): void {
    const { pipelines } = this.component.settings
    const offer = (records: Records) => this.#offer(records)
    this.#silence = pipelines
      ? pipelines.map((pipeline) => tapOf(pipeline).listen(offer))
      : [this.#around.tail.listen(({ records }) => offer(records))]
    this.supervised.start()
  }

  /** What waits for it is gone: it is no exporter. */
  async stop(): Promise<void> {
    for (const stop of this.#silence) stop()
    this.#stopped.abort(new RetryableError('STOPPING', 'the collector stops'))
    await this.supervised.stop()
  }

  #ready(address: string | undefined): void {
    this.supervised.ready(address)
    this.#isReady = true
    this.#wake()
  }

  async #run(signal: AbortSignal): Promise<void> {
    if (this.#exporter.run) return this.#exporter.run(signal)
    this.#ready(undefined)
    if (signal.aborted) return undefined
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    return undefined
  }

  /** In the middle of the pipeline: a reference is kept, nothing is read. */
  #offer(records: Records): void {
    const { classes } = this.component.settings
    if (classes && !classes.includes(records.class)) return
    if (this.#exporter.wants && !this.#exporter.wants(records.class, records.signal)) return
    this.#meter.in += records.count
    this.#inbox.offer(records)
    this.#wake()
  }

  #wake(): void {
    if (this.#isBusy || !this.#isReady || this.#stopped.signal.aborted) return
    this.#isBusy = true
    this.#drain().catch((error: unknown) => {
      this.#context.log.error('unexpected error of a local subscriber', { error })
    })
  }

  async #drain(): Promise<void> {
    const { signal } = this.#stopped
    try {
      await this.#around.clock.delay(gatherMs, signal).catch(() => undefined)
      while (this.#isReady && !signal.aborted) {
        const group = this.#inbox.take()
        if (!group) break
        await this.#deliver(group)
        await this.#tell()
      }
    } finally {
      this.#isBusy = false
    }
    if (!this.#inbox.isEmpty) this.#wake()
  }

  /** Until it is taken or refused: whatever comes meanwhile pushes out what waits, and nothing else waits. */
  async #deliver(group: Group): Promise<void> {
    const { clock } = this.#around
    const batch = this.#batchOf(group)
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
      const failure = await this.#attempt(batch)
      if (!failure) return
      if (this.#stopped.signal.aborted) return
      this.#meter.fail(codeOf(failure.error))
      const facts = { error: failure.error, waiting: this.#inbox.bytes }
      if (!failure.mayPass) {
        this.#context.log.warn('a local subscriber refuses records, it misses them', facts)
        this.#inbox.miss(group.count)
        return
      }
      this.#context.log.warn('a local subscriber does not take records, it is tried again', facts)
      const { retryAfterMs = 0 } = failure.error instanceof RetryableError ? failure.error : {}
      await clock
        .delay(Math.min(longestPauseMs, Math.max(pauseMs, retryAfterMs)), this.#stopped.signal)
        .catch(() => undefined)
    }
  }

  async #attempt(batch: Batch): Promise<{ error: unknown; mayPass: boolean } | undefined> {
    const timeout = AbortSignal.timeout(this.component.settings.queue.timeout)
    const signal = AbortSignal.any([timeout, this.#stopped.signal])
    const { count } = batch.header
    try {
      const { rejected } = await within(this.#exporter.export(batch, signal), signal)
      this.#meter.out += count - rejected
      if (rejected > 0) this.#inbox.miss(rejected)
      return undefined
    } catch (error) {
      return { error, mayPass: timeout.aborted || error instanceof RetryableError }
    }
  }

  /** A subscriber that is in time again learns how many records passed it by: in its own way, or as an event. */
  async #tell(): Promise<void> {
    this.#untold += this.#inbox.takeMissed()
    if (this.#untold === 0) return
    const missed = this.#untold
    this.#untold = 0
    if (this.#exporter.tell) return this.#exporter.tell(missed)
    const { clock } = this.#around
    const { seconds, nanos } = timeParts(clock.nowUnixNano())
    const encoder = this.#encoder
    encoder.begin(this.#context.resource({ 'service.name': 'dpulse-collector' }))
    encoder.record(seconds, nanos, seconds, nanos, 13)
    encoder.body(`${missed} records passed the local subscriber ${this.component.id} by: it was too slow`)
    encoder.attribute('dpulse.component', this.component.id)
    encoder.attribute('dpulse.records.missed', missed)
    encoder.eventName('dpulse.subscriber.missed')
    encoder.end()
    const { bytes, ...told } = encoder.finish(this.#context.device, 'event')
    const notice = this.#batchOf({ ...told, parts: [bytes], size: bytes.length })
    const failure = await this.#attempt(notice)
    // One that takes no logs has its own figures to look at; one that was away is told with what comes next.
    this.#meter.out -= failure ? 0 : 1
    if (failure?.mayPass) this.#untold += missed
    return undefined
  }

  /** Nobody numbers it: it is in no account, and its bytes carry no header. */
  #batchOf({ device, class: name, signal, parts, count, from, to }: Group): Batch {
    const { collector } = this.#around.identity
    const header = { collector, device, session: '', class: name, seq: 0, count, from, to }
    const [first = new Uint8Array()] = parts
    const bytes = parts.length === 1 ? first : Buffer.concat(parts)
    return { header: { ...header, produced: 0, dropped: {} }, signal, bytes }
  }
}

/** An exporter that does not heed its signal is not waited for. */
function within<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>()
  const stop = () => reject(signal.reason as Error)
  if (signal.aborted) stop()
  else signal.addEventListener('abort', stop, { once: true })
  work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop))
  return promise
}
